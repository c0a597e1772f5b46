//! Locks, semaphores and rate limiters, on any store that has a [`LockStore`].

pub use crate::lease::{
    Answer, Ask, HOLD_TIMES, HOLD_TIMES_MS, HolderStatus, IDLE_MS, Listener, LockStatus, LockStore,
    MAX_PERMITS, MAX_WAITERS, Owner, Rate, Taken,
};
