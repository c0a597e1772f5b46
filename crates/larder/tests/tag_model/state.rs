//! A state of the protocol: one key, its registers, and whoever is about to do something.
//!
//! Numbers and tokens are random in the stores, so only which of them are equal matters: [`State::rename`] numbers them
//! in the order in which they appear, and states that differ in nothing else are one. Where numbers cannot come back,
//! [`State::merge`] also makes one of what can never matter again: numbers that are not live, entries that are invalid,
//! loaders whose mark is gone.

/// The registers that the model has: a subtree, a tag below it, and a tag that loads learn of.
pub(crate) const SUBTREE: usize = 0;
pub(crate) const TAG: usize = 1;
pub(crate) const LEARNT: usize = 2;
/// The register of all invalidations.
pub(crate) const ANY: usize = 3;

/// The numbers of the registers; 0: it is not there, or nothing depends on it.
pub(crate) type Numbers = [u8; 4];
/// Changes, one bit each.
pub(crate) type Changes = u8;

/// The number of a register that is there, and all others, where the latter cannot come back.
const LIVE: u8 = 1;
const DEAD: u8 = 2;
/// What no other number is, until it is renamed.
const FRESH: u8 = 200;

/// What the key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Kind {
    #[default]
    Nothing,
    Value,
    /// Somebody loads a value.
    Mark,
}

/// What is stored under the key, is about to be, or was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    pub(crate) stamps: Numbers,
    /// Of a mark.
    pub(crate) token: u8,
    /// Of a value: which changes began after its computation.
    pub(crate) outdated: Changes,
}

/// Where a loader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Loading {
    #[default]
    Start,
    Computed,
    Captured,
    Begun,
    Learnt,
    Checked,
    /// It found its mark, if that and the storing are two steps.
    Admitted,
    Over,
}

/// A loader, and what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Loader {
    /// Whether its values depend on registers.
    pub(crate) is_tagged: bool,
    /// Whether it learns of one more while it computes.
    pub(crate) learns: bool,
    /// How often it may still try.
    pub(crate) left: u8,
    pub(crate) at: Loading,
    /// What it found too early, if it looks too early.
    pub(crate) was_same: bool,
    pub(crate) stamps: Numbers,
    pub(crate) outdated: Changes,
}

/// Somebody who sets the key: whether it captured, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Writer {
    pub(crate) left: u8,
    pub(crate) has_captured: bool,
    pub(crate) stamps: Numbers,
}

/// Somebody who invalidates, and the register that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Invalidator {
    pub(crate) left: u8,
    pub(crate) is_at_work: bool,
    pub(crate) register: u8,
}

/// Somebody who invalidates by pattern, which matches the tag that loads learn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Globber {
    pub(crate) left: u8,
    pub(crate) at: Globbing,
    /// Whether it found the register.
    pub(crate) has_found: bool,
}

/// Where an invalidation by pattern is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Globbing {
    #[default]
    Start,
    Begun,
    Listed,
}

/// Somebody who adds tags to an entry: captures, reads, and writes it back if it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Editor {
    pub(crate) left: u8,
    pub(crate) has_captured: bool,
    pub(crate) has_read: bool,
    pub(crate) stamps: Numbers,
    /// The stamps of the entry that it read.
    pub(crate) seen: Numbers,
}

/// A replica that falls behind and becomes the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Failover {
    pub(crate) left: u8,
    pub(crate) at: FailingOver,
    /// What the replica has.
    pub(crate) registers: Numbers,
    pub(crate) slot: Slot,
    pub(crate) lease: u8,
    /// Which registers were invalidated, one bit each, by those who make these invalidations again.
    pub(crate) made: u8,
    /// Invalidations that do not count before they are made again.
    pub(crate) withdrawn: Changes,
}

/// Where a failover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum FailingOver {
    #[default]
    Start,
    /// The replica hears nothing any more.
    Behind,
    /// The replica is the master.
    Over,
    /// The register of all invalidations was changed; the others go next.
    MakingAgain,
}

/// Somebody who reads by two steps: the entry and the registers, in either order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reader {
    pub(crate) left: u8,
    pub(crate) has_entry: bool,
    pub(crate) has_registers: bool,
    pub(crate) entry: Slot,
    pub(crate) registers: Numbers,
    /// What had returned when it began, until it has the entry.
    pub(crate) returned: Changes,
}

/// A command of which a copy is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Copied {
    #[default]
    Nothing,
    Commit,
    Mark,
    Capture,
    AnyChange,
}

/// The late copy of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Late {
    pub(crate) left: u8,
    pub(crate) what: Copied,
    /// What it stores; `token` is what it shows.
    pub(crate) slot: Slot,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    pub(crate) registers: Numbers,
    pub(crate) slot: Slot,
    /// The token of the load that may store, in stores that keep it apart from the slot.
    pub(crate) lease: u8,
    pub(crate) loaders: [Loader; 2],
    pub(crate) writer: Writer,
    pub(crate) invalidator: Invalidator,
    pub(crate) globber: Globber,
    pub(crate) editor: Editor,
    pub(crate) failover: Failover,
    pub(crate) deletes_left: u8,
    pub(crate) counts_left: u8,
    pub(crate) reader: Reader,
    pub(crate) late: Late,
    /// Which changes have returned.
    pub(crate) returned: Changes,
}

impl State {
    /// Creates a register that is not there, and returns its number.
    pub(crate) fn capture(&mut self, register: usize, repeats: bool) -> u8 {
        if self.registers[register] == 0 {
            self.registers[register] = if repeats { 1 } else { FRESH };
            if !repeats {
                self.rename(register);
            }
        }
        self.registers[register]
    }

    /// Gives a register another number, whether or not it was there.
    pub(crate) fn change(&mut self, register: usize) {
        self.registers[register] = FRESH;
        self.rename(register);
    }

    /// Numbers the numbers of a register in the order in which they appear.
    pub(crate) fn rename(&mut self, register: usize) {
        let [first, second] = &mut self.loaders;
        let places = [
            &mut self.registers[register],
            &mut self.slot.stamps[register],
            &mut first.stamps[register],
            &mut second.stamps[register],
            &mut self.writer.stamps[register],
            &mut self.reader.entry.stamps[register],
            &mut self.reader.registers[register],
            &mut self.late.slot.stamps[register],
            &mut self.editor.stamps[register],
            &mut self.editor.seen[register],
            &mut self.failover.registers[register],
            &mut self.failover.slot.stamps[register],
        ];
        let mut known = [0; 12];
        let mut count = 0;
        for place in places {
            if *place == 0 {
                continue;
            }
            let mut at = 0;
            while at < count && known[at] != *place {
                at += 1;
            }
            if at == count {
                known[at] = *place;
                count += 1;
            }
            *place = at as u8 + 1;
        }
    }

    /// Makes one of all numbers of a register that are not live, since none of them can ever be again.
    fn bury(&mut self, register: usize) {
        let live = self.registers[register];
        let [first, second] = &mut self.loaders;
        let places = [
            &mut self.slot.stamps[register],
            &mut first.stamps[register],
            &mut second.stamps[register],
            &mut self.writer.stamps[register],
            &mut self.reader.entry.stamps[register],
            &mut self.reader.registers[register],
            &mut self.late.slot.stamps[register],
            &mut self.editor.stamps[register],
            &mut self.editor.seen[register],
        ];
        for place in places {
            *place = match *place {
                0 => 0,
                number if number == live => LIVE,
                _ => DEAD,
            };
        }
        self.registers[register] = if live == 0 { 0 } else { LIVE };
    }

    /// Makes one of states that differ only in what can never matter again; `token` tells that of a loader.
    pub(crate) fn merge(&mut self, is_any_final: bool, token: impl Fn(&Self, usize) -> u8) {
        for register in SUBTREE..=LEARNT {
            self.bury(register);
        }
        if is_any_final {
            self.bury(ANY);
        } else {
            self.rename(ANY);
        }
        if self.slot.stamps[..ANY].contains(&DEAD) {
            self.slot = Slot::default();
        }
        for me in 0..2 {
            let is_marked = self.slot.kind == Kind::Mark && self.slot.token == token(self, me);
            let loader = &mut self.loaders[me];
            let needs_mark = matches!(
                loader.at,
                Loading::Begun | Loading::Learnt | Loading::Checked
            );
            if needs_mark && !is_marked {
                loader.stamps = [0; 4];
                loader.outdated = 0;
            }
        }
        if self.reader.left == 0 {
            self.forget_changes();
        }
    }

    /// Forgets which change it was that outdated a value and has returned.
    fn forget_changes(&mut self) {
        let returned = self.returned | OUTDATED;
        let [first, second] = &mut self.loaders;
        let places = [
            &mut self.slot.outdated,
            &mut first.outdated,
            &mut second.outdated,
            &mut self.late.slot.outdated,
        ];
        for place in places {
            if *place & returned != 0 {
                *place = OUTDATED | (*place & COMPUTING);
            }
        }
        self.returned = OUTDATED;
    }

    pub(crate) fn rename_all(&mut self) {
        for register in 0..=ANY {
            self.rename(register);
        }
    }

    /// Notes that a change begins, about one register or the key: all values computed so far are older.
    pub(crate) fn begin(&mut self, change: Changes, about: Option<usize>) {
        let concerns = |is_tagged: bool, has_learnt: bool| match about {
            None => true,
            Some(LEARNT) => has_learnt,
            Some(_) => is_tagged,
        };
        let concerns_slot = |slot: &Slot| concerns(slot.stamps[TAG] != 0, slot.stamps[LEARNT] != 0);
        if self.slot.kind == Kind::Value && concerns_slot(&self.slot) {
            self.slot.outdated |= change;
        }
        if self.failover.slot.kind == Kind::Value && concerns_slot(&self.failover.slot) {
            self.failover.slot.outdated |= change;
        }
        if self.late.what == Copied::Commit && concerns_slot(&self.late.slot) {
            self.late.slot.outdated |= change;
        }
        for loader in &mut self.loaders {
            let is_computing = match loader.at {
                Loading::Start | Loading::Over => false,
                Loading::Computed | Loading::Captured => loader.outdated & COMPUTING != 0,
                Loading::Begun | Loading::Learnt | Loading::Checked | Loading::Admitted => true,
            };
            if is_computing && concerns(loader.is_tagged, loader.learns) {
                loader.outdated |= change;
            }
        }
    }
}

/// Outdated by a change that has returned.
const OUTDATED: Changes = 0x40;
/// Marks a loader that computes before it captures.
pub(crate) const COMPUTING: Changes = 0x80;
