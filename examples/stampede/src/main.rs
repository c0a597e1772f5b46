//! A thousand callers ask for one slow value at once: one load. Then its TTL ends while the source is down, and nobody notices.
//!
//! ```text
//! cargo run -p stampede
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::cache::Remembered;
use larder::{Cache, MemoryStore};

const CALLERS: usize = 1000;
const TTL: Duration = Duration::from_millis(300);

/// A database that takes its time, and can be switched off.
#[derive(Debug, Clone, Default)]
struct Source {
    queries: Arc<AtomicU32>,
    is_down: Arc<AtomicBool>,
}

impl Source {
    async fn query(self) -> io::Result<String> {
        let query = self.queries.fetch_add(1, SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        match self.is_down.load(SeqCst) {
            true => Err(io::Error::other("the database is down")),
            false => Ok(format!("answer {query}")),
        }
    }
}

async fn ask(cache: Cache, source: Source) -> io::Result<Remembered<String>> {
    let asked = cache.remember("report", move || source.query());
    let asked = asked.ttl(TTL).stale_for(Duration::from_secs(3600));
    let asked = asked.hard_timeout(Duration::from_secs(10)).detailed();
    asked.await.map_err(io::Error::other)
}

/// Asks from many tasks at once, and tells what came of it.
async fn storm(
    name: &str,
    cache: &Cache,
    source: &Source,
) -> Result<(), Box<dyn std::error::Error>> {
    let (started, before) = (Instant::now(), source.queries.load(SeqCst));
    let callers = (0..CALLERS).map(|_| tokio::spawn(ask(cache.clone(), source.clone())));
    let callers: Vec<_> = callers.collect();
    let (mut fresh, mut stale, mut failed) = (0, 0, 0);
    for caller in callers {
        match caller.await? {
            Ok(Remembered { is_stale: true, .. }) => stale += 1,
            Ok(_) => fresh += 1,
            Err(_) => failed += 1,
        }
    }
    let queries = source.queries.load(SeqCst) - before;
    let took = started.elapsed().as_millis();
    println!(
        "{name}: {fresh} fresh, {stale} stale, {failed} failed; {queries} queries in {took} ms"
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::builder(MemoryStore::new()).build()?;
    let source = Source::default();
    storm("nothing is cached  ", &cache, &source).await?;
    storm("it is cached       ", &cache, &source).await?;
    tokio::time::sleep(TTL).await;
    storm("its TTL is over    ", &cache, &source).await?;
    tokio::time::sleep(TTL).await;
    source.is_down.store(true, SeqCst);
    storm("the source is down ", &cache, &source).await?;
    cache.close(Duration::from_secs(1)).await?;
    Ok(())
}
