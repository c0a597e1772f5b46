//! The short calls that laws of tags are written in.

use bytes::Bytes;

use super::StoreUnderTest;
use super::space::Space;
use crate::error::Result;
use crate::store::{
    Condition, Expiry, Invalidation, LoadBegun, LoadRequest, Register, Stamp, Write,
};
use crate::testing::{body, sealed, stamped};

/// A lease that outlasts a law.
pub(super) const LONG_MS: u64 = 60_000;

/// Returns the register of a tag.
pub(super) fn tag(name: &str) -> Register {
    Register::exact(name).expect("laws use tags within bounds")
}

/// Returns the register of all tags below a path.
pub(super) fn subtree(path: &str) -> Register {
    Register::new(Register::SUBTREE, path.as_bytes())
}

/// Returns what no other load has shown or will show.
pub(super) fn token() -> u64 {
    fastrand::u64(1..)
}

/// Returns the number that entries are judged by.
pub(super) fn hard(stamps: &[Stamp]) -> Vec<u64> {
    stamps.iter().map(|stamp| stamp.hard).collect()
}

/// Returns an entry of this body under these stamps.
pub(super) fn entry_of(text: &[u8], stamps: &[Stamp]) -> Bytes {
    stamped(&sealed(text), stamps.to_vec())
}

impl StoreUnderTest {
    /// Returns the store in a namespace that nothing else uses, where there are registers.
    pub(super) fn tagged_space(&self) -> Option<Space> {
        self.capabilities().tags.then(|| self.space())
    }
}

impl Space {
    pub(super) async fn capture(&self, key: &[u8], registers: &[Register]) -> Result<Vec<Stamp>> {
        let stamps = self.store.capture(&self.namespace, key, registers).await?;
        assert_are_of(registers, &stamps);
        Ok(stamps)
    }

    /// Stores an entry of this body that depends on registers.
    pub(super) async fn put_tagged(
        &self,
        key: &[u8],
        text: &[u8],
        registers: &[Register],
    ) -> Result<()> {
        self.put_tagged_for(key, text, registers, Expiry::Never)
            .await
    }

    pub(super) async fn put_tagged_for(
        &self,
        key: &[u8],
        text: &[u8],
        registers: &[Register],
        expiry: Expiry,
    ) -> Result<()> {
        let seal = |stamps: Vec<Stamp>| {
            assert_are_of(registers, &stamps);
            Ok(entry_of(text, &stamps))
        };
        self.store
            .put_stamped(
                &self.namespace,
                key,
                &crate::store::StampedPut {
                    registers,
                    expiry,
                    seal: &seal,
                },
            )
            .await
    }

    /// Invalidates registers and returns which were there.
    pub(super) async fn invalidate(&self, registers: &[Register]) -> Result<Vec<bool>> {
        self.invalidate_by(Invalidation::Hard, registers).await
    }

    /// Invalidates registers softly and returns which were there.
    pub(super) async fn soften(&self, registers: &[Register]) -> Result<Vec<bool>> {
        self.invalidate_by(Invalidation::Soft, registers).await
    }

    async fn invalidate_by(&self, how: Invalidation, registers: &[Register]) -> Result<Vec<bool>> {
        let done = self
            .store
            .invalidate(&self.namespace, registers, how)
            .await?;
        assert_eq!(done.had.len(), registers.len(), "one result per register");
        assert!(done.parts >= 1, "a store has a part");
        assert_eq!(done.missing, 0, "every part acknowledged it");
        Ok(done.had)
    }

    /// Returns the body of an entry, if it may be used.
    pub(super) async fn text(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let entry = self.get(key).await?;
        Ok(entry.map(|entry| body(&entry).expect("an intact entry")))
    }

    /// Returns whether there is an entry, and whether it is stale.
    pub(super) async fn staleness(&self, key: &[u8]) -> Result<Option<bool>> {
        Ok(self.entry(key).await?.map(|entry| entry.is_stale))
    }

    /// Begins a load whose lease outlasts the law.
    pub(super) async fn begin(
        &self,
        key: &[u8],
        registers: &[Register],
        token: u64,
    ) -> Result<LoadBegun> {
        self.begin_for(key, registers, token, LONG_MS).await
    }

    pub(super) async fn begin_for(
        &self,
        key: &[u8],
        registers: &[Register],
        token: u64,
        lease_ms: u64,
    ) -> Result<LoadBegun> {
        let load = LoadRequest {
            registers,
            token,
            lease_ms,
        };
        let begun = self.store.begin_load(&self.namespace, key, &load).await?;
        assert_are_of(registers, &begun.stamps);
        let is_sound = !(begun.is_granted && begun.entry.is_some());
        assert!(is_sound, "nobody need load what is there");
        Ok(begun)
    }

    /// Begins a load that must be granted; returns its stamps.
    pub(super) async fn begun(
        &self,
        key: &[u8],
        registers: &[Register],
        token: u64,
    ) -> Result<Vec<Stamp>> {
        let begun = self.begin(key, registers, token).await?;
        assert!(begun.is_granted, "there is no entry, and nobody loads one");
        Ok(begun.stamps)
    }

    /// Returns whether somebody else could begin a load, without a trace of it.
    pub(super) async fn is_vacant(&self, key: &[u8]) -> Result<bool> {
        let token = token();
        let begun = self.begin(key, &[], token).await?;
        if begun.is_granted {
            let release = Write::delete(key).when(Condition::IfUnchanged(token));
            self.write(release).await?;
        }
        Ok(begun.is_granted)
    }

    /// Stores what was loaded, unless the load has lost its place.
    pub(super) async fn commit(
        &self,
        key: &[u8],
        token: u64,
        text: &[u8],
        stamps: &[Stamp],
    ) -> Result<bool> {
        let put = Write::put(key, entry_of(text, stamps), Expiry::Never);
        self.write(put.when(Condition::IfUnchanged(token))).await
    }
}

/// Checks that stamps are those of the registers, in their order.
fn assert_are_of(registers: &[Register], stamps: &[Stamp]) {
    let of = |stamp: &Stamp| Register::new(stamp.kind, &stamp.name);
    let stamped: Vec<_> = stamps.iter().map(of).collect();
    assert_eq!(stamped, registers, "one stamp per register, same order");
}
