//! Moments of what several processes do.

/// Returns the time in ns by a clock that all processes share.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64) * 1_000_000_000 + (time.tv_nsec as u64)
}
