//! The steps of readers and of the load; those of changes and of the journal are in `changes` and `journal`.

use crate::explorer::{Model, Next};
use crate::rules::{Rule, Rules};
use crate::state::{
    Copied, LOADED, Loader, Loading, MAX_STALENESS, NONE, READERS, Reader, Reading, Slot, State,
    What,
};
use crate::{Cast, Wrong};

/// What happened; readers and changers by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    MarkToRead(usize),
    Read(usize),
    Insert(usize),
    MarkToLoad,
    BeginLoad,
    Commit,
    Write,
    Keep,
    Begin(usize, What),
    Make(usize, What),
    Note(usize),
    Return(usize),
    RemoteMake(usize, What),
    RemoteNote(usize),
    SendPoll,
    AnswerPoll,
    FailPoll,
    ApplyNotes,
    CountPoll,
    Trim,
    LoseStream,
    LoseEntry,
    Tick,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tier {
    pub(crate) rules: Rules,
    pub(crate) cast: Cast,
}

/// Makes steps from one state.
pub(crate) struct Steps<'a> {
    pub(crate) rules: Rules,
    pub(crate) cast: Cast,
    pub(crate) from: State,
    pub(crate) next: &'a mut Vec<Next<Tier>>,
}

impl Model for Tier {
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
}

impl Steps<'_> {
    /// Collects all that can happen.
    fn all(&mut self) {
        for me in 0..READERS {
            self.read(me);
        }
        self.load();
        self.change();
        if self.cast.is_told {
            self.poll();
            self.lose_notes();
        }
        self.lose_entry();
        self.tick();
    }

    /// Takes a step, after which a read that begins must find nothing old.
    pub(crate) fn push(&mut self, step: Step, mut to: State) {
        to.merge(self.cast.is_told);
        let is_usable = match self.cast.is_told {
            true => to.fresh > 0,
            false => to.copy.life > 0,
        };
        let is_outdated = |id: u8| to.outdated[usize::from(id)] & to.all_returned() != 0;
        let wrong = match to.slot {
            Slot::Value(id) if is_outdated(id) => Some(Wrong::InStore),
            _ if is_usable && to.copy.id != NONE && to.is_past(to.copy.id) => Some(Wrong::InTier),
            _ => None,
        };
        self.next.push((step, to, wrong));
    }

    /// Makes the next step of a reader: sets a marker, reads, keeps a copy.
    fn read(&mut self, me: usize) {
        let mut to = self.from;
        let reader = to.readers[me];
        let is_marked_late = self.rules.is_broken(Rule::MarkersComeFirst);
        match reader.at {
            Reading::Idle if reader.left == 0 => {}
            Reading::Idle if is_marked_late => {
                to.readers[me].at = Reading::Unmarked(to.slot);
                to.readers[me].age = 0;
                self.push(Step::Read(me), to);
            }
            Reading::Idle => {
                to.readers[me].at = Reading::Marked;
                to.readers[me].age = 0;
                to.readers[me].is_doomed = to.changes_key();
                self.push(Step::MarkToRead(me), to);
            }
            Reading::Unmarked(slot) => {
                to.readers[me].at = Reading::Read(slot);
                to.readers[me].is_doomed = to.changes_key();
                self.push(Step::MarkToRead(me), to);
            }
            Reading::Marked => {
                to.readers[me].at = Reading::Read(to.slot);
                self.push(Step::Read(me), to);
            }
            Reading::Read(slot) => {
                let read = match slot {
                    Slot::Value(id) => id,
                    Slot::Stale(id) if self.rules.is_broken(Rule::StaleIsNotInserted) => id,
                    Slot::Stale(_) | Slot::Nothing | Slot::Mark => NONE,
                };
                if read != NONE && !reader.is_doomed {
                    self.insert(&mut to, read, reader.age);
                }
                to.readers[me] = Reader {
                    left: reader.left - 1,
                    ..Reader::default()
                };
                self.push(Step::Insert(me), to);
            }
        }
    }

    /// Keeps a copy of a value that was read or sent so many ticks ago.
    pub(crate) fn insert(&self, to: &mut State, id: u8, age: u8) {
        let is_own = id >= crate::state::OWN;
        let age = match self.rules.hold(Rule::LivesCountFromSending) {
            true => age,
            false => 0,
        };
        to.copy = Copied {
            id,
            is_own,
            life: MAX_STALENESS - age,
        };
    }

    /// Makes the next step of the load.
    fn load(&mut self) {
        let mut to = self.from;
        let loader = to.loader;
        match loader.at {
            Loading::Idle if loader.left == 0 => {}
            Loading::Idle => {
                to.loader.at = Loading::Marked;
                to.loader.age = 0;
                to.loader.is_doomed = to.changes_key();
                self.push(Step::MarkToLoad, to);
            }
            Loading::Marked => self.begin_load(),
            Loading::Computing | Loading::Replacing(_) => self.commit(),
            Loading::Committing | Loading::CommittingOver(_) => self.write(),
            Loading::Found(id) => {
                if !loader.is_doomed {
                    self.insert(&mut to, id, loader.age);
                }
                end(&mut to);
                self.push(Step::Keep, to);
            }
            Loading::Written => {
                let is_clean = !loader.is_doomed || self.rules.is_broken(Rule::MarkersLast);
                if is_clean && !loader.has_replaced {
                    self.insert(&mut to, LOADED, loader.age);
                }
                end(&mut to);
                self.push(Step::Keep, to);
            }
        }
    }

    /// Leaves a mark unless there is an entry; what is stale is replaced.
    fn begin_load(&mut self) {
        let mut to = self.from;
        to.loader.at = match to.slot {
            Slot::Value(id) => Loading::Found(id),
            Slot::Stale(id) => Loading::Replacing(id),
            Slot::Nothing | Slot::Mark => {
                to.slot = Slot::Mark;
                Loading::Computing
            }
        };
        if !matches!(to.loader.at, Loading::Found(_)) {
            to.make(LOADED);
        }
        self.push(Step::BeginLoad, to);
    }

    /// Begins to store, unless a change has overtaken the load.
    fn commit(&mut self) {
        let mut to = self.from;
        if to.loader.is_doomed && self.rules.hold(Rule::MarkersLast) {
            if to.slot == Slot::Mark {
                to.slot = Slot::Nothing;
            }
            end(&mut to);
            return self.push(Step::Commit, to);
        }
        to.loader.age = 0;
        to.loader.at = match to.loader.at {
            Loading::Replacing(id) => Loading::CommittingOver(id),
            _ => Loading::Committing,
        };
        self.push(Step::Commit, to);
    }

    /// Stores the value with its note, if what it may replace is still there.
    fn write(&mut self) {
        let mut to = self.from;
        let is_there = match to.loader.at {
            Loading::CommittingOver(id) => to.slot == Slot::Stale(id),
            _ => to.slot == Slot::Mark,
        };
        if is_there {
            to.loader.has_replaced = matches!(to.loader.at, Loading::CommittingOver(_));
            to.loader.at = Loading::Written;
            to.slot = match to.loader.is_softened {
                true => Slot::Stale(LOADED),
                false => Slot::Value(LOADED),
            };
            self.note_key(&mut to, LOADED);
        } else {
            end(&mut to);
        }
        self.push(Step::Write, to);
    }

    /// Loses the entry, or the mark at the end of its lease.
    fn lose_entry(&mut self) {
        let mut to = self.from;
        if to.slot != Slot::Nothing {
            to.slot = Slot::Nothing;
            self.push(Step::LoseEntry, to);
        }
    }
}

fn end(to: &mut State) {
    to.loader = Loader {
        left: to.loader.left - 1,
        ..Loader::default()
    };
}
