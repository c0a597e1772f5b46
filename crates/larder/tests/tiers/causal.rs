//! Tokens: what another process changed is seen at once by whoever has its token.

use std::time::Duration;

use super::rig::Rig;
use super::{FOR_EVER, eventually, get, local_hits, on_telling_stores, tiered, warm};

on_telling_stores! {
    whoever_has_the_token_reads_the_change
    a_token_that_was_caught_up_with_costs_nothing
    a_token_counts_however_old_copies_may_be
}

async fn whoever_has_the_token_reads_the_change(rig: Rig) {
    for _ in 0..20 {
        let (here, there) = (tiered(&rig), tiered(&rig));
        there.set("key", "old").tags(["t"]).await.unwrap();
        there.set("other", "old").await.unwrap();
        warm(&here, "key").await;
        warm(&here, "other").await;
        let token = there.invalidate_tags(["t"]).await.unwrap().causal;
        let token = token.to_string().parse().unwrap();
        assert_eq!(get(&here.at_least(token), "key").await, None);
        there.set("other", "new").await.unwrap();
        let later = here.at_least(there.causal());
        assert_eq!(get(&later, "other").await.as_deref(), Some("new"));
        let many: Vec<Option<String>> = later.get_many(["key", "other"]).await.unwrap();
        assert_eq!(many, [None, Some("new".to_owned())]);
    }
}

async fn a_token_that_was_caught_up_with_costs_nothing(rig: Rig) {
    let (here, there) = (tiered(&rig), tiered(&rig));
    there.set("key", "value").await.unwrap();
    let token = there.causal();
    let read = || here.at_least(token);
    eventually(async || {
        let before = local_hits(&here).await;
        assert_eq!(get(&read(), "key").await.as_deref(), Some("value"));
        local_hits(&here).await > before
    })
    .await;
    // One's own changes are known.
    warm(&here, "key").await;
    let before = local_hits(&here).await;
    get(&here.at_least(here.causal()), "key").await;
    assert_eq!(local_hits(&here).await, before + 1);
}

async fn a_token_counts_however_old_copies_may_be(rig: Rig) {
    let (here, there) = (super::with_staleness(&rig, Duration::MAX), tiered(&rig));
    there.set("key", "old").await.unwrap();
    warm(&here, "key").await;
    there.set("key", "new").await.unwrap();
    let later = here.at_least(there.causal());
    assert_eq!(get(&later, "key").await.as_deref(), Some("new"));
    let figures = here.stats().await.unwrap().local.unwrap();
    assert!(figures.lag_ms.is_some_and(|lag_ms| lag_ms < 60_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_honoured_where_nobody_tells() {
    let rig = super::rig::memcached().await;
    let here = super::with_staleness(&rig, FOR_EVER);
    let there = rig.other().await;
    there.set("key", "old").await.unwrap();
    warm(&here, "key").await;
    there.set("key", "new").await.unwrap();
    assert_eq!(get(&here, "key").await.as_deref(), Some("old"), "a copy");
    let later = here.at_least(there.causal());
    assert_eq!(get(&later, "key").await.as_deref(), Some("new"));
}
