//! Walking the entries with tags, and ending registers that nothing carries any more.
//!
//! A register may be needed in one bucket and not in another; since only the names are compared, one that is carried anywhere
//! stays everywhere.

use bytes::Bytes;
use redis::Value;

use crate::error::Result;
use crate::key::Namespace;
use crate::redis_conn::Call;
use crate::store::redis::Inner;
use crate::store::redis::keys;
use crate::store::redis::listing::{Cursor, STEP};
use crate::store::redis::read::array;
use crate::store::redis::reclaim::{BATCH, Fate, pairs_by_life};
use crate::store::redis::scripts::RETIRE;
use crate::store::{Register, Retirement, TidyPage};

/// When registers under suspicion 0 expire, in ms since the Unix epoch: 1000 years later than any entry does.
const SUSPECT_AT_MS: u64 = 100_000_000_000_000;
/// How much later those under the next one do: a script reads times with some ms of error.
const SUSPECT_STEP_MS: u64 = 1_000_000;

impl Inner {
    /// Makes one `SCAN` step. What a clear left goes as well, with tags or not.
    pub(in crate::store::redis) async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        self.ready().await?;
        let mut cursor = cursor.map(Cursor::parse).transpose()?.unwrap_or_default();
        let names = keys::pattern(b'e', namespace, b"");
        let step = limit.clamp(100, STEP);
        let mut page = TidyPage::default();
        let Some(mut found) = self.advance(&mut cursor, &names, step).await? else {
            return Ok(page);
        };
        found.retain(|name| keys::user_key(&self.buckets, b'e', namespace, name).is_some());
        for (life, pairs) in &pairs_by_life(found.iter()) {
            for pairs in pairs.chunks(BATCH) {
                let (removed, tagged) = self.reclaim(life, pairs, u64::MAX, removes).await?;
                page.removed += removed;
                let fates = self.purge_these(life, &tagged, removes).await?;
                for ((_, names), fate) in tagged.iter().zip(fates) {
                    match fate {
                        Fate::Stays => {
                            let carried = names.iter().map(|name| Register::from_bytes(name));
                            page.carried.extend(carried.flatten());
                        }
                        Fate::Gone => page.removed += 1,
                        Fate::LoadGone => {}
                    }
                }
            }
        }
        page.next = (!cursor.is_at_end()).then(|| cursor.format());
        Ok(page)
    }

    pub(in crate::store::redis) async fn retire(
        &self,
        namespace: &Namespace,
        names: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        self.ready().await?;
        let (letter, number, keep_ms) = match step {
            Retirement::Look => ("L", 0, 0),
            Retirement::Suspect(number) => ("S", number, 0),
            Retirement::End { suspicion, keep_ms } => ("E", suspicion, keep_ms),
        };
        let at_ms = SUSPECT_AT_MS + u64::from(number) * SUSPECT_STEP_MS;
        let space = self.spaces.of(namespace, &self.buckets);
        let mut applied = Vec::with_capacity(names.len());
        for names in names.chunks(BATCH) {
            let calls = self
                .buckets
                .all()
                .iter()
                .enumerate()
                .map(|(index, bucket)| {
                    let key =
                        |name: &Register| keys::name(bucket, b'r', namespace, name.as_bytes());
                    let registers: Vec<_> = names.iter().map(key).collect();
                    let mut keys: Vec<&[u8]> = vec![&space.register(index).name];
                    keys.extend(registers.iter().map(Vec::as_slice));
                    let mut command = RETIRE.command(&keys);
                    command.arg(letter).arg(at_ms).arg(keep_ms);
                    Call::script(bucket.slot, &RETIRE, command)
                });
            let calls: Vec<_> = calls.collect();
            let mut these = vec![false; names.len()];
            for reply in self.link.many(&calls).await {
                let reply = array(reply?);
                for (applied, told) in these.iter_mut().zip(reply) {
                    *applied |= told == Value::Int(1);
                }
            }
            applied.extend(these);
        }
        Ok(applied)
    }
}
