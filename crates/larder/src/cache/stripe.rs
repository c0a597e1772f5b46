//! Gives each thread a number of its own, for counters that only it writes.
//!
//! The first 63 threads alive at a time own one; the others share the last. A number goes back to the pool when its
//! thread ends, and its next owner sees all that the former one wrote, since both took the pool's lock.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// Numbers below this belong to one thread each; this one is shared by all others.
pub(super) const OWNED: usize = 63;
const UNKNOWN: usize = usize::MAX;

static FREE: Mutex<u64> = Mutex::new(u64::MAX >> 1);

/// Gives the number back when the thread ends.
struct Lease(Cell<usize>);

impl Drop for Lease {
    fn drop(&mut self) {
        // Set first: counting during the thread's end goes to the shared stripe.
        INDEX.set(OWNED);
        let index = self.0.get();
        if index < OWNED {
            *FREE.lock().unwrap_or_else(PoisonError::into_inner) |= 1 << index;
        }
    }
}

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(UNKNOWN) };
    static LEASE: Lease = const { Lease(Cell::new(OWNED)) };
}

/// Returns this thread's number, at most [`OWNED`].
#[inline(always)]
pub(super) fn index() -> usize {
    match INDEX.get() {
        UNKNOWN => acquire(),
        index => index,
    }
}

#[cold]
fn acquire() -> usize {
    let index = LEASE.try_with(|lease| {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let index = (free.trailing_zeros() as usize).min(OWNED);
        if index < OWNED {
            *free &= !(1 << index);
        }
        lease.0.set(index);
        index
    });
    let index = index.unwrap_or(OWNED);
    INDEX.set(index);
    index
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn threads_alive_together_own_different_numbers_and_give_them_back() {
        for _ in 0..3 {
            let together = Barrier::new(40);
            let indexes: Vec<usize> = std::thread::scope(|scope| {
                let start = || {
                    scope.spawn(|| {
                        let index = index();
                        together.wait();
                        index
                    })
                };
                let threads: Vec<_> = (0..40).map(|_| start()).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            let owned: Vec<_> = indexes.iter().filter(|index| **index < OWNED).collect();
            assert_eq!(owned.iter().collect::<HashSet<_>>().len(), owned.len());
        }
    }
}
