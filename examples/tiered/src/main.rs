//! Two processes with copies of their own in front of one store: how long a copy may be old, and who need not wait.
//!
//! ```text
//! cargo run -p tiered
//! ```

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use larder::cache::{Causal, LocalStats};
use larder::{Cache, Local, SqliteStore};

const MAX_STALENESS: Duration = Duration::from_secs(1);

/// Both processes open this: one file, and in each of them a local tier.
fn open(dir: &Path) -> larder::Result<Cache> {
    let local = Local::capacity_bytes(1 << 20).max_staleness(MAX_STALENESS);
    let store = SqliteStore::open(dir.join("cache.db"))?;
    Cache::builder(store).local(local).build()
}

/// What the other process does: it changes a name, and says what stands for its change.
async fn rename(dir: &Path, name: &str) -> larder::Result<()> {
    let cache = open(dir)?;
    cache.set("user:1", name).await?;
    println!("{}", cache.causal());
    Ok(())
}

/// Runs this program once more, as the other process; returns what stands for its change.
fn elsewhere(dir: &Path, name: &str) -> Result<Causal, Box<dyn Error>> {
    let mut program = Command::new(std::env::current_exe()?);
    let output = program
        .arg(dir)
        .arg(name)
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn name(cache: &Cache) -> larder::Result<String> {
    Ok(cache.get("user:1").await?.unwrap_or_default())
}

async fn tell(cache: &Cache, when: &str) -> larder::Result<()> {
    let stats = cache.stats().await?;
    let LocalStats { lag_ms, gaps, .. } = stats.local.unwrap_or_default();
    let lag = lag_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"));
    let (copies, store) = (stats.process.local_hits, stats.process.store_hits);
    println!("{when}: {copies} hits on copies, {store} on the store; lag {lag}, {gaps} gaps");
    Ok(())
}

async fn show(dir: &Path) -> Result<(), Box<dyn Error>> {
    let cache = open(dir)?;
    cache.set("user:1", "Ann").await?;
    for _ in 0..1000 {
        name(&cache).await?;
    }
    tell(&cache, "Ann is read a thousand times").await?;

    // Nobody has to be told of a change: who reads hears of it in time.
    elsewhere(dir, "Anna")?;
    let changed = Instant::now();
    while name(&cache).await? != "Anna" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let heard = changed.elapsed().as_millis();
    tell(&cache, &format!("Anna is read {heard} ms after the change")).await?;

    // Who brings the token of a change reads no copy that may be older.
    let change = elsewhere(dir, "Annie")?;
    let (anybody, bearer) = (name(&cache).await?, name(&cache.at_least(change)).await?);
    tell(
        &cache,
        &format!("anybody may read {anybody}, the bearer reads {bearer}"),
    )
    .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [dir, name] => Ok(rename(Path::new(dir), name).await?),
        _ => show(tempfile::tempdir()?.path()).await,
    }
}
