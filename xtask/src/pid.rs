//! A process by its number and its birth, so that a number used again never gets a signal meant for the dead.
//!
//! Every process started here leads its own group, whose number is the process's own: killing the group takes with
//! it whatever the process has forked. Reads `/proc` (Linux); see `man 5 proc_pid_stat` for the fields.

use std::fs;
use std::io;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid as Number, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// How often a wait looks again.
const GLANCE: Duration = Duration::from_millis(10);

/// How long the kernel may take to bury a process after SIGKILL.
const BURIAL: Duration = Duration::from_secs(2);

/// How long a process may take to stop after SIGSTOP.
const STANDSTILL: Duration = Duration::from_secs(2);

/// One process, past or present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pid {
    number: u32,
    /// When it began, in clock ticks since the machine did.
    started: u64,
}

/// What the kernel says about a number.
struct Status {
    is_zombie: bool,
    is_stopped: bool,
    started: u64,
}

impl Pid {
    /// Returns the process of a child that has not been waited for.
    pub(crate) fn of(child: &Child) -> Self {
        let started = status(child.id()).map_or(0, |status| status.started);
        Self {
            number: child.id(),
            started,
        }
    }

    /// Returns the process that has this number now, unless it is a zombie.
    #[cfg(test)]
    pub(crate) fn find(number: u32) -> Option<Self> {
        let status = status(number).filter(|status| !status.is_zombie)?;
        Some(Self {
            number,
            started: status.started,
        })
    }

    /// Tells whether this very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        status(self.number)
            .is_some_and(|status| !status.is_zombie && status.started == self.started)
    }

    /// Asks the process, not what it forked, to end (SIGTERM).
    pub(crate) fn terminate(self) {
        if self.is_alive() {
            // It may end by itself at any moment, which is no error.
            let _ = self
                .number()
                .map(|number| kill_process(number, Signal::TERM));
        }
    }

    /// Asks the process and what it forked to end (SIGTERM).
    pub(crate) fn terminate_group(self) {
        if self.is_alive() {
            let _ = self
                .number()
                .map(|number| kill_process_group(number, Signal::TERM));
        }
    }

    /// Stops the process where it is (SIGSTOP) and returns once it stands; it stays alive.
    pub(crate) fn pause(self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + STANDSTILL;
        while status(self.number).is_some_and(|status| !status.is_stopped) {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Lets a stopped process go on (SIGCONT).
    pub(crate) fn resume(self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits for the process to end, kills its whole group (SIGKILL) after `grace`, and what it left behind anyway.
    ///
    /// Only for a process that was alive, or a child not waited for, a moment ago: its number must still be its own.
    pub(crate) fn wait_or_kill(self, grace: Duration) {
        self.wait(grace);
        let _ = self
            .number()
            .map(|number| kill_process_group(number, Signal::KILL));
        self.wait(BURIAL);
    }

    fn wait(self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.is_alive() && Instant::now() < deadline {
            thread::sleep(GLANCE);
        }
    }

    fn signal(self, signal: Signal) -> io::Result<()> {
        let number = self.number().filter(|_| self.is_alive());
        Ok(kill_process(
            number.ok_or(io::ErrorKind::NotFound)?,
            signal,
        )?)
    }

    fn number(self) -> Option<Number> {
        Number::from_raw(i32::try_from(self.number).ok()?)
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}

fn status(number: u32) -> Option<Status> {
    parse(&fs::read_to_string(format!("/proc/{number}/stat")).ok()?)
}

/// Reads `pid (command) state ... starttime ...`; the command may itself hold spaces and parentheses.
fn parse(stat: &str) -> Option<Status> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    // The state is field 3 and the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some(Status {
        is_zombie: matches!(state, "Z" | "X" | "x"),
        is_stopped: state == "T",
        started,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn command_with_parentheses_is_no_trap() {
        let stat = "12 (a) R (b) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let status = parse(stat).unwrap();
        assert!(status.is_zombie);
        assert_eq!(status.started, 4711);
    }

    #[test]
    fn zombie_is_dead_and_a_number_used_again_is_another_process() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::of(&child);
        pid.wait(Duration::from_secs(5));
        assert!(!pid.is_alive());
        child.wait().unwrap();
        let own = Pid::find(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(
            !Pid {
                started: own.started + 1,
                ..own
            }
            .is_alive()
        );
    }
}
