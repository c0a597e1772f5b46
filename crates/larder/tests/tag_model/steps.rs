//! The steps of the protocol, as small as stores make them: whatever can happen next.

use crate::explorer::{Model, Next};
use crate::rules::{Rule, Rules};
use crate::state::{
    ANY, COMPUTING, Changes, Copied, Failover, Invalidator, Kind, LEARNT, Late, Loader, Loading,
    Numbers, Reader, SUBTREE, Slot, State, TAG,
};

/// The first bits of changes of each sort.
const SETS: u8 = 0;
/// Of the only one, beside at most one of the sort before.
pub(crate) const COUNT: Changes = 1 << 1;
pub(crate) const GLOB: Changes = 1 << 3;
const INVALIDATIONS: u8 = 2;
const DELETES: u8 = 4;
/// The token that nobody has.
const NOBODY: u8 = 99;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Load(u8, Loading),
    GiveUp(u8),
    BeginSet,
    Write,
    SetAtOnce,
    Delete,
    Clear,
    ChangeAny(u8),
    DeleteRegister(u8),
    EvictEntry,
    EvictRegister(u8),
    ReadEntry,
    ReadRegisters,
    Repeat(Copied),
    Renew(u8),
    Count,
    CaptureTags,
    ReadToTag,
    WriteTagged,
    BeginGlob,
    List,
    DeleteListed,
    FallBehind,
    FailOver,
    ChangeAnyAgain,
    DeleteRegistersAgain,
}

/// Why a state must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A read would return a value that was computed before a change began that has returned.
    Outdated,
    /// A load was refused because of another that can only fail.
    Blocked,
}

/// Makes steps from one state.
pub(crate) struct Steps<'a> {
    pub(crate) rules: Rules,
    pub(crate) from: State,
    pub(crate) next: &'a mut Vec<Next<Rules>>,
}

impl Model for Rules {
    type State = State;
    type Step = Step;
    type Wrong = Wrong;

    fn steps(&self, from: &State, next: &mut Vec<Next<Self>>) {
        let mut steps = Steps {
            rules: *self,
            from: *from,
            next,
        };
        steps.all();
    }
}

impl Steps<'_> {
    /// Collects all that can happen.
    pub(crate) fn all(&mut self) {
        for loader in 0..2 {
            self.load(loader);
            self.renew(loader);
        }
        self.set();
        self.delete();
        self.invalidate();
        self.evict();
        self.read();
        self.repeat();
        self.count();
        self.edit();
        self.glob();
        self.fail_over();
    }

    pub(crate) fn push(&mut self, step: Step, mut to: State) {
        let is_final = to.failover == Failover::default();
        if self.rules.can_merge() && is_final {
            let is_any_final = self.rules.hold(Rule::AnyIsNotRepeated);
            to.merge(is_any_final, |state, me| self.token(&state.loaders[me], me));
        } else {
            to.rename_all();
        }
        let is_outdated = self.is_valid(&to.slot, &to.registers)
            && to.slot.kind == Kind::Value
            && to.slot.outdated & to.returned != 0;
        let wrong = is_outdated.then_some(Wrong::Outdated);
        self.next.push((step, to, wrong));
    }

    /// Judges by the rule of validity.
    pub(crate) fn is_valid(&self, slot: &Slot, registers: &Numbers) -> bool {
        let mut stamps = (SUBTREE..=LEARNT).filter(|register| slot.stamps[*register] != 0);
        let is_valid = |register: usize| match registers[register] {
            0 => self.rules.is_broken(Rule::MissingIsInvalid),
            live => live == slot.stamps[register] || self.rules.is_broken(Rule::NumbersAreEqual),
        };
        if self.rules.is_broken(Rule::AllRegistersCount) {
            return stamps.next().is_none_or(is_valid);
        }
        stamps.all(is_valid)
    }

    pub(crate) fn capture(&self, to: &mut State, register: usize) -> u8 {
        to.capture(register, self.rules.is_broken(Rule::NumbersAreNew))
    }

    /// Makes the next step of a loader.
    fn load(&mut self, id: u8) {
        let loader = self.from.loaders[usize::from(id)];
        let mut to = self.from;
        let me = usize::from(id);
        match loader.at {
            Loading::Over => return,
            Loading::Start if self.rules.is_broken(Rule::CaptureBeforeCompute) => {
                to.loaders[me].at = Loading::Computed;
                to.loaders[me].outdated = COMPUTING;
            }
            Loading::Start | Loading::Computed => self.capture_all(&mut to, me),
            Loading::Captured
                if self.rules.is_broken(Rule::MarkBeforeCompute)
                    && loader.outdated & COMPUTING == 0 =>
            {
                to.loaders[me].outdated = COMPUTING;
            }
            Loading::Captured => return self.begin(id),
            Loading::Begun if loader.learns => self.learn(&mut to, me),
            Loading::Learnt => {
                if !self.check(&mut to, me) {
                    self.end(&mut to, me);
                    return self.push(Step::GiveUp(id), to);
                }
            }
            Loading::Begun | Loading::Checked | Loading::Admitted => return self.commit(id),
        }
        self.push(Step::Load(id, to.loaders[me].at), to);
    }

    /// Captures what the load is known to depend on, and the register of all invalidations.
    fn capture_all(&self, to: &mut State, me: usize) {
        to.loaders[me].at = Loading::Captured;
        if !to.loaders[me].is_tagged {
            return;
        }
        for register in [SUBTREE, TAG] {
            let was_there = to.registers[register] != 0;
            let number = self.capture(to, register);
            let is_stamped = register == TAG || self.rules.hold(Rule::SubtreesAreStamped);
            to.loaders[me].stamps[register] = if is_stamped { number } else { 0 };
            if !was_there {
                self.copy(to, Copied::Capture, |slot| slot.stamps[register] = number);
            }
        }
        if to.loaders[me].learns && self.rules.hold(Rule::AnyIsCapturedFirst) {
            to.loaders[me].stamps[ANY] = self.capture(to, ANY);
        }
    }

    /// Returns what a loader shows in this attempt.
    pub(crate) fn token(&self, loader: &Loader, me: usize) -> u8 {
        let attempt = match self.rules.hold(Rule::TokensAreNew) {
            true => loader.left,
            false => 0,
        };
        1 + me as u8 * 8 + attempt
    }

    /// Leaves a mark, unless there is a valid entry or another's mark; then the value is computed.
    fn begin(&mut self, id: u8) {
        let me = usize::from(id);
        let mut to = self.from;
        let stamps = of_entry(&to.loaders[me].stamps, false);
        let is_valid = self.is_valid(&to.slot, &to.registers);
        let blocks = match to.slot.kind {
            Kind::Nothing => false,
            Kind::Value => is_valid,
            Kind::Mark => is_valid || self.rules.is_broken(Rule::MarksAreJudged),
        };
        if blocks {
            self.end(&mut to, me);
            self.push(Step::GiveUp(id), to);
            if self.from.slot.kind == Kind::Mark && !is_valid {
                let refused = self.next.last_mut().expect("just pushed");
                refused.2 = Some(Wrong::Blocked);
            }
            return;
        }
        let token = self.token(&to.loaders[me], me);
        to.slot = Slot {
            kind: Kind::Mark,
            stamps,
            token,
            outdated: 0,
        };
        to.lease = if self.keeps_leases_apart() { token } else { 0 };
        to.loaders[me].at = Loading::Begun;
        to.loaders[me].outdated &= !COMPUTING;
        let mark = to.slot;
        self.copy(&mut to, Copied::Mark, |slot| *slot = mark);
        self.push(Step::Load(id, Loading::Begun), to);
    }

    /// Captures what was learnt while the value was computed.
    fn learn(&self, to: &mut State, me: usize) {
        to.loaders[me].at = Loading::Learnt;
        if self.rules.is_broken(Rule::AnyIsCapturedFirst) {
            to.loaders[me].stamps[ANY] = self.capture(to, ANY);
        }
        if self.rules.is_broken(Rule::LearntIsCheckedLast) {
            // Remembers the outcome in place of the number.
            let is_same = self.capture(to, ANY) == to.loaders[me].stamps[ANY];
            to.loaders[me].stamps[ANY] = 0;
            to.loaders[me].was_same = is_same;
            return;
        }
        to.loaders[me].stamps[LEARNT] = self.capture(to, LEARNT);
    }

    /// Returns whether there was no invalidation since the load began.
    fn check(&self, to: &mut State, me: usize) -> bool {
        to.loaders[me].at = Loading::Checked;
        if self.rules.is_broken(Rule::LearntIsCheckedLast) {
            to.loaders[me].stamps[LEARNT] = self.capture(to, LEARNT);
            return to.loaders[me].was_same;
        }
        let is_same = self.capture(to, ANY) == to.loaders[me].stamps[ANY];
        to.loaders[me].stamps[ANY] = 0;
        is_same || self.rules.is_broken(Rule::LearntIsChecked)
    }

    /// Puts the mark back, which renewals must not.
    fn renew(&mut self, id: u8) {
        let me = usize::from(id);
        let loader = self.from.loaders[me];
        let is_computing = loader.at == Loading::Begun;
        if self.rules.hold(Rule::RenewalsCreateNothing)
            || !is_computing
            || self.from.slot.kind != Kind::Nothing
        {
            return;
        }
        let mut to = self.from;
        to.slot = Slot {
            kind: Kind::Mark,
            stamps: of_entry(&loader.stamps, false),
            token: self.token(&loader, me),
            outdated: 0,
        };
        self.push(Step::Renew(id), to);
    }

    /// Stores what was loaded, if the mark is still there.
    fn commit(&mut self, id: u8) {
        let me = usize::from(id);
        let mut to = self.from;
        let loader = to.loaders[me];
        let value = Slot {
            kind: Kind::Value,
            stamps: of_entry(&loader.stamps, loader.learns),
            token: self.token(&loader, me),
            outdated: loader.outdated,
        };
        if loader.at == Loading::Admitted {
            to.slot = Slot { token: 0, ..value };
        } else {
            self.copy(&mut to, Copied::Commit, |slot| *slot = value);
            let is_stored = self.store(&mut to, value);
            if is_stored && self.rules.is_broken(Rule::CommitsAreAtomic) {
                let mut admitted = self.from;
                admitted.loaders[me].at = Loading::Admitted;
                return self.push(Step::Load(id, Loading::Admitted), admitted);
            }
        }
        self.end(&mut to, me);
        self.push(Step::Load(id, Loading::Over), to);
    }

    /// Stores a value under its token, if that is still the one; returns whether it is.
    fn store(&self, to: &mut State, value: Slot) -> bool {
        let is_marked = to.slot.kind == Kind::Mark
            && (self.is_valid(&to.slot, &to.registers)
                || self.rules.is_broken(Rule::MarksAreJudged))
            && (to.slot.token == value.token || self.rules.is_broken(Rule::TokensAreCompared));
        let is_leased = self.keeps_leases_apart() && to.lease == value.token;
        if is_marked || is_leased {
            to.slot = Slot { token: 0, ..value };
            to.lease = 0;
        }
        is_marked || is_leased
    }

    /// Ends an attempt; the next one may follow.
    fn end(&self, to: &mut State, me: usize) {
        // Nobody shows that token any more, except late.
        let token = self.token(&to.loaders[me], me);
        let is_shown = to.late.what != Copied::Nothing || self.rules.is_broken(Rule::TokensAreNew);
        if to.slot.kind == Kind::Mark && to.slot.token == token && !is_shown {
            to.slot.token = NOBODY;
        }
        let loader = &mut to.loaders[me];
        *loader = Loader {
            is_tagged: loader.is_tagged,
            learns: loader.learns,
            left: loader.left - 1,
            ..Loader::default()
        };
        if loader.left == 0 {
            loader.at = Loading::Over;
        }
    }

    fn keeps_leases_apart(&self) -> bool {
        [
            Rule::SetsRemoveMarks,
            Rule::DeletesRemoveMarks,
            Rule::ClearsRemoveMarks,
            Rule::CountsRemoveMarks,
        ]
        .into_iter()
        .any(|rule| self.rules.is_broken(rule))
    }

    /// Sets the key: captures and writes, by two steps or at once.
    fn set(&mut self) {
        let mut to = self.from;
        if to.writer.left == 0 {
            return;
        }
        if to.writer.has_captured {
            self.write(&mut to);
            return self.push(Step::Write, to);
        }
        to.begin(bit(SETS, to.writer.left), None);
        for register in [SUBTREE, TAG] {
            to.writer.stamps[register] = self.capture(&mut to, register);
        }
        to.writer.has_captured = true;
        let mut at_once = to;
        self.push(Step::BeginSet, to);
        self.write(&mut at_once);
        self.push(Step::SetAtOnce, at_once);
    }

    /// Writes what is set; it is as new as the set, so that only later changes outdate it.
    fn write(&self, to: &mut State) {
        to.slot = Slot {
            kind: Kind::Value,
            stamps: to.writer.stamps,
            ..Slot::default()
        };
        if self.rules.hold(Rule::SetsRemoveMarks) {
            to.lease = 0;
        }
        to.returned |= bit(SETS, to.writer.left);
        to.writer.left -= 1;
        to.writer.has_captured = false;
        to.writer.stamps = [0; 4];
    }

    /// Deletes the key, or clears the namespace with its registers.
    fn delete(&mut self) {
        if self.from.deletes_left == 0 {
            return;
        }
        for (step, rule) in [
            (Step::Delete, Rule::DeletesRemoveMarks),
            (Step::Clear, Rule::ClearsRemoveMarks),
        ] {
            let mut to = self.from;
            let change = bit(DELETES, to.deletes_left);
            to.deletes_left -= 1;
            to.begin(change, None);
            to.returned |= change;
            to.slot = Slot::default();
            if step == Step::Clear {
                to.registers = [0; 4];
            }
            if self.rules.hold(rule) {
                to.lease = 0;
            }
            self.push(step, to);
        }
    }

    /// Invalidates a register: the one of all invalidations is changed, then this one goes.
    fn invalidate(&mut self) {
        let work = self.from.invalidator;
        if work.left == 0 {
            return;
        }
        if !work.is_at_work {
            for register in [SUBTREE, TAG, LEARNT] {
                self.begin_invalidation(register);
            }
            return;
        }
        let mut to = self.from;
        to.invalidator = Invalidator {
            left: work.left - 1,
            ..Invalidator::default()
        };
        if self.rules.hold(Rule::AnyChangesFirst) {
            to.registers[usize::from(work.register)] = 0;
        } else {
            to.change(ANY);
        }
        to.note_made(bit(INVALIDATIONS, work.left));
        self.push(Step::DeleteRegister(work.register), to);
    }

    fn begin_invalidation(&mut self, register: usize) {
        let mut to = self.from;
        let change = bit(INVALIDATIONS, to.invalidator.left);
        to.begin(change, Some(register));
        if self.rules.is_broken(Rule::AnyChangesFirst) {
            to.registers[register] = 0;
        } else if self.rules.hold(Rule::AnyChangesAlways) || to.registers[register] != 0 {
            to.change(ANY);
            let number = to.registers[ANY];
            self.copy(&mut to, Copied::AnyChange, |slot| slot.stamps[ANY] = number);
        }
        to.invalidator.is_at_work = true;
        to.invalidator.register = register as u8;
        to.remember_made(register);
        if self.rules.is_broken(Rule::InvalidationsWait) {
            to.returned |= change;
        }
        self.push(Step::ChangeAny(register as u8), to);
    }

    /// Anything can be lost at any time: an entry, a mark at the end of its lease, a register.
    fn evict(&mut self) {
        if self.from.slot.kind != Kind::Nothing {
            let mut to = self.from;
            to.slot = Slot::default();
            self.push(Step::EvictEntry, to);
        }
        for register in SUBTREE..=ANY {
            if self.from.registers[register] != 0 {
                let mut to = self.from;
                to.registers[register] = 0;
                self.push(Step::EvictRegister(register as u8), to);
            }
        }
    }

    /// Reads the entry and the registers by two steps, in either order, and judges.
    fn read(&mut self) {
        let reader = self.from.reader;
        if reader.left == 0 {
            return;
        }
        let mut from = self.from;
        if !reader.has_entry && !reader.has_registers {
            from.reader.returned = from.returned;
        }
        if !reader.has_entry {
            let mut to = from;
            to.reader.has_entry = true;
            to.reader.entry = Slot {
                token: 0,
                outdated: from.slot.outdated & from.reader.returned,
                ..from.slot
            };
            to.reader.returned = 0;
            self.judge(Step::ReadEntry, to);
        }
        if !reader.has_registers {
            let mut to = from;
            to.reader.has_registers = true;
            to.reader.registers = from.registers;
            to.reader.registers[ANY] = 0;
            self.judge(Step::ReadRegisters, to);
        }
    }

    fn judge(&mut self, step: Step, mut to: State) {
        let reader = to.reader;
        let is_over = reader.has_entry && (reader.has_registers || reader.entry.outdated == 0);
        if !is_over {
            return self.push(step, to);
        }
        let is_wrong = reader.entry.kind == Kind::Value
            && self.is_valid(&reader.entry, &reader.registers)
            && reader.entry.outdated != 0;
        to.reader = Reader {
            left: reader.left - 1,
            ..Reader::default()
        };
        self.push(step, to);
        if is_wrong {
            let read = self.next.last_mut().expect("just pushed");
            read.2 = Some(Wrong::Outdated);
        }
    }

    /// Leaves a copy of a command under way, where the code could send it again.
    fn copy(&self, to: &mut State, what: Copied, fill: impl FnOnce(&mut Slot)) {
        let is_sent_again = match what {
            Copied::Nothing => false,
            Copied::Commit => true,
            Copied::Mark => self.rules.is_broken(Rule::MarksAreNotRepeated),
            Copied::Capture => self.rules.is_broken(Rule::CapturesAreNotRepeated),
            Copied::AnyChange => self.rules.is_broken(Rule::AnyIsNotRepeated),
        };
        if !is_sent_again || to.late.left == 0 {
            return;
        }
        // A capture fills in one register after the other.
        let is_new = to.late.what == Copied::Nothing;
        if is_new || (what == Copied::Capture && to.late.what == what) {
            to.late.what = what;
            fill(&mut to.late.slot);
        }
    }

    /// Lets the late copy arrive, or get lost.
    fn repeat(&mut self) {
        let late = self.from.late;
        let mut to = self.from;
        to.late = Late {
            left: late.left.saturating_sub(1),
            ..Late::default()
        };
        let is_free = to.slot.kind == Kind::Nothing || !self.is_valid(&to.slot, &to.registers);
        match late.what {
            Copied::Nothing => return,
            Copied::Commit => drop(self.store(&mut to, late.slot)),
            Copied::Mark if is_free => to.slot = late.slot,
            Copied::Mark => {}
            Copied::Capture => {
                for register in [SUBTREE, TAG] {
                    if to.registers[register] == 0 {
                        to.registers[register] = late.slot.stamps[register];
                    }
                }
            }
            Copied::AnyChange => to.registers[ANY] = late.slot.stamps[ANY],
        }
        self.push(Step::Repeat(late.what), to);
        let mut lost = self.from;
        lost.late = Late {
            left: late.left,
            ..Late::default()
        };
        self.push(Step::Repeat(Copied::Nothing), lost);
    }
}

/// Returns the stamps that an entry carries.
fn of_entry(stamps: &Numbers, has_learnt: bool) -> Numbers {
    let learnt = if has_learnt { stamps[LEARNT] } else { 0 };
    [stamps[SUBTREE], stamps[TAG], learnt, 0]
}

/// Returns the bit of a change, by how many of its sort were left.
fn bit(first: u8, left: u8) -> Changes {
    1 << (first + left - 1)
}
