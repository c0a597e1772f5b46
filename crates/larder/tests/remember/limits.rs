//! How long callers wait.

use std::time::Duration;

use larder::{ErrorKind, RememberError};

use super::{HOUR, LONG, LoadError, Slow, counts, get, leave_stale, until};
use crate::rig::Rig;

/// A limit that a busy machine may exceed and a loader that hangs does.
const LIMIT: Duration = Duration::from_millis(30);

async fn a_stale_value_is_returned_when_the_load_takes_too_long(rig: Rig) {
    let cache = rig.cache();
    for is_soft in [true, false] {
        cache.delete("k").await.unwrap();
        leave_stale(&cache).await;
        let slow = Slow::new();
        let load = slow.clone();
        let asked = cache.remember("k", move || load.load("new"));
        let asked = asked.ttl(HOUR).stale_for(HOUR);
        let asked = match is_soft {
            true => asked.soft_timeout(LIMIT).hard_timeout(LONG),
            false => asked.hard_timeout(LIMIT),
        };
        let served = asked.detailed().await.unwrap();
        assert_eq!((served.value.as_str(), served.is_stale), ("old", true));
        slow.begun.notified().await;
        slow.end();
        until(async || get(&cache, "k").await.as_deref() == Some("new")).await;
    }
    assert_eq!(counts(&cache).await.timed_out_loads, 2);
}

async fn without_a_value_the_call_fails_and_the_load_goes_on(rig: Rig) {
    let cache = rig.cache();
    let slow = Slow::new();
    let asked = || {
        let load = slow.clone();
        let asked = cache.remember("k", move || load.load("new")).ttl(HOUR);
        asked.hard_timeout(LIMIT)
    };
    // The second one joins, and does not wait longer for that.
    for _ in 0..2 {
        let Err(RememberError::Cache(error)) = asked().await else {
            panic!("it got a value")
        };
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.message().contains("hard_timeout"), "{error}");
    }
    slow.begun.notified().await;
    slow.end();
    until(async || get(&cache, "k").await.as_deref() == Some("new")).await;
    assert_eq!(slow.runs.count(), 1);
}

/// C39: a hung loader in another process holds nobody up for longer than they want.
async fn a_loader_that_hangs_elsewhere_is_waited_for_no_longer(rig: Rig) {
    let (cache, other) = (rig.cache(), rig.cache());
    let slow = Slow::new();
    let _first = slow.start(&cache, "never").await;
    let load = || async { Ok::<_, LoadError>("own".to_owned()) };
    let asked = other.remember("k", load).ttl(HOUR).hard_timeout(LIMIT);
    let Err(RememberError::Cache(error)) = asked.await else {
        panic!("it got a value")
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    slow.end();
    until(async || get(&other, "k").await.as_deref() == Some("never")).await;
}

on_every_store! {
    a_stale_value_is_returned_when_the_load_takes_too_long
    without_a_value_the_call_fails_and_the_load_goes_on
    a_loader_that_hangs_elsewhere_is_waited_for_no_longer
}
