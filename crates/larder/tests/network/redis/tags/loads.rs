//! Loads that another instance overtakes: what they loaded is refused.

use std::time::Duration;

use larder::store::{Condition, Expiry, Write};
use larder::testing::sealed;
use larder::{RedisStore, Store as _};
use xtask::servers::private::{RedisCluster, RedisServer};

use super::super::rig::{now, urls};
use super::{Tagged, tag, token};
use crate::has_servers;

/// What another instance does while a value is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overtaking {
    Nothing,
    Invalidate,
    Delete,
    Set,
    Add,
    Increment,
    Clear,
}

impl Overtaking {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Invalidate,
        Self::Delete,
        Self::Set,
        Self::Add,
        Self::Increment,
        Self::Clear,
    ];

    async fn happen(self, there: &Tagged, key: &str) {
        let put = Write::put(key.as_bytes(), sealed(b"other"), Expiry::Never);
        match self {
            Self::Nothing => {}
            Self::Invalidate => {
                there.invalidate(&[tag("a")]).await.unwrap();
            }
            Self::Delete => {
                let deleted = there.write(Write::delete(key.as_bytes())).await.unwrap();
                assert!(!deleted, "a load is no entry");
            }
            Self::Set => assert!(there.set(key, "other").await.unwrap()),
            Self::Add => {
                let added = there.write(put.when(Condition::IfAbsent)).await.unwrap();
                assert!(added, "a load is no entry");
            }
            Self::Increment => {
                let (store, key) = (&there.store, key.as_bytes());
                let sum = store.increment(&there.namespace, key, 7, Expiry::Never);
                assert_eq!(sum.await.unwrap(), 7);
            }
            Self::Clear => there.store.clear(&there.namespace).await.unwrap(),
        }
    }

    /// Returns what is read after the load has ended.
    fn left(self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some("loaded"),
            Self::Invalidate | Self::Delete | Self::Clear => None,
            Self::Set | Self::Add => Some("other"),
            Self::Increment => Some("7"),
        }
    }
}

async fn overtake(here: &Tagged, there: &Tagged) {
    let registers = [tag("a"), tag("b")];
    for (round, overtaking) in Overtaking::ALL.into_iter().cycle().take(21).enumerate() {
        let key = format!("key:{round}");
        let token = token();
        let begun = here.begin(&key, &registers, token).await.unwrap();
        assert!(begun.is_granted && begun.entry.is_none(), "{overtaking:?}");
        let second = there.begin(&key, &registers, token + 1).await.unwrap();
        assert!(
            !second.is_granted && second.entry.is_none(),
            "{overtaking:?}"
        );
        overtaking.happen(there, &key).await;
        let stored = here.commit(&key, "loaded", token, &begun.stamps).await;
        let is_stored = overtaking == Overtaking::Nothing;
        assert_eq!(stored.unwrap(), is_stored, "{overtaking:?}");
        for tagged in [here, there] {
            let read = tagged.get(&key).await.unwrap();
            assert_eq!(read.as_deref(), overtaking.left(), "{overtaking:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_overtaken_load_brings_is_refused() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let connect = || async { Tagged::new(RedisStore::connect(server.url()).await.unwrap()) };
    overtake(&connect().await, &connect().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_overtaken_load_brings_is_refused_on_a_cluster() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let connect = || async {
        let builder = RedisStore::cluster(urls(&cluster)).response_timeout(Duration::from_secs(2));
        Tagged::new(builder.connect().await.unwrap())
    };
    overtake(&connect().await, &connect().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_begin_together_grant_one() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(Tagged::new(
            RedisStore::connect(server.url()).await.unwrap(),
        ));
    }
    let registers = [tag("a")];
    for round in 0..200 {
        let key = format!("key:{round}");
        let begun = stores
            .iter()
            .map(|store| store.begin(&key, &registers, token()));
        let begun = futures_util::future::join_all(begun).await.into_iter();
        let granted = begun.filter(|begun| begun.as_ref().unwrap().is_granted);
        assert_eq!(granted.count(), 1, "{key}");
    }
}
