//! A state: one key in a store with a journal, and a process with a local tier; others change the key, too.
//!
//! Each value that there can be has a write id of its own, and what outdates it is kept by that. Time passes in ticks; what
//! lies further back than the bound on staleness is one.

/// The bound on staleness, in ticks.
pub(crate) const MAX_STALENESS: u8 = 2;
pub(crate) const READERS: usize = 2;
pub(crate) const CHANGERS: usize = 2;

/// Write ids: of no value, of the one at the beginning, of what others set, of what this process sets and loads.
pub(crate) const NONE: u8 = 0;
pub(crate) const INITIAL: u8 = 1;
pub(crate) const REMOTE: u8 = 2;
pub(crate) const OWN: u8 = 4;
pub(crate) const LOADED: u8 = 6;
const VALUES: usize = 7;

/// Changes, one bit each: of others, then of this process.
pub(crate) type Changes = u8;
/// Outdated by a change that nobody may overlook any more.
const OUTDATED: Changes = 1 << 7;
/// Of a change that has not returned.
const NEVER: u8 = u8::MAX;

/// What is stored under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Slot {
    #[default]
    Nothing,
    Value(u8),
    /// A value that is to be refreshed.
    Stale(u8),
    /// The mark of the load.
    Mark,
}

/// The local copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Copied {
    pub(crate) id: u8,
    /// Whether this process made the value.
    pub(crate) is_own: bool,
    /// How many ticks it may be used, where nobody tells of changes.
    pub(crate) life: u8,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Reading {
    #[default]
    Idle,
    Marked,
    /// It has read before it set its marker, which it must not.
    Unmarked(Slot),
    Read(Slot),
}

/// Somebody who reads from the store and keeps a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reader {
    pub(crate) left: u8,
    pub(crate) at: Reading,
    pub(crate) is_doomed: bool,
    /// Ticks since its marker was set.
    pub(crate) age: u8,
}

/// Where the load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Loading {
    #[default]
    Idle,
    Marked,
    /// It computes, and may store over its mark.
    Computing,
    /// It computes, and may store over the stale entry with this write id.
    Replacing(u8),
    /// It is being written; own changes wait.
    Committing,
    CommittingOver(u8),
    Written,
    /// It found a value after all.
    Found(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Loader {
    pub(crate) left: u8,
    pub(crate) at: Loading,
    pub(crate) is_doomed: bool,
    pub(crate) age: u8,
    /// Whether its value replaced a stale one.
    pub(crate) has_replaced: bool,
    /// Whether its value is stale before it is stored.
    pub(crate) is_softened: bool,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum What {
    #[default]
    Set,
    Delete,
    /// Invalidates a tag that all values have.
    Invalidate,
    /// Marks what has the tag as stale.
    Soften,
    Clear,
}

impl What {
    pub(crate) fn is_of_key(self) -> bool {
        matches!(self, Self::Set | Self::Delete)
    }
}

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Changing {
    #[default]
    Idle,
    Begun,
    /// Its note is there and the change is not, which must not be.
    Noted,
    /// It is made; its note is not there yet.
    Made,
    Acknowledged,
    /// It has returned and is not applied here, which must not be.
    Returned,
}

/// Somebody who changes the key or the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Changer {
    pub(crate) left: u8,
    pub(crate) what: What,
    pub(crate) at: Changing,
    /// Something overlapped it.
    pub(crate) is_poisoned: bool,
    pub(crate) age: u8,
}

/// What the last notes of the key say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum KeyNote {
    #[default]
    Nothing,
    /// It holds this write id; none: it is gone.
    Holds(u8),
    /// It held several, where each note counts.
    Several,
}

/// Notes that have not been read, or applied, yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Notes {
    pub(crate) all: bool,
    pub(crate) register: bool,
    pub(crate) key: KeyNote,
}

/// What became of the stream since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Stream {
    Whole,
    Trimmed,
    #[default]
    Missing,
}

/// Where the reading of the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Polling {
    #[default]
    Idle,
    Sent,
    Answered(Notes),
    /// Counted before it is applied, which it must not be.
    Counted(Notes),
    Applied,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    pub(crate) slot: Slot,
    pub(crate) copy: Copied,
    pub(crate) readers: [Reader; READERS],
    pub(crate) loader: Loader,
    /// Of this process.
    pub(crate) changers: [Changer; CHANGERS],
    /// Others.
    pub(crate) remotes: [Changer; CHANGERS],
    pub(crate) pending: Notes,
    pub(crate) stream: Stream,
    /// How often the stream may be lost or trimmed.
    pub(crate) losses: u8,
    pub(crate) poll: Polling,
    /// Ticks since it was sent.
    pub(crate) poll_age: u8,
    /// For how many ticks copies may still be used.
    pub(crate) fresh: u8,
    /// Which values there have been, one bit each.
    pub(crate) made: u8,
    /// Which changes were made after a value was.
    pub(crate) outdated: [Changes; VALUES],
    /// Ticks since others' changes returned.
    pub(crate) ages: [u8; CHANGERS],
    /// Which changes of this process have returned.
    pub(crate) returned: Changes,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            ages: [NEVER; CHANGERS],
            ..Self::default()
        }
    }

    /// Notes that a change is made: all values that there are, are older.
    pub(crate) fn outdate(&mut self, change: Changes) {
        for id in 1..VALUES {
            if self.made & 1 << id != 0 {
                self.outdated[id] |= change;
            }
        }
    }

    /// Notes that there is a value from now on.
    pub(crate) fn make(&mut self, id: u8) {
        self.made |= 1 << id;
        self.outdated[usize::from(id)] = 0;
    }

    /// Lets a tick pass.
    pub(crate) fn tick(&mut self) {
        let older = |age: &mut u8| *age = (*age + 1).min(MAX_STALENESS);
        self.ages
            .iter_mut()
            .filter(|age| **age != NEVER)
            .for_each(older);
        self.readers.iter_mut().for_each(|it| older(&mut it.age));
        self.changers.iter_mut().for_each(|it| older(&mut it.age));
        older(&mut self.loader.age);
        older(&mut self.poll_age);
        self.copy.life = self.copy.life.saturating_sub(1);
    }

    /// Notes that the change of somebody else has returned.
    pub(crate) fn note_remote(&mut self, who: usize) {
        self.ages[who] = 0;
    }

    /// Returns the changes that no read from the store may overlook.
    pub(crate) fn all_returned(&self) -> Changes {
        let remotes = (0..CHANGERS).filter(|who| self.ages[*who] != NEVER);
        remotes.fold(self.returned | OUTDATED, |all, who| all | 1 << who)
    }

    /// Returns the changes that no local copy may overlook.
    fn all_past(&self) -> Changes {
        let remotes = (0..CHANGERS).filter(|who| self.ages[*who] == MAX_STALENESS);
        remotes.fold(self.returned | OUTDATED, |all, who| all | 1 << who)
    }

    /// Returns whether a copy of a value must not be used any more.
    pub(crate) fn is_past(&self, id: u8) -> bool {
        self.outdated[usize::from(id)] & self.all_past() != 0
    }

    /// Dooms what is under way for the key: readers, the load, and changes that overlap.
    pub(crate) fn doom_key(&mut self) {
        self.doom_markers();
        self.poison();
    }

    pub(crate) fn doom_markers(&mut self) {
        for reader in &mut self.readers {
            reader.is_doomed |= matches!(reader.at, Reading::Marked | Reading::Read(_));
        }
        self.loader.is_doomed |= self.loader.at != Loading::Idle;
    }

    /// Poisons all changes that are under way.
    pub(crate) fn poison(&mut self) {
        for changer in &mut self.changers {
            changer.is_poisoned |= changer.changes_key();
        }
    }

    pub(crate) fn changes_key(&self) -> bool {
        self.changers.iter().any(Changer::changes_key)
    }

    /// Makes one of states that differ only in what can never matter again.
    pub(crate) fn merge(&mut self, is_told: bool) {
        let past = self.all_past();
        for outdated in &mut self.outdated {
            if *outdated & past != 0 {
                *outdated = OUTDATED;
            }
        }
        for id in 1..VALUES as u8 {
            if !self.is_in_use(id) {
                self.made &= !(1 << id);
                self.outdated[usize::from(id)] = 0;
            }
        }
        if is_told {
            self.copy.life = 0;
            self.readers.iter_mut().for_each(|it| it.age = 0);
            self.changers.iter_mut().for_each(|it| it.age = 0);
            self.loader.age = 0;
        } else {
            self.readers
                .iter_mut()
                .filter(|it| it.at == Reading::Idle)
                .for_each(|it| it.age = 0);
            self.changers
                .iter_mut()
                .filter(|it| it.at == Changing::Idle)
                .for_each(|it| it.age = 0);
            if self.loader.at == Loading::Idle {
                self.loader.age = 0;
            }
            (self.fresh, self.pending) = (0, Notes::default());
            if self.copy.life == 0 {
                self.copy = Copied::default();
            }
        }
        if self.poll == Polling::Idle {
            self.poll_age = 0;
        }
        if self.copy.id == NONE {
            self.copy = Copied::default();
        }
    }

    /// Returns whether somebody has a value, or is about to make it.
    fn is_in_use(&self, id: u8) -> bool {
        let is_stored = matches!(self.slot, Slot::Value(it) | Slot::Stale(it) if it == id);
        let has_read = |reader: &Reader| match reader.at {
            Reading::Idle | Reading::Marked => false,
            Reading::Unmarked(slot) | Reading::Read(slot) => {
                matches!(slot, Slot::Value(it) | Slot::Stale(it) if it == id)
            }
        };
        let is_loaded = match self.loader.at {
            Loading::Idle | Loading::Marked => false,
            Loading::Found(it) => it == id,
            _ => id == LOADED,
        };
        let is_set = (OWN..OWN + CHANGERS as u8).contains(&id)
            && self.changers[usize::from(id - OWN)].at != Changing::Idle;
        let is_copied = self.copy.id == id;
        is_stored || is_copied || is_set || is_loaded || self.readers.iter().any(has_read)
    }
}

impl Loader {
    /// Returns whether it has stamps, and no entry yet.
    pub(crate) fn has_captured(&self) -> bool {
        !matches!(
            self.at,
            Loading::Idle | Loading::Marked | Loading::Written | Loading::Found(_)
        )
    }
}

impl Changer {
    fn changes_key(&self) -> bool {
        self.at != Changing::Idle && self.what.is_of_key()
    }
}
