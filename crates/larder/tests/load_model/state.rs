//! A state: one key in a store, the loads of two processes, and the callers who wait for them.
//!
//! Numbers of registers never come back, so a stamp is either that of the live register or dead for good, and an entry
//! or mark with a dead stamp is the same as none. Moments only matter by their order: a caller keeps which loads have begun,
//! and been asked about, after its own beginning.

/// How many callers there are; each may lead one flight, which has the same number.
pub(crate) const CALLERS: usize = 3;
/// The process with the local change, and the one that may crash.
pub(crate) const HERE: u8 = 0;
pub(crate) const THERE: u8 = 1;

/// A tag that is known before the load, one that the loader names, and the register of all invalidations.
pub(crate) const TAG: usize = 0;
pub(crate) const LEARNT: usize = 1;
pub(crate) const ANY: usize = 2;

/// Changes, one bit each.
pub(crate) type Changes = u8;

/// The copy of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Stamp {
    #[default]
    Absent,
    /// The same as the register.
    Live,
    Dead,
}

pub(crate) type Stamps = [Stamp; 3];

/// What the key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Kind {
    #[default]
    Nothing,
    Value,
    /// Somebody loads a value.
    Mark,
    /// An entry of another schema: of no use to whoever loads, who may replace it.
    Foreign,
}

/// What is stored under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    pub(crate) stamps: Stamps,
    /// Of a mark: the flight that left it, from 1.
    pub(crate) token: u8,
    /// Of a value: which changes began after its computation.
    pub(crate) outdated: Changes,
}

/// Where a flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Flying {
    #[default]
    Nowhere,
    Created,
    Begun,
    Captured,
    /// Its mark was refused.
    Looking,
    /// It found a value.
    Found,
    /// It waits for another's load.
    Resting,
    Computing,
    Learnt,
    Checked,
    /// It is being written; local changes wait.
    Settling,
    /// Its mark is to be taken back.
    Unmarking,
    Settled,
    Landed,
}

/// What a load may store over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Right {
    #[default]
    Nothing,
    Mark,
    Entry,
    Busy,
}

/// What the store said about what may have overtaken a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Proof {
    /// Nothing had, for those who came before it was asked.
    #[default]
    Stands,
    Asking,
    Overtaken,
}

/// How far the asking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Question {
    #[default]
    Nobody,
    Sent,
    /// The mark or entry was there.
    Touched,
    /// Nothing has overtaken the load; nobody knows it yet.
    Stands,
}

/// A flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Flight {
    pub(crate) at: Flying,
    pub(crate) is_joinable: bool,
    /// Whether its load has begun in the store at least once.
    pub(crate) has_begun: bool,
    pub(crate) has_claim: bool,
    pub(crate) right: Right,
    pub(crate) stamps: Stamps,
    /// A change of its own process overtook it.
    pub(crate) is_doomed: bool,
    /// Whether its value is being computed, or is there.
    pub(crate) is_computed: bool,
    /// Which changes began after that.
    pub(crate) outdated: Changes,
    pub(crate) proof: Proof,
    pub(crate) question: Question,
    /// What it may store over has been gone since it was granted; for the check only.
    pub(crate) has_lost: bool,
    /// Nothing happened since it began; for the check only.
    pub(crate) is_undisturbed: bool,
}

/// Where a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Calling {
    #[default]
    Before,
    Reading,
    Entering,
    /// It has a flight, and wants to know whether that may be joined.
    Judging(u8),
    Waiting(u8),
    Over,
}

/// Somebody who asks for the value, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Caller {
    pub(crate) process: u8,
    pub(crate) at: Calling,
    /// What had returned when it began.
    pub(crate) returned: Changes,
    /// Which flights have begun their load since, one bit each.
    pub(crate) begun: u8,
    /// About which flights the store was asked since.
    pub(crate) asked: u8,
    /// It read a value that wants to be refreshed: which changes began after the computation of that.
    pub(crate) has_copy: bool,
    pub(crate) copy: Changes,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum What {
    #[default]
    Set,
    Delete,
    Invalidate,
    /// Invalidates the tag that loaders name.
    InvalidateLearnt,
}

impl What {
    pub(crate) fn register(self) -> Option<usize> {
        match self {
            Self::Set | Self::Delete => None,
            Self::Invalidate => Some(TAG),
            Self::InvalidateLearnt => Some(LEARNT),
        }
    }
}

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Changing {
    #[default]
    Nowhere,
    /// Flights are forgotten.
    Begun,
    /// Loads under way are doomed.
    Doomed,
    /// The register of all invalidations is changed.
    AnyChanged,
    Acknowledged,
}

/// Somebody who changes the key or its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Changer {
    pub(crate) left: u8,
    pub(crate) what: What,
    pub(crate) at: Changing,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    pub(crate) slot: Slot,
    /// The token of the load that may store, in stores that keep it apart from the slot.
    pub(crate) lease: u8,
    pub(crate) flights: [Flight; CALLERS],
    pub(crate) callers: [Caller; CALLERS],
    /// In the process of the first callers.
    pub(crate) here: Changer,
    /// Elsewhere.
    pub(crate) remote: Changer,
    /// How often entries, marks and registers may be lost.
    pub(crate) losses: u8,
    pub(crate) has_crashed: bool,
    /// The flight whose mark is sent a second time, from 1.
    pub(crate) late: u8,
    /// Which changes have returned.
    pub(crate) returned: Changes,
}

impl State {
    /// Makes all copies of a register dead: it was deleted, changed or lost.
    pub(crate) fn kill(&mut self, register: usize) {
        let flights = self.flights.iter_mut().map(|flight| &mut flight.stamps);
        for stamps in flights.chain([&mut self.slot.stamps]) {
            if stamps[register] == Stamp::Live {
                stamps[register] = Stamp::Dead;
            }
        }
    }

    /// Notes that a change is called: all values that are there or being computed are older.
    pub(crate) fn outdate(&mut self, change: Changes, what: What, learns: bool) {
        let has_learnt = self.slot.stamps[LEARNT] != Stamp::Absent;
        let concerns = |has_learnt: bool| what != What::InvalidateLearnt || has_learnt;
        if self.slot.kind == Kind::Value && concerns(has_learnt) {
            self.slot.outdated |= change;
        }
        for flight in &mut self.flights {
            if flight.is_computed && concerns(learns) {
                flight.outdated |= change;
            }
        }
        for caller in &mut self.callers {
            if caller.has_copy && concerns(learns) {
                caller.copy |= change;
            }
        }
        self.disturb();
    }

    /// Notes that something happened because of which another load may begin.
    pub(crate) fn disturb(&mut self) {
        for flight in &mut self.flights {
            flight.is_undisturbed = false;
        }
    }

    /// Lets nobody join the flights of a process any more.
    pub(crate) fn forget(&mut self, process: u8) {
        for (flight, caller) in self.flights.iter_mut().zip(&self.callers) {
            if caller.process == process {
                flight.is_joinable = false;
            }
        }
    }

    /// Dooms the loads of a process.
    pub(crate) fn doom(&mut self, process: u8) {
        for (flight, caller) in self.flights.iter_mut().zip(&self.callers) {
            let is_marked = !matches!(
                flight.at,
                Flying::Nowhere | Flying::Created | Flying::Settled | Flying::Landed
            );
            if caller.process == process && is_marked {
                flight.is_doomed = true;
            }
        }
    }

    /// Makes one of states that differ only in what can never matter again.
    pub(crate) fn merge(&mut self, keeps_leases_apart: bool) {
        if self.slot.stamps.contains(&Stamp::Dead) {
            self.slot = Slot::default();
        }
        for me in 0..CALLERS {
            let is_there = match self.flights[me].right {
                Right::Mark => self.is_marked_by(me),
                Right::Entry => self.slot.kind == Kind::Foreign,
                Right::Nothing | Right::Busy => true,
            };
            let is_stored = matches!(self.flights[me].at, Flying::Settled | Flying::Landed);
            if !is_there && !is_stored && self.flights[me].is_computed {
                self.flights[me].has_lost = true;
            }
            let is_needed = self.flights[me].at != Flying::Landed
                || self.flights[me].question != Question::Nobody
                || self.callers.iter().any(|caller| caller.is_at(me));
            if !is_needed {
                self.flights[me] = Flight::default();
                let bit = !(1 << me);
                for caller in &mut self.callers {
                    caller.begun &= bit;
                    caller.asked &= bit;
                }
            }
        }
        if self.late > 0 && self.flights[usize::from(self.late) - 1].at == Flying::Nowhere {
            self.late = 0;
        }
        if !keeps_leases_apart {
            self.lease = 0;
        }
    }

    pub(crate) fn is_marked_by(&self, flight: usize) -> bool {
        self.slot.kind == Kind::Mark && usize::from(self.slot.token) == flight + 1
    }
}

impl Caller {
    /// Returns whether it waits for this flight, or thinks about it.
    fn is_at(&self, flight: usize) -> bool {
        match self.at {
            Calling::Judging(at) | Calling::Waiting(at) => usize::from(at) == flight,
            Calling::Before | Calling::Reading | Calling::Entering | Calling::Over => false,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        !matches!(self.at, Calling::Before | Calling::Over)
    }
}
