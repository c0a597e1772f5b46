//! Reads that a change overtakes on their way into the tier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::rig::Rig;
use super::{MS, eventually, on_telling_stores, tiered};

/// How long a writer waits after a read was begun, in microseconds.
const DELAYS_US: [u64; 4] = [0, 50, 200, 1000];
/// Overlapped reads and writes for each of them.
const TRIALS: u64 = 250;

on_telling_stores! {
    an_overlapped_read_leaves_nothing_outdated
    no_copy_is_older_than_the_bound
}

/// Each key is read and written at the same time. As soon as the news has come, no copy is older than its entry.
async fn an_overlapped_read_leaves_nothing_outdated(rig: Rig) {
    let (here, there) = (tiered(&rig), tiered(&rig));
    // So that the journal is followed.
    there.set("sign", &0_u64).await.unwrap();
    assert_eq!(here.get::<u64>("sign").await.unwrap(), Some(0));
    let mut keys = Vec::new();
    for delay_us in DELAYS_US {
        for trial in 0..TRIALS {
            let key = format!("{delay_us}-{trial}");
            there.set(&key, &0_u64).await.unwrap();
            let reader = here.clone();
            let name = key.clone();
            let read = tokio::spawn(async move { reader.get::<u64>(&name).await.unwrap() });
            let pause = Duration::from_micros(delay_us);
            let began = Instant::now();
            while began.elapsed() < pause {
                tokio::task::yield_now().await;
            }
            there.set(&key, &1_u64).await.unwrap();
            read.await.unwrap();
            keys.push(key);
        }
    }
    there.set("sign", &1_u64).await.unwrap();
    eventually(async || here.get::<u64>("sign").await.unwrap() == Some(1)).await;
    let outdated = here.get_many::<u64>(&keys).await.unwrap();
    let outdated = outdated.iter().filter(|value| **value != Some(1)).count();
    assert_eq!(outdated, 0, "of {} reads", keys.len());
}

/// A writer counts up; a reader of another process never meets a count that was outdated longer ago than the bound.
async fn no_copy_is_older_than_the_bound(rig: Rig) {
    const BOUND: Duration = Duration::from_millis(300);
    let (here, there) = (super::with_staleness(&rig, BOUND), tiered(&rig));
    there.set("key", &0_u64).await.unwrap();
    let began = Instant::now();
    // When each count was acknowledged, in microseconds since the beginning; the index is the count.
    let acknowledged: Arc<Vec<AtomicU64>> =
        Arc::new((0..400).map(|_| AtomicU64::new(u64::MAX)).collect());
    let times = Arc::clone(&acknowledged);
    let writer = tokio::spawn(async move {
        for (count, time) in times.iter().enumerate().skip(1) {
            there.set("key", &(count as u64)).await.unwrap();
            time.store(micros(began), SeqCst);
            sleep(5 * MS).await;
        }
    });
    while !writer.is_finished() {
        let asked = micros(began);
        let count = here.get::<u64>("key").await.unwrap().unwrap_or_default();
        let next = acknowledged.get(count as usize + 1);
        let outdated_at = next.map_or(u64::MAX, |time| time.load(SeqCst));
        // The coarse clock of copies may be a tick behind.
        let bound = BOUND.as_micros() as u64 + 15_000;
        assert!(
            outdated_at.saturating_add(bound) > asked,
            "{count} was outdated {} us before it was read",
            asked - outdated_at
        );
        sleep(MS).await;
    }
    writer.await.unwrap();
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}
