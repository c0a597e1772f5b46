//! What stands in the attribute beside the key.

use std::time::Duration;

use larder::{Cache, ManualClock, MemoryStore, TimeLeft};
use serde::{Deserialize, Serialize};

use super::{DbError, Runs, cache};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Account {
    active: bool,
}

#[derive(Clone)]
struct Bank {
    cache: Cache,
    runs: Runs,
}

impl Bank {
    fn new() -> Self {
        Self {
            cache: cache(),
            runs: Runs::default(),
        }
    }

    /// A bank whose time passes when it is told to.
    fn with_time(time: &ManualClock) -> Self {
        let store = MemoryStore::builder().clock(time.clock()).build().unwrap();
        Self {
            cache: Cache::builder(store).build().unwrap(),
            runs: Runs::default(),
        }
    }

    #[larder::cache(on = self.cache, key = "account:{active}", if = |account| account.active)]
    async fn account(&self, active: bool) -> Result<Account, DbError> {
        self.runs.count();
        Ok(Account { active })
    }

    #[larder::cache(on = self.cache, key = "maybe:{there}", if = Option::is_some, tag = "maybe")]
    async fn maybe(&self, there: bool) -> Option<u8> {
        self.runs.count();
        there.then_some(1)
    }

    #[larder::cache(on = self.cache, key = "seconds", ttl = 90)]
    async fn seconds(&self) -> u8 {
        1
    }

    #[larder::cache(on = self.cache, key = "forever", ttl = "forever")]
    async fn forever(&self) -> u8 {
        1
    }

    #[larder::cache(on = self.cache, key = "versioned", schema = 1)]
    async fn old(&self) -> u8 {
        self.runs.count();
        1
    }

    #[larder::cache(on = self.cache, key = "versioned", schema = 2)]
    async fn new_one(&self) -> u8 {
        self.runs.count();
        2
    }

    #[larder::cache(on = self.cache, key = "stale", ttl = "1m", stale = "1h")]
    async fn stale(&self, #[skip] fails: bool) -> Result<usize, DbError> {
        let run = self.runs.count();
        if fails {
            return Err(DbError::NoRow(1));
        }
        Ok(run)
    }

    #[larder::cache(on = self.cache, key = "refreshed", ttl = "1h", refresh = 0.5)]
    async fn refreshed(&self) -> usize {
        self.runs.count()
    }

    #[larder::cache(crate = ::larder, on = self.handle(), key = "elsewhere")]
    async fn elsewhere(&self) -> u8 {
        self.runs.count() as u8
    }

    fn handle(&self) -> std::sync::Arc<Cache> {
        std::sync::Arc::new(self.cache.clone())
    }
}

#[tokio::test]
async fn what_the_condition_refuses_is_returned_and_not_kept() {
    let bank = Bank::new();
    for active in [true, true, false, false] {
        assert_eq!(bank.account(active).await.unwrap().active, active);
    }
    assert_eq!(bank.runs.so_far(), 3);
    for there in [true, true, false, false] {
        assert_eq!(bank.maybe(there).await.is_some(), there);
    }
    assert_eq!(bank.runs.so_far(), 6);
    assert!(bank.cache.has("maybe:true").await.unwrap());
    bank.cache.invalidate_tags(["maybe"]).await.unwrap();
    assert!(!bank.cache.has("maybe:true").await.unwrap());
}

#[tokio::test]
async fn lives_are_those_that_were_written() {
    let bank = Bank::new();
    assert_eq!((bank.seconds().await, bank.forever().await), (1, 1));
    let TimeLeft::Remaining(left) = bank.cache.ttl("seconds").await.unwrap() else {
        panic!("the value has no end");
    };
    assert!(left.as_secs() <= 90 && left.as_secs() > 30);
    assert_eq!(bank.cache.ttl("forever").await.unwrap(), TimeLeft::Forever);
}

#[tokio::test]
async fn values_of_another_schema_are_loaded_anew() {
    let bank = Bank::new();
    assert_eq!((bank.old().await, bank.old().await), (1, 1));
    assert_eq!((bank.new_one().await, bank.new_one().await), (2, 2));
    assert_eq!(bank.runs.so_far(), 2);
}

#[tokio::test]
async fn the_cache_may_be_any_expression() {
    let bank = Bank::new();
    assert_eq!((bank.elsewhere().await, bank.elsewhere().await), (1, 1));
    assert!(bank.elsewhere_invalidate().await.unwrap());
    assert_eq!(bank.elsewhere().await, 2);
}

#[tokio::test]
async fn a_value_past_its_end_is_served_while_the_body_fails() {
    let time = ManualClock::new();
    let bank = Bank::with_time(&time);
    assert_eq!(bank.stale(false).await.unwrap(), 1);
    time.advance(Duration::from_secs(90));
    assert_eq!(bank.stale(true).await.unwrap(), 1);
    assert_eq!(bank.runs.so_far(), 2);
    time.advance(Duration::from_secs(3600));
    assert!(matches!(bank.stale(true).await, Err(DbError::NoRow(1))));
}

#[tokio::test]
async fn a_value_is_loaded_anew_before_its_end() {
    let time = ManualClock::new();
    let bank = Bank::with_time(&time);
    assert_eq!(bank.refreshed().await, 1);
    time.advance(Duration::from_secs(1900));
    assert_eq!(bank.refreshed().await, 1);
    let soon = async {
        while bank.refreshed().await == 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), soon)
        .await
        .unwrap();
    assert_eq!(bank.runs.so_far(), 2);
}
