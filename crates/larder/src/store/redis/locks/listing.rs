//! Lists names in use: `SCAN` for leases on one primary after another, and a look at each.

use std::collections::HashSet;

use super::super::listing::STEP;
use super::super::{Inner, keys};
use super::scripts::LOOK;
use super::{LEASE, POLL_BY, Place, reply};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::key::{Key, Namespace};
use crate::lease::LockStatus;
use crate::redis_conn::Call;

impl Inner {
    /// Lists names in use; see [`crate::lease::LockStore::list`].
    pub(super) async fn list_leases(
        &self,
        space: &Namespace,
        pattern: &Glob,
        limit: usize,
    ) -> Result<Vec<LockStatus>> {
        self.ready().await?;
        let names = keys::pattern(LEASE, space, &pattern.literal_prefix());
        let map = self.link.map().await?;
        let mut listed = Vec::new();
        // A name that moves to another server meanwhile is met twice.
        let mut met = HashSet::new();
        for node in &map.primaries {
            let mut position = 0;
            while listed.len() < limit {
                let (next, found) = self.scan_node(node, position, &names, STEP).await?;
                let user_key = |name| keys::user_key(&self.buckets, LEASE, space, name);
                let found = found.iter().filter_map(|name| user_key(name));
                let new: Vec<_> = found
                    .filter(|name| pattern.matches(name) && met.insert(name.to_vec()))
                    .collect();
                listed.extend(self.look_at(space, &new).await?);
                position = next;
                if position == 0 {
                    break;
                }
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    /// Returns those of the names that are in use.
    async fn look_at(&self, space: &Namespace, names: &[&[u8]]) -> Result<Vec<LockStatus>> {
        let looks = names.iter().map(|name| {
            let place = Place::of(self, space, name);
            let command = LOOK.command(&[&place.key(LEASE), &place.key(POLL_BY)]);
            Call::script(place.slot, &LOOK, command)
        });
        let replies = self.link.many(&looks.collect::<Vec<_>>()).await;
        let mut listed = Vec::new();
        for (name, reply) in names.iter().zip(replies) {
            // What is under the name may be somebody else's.
            let seen = match reply {
                Err(error) if error.kind() == ErrorKind::WrongType => None,
                reply => reply::seen(reply?)?,
            };
            listed.extend(seen.map(|(holders, waiters)| LockStatus {
                name: Key::from(*name),
                holders,
                waiters,
            }));
        }
        Ok(listed)
    }
}
