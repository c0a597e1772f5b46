//! The tasks, one per file: each reads its arguments, says what it does, and returns an exit code.

pub(crate) mod bench;
pub(crate) mod ci;
pub(crate) mod mutants;
pub(crate) mod servers;
pub(crate) mod soak;
mod stage;
pub(crate) mod test;
