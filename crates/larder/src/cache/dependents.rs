//! Which local copies depend on which registers.
//!
//! A register that local copies depend on has a cell, a count of its invalidations as this process knows them. A copy keeps
//! the cells of its registers with their counts at its insertion; it is valid while they are the same. So an
//! invalidation costs a step for each register, however many copies depend on it, and copies without tags pay nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::Register;
use crate::tag::Selector;

/// So many cells may be there before those that no copy needs are dropped.
const MIN_SWEPT: usize = 1024;

/// The cells of a local tier.
#[derive(Debug, Default)]
pub(super) struct Dependents(Mutex<Cells>);

#[derive(Debug, Default)]
struct Cells {
    by_register: HashMap<Register, Arc<AtomicU64>>,
    /// How many were left by the last sweep.
    swept: usize,
}

/// What a local copy depends on, as it was when the copy was made.
#[derive(Debug, Clone)]
pub(super) struct Dependence(Arc<[(Arc<AtomicU64>, u64)]>);

impl Dependence {
    /// Returns whether nothing was invalidated since.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        let is_same = |(cell, then): &(Arc<AtomicU64>, u64)| cell.load(Ordering::Acquire) == *then;
        self.0.iter().all(is_same)
    }
}

impl Dependents {
    fn lock(&self) -> MutexGuard<'_, Cells> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the dependence of a copy that is made now; `None`: it depends on nothing.
    pub(super) fn depend(&self, registers: &[Register]) -> Option<Dependence> {
        if registers.is_empty() {
            return None;
        }
        let mut cells = self.lock();
        cells.sweep();
        let cell = |register: &Register| {
            let cell = match cells.by_register.get(register) {
                Some(cell) => Arc::clone(cell),
                None => Arc::clone(cells.by_register.entry(register.clone()).or_default()),
            };
            let now = cell.load(Ordering::Acquire);
            (cell, now)
        };
        Some(Dependence(registers.iter().map(cell).collect()))
    }

    /// Makes all copies invalid that depend on a register.
    pub(super) fn invalidate(&self, register: &Register) {
        if let Some(cell) = self.lock().by_register.get(register) {
            cell.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Makes all copies invalid that depend on what is meant. Cost: for a pattern, a look at each register.
    pub(super) fn invalidate_selected(&self, selectors: &[Selector]) {
        for selector in selectors {
            match selector {
                Selector::Register(register) => self.invalidate(register),
                Selector::Pattern(pattern) => {
                    let cells = self.lock();
                    let all = cells.by_register.iter();
                    all.filter(|(register, _)| pattern.matches(register.as_bytes()))
                        .for_each(|(_, cell)| {
                            cell.fetch_add(1, Ordering::AcqRel);
                        });
                }
            }
        }
    }
}

impl Cells {
    /// Drops cells that no copy needs, whenever there are twice as many as after the last time.
    fn sweep(&mut self) {
        if self.by_register.len() < MIN_SWEPT.max(2 * self.swept) {
            return;
        }
        self.by_register
            .retain(|_, cell| Arc::strong_count(cell) > 1);
        self.swept = self.by_register.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(tag: &str) -> Register {
        Register::exact(tag).unwrap()
    }

    #[test]
    fn a_copy_is_valid_until_one_of_its_registers_is_invalidated() {
        let dependents = Dependents::default();
        assert!(dependents.depend(&[]).is_none());
        let copy = || dependents.depend(&[register("a"), register("b:c")]);
        let first = copy().unwrap();
        dependents.invalidate(&register("other"));
        assert!(first.holds());
        dependents.invalidate(&register("b:c"));
        assert!(!first.holds());
        let second = copy().unwrap();
        assert!(second.holds() && !first.holds());
        let selected = |text| [Selector::parse(text).unwrap()];
        dependents.invalidate_selected(&selected("x?"));
        assert!(second.holds());
        dependents.invalidate_selected(&selected("[a]"));
        assert!(!second.holds());
    }

    #[test]
    fn cells_that_nothing_needs_go() {
        let dependents = Dependents::default();
        let kept = dependents.depend(&[register("kept")]).unwrap();
        for n in 0..10 * MIN_SWEPT {
            drop(dependents.depend(&[register(&format!("t{n}"))]));
        }
        assert!(dependents.lock().by_register.len() <= MIN_SWEPT + 1);
        dependents.invalidate(&register("kept"));
        assert!(!kept.holds());
    }
}
