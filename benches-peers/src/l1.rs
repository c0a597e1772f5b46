//! The local tier through the public API against raw quick_cache and the peers.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::{Cache, Local, NullStore};

use crate::measure::{self, Peer, nanos_per_op, rounds, target};
use crate::workload::{HOUR, keys, value, zipf};

const ROUNDS: usize = 7;

/// Polls a future until it is ready, at once as a rule: what an executor does, without its cost.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

struct PerEntry;

impl moka::Expiry<String, (Duration, Bytes)> for PerEntry {
    fn expire_after_create(&self, _: &String, value: &(Duration, Bytes), _: Instant) -> Option<Duration> {
        Some(value.0)
    }
}

type Raw = quick_cache::sync::Cache<String, Bytes>;

struct Peers {
    keys: Vec<String>,
    larder: Cache,
    raw: Raw,
    moka: moka::future::Cache<String, (Duration, Bytes)>,
    foyer: foyer::Cache<String, (Instant, Bytes)>,
}

fn raw(capacity: usize) -> Raw {
    Raw::new(capacity)
}

pub fn larder(bytes: u64) -> Cache {
    let local = Local::capacity_bytes(bytes);
    Cache::builder(NullStore::new()).local(local).default_ttl(HOUR).build().expect("the options are valid")
}

impl Peers {
    fn new(count: usize) -> Self {
        let keys = keys(count);
        let larder = larder(2 * count as u64 * 400);
        let raw = raw(2 * count);
        let moka = moka::future::Cache::builder().max_capacity(2 * count as u64).expire_after(PerEntry).build();
        let foyer = foyer::CacheBuilder::new(2 * count).with_shards(64).build();
        let peers = Self { keys, larder, raw, moka, foyer };
        for key in &peers.keys {
            now(peers.larder.set(key, &value()).ttl(HOUR).into_future()).expect("a local set works");
            peers.raw.insert(key.clone(), value());
            now(peers.moka.insert(key.clone(), (HOUR, value())));
            peers.foyer.insert(key.clone(), (Instant::now() + HOUR, value()));
        }
        peers
    }

    fn hits(&self, order: &[usize]) -> Vec<measure::Row> {
        let each = |run: &dyn Fn(&str)| nanos_per_op(order.len(), || order.iter().for_each(|index| run(&self.keys[*index])));
        let mut peers: Vec<Peer<'_>> = vec![
            ("quick_cache raw (limit)", Box::new(|| each(&|key| drop(black_box(self.raw.get(key)))))),
            ("larder get_shared", Box::new(|| each(&|key| drop(black_box(now(self.larder.get_shared::<Bytes>(key))))))),
            ("larder get", Box::new(|| each(&|key| drop(black_box(now(self.larder.get::<Bytes>(key))))))),
            ("larder remember", Box::new(|| {
                each(&|key| {
                    let load = || async { Ok::<Bytes, std::io::Error>(Bytes::new()) };
                    drop(black_box(now(self.larder.remember(key, load).into_future())));
                })
            })),
            ("moka future, per-entry expiry", Box::new(|| each(&|key| drop(black_box(now(self.moka.get(key))))))),
            ("foyer + Instant deadline", Box::new(|| {
                each(&|key| drop(black_box(self.foyer.get(key).filter(|entry| entry.value().0 > Instant::now()))))
            })),
        ];
        rounds(ROUNDS, &mut peers)
    }

    fn sets(&self, order: &[usize]) -> Vec<measure::Row> {
        let fresh = value();
        let fresh = &fresh;
        let each = |run: &dyn Fn(&str)| nanos_per_op(order.len(), || order.iter().for_each(|index| run(&self.keys[*index])));
        let mut peers: Vec<Peer<'_>> = vec![
            ("quick_cache raw (limit)", Box::new(|| each(&|key| self.raw.insert(key.to_owned(), fresh.clone())))),
            ("larder set", Box::new(|| {
                each(&|key| now(self.larder.set(key, fresh).ttl(HOUR).into_future()).expect("a local set works"))
            })),
            ("moka future, per-entry expiry", Box::new(|| {
                each(&|key| now(self.moka.insert(key.to_owned(), (HOUR, fresh.clone()))))
            })),
            ("foyer + Instant deadline", Box::new(|| {
                each(&|key| drop(self.foyer.insert(key.to_owned(), (Instant::now() + HOUR, fresh.clone()))))
            })),
        ];
        rounds(ROUNDS, &mut peers)
    }

    /// Two threads, 90 % reads: million operations a second.
    fn mixed(&self, order: &[usize]) -> Vec<measure::Row> {
        let fresh = value();
        let both = |run: &(dyn Fn(usize, &str) + Sync)| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for half in order.chunks(order.len() / 2) {
                    scope.spawn(move || half.iter().enumerate().for_each(|(turn, index)| run(turn, &self.keys[*index])));
                }
            });
            order.len() as f64 / start.elapsed().as_secs_f64() / 1e6
        };
        let mut peers: Vec<Peer<'_>> = vec![
            ("quick_cache raw (limit)", Box::new(|| {
                both(&|turn, key| match turn % 10 {
                    0 => self.raw.insert(key.to_owned(), fresh.clone()),
                    _ => drop(black_box(self.raw.get(key))),
                })
            })),
            ("larder", Box::new(|| {
                both(&|turn, key| match turn % 10 {
                    0 => now(self.larder.set(key, &fresh).ttl(HOUR).into_future()).expect("a local set works"),
                    _ => drop(black_box(now(self.larder.get_shared::<Bytes>(key)))),
                })
            })),
            ("moka future, per-entry expiry", Box::new(|| {
                both(&|turn, key| match turn % 10 {
                    0 => now(self.moka.insert(key.to_owned(), (HOUR, fresh.clone()))),
                    _ => drop(black_box(now(self.moka.get(key)))),
                })
            })),
        ];
        rounds(ROUNDS, &mut peers)
    }
}

use std::future::IntoFuture;

pub fn run() {
    for (count, ops, what) in [(1000, 1_000_000, "1k hot keys"), (100_000, 500_000, "100k keys")] {
        let order = zipf(count, 0.99, ops, 1);
        let peers = Peers::new(count);
        let hits = peers.hits(&order);
        measure::print(&format!("hit, {what}, 100 B, zipf 0.99"), "ns", &hits);
        for row in &hits[1..4] {
            target(&row.name, row.median() / hits[0].median(), 1.5, true);
        }
        let sets = peers.sets(&order);
        measure::print(&format!("set, {what}"), "ns", &sets);
        target(&sets[1].name, sets[1].median() / sets[0].median(), 1.6, true);
        let mixed = peers.mixed(&order);
        measure::print(&format!("two threads, 90/10, {what}"), "Mops/s", &mixed);
        target(&mixed[1].name, mixed[1].median() / mixed[0].median(), 0.7, false);
    }
}
