//! Listing, counting and measuring: reads the heads of files, never their values.

use std::fs;

use bytes::Bytes;

use super::disk::{Disk, is_due};
use super::fault::{Attempt, Effort, Fault};
use super::name::{Address, Digest};
use super::record::{self, Found};
use super::walk::{Step, Walk, namespaces};
use crate::envelope;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Key;
use crate::store::{Register, ScanPage, ScannedKey, StoreStats};
use crate::tag::Verdict;

/// How many files one page reads at most, however few of them match.
pub(super) const MAX_READ_PER_PAGE: usize = 10_000;

impl Disk {
    /// Lists one page in the order of hashes. The cursor is the hash of the last file that was read.
    pub(super) fn scan(
        &self,
        namespace: Digest,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        (register, limit): (Option<&Register>, usize),
    ) -> Result<ScanPage> {
        let after = cursor.map(Digest::from_cursor).transpose()?;
        let mut page = ScanPage::default();
        let mut read = 0;
        for step in Walk::new(&self.layout, namespace, after)? {
            let Step::Entry(key) = step? else {
                continue;
            };
            read += 1;
            page.keys
                .extend(settle(self.describe(namespace, key, pattern, register))?.flatten());
            if page.keys.len() >= limit.max(1) || read >= MAX_READ_PER_PAGE {
                page.next = Some(key.hex().into());
                break;
            }
        }
        Ok(page)
    }

    /// Counts the live entries that match.
    pub(super) fn count(&self, namespace: Digest, pattern: &Glob) -> Result<u64> {
        let mut count = 0;
        for step in Walk::new(&self.layout, namespace, None)? {
            if let Step::Entry(key) = step? {
                let found = settle(self.describe(namespace, key, pattern, None))?.flatten();
                count += u64::from(found.is_some());
            }
        }
        Ok(count)
    }

    /// Returns the entry of a file if it is whole, live, valid and matches.
    fn describe(
        &self,
        namespace: Digest,
        key: Digest,
        pattern: &Glob,
        register: Option<&Register>,
    ) -> Attempt<Option<ScannedKey>> {
        let address = Address { namespace, key };
        let now_ms = self.clock.now_ms();
        let found = record::peek(&self.layout, &address, |head, front| {
            let listed = head.namespace == namespace
                && Digest::of(head.key) == key
                && !is_due(head.expires_at_ms, now_ms)
                && pattern.matches(head.key)
                && !envelope::is_load(front)
                && register.is_none_or(|register| envelope::carries(front, register));
            let scanned = || ScannedKey {
                key: Key::from(head.key),
                bytes: head.value_len,
                expires_at_ms: head.expires_at_ms,
            };
            listed.then(|| (scanned(), front.clone()))
        })?;
        let Found::Whole(Some((scanned, front))) = found else {
            return Ok(None);
        };
        let verdict = self.judge(namespace, &front, Effort::FULL)?;
        Ok((verdict != Verdict::Invalid).then_some(scanned))
    }

    /// Measures all namespaces. Cost: O(entries), one `lstat` each.
    pub(super) fn stats(&self) -> Result<StoreStats> {
        let (mut entries, mut bytes) = (0, 0);
        let namespaces = namespaces(&self.layout)?;
        for namespace in &namespaces {
            for step in Walk::new(&self.layout, *namespace, None)? {
                let Step::Entry(key) = step? else {
                    continue;
                };
                let address = Address {
                    namespace: *namespace,
                    key,
                };
                if let Ok(file) = fs::symlink_metadata(self.layout.entry_path(&address)) {
                    entries += 1;
                    bytes += file.len();
                }
            }
        }
        let details = [
            ("directory", self.layout.root().display().to_string()),
            ("namespaces", namespaces.len().to_string()),
            ("files in quarantine", self.kept_in_quarantine().to_string()),
        ];
        Ok(StoreStats {
            entries: Some(entries),
            bytes: Some(bytes),
            expired: self.expired(),
            quarantined: self.quarantined(),
            details: details.map(|(name, value)| (name.to_owned(), value)).into(),
            ..StoreStats::default()
        })
    }
}

/// Returns `None` for what would take long or went away.
pub(super) fn settle<T>(attempt: Attempt<T>) -> Result<Option<T>> {
    match attempt {
        Ok(done) => Ok(Some(done)),
        Err(Fault::Busy | Fault::Vanished) => Ok(None),
        Err(Fault::Failed(error)) => Err(error),
    }
}
