//! A key is changed while it is loaded, by this process or another one: who asks afterwards never gets what was loading.

use std::sync::Arc;

use larder::Cache;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::party::Party;
use crate::{Kind, MS, PATIENCE, Site, report};

type LoadError = std::io::Error;

macro_rules! on_all_stores {
    ($($name:ident: $kind:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            nobody_gets_what_a_change_has_overtaken(Kind::$kind).await;
        }
    )*};
}

on_all_stores! {
    memory: Memory,
    sqlite: Sqlite,
    file: File,
    redis: Redis,
    redis_cluster: RedisCluster,
    memcached: Memcached,
}

/// What changes a key.
#[derive(Debug, Clone, Copy)]
enum Change {
    Invalidate,
    Delete,
    Set,
}

impl Change {
    async fn make(self, cache: &Cache, key: &str) {
        match self {
            Self::Invalidate => drop(cache.invalidate_tags([key]).await.unwrap()),
            Self::Delete => drop(cache.delete(key).await.unwrap()),
            Self::Set => cache.set(key, "set").tags([key]).await.unwrap(),
        }
    }

    fn order(self, key: &str) -> String {
        match self {
            Self::Invalidate => format!("invalidate {key}"),
            Self::Delete => format!("delete {key}"),
            Self::Set => format!("set {key} set"),
        }
    }

    /// Returns what is there afterwards, for who would load `new`.
    fn left(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Invalidate | Self::Delete => "new",
        }
    }
}

/// Who changes it.
enum By<'a> {
    Itself,
    Other(&'a Cache),
    Process(&'a mut Party),
}

async fn load_new(cache: &Cache, key: &str) -> String {
    let load = || async { Ok::<_, LoadError>("new".to_owned()) };
    cache.remember(key, load).tags([key]).await.unwrap()
}

async fn trial(here: &Cache, key: &str, change: Change, by: By<'_>) {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, ends, cache) = (Arc::clone(&begun), Arc::clone(&end), here.clone());
    let name = key.to_owned();
    let old = tokio::spawn(async move {
        let load = move || async move {
            told.notify_one();
            ends.notified().await;
            Ok::<_, LoadError>("old".to_owned())
        };
        cache.remember(&name, load).tags([&name]).await.unwrap()
    });
    begun.notified().await;
    match by {
        By::Itself => change.make(here, key).await,
        By::Other(other) => change.make(other, key).await,
        By::Process(party) => assert_eq!(party.order(change.order(key)), "done"),
    }
    let answer = timeout(PATIENCE, load_new(here, key)).await;
    assert_eq!(answer.expect("it hangs"), change.left(), "{change:?} {key}");
    end.notify_one();
    assert_eq!(old.await.unwrap(), "old");
    let left: Option<String> = here.get(key).await.unwrap();
    assert_eq!(left.as_deref(), Some(change.left()), "{change:?} {key}");
}

async fn nobody_gets_what_a_change_has_overtaken(kind: Kind) {
    let trials = report::trials(300, 1);
    let site = Site::new();
    let store = kind.open(&site.store).await;
    let plain = crate::cache(Arc::clone(&store), &site.store, None);
    let tiered = crate::cache(Arc::clone(&store), &site.store, Some(50 * MS));
    let other = crate::cache(store, &site.store, None);
    let start = || Party::start(kind, &site.store, 1, None);
    let mut process = kind.is_shared().then(start);
    for number in 0..trials {
        let change = match number % 3 {
            0 => Change::Invalidate,
            1 => Change::Delete,
            _ => Change::Set,
        };
        let by = match (number / 3 % 2, &mut process) {
            (0, _) => By::Itself,
            (_, Some(process)) => By::Process(process),
            (_, None) => By::Other(&other),
        };
        let here = if number / 6 % 2 == 0 { &plain } else { &tiered };
        trial(here, &format!("key:{number}"), change, by).await;
    }
    report::row(
        format!("change while loading, {}", kind.name()),
        format!("{trials} trials, 0 answers from before"),
    );
}
