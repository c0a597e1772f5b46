//! The size bound: kept soon after writes, at the cost of what expires soonest, then of the oldest.

use larder::store::{Expiry, Sqlite, Store};

use super::{eventually, get, put};

const BOUND: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;
const VALUE: [u8; 8000] = [7; 8000];

async fn is_within_bound(store: &Sqlite) -> bool {
    store.stats().await.unwrap().bytes.unwrap() <= BOUND
}

async fn count(store: &Sqlite, prefix: &str, numbers: std::ops::Range<usize>) -> usize {
    let mut found = 0;
    for n in numbers {
        let read = get(store, format!("{prefix}-{n}").as_bytes())
            .await
            .unwrap();
        found += usize::from(read.is_some());
    }
    found
}

async fn fill(store: &Sqlite, prefix: &str, numbers: std::ops::Range<usize>, expiry: Expiry) {
    for n in numbers {
        put(store, format!("{prefix}-{n}").as_bytes(), &VALUE, expiry)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_go_and_the_latest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::builder(dir.path().join("cache.db"))
        .max_bytes(BOUND)
        .build()
        .unwrap();
    fill(&store, "soon", 0..30, Expiry::After(HOUR_MS)).await;
    fill(&store, "lasting", 0..640, Expiry::Never).await;
    eventually("5 MiB are cut to the bound", || is_within_bound(&store)).await;
    assert_eq!(count(&store, "soon", 0..30).await, 0);
    assert_eq!(count(&store, "lasting", 0..300).await, 0);
    assert_eq!(
        count(&store, "lasting", 580..640).await,
        60,
        "the latest writes"
    );
    let stats = store.stats().await.unwrap();
    assert!(stats.evicted >= 500, "{stats:?}");
    assert_eq!(stats.capacity_bytes, Some(BOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_soonest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::builder(dir.path().join("cache.db"))
        .max_bytes(BOUND)
        .build()
        .unwrap();
    fill(&store, "lasting", 0..20, Expiry::Never).await;
    fill(&store, "late", 0..20, Expiry::After(10 * HOUR_MS)).await;
    fill(&store, "soon", 0..160, Expiry::After(HOUR_MS)).await;
    eventually("the store is cut to the bound", || is_within_bound(&store)).await;
    assert_eq!(count(&store, "lasting", 0..20).await, 20);
    assert_eq!(count(&store, "late", 0..20).await, 20);
    let soon = count(&store, "soon", 0..160).await;
    assert!(
        (1..=100).contains(&soon),
        "{soon} of those that expire soonest are left"
    );
}
