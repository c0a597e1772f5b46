//! How large a storm is, and what is lost in it.

use std::path::Path;

/// Says how many operations the long form has.
const OPERATIONS: &str = "LARDER_TEST_STORM_OPERATIONS";
/// The short form.
const FEW: u64 = 6_000;
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
    /// One process loses a register for so many of its operations; 0: none are lost.
    pub(crate) loss_every: u64,
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
        Self {
            processes,
            tasks: TASKS * 4 / processes,
            operations: operations().0 / processes,
            keys: 256,
            body_bytes: 16,
            loss_every: 0,
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
            self.loss_every,
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
            loss_every: words[5],
        }
    }
}
