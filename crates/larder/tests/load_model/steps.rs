//! The steps of callers, of those who change something, and of what gets lost; those of loads are in `flights`.

use crate::explorer::{Model, Next};
use crate::rules::{Rule, Rules};
use crate::state::{
    ANY, CALLERS, Calling, Changer, Changing, Flight, Flying, HERE, Kind, LEARNT, Proof, Question,
    Slot, Stamp, State, TAG, THERE, What,
};
use crate::{Cast, Wrong};

/// What happened; callers and flights by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Call(usize),
    Read(usize),
    ReadToRefresh(usize),
    Lead(usize),
    Meet(usize, usize),
    Join(usize, usize),
    Ask(usize, usize),
    Retire(usize, usize),
    Begin(usize),
    ComputeEarly(usize),
    Capture(usize),
    Mark(usize),
    Refused(usize),
    Look(usize),
    LookAgain(usize),
    StopWaiting(usize),
    Renew(usize),
    FailToLoad(usize),
    Learn(usize),
    CheckAny(usize),
    Commit(usize),
    Write(usize),
    Unmark(usize),
    Land(usize),
    Touch(usize),
    LookAtRegisters(usize),
    Answer(usize),
    RepeatMark(usize),
    Change(What),
    RemoteChange(What),
    ChangeAny,
    RemoteChangeAny,
    Doom,
    Apply(What),
    RemoteDeleteRegister,
    Return,
    EndLease,
    LoseEntry,
    LoseRegister(usize),
    Crash,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loads {
    pub(crate) rules: Rules,
    pub(crate) cast: Cast,
}

/// Makes steps from one state.
pub(crate) struct Steps<'a> {
    pub(crate) rules: Rules,
    pub(crate) cast: Cast,
    pub(crate) from: State,
    pub(crate) next: &'a mut Vec<Next<Loads>>,
}

impl Model for Loads {
    type State = State;
    type Step = Step;
    type Wrong = Wrong;

    fn steps(&self, from: &State, next: &mut Vec<Next<Self>>) {
        let mut steps = Steps {
            rules: self.rules,
            cast: self.cast,
            from: *from,
            next,
        };
        steps.all();
    }

    fn stuck(&self) -> Option<Wrong> {
        self.cast.must_end.then_some(Wrong::Stuck)
    }

    fn is_end(&self, state: &State) -> bool {
        let mut callers = state.callers.iter();
        callers.all(|caller| caller.at == Calling::Over)
    }
}

impl Steps<'_> {
    /// Collects all that can happen.
    fn all(&mut self) {
        for me in 0..CALLERS {
            self.call(me);
            self.fly(me);
            self.answer(me);
        }
        self.change_here();
        self.change_there();
        self.lose();
        self.repeat_mark();
    }

    pub(crate) fn push(&mut self, step: Step, to: State) {
        self.push_if(step, to, None);
    }

    /// Takes a step after which something may be wrong, or after which a read that begins may return an old value.
    pub(crate) fn push_if(&mut self, step: Step, mut to: State, wrong: Option<Wrong>) {
        to.merge(self.rules.keep_leases_apart());
        let is_outdated = to.slot.kind == Kind::Value && to.slot.outdated & to.returned != 0;
        let wrong = wrong.or(is_outdated.then_some(Wrong::Outdated));
        self.next.push((step, to, wrong));
    }

    /// Makes the next step of a caller.
    fn call(&mut self, me: usize) {
        let mut to = self.from;
        let caller = to.callers[me];
        match caller.at {
            Calling::Over | Calling::Waiting(_) => {}
            Calling::Before => {
                to.callers[me].returned = to.returned;
                to.callers[me].at = match joinable(&to, caller.process) {
                    Some(_) => Calling::Entering,
                    None => Calling::Reading,
                };
                self.push(Step::Call(me), to);
            }
            Calling::Reading => self.read(me),
            Calling::Entering => match joinable(&to, caller.process) {
                Some(flight) => {
                    to.callers[me].at = Calling::Judging(flight as u8);
                    self.push(Step::Meet(me, flight), to);
                }
                None => {
                    to.flights[me] = Flight {
                        at: Flying::Created,
                        is_joinable: true,
                        ..Flight::default()
                    };
                    to.callers[me].at = Calling::Waiting(me as u8);
                    self.push(Step::Lead(me), to);
                }
            },
            Calling::Judging(flight) => self.judge(me, usize::from(flight)),
        }
    }

    fn read(&mut self, me: usize) {
        let mut to = self.from;
        if to.slot.kind != Kind::Value {
            to.callers[me].at = Calling::Entering;
            return self.push(Step::Read(me), to);
        }
        if self.cast.refreshes {
            let mut aged = to;
            aged.callers[me].at = Calling::Entering;
            aged.callers[me].has_copy = true;
            aged.callers[me].copy = to.slot.outdated;
            self.push(Step::ReadToRefresh(me), aged);
        }
        let is_outdated = to.slot.outdated & to.callers[me].returned != 0;
        leave(&mut to, me);
        let wrong = is_outdated.then_some(Wrong::Outdated);
        self.push_if(Step::Read(me), to, wrong);
    }

    /// Joins a flight, asks the store about it, or goes on without it.
    fn judge(&mut self, me: usize, flight: usize) {
        let mut to = self.from;
        let (caller, it) = (to.callers[me], to.flights[flight]);
        let (is_open, is_proven) = (caller.begun & 1 << flight != 0, caller.asked & 1 << flight);
        if !it.has_begun || is_open {
            return self.join(me, flight);
        }
        if !it.has_claim {
            return;
        }
        match it.proof {
            Proof::Asking => {}
            Proof::Stands if is_proven != 0 || self.rules.is_broken(Rule::JoinsAsk) => {
                self.join(me, flight);
            }
            Proof::Stands => {
                to.flights[flight].proof = Proof::Asking;
                to.flights[flight].question = Question::Sent;
                if self.rules.hold(Rule::ProofsCountFromTheQuestion) {
                    note_asked(&mut to, flight);
                }
                self.push(Step::Ask(me, flight), to);
            }
            Proof::Overtaken => {
                to.flights[flight].is_joinable = false;
                to.callers[me].at = Calling::Entering;
                self.push(Step::Retire(me, flight), to);
            }
        }
    }

    fn join(&mut self, me: usize, flight: usize) {
        let mut to = self.from;
        to.callers[me].at = Calling::Waiting(flight as u8);
        let wrong = match to.flights[flight].at {
            Flying::Landed => deliver(&mut to, flight),
            _ => None,
        };
        self.push_if(Step::Join(me, flight), to, wrong);
    }

    /// Changes something in the process of the first callers: its own flights are forgotten and doomed, too.
    fn change_here(&mut self) {
        let mut to = self.from;
        let Changer { left, what, at } = to.here;
        match at {
            Changing::Nowhere if left == 0 => {}
            Changing::Nowhere => {
                for what in self.cast.changes() {
                    let mut to = self.from;
                    to.here.at = Changing::Begun;
                    to.here.what = what;
                    to.outdate(local_bit(left), what, self.cast.learns);
                    to.forget(HERE);
                    self.push(Step::Change(what), to);
                }
            }
            Changing::Begun if what.register().is_some() => {
                to.here.at = Changing::AnyChanged;
                to.kill(ANY);
                to.disturb();
                self.push(Step::ChangeAny, to);
            }
            Changing::Begun => {
                to.here.at = Changing::Doomed;
                to.doom(HERE);
                self.push(Step::Doom, to);
            }
            Changing::Doomed | Changing::AnyChanged => {
                let is_mine = |me: usize| to.callers[me].process == HERE;
                let is_settling = |me: usize| to.flights[me].at == Flying::Settling;
                let waits = (0..CALLERS).any(|me| is_mine(me) && is_settling(me));
                if what.register().is_none() && waits {
                    return;
                }
                to.here.at = Changing::Acknowledged;
                self.apply(&mut to, what);
                self.push(Step::Apply(what), to);
            }
            Changing::Acknowledged => {
                to.doom(HERE);
                to.forget(HERE);
                to.returned |= local_bit(left);
                to.here = Changer {
                    left: left - 1,
                    ..Changer::default()
                };
                self.push(Step::Return, to);
            }
        }
    }

    /// Changes something elsewhere: by one step, an invalidation by two.
    fn change_there(&mut self) {
        let mut to = self.from;
        let Changer { left, what, at } = to.remote;
        if left == 0 {
            return;
        }
        if at == Changing::AnyChanged {
            self.apply(&mut to, what);
            end_there(&mut to);
            return self.push(Step::RemoteDeleteRegister, to);
        }
        for what in self.cast.changes() {
            let mut to = self.from;
            to.outdate(1 << (left - 1), what, self.cast.learns);
            if what.register().is_some() {
                to.kill(ANY);
                to.remote.what = what;
                to.remote.at = Changing::AnyChanged;
                self.push(Step::RemoteChangeAny, to);
            } else {
                self.apply(&mut to, what);
                end_there(&mut to);
                self.push(Step::RemoteChange(what), to);
            }
        }
    }

    /// Makes a change in the store.
    fn apply(&self, to: &mut State, what: What) {
        let removes_mark = match what {
            What::Set => Rule::SetsRemoveMarks,
            What::Delete | What::Invalidate | What::InvalidateLearnt => Rule::DeletesRemoveMarks,
        };
        match what {
            What::Set => {
                to.slot = Slot {
                    kind: Kind::Value,
                    ..Slot::default()
                };
                to.slot.stamps[TAG] = Stamp::Live;
            }
            What::Delete => to.slot = Slot::default(),
            What::Invalidate | What::InvalidateLearnt => {
                what.register().into_iter().for_each(|it| to.kill(it));
            }
        }
        if what.register().is_none() && self.rules.hold(removes_mark) {
            to.lease = 0;
        }
        to.disturb();
    }

    /// Loses an entry, a mark at the end of its lease, a register, or a whole process.
    fn lose(&mut self) {
        let mut to = self.from;
        to.disturb();
        if to.slot.kind == Kind::Mark && self.cast.leases_end && self.rules.hold(Rule::MarksEnd) {
            let mut to = to;
            to.slot = Slot::default();
            self.push(Step::EndLease, to);
        }
        if self.cast.crashes && !to.has_crashed {
            let mut to = to;
            to.has_crashed = true;
            for me in 0..CALLERS {
                if to.callers[me].process == THERE {
                    to.flights[me] = Flight::default();
                    leave(&mut to, me);
                }
            }
            self.push(Step::Crash, to);
        }
        if to.losses == 0 {
            return;
        }
        to.losses -= 1;
        for register in [TAG, LEARNT, ANY] {
            let mut to = to;
            to.kill(register);
            self.push(Step::LoseRegister(register), to);
        }
        if matches!(to.slot.kind, Kind::Value | Kind::Foreign) {
            to.slot = Slot::default();
            self.push(Step::LoseEntry, to);
        }
    }

    /// Lets the second copy of a mark arrive, or get lost.
    fn repeat_mark(&mut self) {
        let mut to = self.from;
        if to.late == 0 {
            return;
        }
        let flight = usize::from(to.late) - 1;
        if to.slot.kind == Kind::Nothing {
            to.slot = to.mark_of(flight);
        }
        to.late = 0;
        self.push(Step::RepeatMark(flight), to);
    }
}

/// Returns the flight that callers of a process meet.
fn joinable(state: &State, process: u8) -> Option<usize> {
    (0..CALLERS).find(|me| state.flights[*me].is_joinable && state.callers[*me].process == process)
}

/// Notes that the store is asked about a flight, for all who have called by now.
pub(crate) fn note_asked(to: &mut State, flight: usize) {
    let process = to.callers[flight].process;
    for caller in &mut to.callers {
        if caller.is_on() && caller.process == process {
            caller.asked |= 1 << flight;
        }
    }
}

/// Gives all who wait for a flight its value.
pub(crate) fn deliver(to: &mut State, flight: usize) -> Option<Wrong> {
    let mut wrong = None;
    for me in 0..CALLERS {
        if to.callers[me].at == Calling::Waiting(flight as u8) {
            if to.flights[flight].outdated & to.callers[me].returned != 0 {
                wrong = Some(Wrong::Outdated);
            }
            leave(to, me);
        }
    }
    wrong
}

fn leave(to: &mut State, me: usize) {
    let process = to.callers[me].process;
    to.callers[me] = crate::state::Caller {
        process,
        at: Calling::Over,
        ..Default::default()
    };
}

fn end_there(to: &mut State) {
    let left = to.remote.left;
    to.returned |= 1 << (left - 1);
    to.remote = Changer {
        left: left - 1,
        ..Changer::default()
    };
}

fn local_bit(left: u8) -> u8 {
    1 << (4 + left - 1)
}
