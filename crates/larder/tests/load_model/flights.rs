//! The steps of a load, from its creation to its landing, and of the question whether anything has overtaken it.

use crate::Wrong;
use crate::rules::Rule;
use crate::state::{
    ANY, CALLERS, Changing, Flying, HERE, Kind, LEARNT, Proof, Question, Right, Slot, Stamp, State,
    TAG,
};
use crate::steps::{Step, Steps, deliver, note_asked};

impl Steps<'_> {
    /// Makes the next step of a flight.
    pub(crate) fn fly(&mut self, me: usize) {
        match self.from.flights[me].at {
            Flying::Nowhere | Flying::Landed => {}
            Flying::Created => self.begin(me),
            Flying::Begun => self.capture(me),
            Flying::Captured => self.mark(me),
            Flying::Looking => self.look(me),
            Flying::Resting => self.rest(me),
            Flying::Computing => self.compute(me),
            Flying::Learnt => self.check_any(me),
            Flying::Checked => self.commit(me),
            Flying::Settling => self.write(me),
            Flying::Unmarking => {
                let mut to = self.from;
                if to.is_marked_by(me) {
                    to.slot = Slot::default();
                }
                to.flights[me].at = Flying::Settled;
                self.push(Step::Unmark(me), to);
            }
            Flying::Settled | Flying::Found => self.land(me),
        }
    }

    /// Sets the marker, and notes that the load begins.
    fn begin(&mut self, me: usize) {
        let mut to = self.from;
        let changes_key = to.here.what.register().is_none()
            && matches!(to.here.at, Changing::Doomed | Changing::Acknowledged);
        to.flights[me].is_doomed = changes_key && to.callers[me].process == HERE;
        to.flights[me].at = Flying::Begun;
        to.flights[me].is_undisturbed = true;
        if self.rules.hold(Rule::BeginningsCountBeforeTheyAreSent) {
            note_begun(&mut to, me);
        }
        to.flights[me].is_computed = self.rules.is_broken(Rule::CaptureBeforeCompute);
        self.push(Step::Begin(me), to);
    }

    fn capture(&mut self, me: usize) {
        let mut to = self.from;
        to.flights[me].stamps[TAG] = Stamp::Live;
        if self.cast.learns {
            to.flights[me].stamps[ANY] = Stamp::Live;
        }
        to.flights[me].at = Flying::Captured;
        self.push(Step::Capture(me), to);
    }

    /// Leaves a mark, if there is neither a valid entry nor another's mark.
    fn mark(&mut self, me: usize) {
        let mut to = self.from;
        if self.rules.is_broken(Rule::MarkBeforeCompute) && !to.flights[me].is_computed {
            to.flights[me].is_computed = true;
            return self.push(Step::ComputeEarly(me), to);
        }
        if to.slot.kind != Kind::Nothing {
            to.flights[me].at = Flying::Looking;
            return self.push(Step::Refused(me), to);
        }
        to.slot = to.mark_of(me);
        to.lease = to.slot.token;
        if self.rules.is_broken(Rule::MarksAreNotRepeated) {
            to.late = me as u8 + 1;
        }
        self.go(Step::Mark(me), to, (me, Right::Mark));
    }

    /// Begins to compute, with what was granted.
    fn go(&mut self, step: Step, mut to: State, (me, right): (usize, Right)) {
        let is_alone = |other: usize| {
            let it = to.flights[other];
            let is_loading = matches!(
                it.at,
                Flying::Computing | Flying::Learnt | Flying::Checked | Flying::Settling
            );
            other == me || !is_loading || !it.is_undisturbed
        };
        let is_second = step != Step::StopWaiting(me) && !(0..CALLERS).all(is_alone);
        if self.rules.is_broken(Rule::BeginningsCountBeforeTheyAreSent) {
            note_begun(&mut to, me);
        }
        let flight = &mut to.flights[me];
        flight.at = Flying::Computing;
        flight.right = right;
        flight.has_claim = true;
        flight.is_computed = true;
        flight.is_undisturbed &= right == Right::Mark;
        self.push_if(step, to, is_second.then_some(Wrong::Second));
    }

    /// Looks why its mark was refused.
    fn look(&mut self, me: usize) {
        let mut to = self.from;
        match to.slot.kind {
            Kind::Value => {
                to.flights[me].at = Flying::Found;
                to.flights[me].is_computed = true;
                to.flights[me].outdated = to.slot.outdated;
                self.push(Step::Look(me), to);
            }
            Kind::Foreign => self.go(Step::Look(me), to, (me, Right::Entry)),
            Kind::Mark | Kind::Nothing if self.rules.is_broken(Rule::MarksAreWaitedFor) => {
                self.go(Step::Look(me), to, (me, Right::Busy));
            }
            Kind::Mark | Kind::Nothing => {
                to.flights[me].at = Flying::Resting;
                self.push(Step::Look(me), to);
            }
        }
    }

    /// Looks again, or has waited in vain and loads for its callers alone.
    fn rest(&mut self, me: usize) {
        let mut to = self.from;
        if self.cast.is_impatient {
            self.go(Step::StopWaiting(me), to, (me, Right::Busy));
        }
        to.flights[me].at = Flying::Begun;
        to.flights[me].stamps = Default::default();
        to.flights[me].is_undisturbed = true;
        note_begun(&mut to, me);
        self.push(Step::LookAgain(me), to);
    }

    /// Ends the computation, beside renewals.
    fn compute(&mut self, me: usize) {
        let flight = self.from.flights[me];
        let mut to = self.from;
        let is_mine = flight.right == Right::Mark && to.slot.kind == Kind::Nothing;
        if self.rules.is_broken(Rule::RenewalsCreateNothing) && is_mine {
            let mut to = to;
            to.slot = to.mark_of(me);
            self.push(Step::Renew(me), to);
        }
        if self.rules.is_broken(Rule::OldValuesKeepTheirStamps) && to.callers[me].has_copy {
            let mut to = to;
            to.flights[me].outdated = to.callers[me].copy;
            to.flights[me].at = Flying::Checked;
            self.push(Step::FailToLoad(me), to);
        }
        if self.cast.learns && self.may_store(me) {
            to.flights[me].stamps[LEARNT] = Stamp::Live;
            to.flights[me].at = Flying::Learnt;
            return self.push(Step::Learn(me), to);
        }
        self.commit(me);
    }

    fn may_store(&self, me: usize) -> bool {
        self.from.flights[me].right != Right::Busy
            || self.rules.is_broken(Rule::VainWaitsStoreNothing)
    }

    /// Finds out whether anything was invalidated since the load began.
    fn check_any(&mut self, me: usize) {
        let mut to = self.from;
        let flight = &mut to.flights[me];
        flight.at = match (flight.stamps[ANY], flight.right) {
            (Stamp::Live, _) => Flying::Checked,
            (_, Right::Mark) => Flying::Unmarking,
            _ => Flying::Settled,
        };
        self.push(Step::CheckAny(me), to);
    }

    /// Begins to store, unless a change of its own process has overtaken it.
    fn commit(&mut self, me: usize) {
        let mut to = self.from;
        let flight = to.flights[me];
        to.flights[me].at = match flight.right {
            _ if self.may_store(me) && !flight.is_doomed => Flying::Settling,
            Right::Mark => Flying::Unmarking,
            Right::Entry | Right::Busy | Right::Nothing => Flying::Settled,
        };
        self.push(Step::Commit(me), to);
    }

    /// Stores the value, if what it may replace is still there.
    fn write(&mut self, me: usize) {
        let mut to = self.from;
        let flight = to.flights[me];
        let is_leased = self.rules.keep_leases_apart() && usize::from(to.lease) == me + 1;
        let is_there = match flight.right {
            Right::Mark if self.rules.is_broken(Rule::TokensAreCompared) => {
                to.slot.kind == Kind::Mark
            }
            Right::Mark => to.is_marked_by(me) || is_leased,
            Right::Entry => to.slot.kind == Kind::Foreign,
            Right::Busy => to.slot.kind == Kind::Nothing,
            Right::Nothing => false,
        };
        if is_there {
            to.slot = Slot {
                kind: Kind::Value,
                stamps: flight.stamps,
                token: 0,
                outdated: flight.outdated,
            };
            to.slot.stamps[ANY] = Stamp::Absent;
            to.lease = 0;
        }
        to.flights[me].at = Flying::Settled;
        let has_overwritten = is_there && flight.has_lost;
        let wrong = has_overwritten.then_some(Wrong::Overwrote);
        self.push_if(Step::Write(me), to, wrong);
    }

    /// Gives its value to all who wait, and lets nobody join any more.
    fn land(&mut self, me: usize) {
        let mut to = self.from;
        let wrong = deliver(&mut to, me);
        let flight = &mut to.flights[me];
        if !flight.has_claim {
            flight.right = Right::Busy;
            flight.has_claim = self.rules.hold(Rule::LandingsAreClaimed);
        }
        flight.at = Flying::Landed;
        flight.is_joinable = false;
        self.push_if(Step::Land(me), to, wrong);
    }

    /// Lets the store answer whether a load still stands.
    pub(crate) fn answer(&mut self, me: usize) {
        let mut to = self.from;
        let flight = to.flights[me];
        let [tag, _, any] = flight.stamps;
        let is_same = !self.cast.learns || any == Stamp::Live;
        let verdict = match (flight.question, flight.right) {
            (Question::Nobody, _) => return,
            (Question::Sent, Right::Busy | Right::Nothing) => Some(false),
            (Question::Sent, Right::Mark) if self.rules.is_broken(Rule::JoinsAskForTheMark) => {
                Some(tag == Stamp::Live && is_same)
            }
            (Question::Sent, Right::Mark) if !to.is_marked_by(me) => Some(false),
            (Question::Sent, Right::Mark) if !self.cast.learns => Some(true),
            (Question::Sent, Right::Entry) if to.slot.kind != Kind::Foreign => Some(false),
            (Question::Sent, Right::Mark | Right::Entry) => None,
            (Question::Touched, Right::Entry) => {
                let is_live = tag == Stamp::Live && is_same;
                Some(is_live || self.rules.is_broken(Rule::JoinsAskForRegisters))
            }
            (Question::Touched, _) => Some(is_same || self.rules.is_broken(Rule::JoinsAskForAny)),
            (Question::Stands, _) => return self.publish(me),
        };
        let step = match flight.question {
            Question::Touched => Step::LookAtRegisters(me),
            _ => Step::Touch(me),
        };
        let it = &mut to.flights[me];
        (it.question, it.proof) = match verdict {
            None => (Question::Touched, Proof::Asking),
            Some(true) => (Question::Stands, Proof::Asking),
            Some(false) => (Question::Nobody, Proof::Overtaken),
        };
        self.push(step, to);
    }

    /// Lets those who wait know that nothing has overtaken a load.
    fn publish(&mut self, me: usize) {
        let mut to = self.from;
        if self.rules.is_broken(Rule::ProofsCountFromTheQuestion) {
            note_asked(&mut to, me);
        }
        to.flights[me].question = Question::Nobody;
        to.flights[me].proof = Proof::Stands;
        self.push(Step::Answer(me), to);
    }
}

impl State {
    /// Returns the mark that a flight leaves.
    pub(crate) fn mark_of(&self, flight: usize) -> Slot {
        let mut mark = Slot {
            kind: Kind::Mark,
            token: flight as u8 + 1,
            ..Slot::default()
        };
        mark.stamps[TAG] = self.flights[flight].stamps[TAG];
        mark
    }
}

/// Notes that a load begins, for all who have called by now.
fn note_begun(to: &mut State, me: usize) {
    to.flights[me].has_begun = true;
    let process = to.callers[me].process;
    for caller in &mut to.callers {
        if caller.is_on() && caller.process == process {
            caller.begun |= 1 << me;
        }
    }
}
