//! What is under a key, valid or not: the entry with the register of its namespace, then the registers of its tags.

use bytes::Bytes;
use redis::Value;

use super::Inner;
use super::frame::{Frame, Kind};
use super::read::array;
use super::spaces::Space;
use crate::envelope;
use crate::error::Result;
use crate::key::Namespace;
use crate::store::{Entry, Examined, Register};

impl Inner {
    pub(super) async fn examine(
        &self,
        namespace: &Namespace,
        key: &[u8],
    ) -> Result<Option<Examined>> {
        self.ready().await?;
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, key);
        let mut command = redis::cmd("MGET");
        command.arg(&place.entry).arg(&place.register.name);
        let reply = self.link.one(&place.call(command)).await?;
        let mut values = array(reply).into_iter();
        let (Some(Value::BulkString(bytes)), life) = (values.next(), values.next()) else {
            return Ok(None);
        };
        let bytes = Bytes::from(bytes);
        let Some(frame) = Frame::parse(&bytes) else {
            return Ok(Some(Examined::new(bytes, None)));
        };
        let (stamp, expires_at_ms) = (frame.stamp, frame.expires_at_ms);
        let is_current = matches!(life, Some(Value::BulkString(life)) if life == stamp);
        let is_set = frame.kind == Kind::SortedSet;
        let mut found = Examined::new(kept(frame)?, expires_at_ms);
        found.is_cleared = !is_current;
        let names = envelope::registers(&found.value).into_iter();
        let wanted = names.map(|name| (place.bucket, name)).collect();
        let seen = self.seen(namespace, wanted).await?;
        let live = |name: &Register| seen.get(&(place.bucket, name.clone()))?.of(stamp);
        let mut found = found.judged(live);
        if is_set && is_current && !found.is_invalid() {
            self.add_members(namespace, &space, key, &mut found).await?;
        }
        Ok(Some(found))
    }

    /// Puts the members of a sorted set into its entry, if it is still there.
    async fn add_members(
        &self,
        namespace: &Namespace,
        space: &Space,
        key: &[u8],
        found: &mut Examined,
    ) -> Result<()> {
        let header = Entry::new(found.value.clone(), found.expires_at_ms);
        if let Some(whole) = self.whole_set(namespace, space, key, &header).await? {
            found.value = whole.value;
        }
        Ok(())
    }
}

/// Returns the bytes in a frame as any store would keep them.
fn kept(frame: Frame) -> Result<Bytes> {
    let (kind, token, bytes) = (frame.kind, frame.write_id(), frame.envelope());
    if kind != Kind::Load {
        return Ok(frame.into_entry().map_or(bytes, |entry| entry.value));
    }
    // A mark that a script has made has no checksum.
    let stamps = envelope::stamps(&bytes).unwrap_or_default();
    envelope::load(token, stamps, envelope::created_ms(&bytes))
}
