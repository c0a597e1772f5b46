//! How large a storm is, and what is lost in it.

use std::path::Path;

/// Says how many operations the long form has.
const OPERATIONS: &str = "LARDER_TEST_STORM_OPERATIONS";
/// The short form.
const FEW: u64 = 6_000;
/// Most operations of tiers ask no store, so they need more of them.
const MORE: u64 = 2;
/// For how long copies in local tiers may be outdated.
const MAX_STALENESS_MS: u64 = 60;
const KEYS: u64 = 256;
const FILE: &str = "plan";
const TASKS: u64 = 4;

/// The same for all processes of a storm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) processes: u64,
    /// The tasks of each process.
    pub(crate) tasks: u64,
    /// The operations of each process.
    pub(crate) operations: u64,
    pub(crate) keys: u64,
    pub(crate) body_bytes: usize,
    /// One operation of so many invalidates a tag.
    pub(crate) invalidate_every: u64,
    /// One process loses a register for so many of its operations; 0: none are lost.
    pub(crate) loss_every: u64,
    /// For how long copies in local tiers may be outdated; 0: there are no such tiers.
    pub(crate) max_staleness_ms: u64,
}

/// Returns how many operations a storm has, and whether that is the long form, whose hit ratios mean something.
pub(crate) fn operations() -> (u64, bool) {
    match std::env::var(OPERATIONS) {
        Ok(operations) => (operations.parse().unwrap(), true),
        Err(_) => (FEW, false),
    }
}

impl Plan {
    /// Plans a storm of so many processes and of as many operations as all storms have.
    pub(crate) fn of(processes: u64) -> Self {
        let (operations, is_long) = operations();
        Self {
            processes,
            tasks: TASKS * 4 / processes,
            operations: operations / processes,
            keys: KEYS,
            body_bytes: 16,
            // Few operations must do without many hits to see enough.
            invalidate_every: if is_long { 200 } else { 60 },
            loss_every: 0,
            max_staleness_ms: 0,
        }
    }

    /// Has a local tier in each process.
    pub(crate) fn tiered(self) -> Self {
        let (operations, is_long) = operations();
        let times = if is_long { 1 } else { MORE };
        Self {
            operations: times * operations / self.processes,
            max_staleness_ms: MAX_STALENESS_MS,
            ..self
        }
    }

    /// Has more keys than usual; each is used more seldom, so fewer are invalidated.
    pub(crate) fn with_keys(self, keys: u64, body_bytes: usize) -> Self {
        Self {
            keys,
            body_bytes,
            invalidate_every: self.invalidate_every * keys / KEYS,
            ..self
        }
    }

    /// Loses a register for each hundred operations.
    pub(crate) fn losing(self) -> Self {
        Self {
            loss_every: 100 / self.processes,
            ..self
        }
    }

    pub(crate) fn save(&self, dir: &Path) {
        let words = [
            self.processes,
            self.tasks,
            self.operations,
            self.keys,
            self.body_bytes as u64,
            self.invalidate_every,
            self.loss_every,
            self.max_staleness_ms,
        ];
        let words: Vec<_> = words.iter().map(u64::to_string).collect();
        std::fs::write(dir.with_file_name(FILE), words.join(" ")).unwrap();
    }

    pub(crate) fn load(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.with_file_name(FILE)).unwrap();
        let words: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        Self {
            processes: words[0],
            tasks: words[1],
            operations: words[2],
            keys: words[3],
            body_bytes: words[4] as usize,
            invalidate_every: words[5],
            loss_every: words[6],
            max_staleness_ms: words[7],
        }
    }
}
