//! Measures Larder beside its limits and its peers, in one run, and prints ratios.
//!
//! `cargo xtask bench [l1|l1-ratio|sqlite|file|codec|redis|locks|tags|remember|memcached|cli]...`; without a name, all of them. Cells are medians (minimum..maximum) of
//! several rounds; peers run one after the other inside each round, so that a burst of other work hits all of them.

mod cli;
mod codec;
mod file;
mod l1;
mod l1_ratio;
mod measure;
mod network;
mod remember;
mod sqlite;
mod workload;

type Bench = (&'static str, &'static str, fn());

const BENCHES: &[Bench] = &[
    ("l1", "local tier: hit, set, two threads", l1::run),
    ("l1-ratio", "local tier: hit ratio, bound, memory per entry", l1_ratio::run),
    ("sqlite", "embedded store against bare rusqlite", sqlite::run),
    ("file", "file store against plain files", file::run),
    ("codec", "decode cost per codec", codec::run),
    ("redis", "Redis store against the bare client", network::redis::run),
    ("locks", "locks on Redis against bare scripts", network::locks::run),
    ("tags", "tags on Redis against deleting, key sets and a peer", network::tags::run),
    ("remember", "remember and #[cache]: hits, misses, a skewed load, a crowd", remember::run),
    ("memcached", "Memcached store against a client crate", network::memcached::run),
    ("cli", "whole-process time of `cache get`", cli::run),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match wanted.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["l1-memory"] => return l1_ratio::memory_per_entry(),
        ["redis-pinned"] => return network::redis::pinned(),
        ["locks-pinned"] => return network::locks::pinned(),
        ["tags-pinned"] => return network::tags::pinned(),
        ["remember-pinned"] => return remember::pinned(),
        ["remember-child", url] => return remember::crowd::child(url),
        ["memcached-pinned"] => return network::memcached::pinned(),
        _ => {}
    }
    let unknown = wanted.iter().find(|name| !BENCHES.iter().any(|(known, ..)| known == name));
    if let Some(unknown) = unknown {
        eprintln!("unknown bench {unknown:?}; there are:");
        for (name, what, _) in BENCHES {
            eprintln!("  {name:10} {what}");
        }
        std::process::exit(2);
    }
    for (name, what, run) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n## {name}: {what}");
            run();
        }
    }
}
