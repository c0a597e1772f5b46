//! Local copies of entries that the store has dropped by itself, which no listing has and no note tells of.

use std::path::Path;
use std::time::Duration;

use larder::{Cache, Local, SqliteStore};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

/// As another process opens it. So long a bound, that only news can end a copy.
fn open(path: &Path, tagging: bool) -> Cache {
    let local = Local::capacity_bytes(1 << 20).max_staleness(Duration::from_secs(24 * 3600));
    let builder = Cache::builder(SqliteStore::open(path).unwrap()).local(local);
    builder.tagging(tagging).build().unwrap()
}

async fn get(cache: &Cache) -> Option<String> {
    cache.get("key").await.unwrap()
}

/// Returns a process that has a copy of what is no longer in the file, and another one.
async fn with_lost_entry(path: &Path, tagging: bool) -> (Cache, Cache) {
    let (here, there) = (open(path, tagging), open(path, tagging));
    let set = there.set("key", "value");
    match tagging {
        true => set.tags(["user:5"]).await.unwrap(),
        false => set.await.unwrap(),
    }
    for _ in 0..2 {
        assert_eq!(get(&here).await.as_deref(), Some("value"));
    }
    let foreign = rusqlite::Connection::open(path).unwrap();
    foreign.busy_timeout(PATIENCE).unwrap();
    assert_eq!(foreign.execute("DELETE FROM entries", []).unwrap(), 1);
    foreign.execute("DELETE FROM registers", []).unwrap();
    assert_eq!(get(&here).await.as_deref(), Some("value"), "a copy");
    (here, there)
}

async fn is_gone(cache: &Cache) {
    let began = Instant::now();
    while get(cache).await.is_some() {
        assert!(began.elapsed() < PATIENCE, "the copy stays");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn deletion_by_pattern_ends_copies_of_what_is_not_listed() {
    for tagging in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = with_lost_entry(&dir.path().join("cache.db"), tagging).await;
        assert_eq!(there.delete_matching("k*").await.unwrap(), 0);
        is_gone(&here).await;
    }
}

#[tokio::test]
async fn invalidation_by_pattern_ends_copies_of_what_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = with_lost_entry(&dir.path().join("cache.db"), true).await;
    there.invalidate_tags(["user:?"]).await.unwrap();
    is_gone(&here).await;
}
