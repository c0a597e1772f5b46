//! Lua scripts: known to the server by their hash, sent whole when it has forgotten them.
//!
//! A script names every key in KEYS, and all its keys are in one slot: then it works on a cluster, before and after
//! slots move. Debug builds check the slot of every call.

use std::sync::OnceLock;

use redis::Cmd;

use super::slot::slot;

/// A script of this crate.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// Wraps a source.
    pub(crate) const fn new(source: &'static str) -> Self {
        Self {
            source,
            hash: OnceLock::new(),
        }
    }

    /// Returns the command that runs the script on some keys; arguments are to be added behind.
    ///
    /// # Panics
    /// In debug builds, if the keys are in different slots.
    pub(crate) fn command(&self, keys: &[&[u8]]) -> Cmd {
        debug_assert!(
            keys.windows(2).all(|pair| slot(pair[0]) == slot(pair[1])),
            "the keys of a script must be in one slot"
        );
        let hash = self
            .hash
            .get_or_init(|| redis::Script::new(self.source).get_hash().to_owned());
        let mut command = redis::cmd("EVALSHA");
        command.arg(hash).arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        command
    }

    /// Returns the command that makes the script known to a server.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.source);
        command
    }
}
