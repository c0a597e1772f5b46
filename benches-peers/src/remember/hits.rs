//! Hits in a local tier that is the whole cache: `remember` and a function with `#[cache]` beside the plain reads and
//! raw quick_cache, which has no TTL, no types, no loads and no statistics.

use std::future::IntoFuture;
use std::hint::black_box;

use bytes::Bytes;
use larder::Cache;

use crate::l1::{larder, now};
use crate::measure::{self, Peer, nanos_per_op, rounds, target};
use crate::workload::{HOUR, value, zipf};

const ROUNDS: usize = 7;

/// Its key is written anew for each call, which the others are handed.
#[larder::cache(on = cache, key = "user:{id}", ttl = "1h")]
async fn user(#[skip] cache: &Cache, id: usize) -> larder::Result<Bytes> {
    Ok(Bytes::from(id.to_string()))
}

pub fn run() {
    for (count, ops, what) in [(1, 1_000_000, "one hot key"), (100_000, 500_000, "100k keys, zipf 0.99")] {
        let order = match count {
            1 => vec![0; ops],
            _ => zipf(count, 0.99, ops, 1),
        };
        let rows = compare(count, &order);
        measure::print(&format!("hit in the local tier, {what}, 100 B"), "ns", &rows);
        for row in &rows[1..4] {
            target(&row.name, row.median() / rows[0].median(), 1.5, true);
        }
        target("#[cache], times raw with a written key", rows[6].median() / rows[4].median(), 1.5, true);
    }
}

fn compare(count: usize, order: &[usize]) -> Vec<measure::Row> {
    let keys: Vec<String> = (0..count).map(|id| format!("user:{id}")).collect();
    let cache = larder(2 * count.max(100) as u64 * 400);
    let raw = quick_cache::sync::Cache::<String, Bytes>::new(2 * count.max(100));
    for key in &keys {
        now(cache.set(key, &value()).ttl(HOUR).into_future()).expect("a local set works");
        raw.insert(key.clone(), value());
    }
    let each = |run: &dyn Fn(usize)| nanos_per_op(order.len(), || order.iter().for_each(|id| run(*id)));
    let remember = |key: &str| {
        let load = || async { Ok::<Bytes, std::io::Error>(Bytes::new()) };
        let found = now(cache.remember(key, load).into_future());
        debug_assert!(found.as_ref().is_ok_and(|value| !value.is_empty()), "the tier has it");
        drop(black_box(found));
    };
    let mut peers: Vec<Peer<'_>> = vec![
        ("quick_cache raw (limit)", Box::new(|| each(&|id| drop(black_box(raw.get(keys[id].as_str())))))),
        ("larder get_shared", Box::new(|| each(&|id| drop(black_box(now(cache.get_shared::<Bytes>(&keys[id]))))))),
        ("larder get", Box::new(|| each(&|id| drop(black_box(now(cache.get::<Bytes>(&keys[id]))))))),
        ("larder remember", Box::new(|| each(&|id| remember(&keys[id])))),
        ("quick_cache raw, key written for each", Box::new(|| {
            each(&|id| drop(black_box(raw.get(format!("user:{id}").as_str()))))
        })),
        ("larder remember, key written for each", Box::new(|| each(&|id| remember(&format!("user:{id}"))))),
        ("larder #[cache], key written for each", Box::new(|| each(&|id| drop(black_box(now(user(&cache, id))))))),
    ];
    let rows = rounds(ROUNDS, &mut peers);
    drop(peers);
    let loads = now(cache.stats()).expect("there are figures").process.loads;
    assert_eq!(loads, 0, "these are hits");
    rows
}
