//! What a store tells local copies: which entries and registers have changed.
//!
//! A change is noted before it is acknowledged, in the same step as it is made or right after it, never before it: changes that
//! overlap may be noted in another order. Whoever has read all notes up to a moment knows of every change that was
//! acknowledged before that moment; notes that may be lost count as [`Note::All`]. Notes of one's own changes come back, too.

use std::fmt;

use async_trait::async_trait;

use super::Register;
use crate::error::Result;
use crate::key::Key;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An entry: it was stored with this write id, or, with 0, is another one in a way that its write id does not tell, or
    /// is gone.
    Key {
        /// Its key.
        key: Key,
        /// What it holds now.
        write_id: u64,
    },
    /// What depends on the register is invalid, or stale.
    Register(Register),
    /// Anything, in all parts.
    All,
}

/// The changes of a namespace, as one reader meets them; see [`Store::journal`](super::Store::journal).
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Returns into how many parts the store spreads its keys, at most 65,535; what is known of one says nothing about the
    /// others.
    fn parts(&self) -> usize;

    /// Returns the part of a key.
    fn part_of(&self, key: &[u8]) -> usize;

    /// Returns for each part what has changed since the last call, as noted: everything that was acknowledged before this
    /// call began. The first call begins with [`Note::All`], and so does one that may have missed something, for example
    /// because the store forgot it. After an error a part goes on where it was.
    ///
    /// Cost: one round trip to each server, more if there is much news.
    async fn poll(&mut self) -> Vec<Result<Vec<Note>>>;
}
