//! A shared store is a store: `Arc<dyn Store>` goes wherever a store is expected.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Capabilities, Entry, Examined, Expiry, Invalidated, Invalidation, Journal, LoadBegun,
    LoadRequest, NodeStatus, Read, Register, RegisterPage, Retirement, ScanPage, SortedSetOp,
    SortedSetReply, Stamp, StampedPut, Store, StoreStats, TidyPage, Write,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::lease::LockStore;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn clock(&self) -> Clock {
        (**self).clock()
    }

    async fn get_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Option<Entry>>> {
        (**self).get_many(namespace, keys).await
    }

    async fn read_many(&self, namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Read>> {
        (**self).read_many(namespace, keys).await
    }

    async fn write_many(&self, namespace: &Namespace, writes: &[Write<'_>]) -> Result<Vec<bool>> {
        (**self).write_many(namespace, writes).await
    }

    async fn clear(&self, namespace: &Namespace) -> Result<()> {
        (**self).clear(namespace).await
    }

    async fn stats(&self) -> Result<StoreStats> {
        (**self).stats().await
    }

    async fn increment(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        (**self).increment(namespace, key, by, expiry).await
    }

    async fn sorted_set(
        &self,
        namespace: &Namespace,
        key: &[u8],
        op: &SortedSetOp,
    ) -> Result<SortedSetReply> {
        (**self).sorted_set(namespace, key, op).await
    }

    async fn scan(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        (**self).scan(namespace, pattern, cursor, limit).await
    }

    async fn count(&self, namespace: &Namespace, pattern: &Glob) -> Result<u64> {
        (**self).count(namespace, pattern).await
    }

    async fn prune(&self, limit: usize) -> Result<u64> {
        (**self).prune(limit).await
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        (**self).nodes().await
    }

    fn connection_epoch(&self) -> u64 {
        (**self).connection_epoch()
    }

    async fn capture(
        &self,
        namespace: &Namespace,
        key: &[u8],
        registers: &[Register],
    ) -> Result<Vec<Stamp>> {
        (**self).capture(namespace, key, registers).await
    }

    async fn put_stamped(
        &self,
        namespace: &Namespace,
        key: &[u8],
        put: &StampedPut<'_>,
    ) -> Result<()> {
        (**self).put_stamped(namespace, key, put).await
    }

    async fn begin_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        (**self).begin_load(namespace, key, load).await
    }

    async fn invalidate(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        (**self).invalidate(namespace, registers, how).await
    }

    async fn scan_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        (**self)
            .scan_registers(namespace, pattern, cursor, limit)
            .await
    }

    async fn scan_by_register(
        &self,
        namespace: &Namespace,
        register: &Register,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<ScanPage> {
        (**self)
            .scan_by_register(namespace, register, cursor, limit)
            .await
    }

    async fn examine(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Examined>> {
        (**self).examine(namespace, key).await
    }

    async fn tidy(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        (**self).tidy(namespace, cursor, limit, removes).await
    }

    async fn retire(
        &self,
        namespace: &Namespace,
        registers: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        (**self).retire(namespace, registers, step).await
    }

    fn journal(&self, namespace: &Namespace) -> Option<Box<dyn Journal>> {
        (**self).journal(namespace)
    }

    fn lock_store(&self) -> Option<Arc<dyn LockStore>> {
        (**self).lock_store()
    }

    async fn ping(&self) -> Result<()> {
        (**self).ping().await
    }
}
