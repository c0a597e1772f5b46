//! The Redis store when servers, the network or other programs misbehave.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod clears;
mod failover;
mod followed;
mod frames;
mod history;
mod hostile;
mod journal;
mod locks;
mod merging;
mod resharding;
mod restarts;
mod rig;
mod sentinels;
mod silence;
mod slots;
mod tags;
mod upkeep;
