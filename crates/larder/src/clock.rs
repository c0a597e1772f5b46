//! Time, injected: the system's clock or one that a test moves by hand.
//!
//! Stored expiry uses wall time in milliseconds since the Unix epoch, since many processes share
//! it. Local deadlines (L1, sweeps) use monotonic milliseconds from the coarse kernel clock, which
//! costs a few nanoseconds, makes no system call and is exact to about 4 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time: cheap to clone, shared by everything that one cache holds.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
    /// The system's, corrected to a server's: how many milliseconds that one is ahead.
    Shifted(Arc<AtomicI64>),
}

impl Clock {
    /// Returns the system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Returns the clock of a server that is `ahead` of this machine by that many milliseconds.
    #[cfg_attr(
        not(feature = "redis"),
        expect(dead_code, reason = "only servers have clocks of their own")
    )]
    pub(crate) fn shifted(ahead: Arc<AtomicI64>) -> Self {
        Self(Source::Shifted(ahead))
    }

    /// Returns wall time: milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System => system_ms(),
            Source::Manual(now) => now.load(Ordering::Acquire),
            Source::Shifted(ahead) => {
                system_ms().saturating_add_signed(ahead.load(Ordering::Relaxed))
            }
        }
    }

    /// Returns wall time as exactly as it is known: microseconds since the Unix epoch.
    #[cfg(any(feature = "file", feature = "memcached", feature = "sqlite"))]
    #[must_use]
    pub(crate) fn now_us(&self) -> u64 {
        match &self.0 {
            Source::System => system_us(),
            Source::Manual(_) | Source::Shifted(_) => self.now_ms().saturating_mul(1000),
        }
    }

    /// Returns milliseconds since this host started: the same in all its processes, counting while it is suspended,
    /// and moved by no change of the date.
    #[must_use]
    pub(crate) fn boot_ms(&self) -> u64 {
        match &self.0 {
            Source::System | Source::Shifted(_) => boot_ms(),
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }

    /// Returns what names the present start of this host, which [`Clock::boot_ms`] counts from; empty where that is not
    /// known.
    #[cfg(any(feature = "file", feature = "sqlite"))]
    #[must_use]
    pub(crate) fn boot_id(&self) -> &'static str {
        match &self.0 {
            Source::System | Source::Shifted(_) => boot_id(),
            Source::Manual(_) => "",
        }
    }

    /// Returns monotonic time in milliseconds from an arbitrary origin; never goes back.
    #[inline(always)]
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        match &self.0 {
            Source::System | Source::Shifted(_) => coarse_ms(),
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }
}

fn system_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, duration_ms)
}

#[cfg(any(feature = "file", feature = "memcached", feature = "sqlite"))]
fn system_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// Returns whole milliseconds, saturating.
pub(crate) fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
#[inline(always)]
fn coarse_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    (time.tv_sec as u64) * 1000 + (time.tv_nsec as u64) / 1_000_000
}

#[cfg(target_os = "linux")]
fn boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (time.tv_sec as u64) * 1000 + (time.tv_nsec as u64) / 1_000_000
}

/// Elsewhere, the date has to do.
#[cfg(not(target_os = "linux"))]
fn boot_ms() -> u64 {
    system_ms()
}

#[cfg(any(feature = "file", feature = "sqlite"))]
fn boot_id() -> &'static str {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.map_or_else(|_unknown| String::new(), |id| id.trim().to_owned())
    })
}

#[cfg(not(target_os = "linux"))]
fn coarse_ms() -> u64 {
    static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    duration_ms(ORIGIN.get_or_init(std::time::Instant::now).elapsed())
}

/// A clock that stands still until a test moves it.
///
/// ```
/// # use std::time::Duration;
/// let time = larder::ManualClock::new();
/// let clock = time.clock();
/// let before = clock.now_ms();
/// time.advance(Duration::from_secs(60));
/// assert_eq!(clock.now_ms(), before + 60_000);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// The time a manual clock starts at: 2026-01-01T00:00:00Z in milliseconds.
    const START_MS: u64 = 1_767_225_600_000;

    /// Creates a clock that stands at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(Self::START_MS)))
    }

    /// Returns the clock to hand to stores and caches.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(duration_ms(by), Ordering::AcqRel);
    }

    /// Moves the clock back, as somebody may who sets the time; not before the Unix epoch.
    pub fn set_back(&self, by: Duration) {
        let back = |now: u64| Some(now.saturating_sub(duration_ms(by)));
        let now = &self.0;
        let _before = now.fetch_update(Ordering::AcqRel, Ordering::Acquire, back);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", feature = "sqlite"))]
    #[test]
    fn a_start_of_this_host_has_a_name() {
        assert!(!Clock::system().boot_id().is_empty());
        assert_eq!(ManualClock::new().clock().boot_id(), "");
    }

    #[test]
    fn system_clock_moves_and_never_goes_back() {
        let clock = Clock::system();
        let (wall, mono) = (clock.now_ms(), clock.monotonic_ms());
        std::thread::sleep(Duration::from_millis(20));
        assert!(clock.now_ms() >= wall + 15);
        assert!(clock.monotonic_ms() >= mono + 10);
    }
}
