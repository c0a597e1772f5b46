//! Callers who go away, at each moment at which they can: nobody else waits in vain, and nothing is left of them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use larder::Cache;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{sleep, timeout};

use crate::{Kind, MS, PATIENCE, Site, report};

/// Callers of one key at a time.
const CALLERS: u64 = 6;
/// No call is polled so often.
const MOST_POLLS: u32 = 200;

/// A value that tells how many of it there are: copies that a cache keeps for nobody are leaks.
#[derive(Debug, Clone)]
struct Traced {
    _trace: Arc<()>,
}

impl Serialize for Traced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Traced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        Ok(Self {
            _trace: Arc::default(),
        })
    }
}

/// Polls a call so often, then drops it; returns whether it had ended.
async fn abandon<T>(call: impl Future<Output = T>, polls: u32) -> bool {
    let (mut call, mut left) = (pin!(call), polls);
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match call.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How a key is asked for.
#[derive(Debug, Clone, Copy)]
enum Call {
    One,
    Tagged,
    /// With a key of its own beside it.
    Many,
}

impl Call {
    const ALL: [Self; 3] = [Self::One, Self::Tagged, Self::Many];

    async fn make(self, cache: &Cache, key: &str, trace: &Arc<()>) {
        let trace = Arc::clone(trace);
        match self {
            Self::Many => {
                let keys = [key.to_owned(), format!("{key}:beside")];
                let load = move |keys: Vec<String>| async move {
                    tokio::task::yield_now().await;
                    let value = |key| {
                        (
                            key,
                            Traced {
                                _trace: Arc::clone(&trace),
                            },
                        )
                    };
                    Ok::<_, std::io::Error>(keys.into_iter().map(value).collect::<Vec<_>>())
                };
                let loaded = cache.remember_many(&keys, load).await.unwrap();
                assert!(loaded.iter().all(Option::is_some));
            }
            Self::One | Self::Tagged => {
                let load = move || async move {
                    tokio::task::yield_now().await;
                    Ok::<_, std::io::Error>(Traced { _trace: trace })
                };
                let asked = cache.remember(key, load);
                let tags: &[&str] = match self {
                    Self::Tagged => &["t"],
                    _ => &[],
                };
                asked.tags(tags).await.unwrap();
            }
        }
    }
}

/// Whoever comes next is answered, and in the end nothing is left.
async fn is_clean(cache: &Cache, key: &str, trace: &Arc<()>, how: &str) {
    let next = timeout(PATIENCE, Call::One.make(cache, key, trace));
    next.await.unwrap_or_else(|_| panic!("{how}: it hangs"));
    let gone = async {
        while Arc::strong_count(trace) > 1 {
            sleep(MS).await;
        }
    };
    let gone = timeout(PATIENCE, gone).await;
    gone.unwrap_or_else(|_| panic!("{how}: something is left"));
}

async fn the_only_caller_goes_away(kind: Kind) {
    let site = Site::new();
    let cache = crate::cache(kind.open(&site.store).await, &site.store, None);
    let mut moments = 0;
    for call in Call::ALL {
        for polls in 0..MOST_POLLS {
            let (key, trace) = (format!("{call:?}:{polls}"), Arc::default());
            let has_ended = abandon(call.make(&cache, &key, &trace), polls).await;
            is_clean(&cache, &key, &trace, &key).await;
            if has_ended {
                break;
            }
            moments += 1;
            assert!(polls + 1 < MOST_POLLS, "it never ends");
        }
    }
    report::row(
        format!("caller dropped at each poll, {}", kind.name()),
        format!("{moments} moments, 0 hung, 0 left"),
    );
    assert!(moments > 3, "there was hardly a moment to go away");
}

/// Several ask for a key at once, and most of them go away at random; so does a change now and then.
async fn callers_go_away_at_random(kind: Kind) {
    let site = Site::new();
    let cache = crate::cache(kind.open(&site.store).await, &site.store, None);
    let seeds = report::trials(100, 10);
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let (key, trace) = (format!("key:{seed}"), Arc::new(()));
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let polls = if caller == 0 {
                u32::MAX
            } else {
                random.u32(..12)
            };
            let call = Call::ALL[random.usize(..3)];
            let (cache, key, trace) = (cache.clone(), key.clone(), Arc::clone(&trace));
            callers.push(tokio::spawn(async move {
                abandon(call.make(&cache, &key, &trace), polls).await
            }));
            for _ in 0..random.u8(..4) {
                tokio::task::yield_now().await;
            }
        }
        if random.bool() {
            cache.delete(&key).await.unwrap();
        }
        for caller in callers {
            let ended = timeout(PATIENCE, caller).await;
            ended
                .unwrap_or_else(|_| panic!("seed {seed} hangs"))
                .unwrap();
        }
        is_clean(&cache, &key, &trace, &format!("seed {seed}")).await;
    }
    report::row(
        format!("callers dropped at random, {}", kind.name()),
        format!("{seeds} seeds, 0 hung, 0 left"),
    );
}

macro_rules! on_stores {
    ($($name:ident: $kind:ident,)*) => {$(
        mod $name {
            use crate::Kind;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_only_caller_goes_away() {
                super::the_only_caller_goes_away(Kind::$kind).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn callers_go_away_at_random() {
                super::callers_go_away_at_random(Kind::$kind).await;
            }
        }
    )*};
}

on_stores! {
    memory: Memory,
    redis: Redis,
}
