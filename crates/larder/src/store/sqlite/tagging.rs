//! What tags need of the store, as one transaction each.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;

use super::jobs::{self, Job, Reply};
use super::readers::{self, Listing};
use super::{Sqlite, purge, registers, run_aside, unexpected};
use crate::envelope;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::Namespace;
use crate::store::{
    Condition, Expiry, Invalidated, Invalidation, LoadBegun, LoadRequest, Register, RegisterPage,
    Retirement, ScanPage, Stamp, TidyPage,
};

/// A change that has to do with registers.
#[derive(Debug, Clone)]
pub(super) enum Tagging {
    Capture(Vec<Register>),
    Invalidate(Vec<Register>, Invalidation),
    BeginLoad(Load),
    Retire(Vec<Register>, Retirement),
}

/// A load that is about to begin.
#[derive(Debug, Clone)]
pub(super) struct Load {
    key: Vec<u8>,
    registers: Vec<Register>,
    token: u64,
    lease_ms: u64,
}

impl Tagging {
    /// Makes the change. The caller has begun a transaction.
    pub(super) fn run(
        &self,
        connection: &Connection,
        namespace: &Namespace,
        now_ms: u64,
    ) -> rusqlite::Result<Result<Reply>> {
        match self {
            Self::Capture(names) => {
                let stamps = registers::capture(connection, namespace, names, now_ms)?;
                Ok(Ok(Reply::Stamps(stamps)))
            }
            Self::Invalidate(names, how) => {
                let had = registers::invalidate(connection, namespace, names, *how)?;
                Ok(Ok(Reply::Applied(had)))
            }
            Self::BeginLoad(load) => begin_load(connection, namespace, load, now_ms),
            Self::Retire(names, step) => {
                let retired = registers::retire(connection, namespace, names, (*step, now_ms))?;
                Ok(Ok(Reply::Applied(retired)))
            }
        }
    }

    /// Returns about how many bytes the change writes.
    pub(super) fn bytes(&self) -> u64 {
        let registers = match self {
            Self::Capture(registers)
            | Self::Invalidate(registers, _)
            | Self::Retire(registers, _) => registers,
            Self::BeginLoad(load) => &load.registers,
        };
        128 * (1 + registers.len() as u64)
    }
}

fn begin_load(
    connection: &Connection,
    namespace: &Namespace,
    load: &Load,
    now_ms: u64,
) -> rusqlite::Result<Result<Reply>> {
    let stamps = if load.registers.is_empty() {
        Vec::new()
    } else {
        registers::capture(connection, namespace, &load.registers, now_ms)?
    };
    let present = readers::present(connection, namespace, &load.key, now_ms)?;
    let is_granted = Condition::IfVacant.holds(present.as_ref().map(|entry| &entry.value));
    if is_granted {
        let mark = match envelope::load(load.token, stamps.clone(), now_ms) {
            Ok(mark) => mark,
            // The registers that were created do no harm.
            Err(refused) => return Ok(Err(refused)),
        };
        let expires_at = Expiry::After(load.lease_ms).at(now_ms, None);
        jobs::put(connection, namespace, &load.key, &mark, expires_at)?;
    }
    let is_entry = |entry: &_| !is_granted && !envelope::is_load(entry);
    Ok(Ok(Reply::Begun(LoadBegun {
        stamps,
        is_granted,
        entry: present.filter(|entry| is_entry(&entry.value)),
    })))
}

impl Sqlite {
    /// Captures registers: by reading where that is enough, so that only what is new waits for writers.
    pub(super) async fn capture_registers(
        &self,
        namespace: &Namespace,
        names: &[Register],
    ) -> Result<Vec<Stamp>> {
        let upkeep = &self.inner.upkeep;
        let now_ms = upkeep.clock.now_ms();
        let peek = |connection: &_| registers::peek(connection, namespace, names, now_ms);
        if let Some(stamps) = upkeep.readers.read(peek)? {
            return Ok(stamps);
        }
        let work = &Tagging::Capture(names.to_vec());
        match self.submit(Job::Tagging { namespace, work }).await? {
            Reply::Stamps(stamps) => Ok(stamps),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn begin_marked_load(
        &self,
        namespace: &Namespace,
        key: &[u8],
        load: &LoadRequest<'_>,
    ) -> Result<LoadBegun> {
        let work = &Tagging::BeginLoad(Load {
            key: key.to_vec(),
            registers: load.registers.to_vec(),
            token: load.token,
            lease_ms: load.lease_ms,
        });
        match self.submit(Job::Tagging { namespace, work }).await? {
            Reply::Begun(begun) => Ok(begun),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn invalidate_registers(
        &self,
        namespace: &Namespace,
        names: &[Register],
        how: Invalidation,
    ) -> Result<Invalidated> {
        let work = &Tagging::Invalidate(names.to_vec(), how);
        let had = match self.submit(Job::Tagging { namespace, work }).await? {
            Reply::Applied(had) => had,
            other => return Err(unexpected(&other)),
        };
        if how == Invalidation::Hard && had.contains(&true) {
            let now_ms = self.inner.upkeep.clock.monotonic_ms();
            self.inner.upkeep.purge.request(now_ms);
        }
        Ok(Invalidated {
            had,
            parts: 1,
            missing: 0,
        })
    }

    pub(super) async fn retire_registers(
        &self,
        namespace: &Namespace,
        names: &[Register],
        step: Retirement,
    ) -> Result<Vec<bool>> {
        let work = &Tagging::Retire(names.to_vec(), step);
        match self.submit(Job::Tagging { namespace, work }).await? {
            Reply::Applied(retired) => Ok(retired),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn tidy_entries(
        &self,
        namespace: &Namespace,
        cursor: Option<&Bytes>,
        limit: usize,
        removes: bool,
    ) -> Result<TidyPage> {
        let (namespace, cursor) = (namespace.clone(), cursor.cloned());
        let upkeep = Arc::clone(&self.inner.upkeep);
        run_aside(move || purge::tidy(&upkeep, &namespace, cursor.as_ref(), (limit, removes))).await
    }

    pub(super) async fn list_registers(
        &self,
        namespace: &Namespace,
        pattern: &Glob,
        cursor: Option<&Bytes>,
        limit: usize,
    ) -> Result<RegisterPage> {
        let (namespace, pattern, cursor) = (namespace.clone(), pattern.clone(), cursor.cloned());
        self.read_aside(move |connection, _| {
            registers::scan(connection, &namespace, &pattern, cursor.as_ref(), limit)
        })
        .await
    }

    pub(super) async fn list_keys(&self, listing: Listing) -> Result<ScanPage> {
        self.read_aside(move |connection, now_ms| readers::scan(connection, &listing, now_ms))
            .await
    }
}
