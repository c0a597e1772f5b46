//! For tests of stores and of applications: the store laws, faults on demand, and ready-made entries.
//!
//! A *law* is a function that holds for every [`Store`](crate::store::Store); [`store_conformance!`](crate::store_conformance)
//! makes a test of each. [`FlakyStore`] lets any store fail on demand, [`LoadCounter`] counts what a loader
//! does, [`SectionHistory`] judges what happened under a lock, [`ReadHistory`] finds what was read after it should have been
//! gone, and [`ManualClock`](crate::ManualClock) lets time pass without waiting.
//! Nothing here is needed by, or known to, the rest of the crate.

mod entry;
mod flaky;
mod flaky_locks;
mod load;
mod reads;
mod sections;
pub mod store;

pub use self::entry::{body, sealed, sealed_integer, sealed_text, stamped, unreadable, write_id};
pub use self::flaky::{Fault, FaultCounts, FlakyStore};
pub use self::load::{LoadCounter, LoadFailed};
pub use self::reads::{OutdatedRead, ReadHistory};
pub use self::sections::{Section, SectionHistory, Violation};
