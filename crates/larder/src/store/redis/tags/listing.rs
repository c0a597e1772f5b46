//! Listing registers: `SCAN` on one primary after another. Costs O(keys of the whole database).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use redis::Value;

use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::redis::Inner;
use crate::store::redis::keys;
use crate::store::redis::listing::{Cursor, STEP};
use crate::store::redis::read::array;
use crate::store::{Register, RegisterPage};

/// Steps of one page, however few registers match.
const MAX_STEPS: usize = 100;
/// Where a register says in which life of its namespace it was made.
const LIFE_AT: usize = 16;

/// A key and the name of the register in it.
type Named<'a> = (&'a [u8], &'a [u8]);

impl Inner {
    /// Lists registers, those of several buckets once in a page.
    pub(in crate::store::redis) async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        self.ready().await?;
        let mut cursor = cursor.map(Cursor::parse).transpose()?.unwrap_or_default();
        let limit = limit.max(1);
        let names = keys::pattern(b'r', namespace, &pattern.literal_prefix());
        let mut seen: HashSet<Vec<u8>> = cursor.left.iter().cloned().collect();
        let mut met = std::mem::take(&mut cursor.left);
        let mut more = true;
        for _ in 0..MAX_STEPS {
            if met.len() >= limit || !more {
                break;
            }
            let step = limit.clamp(100, STEP);
            let Some(found) = self.advance(&mut cursor, &names, step).await? else {
                more = false;
                break;
            };
            for name in self.of_this_life(namespace, found).await? {
                if pattern.matches(&name) && seen.insert(name.clone()) {
                    met.push(name);
                }
            }
            more = !cursor.is_at_end();
        }
        cursor.left = met.split_off(met.len().min(limit));
        let is_over = !more && cursor.left.is_empty();
        let registers = met.iter().filter_map(|name| Register::from_bytes(name));
        Ok(RegisterPage {
            registers: registers.collect(),
            next: (!is_over).then(|| cursor.format()),
        })
    }

    /// Returns the names of the registers that some keys hold, without those of before the namespace was cleared.
    async fn of_this_life(
        &self,
        namespace: &Namespace,
        found: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>> {
        let space = self.spaces.of(namespace, &self.buckets);
        let mut groups: BTreeMap<usize, Vec<Named<'_>>> = BTreeMap::new();
        for key in &found {
            if let Some((bucket, name)) = keys::tag_register(&self.buckets, namespace, key) {
                groups.entry(bucket).or_default().push((key, name));
            }
        }
        let mut calls = Vec::new();
        for (bucket, group) in &groups {
            let mut command = redis::cmd("MGET");
            command.arg(&space.register(*bucket).name);
            for (key, _) in group {
                command.arg(key);
            }
            calls.push(Call::new(self.buckets.all()[*bucket].slot, command));
        }
        let mut names = Vec::new();
        for (group, reply) in groups.values().zip(self.link.many(&calls).await) {
            let mut values = array(reply?).into_iter();
            let Some(Value::BulkString(life)) = values.next() else {
                continue;
            };
            for ((_, name), value) in group.iter().zip(values) {
                let is_live = matches!(&value, Value::BulkString(bytes) if bytes.get(LIFE_AT..) == Some(&life));
                if is_live && *name != Register::any().as_bytes() {
                    names.push(name.to_vec());
                }
            }
        }
        Ok(names)
    }
}
