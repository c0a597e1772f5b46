//! Loads of a process that hears of changes meanwhile: news of what came before a load, or has nothing to do with it, is no
//! reason not to store its value.

use std::sync::Arc;

use larder::Cache;
use tokio::sync::Notify;

use super::rig::Rig;
use super::{eventually, get, on_telling_stores, tiered};

on_telling_stores! {
    news_of_other_tags_overtakes_no_load
    ones_own_invalidation_of_other_tags_overtakes_no_load
    news_of_what_came_before_overtakes_no_load
    news_of_what_came_meanwhile_leaves_no_copy
}

/// A load that waits until it is told to end.
struct Slow {
    end: Arc<Notify>,
    task: tokio::task::JoinHandle<String>,
}

impl Slow {
    async fn start(cache: &Cache, key: &'static str) -> Self {
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, ends, cache) = (Arc::clone(&begun), Arc::clone(&end), cache.clone());
        let task = tokio::spawn(async move {
            let load = move || async move {
                told.notify_one();
                ends.notified().await;
                Ok::<_, std::io::Error>("loaded".to_owned())
            };
            cache.remember(key, load).tags(["t"]).await.unwrap()
        });
        begun.notified().await;
        Self { end, task }
    }

    async fn finish(self) {
        self.end.notify_one();
        assert_eq!(self.task.await.unwrap(), "loaded");
    }
}

/// Two processes, the first of which follows the journal.
async fn pair(rig: &Rig) -> (Cache, Cache) {
    let (here, there) = (tiered(rig), tiered(rig));
    there.set("sign", "0").await.unwrap();
    hears(&here, "0").await;
    (here, there)
}

/// Waits until the news of the sign, and of all before, has come.
async fn hears(here: &Cache, sign: &str) {
    eventually(async || get(here, "sign").await.as_deref() == Some(sign)).await;
}

async fn news_of_other_tags_overtakes_no_load(rig: Rig) {
    let (here, there) = pair(&rig).await;
    let slow = Slow::start(&here, "key").await;
    there.invalidate_tags(["other"]).await.unwrap();
    // In the same part of a cluster, too.
    there.set("{key}other", "x").await.unwrap();
    there.set("sign", "1").await.unwrap();
    hears(&here, "1").await;
    slow.finish().await;
    assert_eq!(get(&rig.cache(), "key").await.as_deref(), Some("loaded"));
}

async fn ones_own_invalidation_of_other_tags_overtakes_no_load(rig: Rig) {
    let (here, _there) = pair(&rig).await;
    let slow = Slow::start(&here, "key").await;
    here.invalidate_tags(["other"]).await.unwrap();
    slow.finish().await;
    assert_eq!(get(&rig.cache(), "key").await.as_deref(), Some("loaded"));
}

/// Most reloads are of what has just been invalidated or deleted.
async fn news_of_what_came_before_overtakes_no_load(rig: Rig) {
    let (here, there) = pair(&rig).await;
    for (round, sign) in ["1", "2", "3", "4"].into_iter().enumerate() {
        let who = if round % 2 == 0 { &here } else { &there };
        match round / 2 {
            0 => drop(who.delete("key").await.unwrap()),
            _ => drop(who.invalidate_tags(["t"]).await.unwrap()),
        }
        let slow = Slow::start(&here, "key").await;
        there.set("sign", sign).await.unwrap();
        hears(&here, sign).await;
        slow.finish().await;
        let stored = get(&rig.cache(), "key").await;
        assert_eq!(stored.as_deref(), Some("loaded"), "round {round}");
    }
}

async fn news_of_what_came_meanwhile_leaves_no_copy(rig: Rig) {
    let (here, there) = pair(&rig).await;
    for (round, sign) in ["1", "2"].into_iter().enumerate() {
        let slow = Slow::start(&here, "key").await;
        match round {
            0 => drop(there.delete("key").await.unwrap()),
            _ => drop(there.invalidate_tags(["t"]).await.unwrap()),
        }
        there.set("sign", sign).await.unwrap();
        hears(&here, sign).await;
        slow.finish().await;
        for cache in [&here, &rig.cache()] {
            assert_eq!(get(cache, "key").await, None, "round {round}");
        }
    }
}
