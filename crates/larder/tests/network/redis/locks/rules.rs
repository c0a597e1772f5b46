//! The same rules in Lua as everywhere: a random sequence of calls, on Redis and on the memory store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use larder::lock::{Answer, Ask, LockStore, Owner, Rate};
use larder::{MemoryStore, Store as _};
use xtask::servers::private::RedisServer;

use super::super::rig::now;
use super::{LONG_MS, Locks, space};
use crate::has_servers;

const SEEDS: u64 = 4;
const STEPS: usize = 1500;
const OWNERS: usize = 7;
const NAMES: [&str; 3] = ["a", "b {x} : \u{e4}", "{"];

/// A call, without what differs between the stores.
#[derive(Debug)]
enum Step {
    Acquire(Ask),
    Extend(Owner),
    Release(Owner, Option<u64>),
    Evict,
    Take(Rate, u64),
    HoldTimes,
    List,
}

impl Step {
    fn random(random: &mut fastrand::Rng, owners: &[Owner]) -> Self {
        let owner = random.choice(owners).expect("owners").clone();
        match random.u8(..100) {
            0..=49 => Self::Acquire(Ask {
                owner,
                permits: random.u32(1..=3),
                ttl_ms: random.u64(LONG_MS..2 * LONG_MS),
                heartbeat_ms: random.bool().then(|| random.u64(LONG_MS..2 * LONG_MS)),
                barge: random.u8(..10) == 0,
            }),
            50..=59 => Self::Extend(owner),
            60..=86 => Self::Release(owner, random.bool().then(|| random.u64(..1 << 40))),
            87..=88 => Self::Evict,
            89..=94 => {
                // It fills so slowly that real time does not matter, whatever its sizes are.
                let rate = Rate {
                    tokens: random.u64(1..3),
                    interval_ms: *random
                        .choice(&[Rate::MAX_INTERVAL_MS, Rate::MAX_INTERVAL_MS / 2])
                        .expect("intervals"),
                    burst: *random.choice(&[5, 40, Rate::MAX_TOKENS]).expect("bursts"),
                };
                Self::Take(rate, random.u64(1..8))
            }
            95..=97 => Self::HoldTimes,
            _ => Self::List,
        }
    }

    /// Makes the call and writes its outcome down; fences become their rank among those of the store.
    async fn run(&self, store: &dyn LockStore, name: &str, fences: &mut BTreeSet<u64>) -> String {
        let (space, name) = (space(), name.as_bytes());
        match self {
            Self::Acquire(ask) => match store.acquire(&space, name, ask).await.unwrap() {
                Answer::Granted { fence, left_ms } => {
                    assert!(left_ms > 0 && left_ms <= 2 * LONG_MS, "{left_ms}");
                    fences.insert(fence);
                    format!("granted {}", fences.range(..fence).count())
                }
                Answer::Busy { ahead, retry_ms } => {
                    assert!(retry_ms <= 2 * LONG_MS + 1, "{retry_ms}");
                    format!("busy {ahead} {}", retry_ms > 0)
                }
            },
            Self::Extend(owner) => {
                let extended = store.extend(&space, name, owner, LONG_MS).await;
                format!("extended {}", extended.unwrap())
            }
            Self::Release(owner, held_ms) => {
                let released = store.release(&space, name, owner, *held_ms).await;
                format!("released {}", released.unwrap())
            }
            Self::Evict => format!("evicted {}", store.evict(&space, name).await.unwrap()),
            Self::Take(rate, tokens) => {
                let taken = store.take(&space, name, rate, *tokens).await.unwrap();
                // To a minute: the stores' clocks are not read at the same time.
                let minutes = (taken.retry_after_ms + 30_000) / 60_000;
                format!("taken {} {} {minutes}", taken.allowed, taken.remaining)
            }
            Self::HoldTimes => format!("{:?}", store.hold_times(&space, name).await.unwrap()),
            Self::List => {
                let all = larder::Glob::all();
                let listed = store.list(&space, &all, 100).await.unwrap();
                let lines = listed.iter().map(|status| {
                    let holders: Vec<_> = status.holders.iter().map(|h| &h.owner).collect();
                    (
                        status.name.clone(),
                        format!("{holders:?} {}", status.waiters),
                    )
                });
                format!("{:?}", lines.collect::<BTreeMap<_, _>>())
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_those_of_the_memory_store() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let redis = Locks::on(&server).await.store;
    for seed in 1..=SEEDS {
        now(|| server.call(&["FLUSHALL"])).unwrap();
        let memory: Arc<dyn LockStore> = MemoryStore::new().lock_store().unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let owners: Vec<_> = (0..OWNERS).map(|_| Owner::new()).collect();
        let mut fences = [BTreeSet::new(), BTreeSet::new()];
        let mut past = Vec::new();
        for number in 0..STEPS {
            let step = Step::random(&mut random, &owners);
            let name = random.choice(NAMES).expect("names");
            past.push(format!("{name}: {step:?}"));
            let expected = step.run(&*memory, name, &mut fences[0]).await;
            let outcome = step.run(&*redis, name, &mut fences[1]).await;
            let recent = &past[past.len().saturating_sub(30)..];
            assert_eq!(
                outcome, expected,
                "seed {seed}, step {number}, after {recent:#?}"
            );
        }
        assert!(fences[1].len() > 100, "hardly anything was granted");
    }
}
