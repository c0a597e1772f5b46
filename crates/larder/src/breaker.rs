//! A circuit breaker: after repeated failures, calls to a server fail at once until a probe succeeds.
//!
//! ```text
//! closed --3 failures in a row, or half of >= 20 calls in 10 s--> open --wait--> half-open: one probe
//!   ^------------------------------- probe succeeds ----------------------------------|  fails: open, wait doubled
//! ```
//! One breaker guards one server, so that a dead node costs its own keys only. The pattern is Nygard's (Release It!,
//! 2007); the figures keep a caller's wait bounded: a dead server is asked every 2 s at most, and by one call at a time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;

/// Failures in a row that open the breaker.
const MAX_FAILURES: u32 = 3;
/// The window in which a failure ratio is watched, and the calls it needs to mean something.
const WINDOW_MS: u64 = 10_000;
const MIN_CALLS: u32 = 20;
/// The wait before the first probe, and the longest one.
const FIRST_WAIT_MS: u64 = 100;
const MAX_WAIT_MS: u64 = 2_000;
/// How long a probe may take before another call is one.
const MAX_PROBE_MS: u64 = 5_000;

/// Whether calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// They do.
    Closed,
    /// They fail at once.
    Open,
    /// One of them is on its way to find out.
    HalfOpen,
}

/// Guards one server. A closed breaker costs a few atomic operations a call.
#[derive(Debug)]
pub(crate) struct Breaker {
    clock: Clock,
    closed: AtomicBool,
    failures_in_row: AtomicU32,
    calls: AtomicU32,
    failures: AtomicU32,
    gate: Mutex<Gate>,
}

/// What changes rarely, behind a lock.
#[derive(Debug)]
struct Gate {
    state: State,
    window_since_ms: u64,
    probe_at_ms: u64,
    wait_ms: u64,
    times_opened: u64,
}

/// One admitted call. Say how it went; dropped without a word, it counts as neither.
#[derive(Debug)]
#[must_use = "the breaker learns from the outcome"]
pub(crate) struct Attempt<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    told: bool,
}

impl Breaker {
    /// Creates a closed breaker.
    pub(crate) fn new(clock: Clock) -> Self {
        let now = clock.monotonic_ms();
        Self {
            clock,
            closed: AtomicBool::new(true),
            failures_in_row: AtomicU32::new(0),
            calls: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            gate: Mutex::new(Gate {
                state: State::Closed,
                window_since_ms: now,
                probe_at_ms: 0,
                wait_ms: FIRST_WAIT_MS,
                times_opened: 0,
            }),
        }
    }

    /// Lets a call pass, or says in how many milliseconds the next probe is due.
    pub(crate) fn admit(&self) -> Result<Attempt<'_>, u64> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(self.attempt(false));
        }
        let mut gate = self.gate();
        let now = self.clock.monotonic_ms();
        match gate.state {
            State::Closed => Ok(self.attempt(false)),
            // A probe may be in the hands of a caller who does not go on with it: another is due in the end.
            State::Open | State::HalfOpen if now >= gate.probe_at_ms => {
                gate.state = State::HalfOpen;
                gate.probe_at_ms = now + MAX_PROBE_MS;
                Ok(self.attempt(true))
            }
            State::Open => Err(gate.probe_at_ms - now),
            State::HalfOpen => Err(gate.wait_ms),
        }
    }

    /// Returns the state and how often it opened.
    pub(crate) fn state(&self) -> (State, u64) {
        let gate = self.gate();
        (gate.state, gate.times_opened)
    }

    fn attempt(&self, is_probe: bool) -> Attempt<'_> {
        Attempt {
            breaker: self,
            is_probe,
            told: false,
        }
    }

    fn count_success(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.failures_in_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_row.store(0, Ordering::Relaxed);
        }
    }

    fn count_failure(&self) {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let in_row = self.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
        let mut gate = self.gate();
        let now = self.clock.monotonic_ms();
        let window_is_over = now - gate.window_since_ms > WINDOW_MS;
        let mostly_failing = !window_is_over && calls >= MIN_CALLS && failures * 2 >= calls;
        if window_is_over {
            gate.window_since_ms = now;
            self.calls.store(1, Ordering::Relaxed);
            self.failures.store(1, Ordering::Relaxed);
        }
        if gate.state == State::Closed && (in_row >= MAX_FAILURES || mostly_failing) {
            gate.wait_ms = FIRST_WAIT_MS;
            gate.times_opened += 1;
            self.open(&mut gate, now);
        }
    }

    fn probe_succeeded(&self) {
        let mut gate = self.gate();
        gate.state = State::Closed;
        gate.window_since_ms = self.clock.monotonic_ms();
        gate.wait_ms = FIRST_WAIT_MS;
        for counter in [&self.failures_in_row, &self.calls, &self.failures] {
            counter.store(0, Ordering::Relaxed);
        }
        self.closed.store(true, Ordering::Release);
    }

    fn probe_failed(&self) {
        let mut gate = self.gate();
        if gate.state != State::HalfOpen {
            // A later one has decided.
            return;
        }
        gate.wait_ms = (gate.wait_ms * 2).min(MAX_WAIT_MS);
        let now = self.clock.monotonic_ms();
        self.open(&mut gate, now);
    }

    /// The caller of a probe went away before it knew: the next one tries.
    fn probe_dropped(&self) {
        let mut gate = self.gate();
        if gate.state == State::HalfOpen {
            gate.state = State::Open;
            gate.probe_at_ms = self.clock.monotonic_ms();
        }
    }

    fn open(&self, gate: &mut Gate, now_ms: u64) {
        gate.state = State::Open;
        // Processes that saw the same failure must not all return at once.
        gate.probe_at_ms = now_ms + gate.wait_ms * 3 / 4 + fastrand::u64(0..=gate.wait_ms / 2);
        self.closed.store(false, Ordering::Release);
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The server answered, be it with an error.
    pub(crate) fn succeeded(mut self) {
        self.told = true;
        if self.is_probe {
            self.breaker.probe_succeeded();
        } else {
            self.breaker.count_success();
        }
    }

    /// The server could not be reached, did not answer in time, or answered nonsense.
    pub(crate) fn failed(mut self) {
        self.told = true;
        if self.is_probe {
            self.breaker.probe_failed();
        } else {
            self.breaker.count_failure();
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.told {
            self.breaker.probe_dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    fn breaker() -> (ManualClock, Breaker) {
        let time = ManualClock::new();
        let breaker = Breaker::new(time.clock());
        (time, breaker)
    }

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().failed();
        }
    }

    fn longest_wait(wait_ms: u64) -> Duration {
        Duration::from_millis(wait_ms * 5 / 4)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_good_probe_closes_it() {
        let (time, breaker) = breaker();
        fail(&breaker, MAX_FAILURES - 1);
        breaker.admit().unwrap().succeeded();
        fail(&breaker, MAX_FAILURES - 1);
        assert_eq!(breaker.state(), (State::Closed, 0));
        fail(&breaker, 1);
        assert_eq!(breaker.state(), (State::Open, 1));
        assert!(breaker.admit().is_err());
        time.advance(longest_wait(FIRST_WAIT_MS));
        let probe = breaker.admit().unwrap();
        assert_eq!(breaker.state().0, State::HalfOpen);
        assert!(breaker.admit().is_err(), "one probe at a time");
        probe.succeeded();
        assert_eq!(breaker.state(), (State::Closed, 1));
        fail(&breaker, MAX_FAILURES - 1);
        assert_eq!(breaker.state().0, State::Closed, "it starts afresh");
    }

    #[test]
    fn failed_probes_double_the_wait_to_a_bound() {
        let (time, breaker) = breaker();
        fail(&breaker, MAX_FAILURES);
        let mut wait = FIRST_WAIT_MS;
        for _ in 0..8 {
            time.advance(longest_wait(wait));
            breaker.admit().unwrap().failed();
            wait = (wait * 2).min(MAX_WAIT_MS);
            time.advance(Duration::from_millis(wait * 3 / 4 - 1));
            assert!(breaker.admit().is_err(), "not before {wait} ms");
        }
        assert_eq!(wait, MAX_WAIT_MS);
    }

    #[test]
    fn a_probe_that_is_dropped_leaves_its_turn_to_the_next() {
        let (time, breaker) = breaker();
        fail(&breaker, MAX_FAILURES);
        time.advance(longest_wait(FIRST_WAIT_MS));
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.state().0, State::Closed);
    }

    #[test]
    fn half_of_many_calls_failing_opens_it_but_old_ones_do_not_count() {
        let (time, breaker) = breaker();
        for _ in 0..MIN_CALLS / 2 - 1 {
            breaker.admit().unwrap().succeeded();
            breaker.admit().unwrap().failed();
        }
        time.advance(Duration::from_millis(WINDOW_MS + 1));
        breaker.admit().unwrap().failed();
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.state().0, State::Closed);
        for _ in 0..MIN_CALLS / 2 {
            let Ok(attempt) = breaker.admit() else { break };
            attempt.failed();
            if let Ok(attempt) = breaker.admit() {
                attempt.succeeded();
            }
        }
        assert_eq!(breaker.state().0, State::Open);
    }

    #[test]
    fn probe_that_nobody_goes_on_with_holds_up_nobody_for_ever() {
        let (time, breaker) = breaker();
        fail(&breaker, MAX_FAILURES);
        time.advance(longest_wait(FIRST_WAIT_MS));
        let forgotten = breaker.admit().unwrap();
        time.advance(Duration::from_millis(MAX_PROBE_MS - 1));
        assert!(breaker.admit().is_err());
        time.advance(Duration::from_millis(1));
        let other = breaker.admit().unwrap();
        assert!(breaker.admit().is_err());
        other.succeeded();
        assert_eq!(breaker.state().0, State::Closed);
        drop(forgotten);
        assert_eq!(breaker.state().0, State::Closed);
        fail(&breaker, MAX_FAILURES);
        assert_eq!(breaker.state().0, State::Open);
    }

    #[test]
    fn late_failures_of_calls_admitted_before_do_not_count_as_probes() {
        let (_, breaker) = breaker();
        let late = breaker.admit().unwrap();
        fail(&breaker, MAX_FAILURES);
        late.failed();
        assert_eq!(breaker.state(), (State::Open, 1));
    }
}
