//! Writes, reads and removes an entry.

use std::future::Future;
use std::time::{Duration, Instant};

use larder::{Cache, Larder, Result, TimeLeft};

use super::stores::PATIENCE;
use super::{Check, Status};
use crate::failure::Failure;

/// How long the probe lives if it cannot be removed.
const PROBE_TTL: Duration = Duration::from_secs(10);

/// Probes a cache.
pub(super) async fn check(larder: &Larder, cache: &str) -> Check {
    let opened = larder.partition(cache);
    let name = format!("read and write of cache {cache}");
    timed(name, async { probe(&opened?).await }).await
}

async fn timed(name: String, work: impl Future<Output = Result<()>>) -> Check {
    let start = Instant::now();
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(())) => {
            let took = format!("{:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
            Check::new(name, Status::Ok, took)
        }
        Ok(Err(error)) => Check::new(name, Status::Fail, Failure::from(error).message()),
        Err(_) => Check::new(name, Status::Fail, format!("no answer in {PATIENCE:?}")),
    }
}

/// Writes an entry and expects to read exactly it, with its TTL; removes it.
async fn probe(cache: &Cache) -> Result<()> {
    let wrong = |what: &str| larder::Error::new(larder::ErrorKind::Internal, what.to_owned());
    let key = format!("larder:doctor:{:016x}", fastrand::u64(..));
    let value = fastrand::u128(..).to_string();
    cache.set_raw(&key, value.clone()).ttl(PROBE_TTL).await?;
    let read = cache.get_raw(&key).await?;
    let read = read.ok_or_else(|| wrong("what was just written is not there"))?;
    if read.body != value.as_bytes() {
        return Err(wrong("what was read is not what was written"));
    }
    match read.time_left {
        TimeLeft::Remaining(left) if left <= PROBE_TTL && left > PROBE_TTL / 2 => {}
        other => return Err(wrong(&format!("the ttl of 10 seconds became {other:?}"))),
    }
    if !cache.delete(&key).await? || cache.has(&key).await? {
        return Err(wrong("the entry could not be removed"));
    }
    Ok(())
}
