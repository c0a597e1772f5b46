//! Where one key is: bucket, names, lane.

use redis::Cmd;

use super::Inner;
use super::keys::{self, Bucket};
use super::spaces::{Journal, Register, Space};
use crate::key::Namespace;
use crate::redis_conn::{Call, Script};
use crate::store::Register as TagRegister;

/// The names of everything about one key.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) bucket: usize,
    pub(super) slot: u16,
    /// Writes of one key keep their order, whichever connection they take.
    pub(super) lane: u64,
    pub(super) entry: Vec<u8>,
    pub(super) register: &'a Register,
    /// The journal of the bucket.
    pub(super) journal: &'a Journal,
    within: &'a Bucket,
    namespace: &'a Namespace,
    key: &'a [u8],
}

impl Inner {
    /// Finds the place of a key.
    pub(super) fn place<'a>(
        &'a self,
        space: &'a Space,
        namespace: &'a Namespace,
        key: &'a [u8],
    ) -> Place<'a> {
        let bucket = self.buckets.index_of(namespace, key);
        let within = &self.buckets.all()[bucket];
        Place {
            bucket,
            slot: within.slot,
            lane: match self.link.lanes() {
                1 => 0,
                lanes => u64::from(crc32c::crc32c(key)) % lanes,
            },
            entry: keys::name(within, b'e', namespace, key),
            register: space.register(bucket),
            journal: space.journal(bucket),
            within,
            namespace,
            key,
        }
    }
}

impl Place<'_> {
    /// Returns the key of the register of a tag, beside the entry.
    pub(super) fn tag_register(&self, register: &TagRegister) -> Vec<u8> {
        keys::name(self.within, b'r', self.namespace, register.as_bytes())
    }

    /// Returns the run of a script about the entry, without its arguments; `third` is a key of the script's own.
    pub(super) fn command<'r>(
        &self,
        script: &'static Script,
        third: &[u8],
        registers: impl IntoIterator<Item = &'r TagRegister>,
    ) -> Cmd {
        let registers = registers.into_iter().map(|name| self.tag_register(name));
        let registers: Vec<_> = registers.collect();
        let mut keys = vec![
            &self.entry[..],
            &self.register.name,
            third,
            &self.journal.name,
        ];
        keys.extend(registers.iter().map(Vec::as_slice));
        script.command(&keys)
    }

    /// Returns the key of a sorted set's members.
    pub(super) fn members(&self) -> Vec<u8> {
        keys::name(self.within, b'z', self.namespace, self.key)
    }

    /// Returns the key that additions use for a moment.
    pub(super) fn scratch(&self) -> Vec<u8> {
        keys::name(self.within, b'n', self.namespace, self.key)
    }

    /// Returns the user's key.
    pub(super) fn key(&self) -> &[u8] {
        self.key
    }

    /// Returns a plain command about this key.
    pub(super) fn call(&self, command: Cmd) -> Call {
        Call::new(self.slot, command).lane(self.lane)
    }

    /// Returns a run of a script about this key; arguments go behind the keys of `command`.
    pub(super) fn script(&self, script: &'static Script, command: Cmd) -> Call {
        Call::script(self.slot, script, command).lane(self.lane)
    }
}
