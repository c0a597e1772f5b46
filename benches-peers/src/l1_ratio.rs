//! The local tier's hit ratio against raw quick_cache and moka, its bound, and memory per entry.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read as _};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use larder::{Cache, Local, NullStore};

use crate::measure::target;
use crate::workload::{key, value, zipf};

const KEYS: usize = 100_000;
const ACCESSES: usize = 1_000_000;
/// What the tier weighs a slot of these keys and values: 21 + 102 + 120 bytes.
const SLOT_BYTES: u64 = 243;

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

fn larder(entries: usize) -> Cache {
    let local = Local::capacity_bytes(entries as u64 * SLOT_BYTES);
    Cache::builder(NullStore::new()).local(local).build().expect("the options are valid")
}

/// Accesses with 5,000 never repeated keys after every 20,000.
fn with_scans(order: &[usize]) -> Vec<usize> {
    let mut fresh = KEYS..;
    order.chunks(20_000).flat_map(|part| part.iter().copied().chain(fresh.by_ref().take(5_000)).collect::<Vec<_>>()).collect()
}

fn ratio(order: &[usize], mut get_or_set: impl FnMut(&str) -> bool) -> f64 {
    let skipped = order.len() / 5;
    let mut names: HashMap<usize, String> = HashMap::new();
    let mut hits = 0;
    for (turn, index) in order.iter().enumerate() {
        let hit = get_or_set(names.entry(*index).or_insert_with(|| key(*index)));
        hits += usize::from(hit && turn >= skipped);
    }
    hits as f64 * 100.0 / (order.len() - skipped) as f64
}

fn compare(what: &str, order: &[usize], capacity: usize) {
    let raw = quick_cache::sync::Cache::<String, Bytes>::new(capacity);
    let raw_ratio = ratio(order, |key| {
        raw.get(key).is_some() || {
            raw.insert(key.to_owned(), value());
            false
        }
    });
    let ours = larder(capacity);
    let value = value();
    let our_ratio = ratio(order, |key| {
        now(ours.get_shared::<Bytes>(key)).expect("a local read works").is_some() || {
            now(ours.set(key, &value).into_future()).expect("a local write works");
            false
        }
    });
    let moka = moka::sync::Cache::<String, Bytes>::new(capacity as u64);
    let moka_ratio = ratio(order, |key| {
        moka.get(key).is_some() || {
            moka.insert(key.to_owned(), value.clone());
            false
        }
    });
    let local = now(ours.stats()).expect("figures").local.expect("a local tier");
    let bound = if local.bytes <= local.capacity_bytes { "kept" } else { "BROKEN" };
    println!("  {what:32} larder {our_ratio:5.1} %  quick_cache {raw_ratio:5.1} %  moka {moka_ratio:5.1} %  bound {bound}");
    target("points against quick_cache", our_ratio - raw_ratio, -0.5, false);
}

use std::future::IntoFuture;

/// Starts this program again for the memory figure: here, freed memory of earlier work would be used first.
fn memory_in_a_fresh_process() {
    let program = std::env::current_exe().expect("this program has a path");
    let status = std::process::Command::new(program).arg("l1-memory").status();
    assert!(status.expect("the process starts").success(), "the memory figure failed");
}

/// Resident memory before and after, in a process that has done nothing else.
pub fn memory_per_entry() {
    let before = resident_bytes().unwrap_or(0);
    let cache = larder(2 * KEYS);
    for index in 0..KEYS {
        now(cache.set(&key(index), &value()).into_future()).expect("a local write works");
    }
    let after = resident_bytes().unwrap_or(0);
    let per_entry = (after - before) as f64 / KEYS as f64;
    println!("  memory per entry of 20 + 100 bytes: {per_entry:.0} B");
    target("memory per entry, B", per_entry, 300.0, true);
    drop(cache);
}

fn resident_bytes() -> io::Result<u64> {
    let mut text = String::new();
    std::fs::File::open("/proc/self/statm")?.read_to_string(&mut text)?;
    let pages: u64 = text.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    Ok(pages * 4096)
}

pub fn run() {
    memory_in_a_fresh_process();
    let order = zipf(KEYS, 0.9, ACCESSES, 7);
    let scans = with_scans(&order);
    for (percent, capacity) in [(1, KEYS / 100), (10, KEYS / 10)] {
        compare(&format!("zipf 0.9, {percent} % of the keys"), &order, capacity);
        compare(&format!("zipf 0.9 with scans, {percent} %"), &scans, capacity);
    }
}
