//! The calls of the broken store.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use larder::store::{
    Capabilities, Entry, Examined, Expiry, Invalidated, Invalidation, Read, Register, RegisterPage,
    Retirement, ScanPage, Stamp, Store, StoreStats, TidyPage, Write,
};
use larder::{Clock, Error, ErrorKind, Glob, Namespace, Result};

use crate::flaws::Flaw;
use crate::layout::carried;
use crate::store::BrokenTags;

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "not in this store")
}

impl BrokenTags {
    /// Returns a page of what is listed, from where the cursor says, and where the next one starts.
    fn page<T>(
        &self,
        mut listed: Vec<T>,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<(Vec<T>, Option<Bytes>)> {
        let position = match cursor.map(|cursor| std::str::from_utf8(cursor)) {
            None => 0,
            Some(text) => match text.map(str::parse) {
                Ok(Ok(position)) => position,
                _ => return Err(Error::new(ErrorKind::InvalidArgument, "no cursor")),
            },
        };
        let mut page = if self.is(Flaw::TrustsCursors) {
            listed.split_off(position)
        } else {
            listed.split_off(listed.len().min(position))
        };
        let is_last = page.len() <= limit;
        page.truncate(limit);
        let next = (!is_last).then(|| (position + limit).to_string().into());
        Ok((page, next))
    }
}

#[async_trait]
impl Store for BrokenTags {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::default();
        (can.enumeration, can.counters, can.sorted_sets) = (true, true, true);
        can.tags = !self.is(Flaw::Modest);
        can.tag_listing = can.tags;
        can.examination = true;
        can
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        let state = self.state.lock().await;
        let get = |key: &&[u8]| self.get(&state, namespace, key);
        Ok(keys.iter().map(get).collect())
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        let state = self.state.lock().await;
        let read = |key: &&[u8]| self.read(&state, namespace, key);
        Ok(keys.iter().map(read).collect())
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        let mut applied = Vec::new();
        for write in writes {
            applied.push(self.write(namespace, write).await?);
        }
        Ok(applied)
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        self.clear(namespace).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        Ok(StoreStats::default())
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let state = self.state.lock().await;
        let listed = self.list(&state, namespace, pattern, |_| true);
        // After the last key rather than at a position, since keys come and go.
        let after = |key: &[u8]| cursor.is_none_or(|after| key > &after[..]);
        let mut keys: Vec<_> = listed
            .into_iter()
            .filter(|listed| after(listed.key.as_bytes()))
            .collect();
        let is_last = keys.len() <= limit;
        keys.truncate(limit);
        let last = keys
            .last()
            .map(|last| Bytes::copy_from_slice(last.key.as_bytes()));
        let next = last.filter(|_| !is_last);
        Ok(ScanPage { keys, next })
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        _key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        let mut state = self.state.lock().await;
        let mut stamps = Vec::new();
        for register in registers {
            stamps.push(self.stamp(&mut state, namespace, register).await?);
        }
        Ok(stamps)
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &larder::store::StampedPut<'_>,
    ) -> Result<()> {
        let stamps = self.capture(namespace, key, put.registers).await?;
        let expiry = match self.flaw {
            Flaw::StampedForEver => Expiry::Never,
            _ => put.expiry,
        };
        let put = Write::put(key, (put.seal)(stamps)?, expiry);
        self.write_many(namespace, &[put]).await.map(drop)
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let had = if self.is(Flaw::InvalidatesLater) {
            let (store, namespace, registers) =
                (self.clone(), namespace.clone(), registers.to_vec());
            let had = vec![false; registers.len()];
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                store.invalidate(&namespace, &registers, how).await
            });
            had
        } else {
            self.invalidate(namespace, registers, how).await?
        };
        let mut done = Invalidated::default();
        (done.had, done.parts) = (had, 1);
        Ok(done)
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        self.examine(namespace, key).await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        if self.is(Flaw::Boastful) {
            return Err(unsupported());
        }
        let state = self.state.lock().await;
        let registers = state.live.keys().filter(|(of, _)| of == namespace);
        let is_listed = |register: &Register| {
            let is_met = pattern.matches(register.as_bytes()) || self.is(Flaw::ListsEveryRegister);
            *register != Register::any() && is_met
        };
        let mut listed: Vec<_> = registers
            .map(|(_, register)| register.clone())
            .filter(is_listed)
            .collect();
        listed.sort_unstable();
        let (registers, next) = self.page(listed, cursor, limit)?;
        let next = next.filter(|_| !self.is(Flaw::EndsRegistersEarly));
        Ok(RegisterPage { registers, next })
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        let state = self.state.lock().await;
        let carries = |entry: &Bytes| {
            let mut carried = carried(entry).into_iter();
            carried.any(|carried| carried.register == *register) || self.is(Flaw::ListsEveryKey)
        };
        let mut listed = self.list(&state, namespace, &Glob::all(), carries);
        if self.is(Flaw::ForgetsSizes) {
            listed.iter_mut().for_each(|listed| listed.bytes = 0);
        }
        let (keys, next) = self.page(listed, cursor, limit)?;
        let next = next.filter(|_| !self.is(Flaw::EndsKeysEarly));
        Ok(ScanPage { keys, next })
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        let mut state = self.state.lock().await;
        Ok(self.tidy_some(&mut state, namespace, (cursor, limit), removes))
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        let mut state = self.state.lock().await;
        let mut retire = |name| self.retire_one(&mut state, namespace, name, step);
        Ok(registers.iter().map(&mut retire).collect())
    }
}
