//! The steps of those who change the key or its tag, in this process and elsewhere.

use crate::rules::Rule;
use crate::state::{
    CHANGERS, Changer, Changes, Changing, Copied, Loading, OWN, REMOTE, Slot, State, What,
};
use crate::steps::{Step, Steps};

impl Steps<'_> {
    pub(crate) fn change(&mut self) {
        for me in 0..CHANGERS {
            self.change_here(me);
            self.change_there(me);
        }
    }

    /// Makes the next step of a change of this process: doom what is under way, change the store, apply, return.
    fn change_here(&mut self, me: usize) {
        let mut to = self.from;
        let Changer { left, what, at, .. } = to.changers[me];
        match at {
            Changing::Idle if left == 0 => {}
            Changing::Idle => {
                for what in self.cast.own {
                    self.begin(me, *what);
                }
            }
            Changing::Begun => {
                let is_committing = matches!(
                    to.loader.at,
                    Loading::Committing | Loading::CommittingOver(_) | Loading::Written
                );
                if what.is_of_key() && is_committing {
                    return;
                }
                make(&mut to, what, (OWN + me as u8, own_bit(me)));
                to.changers[me].age = 0;
                to.changers[me].at = Changing::Made;
                if !self.cast.notes_are_late {
                    self.note(&mut to, what, OWN + me as u8);
                    to.changers[me].at = Changing::Acknowledged;
                }
                self.push(Step::Make(me, what), to);
            }
            Changing::Noted | Changing::Made => {
                self.note(&mut to, what, OWN + me as u8);
                to.changers[me].at = Changing::Acknowledged;
                self.push(Step::Note(me), to);
            }
            Changing::Acknowledged if self.rules.is_broken(Rule::OwnChangesAreAppliedFirst) => {
                to.returned |= own_bit(me);
                to.changers[me].at = Changing::Returned;
                self.push(Step::Return(me), to);
            }
            Changing::Acknowledged | Changing::Returned => {
                self.finish(&mut to, me);
                to.returned |= own_bit(me);
                self.push(Step::Return(me), to);
            }
        }
    }

    fn begin(&mut self, me: usize, what: What) {
        let mut to = self.from;
        let overlaps = to.changes_key();
        if what.is_of_key() {
            to.doom_key();
        }
        to.changers[me] = Changer {
            left: to.changers[me].left,
            what,
            at: Changing::Begun,
            is_poisoned: overlaps,
            age: 0,
        };
        self.push(Step::Begin(me, what), to);
    }

    /// Applies an own change here: its value is kept if nothing overlapped it.
    fn finish(&self, to: &mut State, me: usize) {
        let changer = to.changers[me];
        to.copy = Copied::default();
        let is_alone = !changer.is_poisoned || self.rules.is_broken(Rule::SetsHeedOthers);
        if changer.what == What::Set && is_alone {
            self.insert(to, OWN + me as u8, changer.age);
        }
        to.changers[me] = Changer {
            left: changer.left - 1,
            ..Changer::default()
        };
        to.doom_key();
    }

    /// Makes the next step of a change elsewhere, which is noted as it is made, and returns.
    fn change_there(&mut self, me: usize) {
        let mut to = self.from;
        let Changer { left, what, at, .. } = to.remotes[me];
        let is_free =
            left > 0 && (me == 0 || self.from.remotes[0].left == 0 || self.cast.notes_are_late);
        match at {
            Changing::Idle if !is_free => {}
            Changing::Idle => {
                for what in self.cast.remote {
                    self.begin_there(me, *what);
                }
            }
            Changing::Noted => {
                make(&mut to, what, (REMOTE + me as u8, 1 << me));
                end_there(&mut to, me);
                self.push(Step::RemoteMake(me, what), to);
            }
            _ => {
                self.note(&mut to, what, REMOTE + me as u8);
                end_there(&mut to, me);
                self.push(Step::RemoteNote(me), to);
            }
        }
    }

    fn begin_there(&mut self, me: usize, what: What) {
        let mut to = self.from;
        to.remotes[me].what = what;
        if self.rules.is_broken(Rule::NotesFollowChanges) {
            self.note(&mut to, what, REMOTE + me as u8);
            to.remotes[me].at = Changing::Noted;
            return self.push(Step::RemoteNote(me), to);
        }
        make(&mut to, what, (REMOTE + me as u8, 1 << me));
        if self.cast.notes_are_late {
            to.remotes[me].at = Changing::Made;
        } else {
            self.note(&mut to, what, REMOTE + me as u8);
            end_there(&mut to, me);
        }
        self.push(Step::RemoteMake(me, what), to);
    }

    fn note(&self, to: &mut State, what: What, id: u8) {
        match what {
            What::Set => self.note_key(to, id),
            What::Delete => self.note_key(to, crate::state::NONE),
            What::Invalidate | What::Soften => to.pending.register = true,
            What::Clear => to.pending.all = true,
        }
    }
}

/// Makes a change in the store.
fn make(to: &mut State, what: What, (id, change): (u8, Changes)) {
    to.outdate(change);
    to.loader.is_softened |= what == What::Soften && to.loader.has_captured();
    to.slot = match (what, to.slot) {
        (What::Set, _) => {
            to.make(id);
            Slot::Value(id)
        }
        (What::Soften, Slot::Value(id) | Slot::Stale(id)) => Slot::Stale(id),
        (What::Soften, slot) => slot,
        (What::Delete | What::Invalidate | What::Clear, _) => Slot::Nothing,
    };
}

fn end_there(to: &mut State, me: usize) {
    to.remotes[me] = Changer {
        left: to.remotes[me].left - 1,
        ..Changer::default()
    };
    to.note_remote(me);
}

fn own_bit(me: usize) -> Changes {
    1 << (CHANGERS + me)
}
