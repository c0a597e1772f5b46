//! doctor.

use serde_json::Value;
use xtask::servers::private::{MemcachedServer, RedisServer};

use super::{
    DEAD, SECRET, cluster, configure, every_redis, home, memcached, provided, redis, sentinels,
    tells_no_secret,
};
use crate::support::Home;

/// A server that is set up as a cache should be.
const WELL: [&str; 4] = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lfu"];

#[test]
fn every_server_is_described() {
    for home in every_redis() {
        let text = home.run("doctor").ok();
        for part in [
            "ok    store main: redis",
            ": redis ",
            " ms, noeviction, persistence none, clock +",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let report = home.run("doctor --json").json();
        assert_eq!(report["healthy"], true);
        assert_eq!(report["nodes"][0]["store"], "main");
        assert!(report["nodes"][0]["problem"].is_null(), "{report}");
    }
    let watched = home(&sentinels(&provided("REDIS_SENTINELS")));
    let text = watched.run("doctor").ok();
    assert!(text.contains("ok    primary 127.0.0.1:"), "{text}");
    let home = home(&memcached(&provided("MEMCACHED")));
    let text = home.run("doctor").ok();
    assert!(
        text.contains(": memcached ") && text.contains("lru, persistence none"),
        "{text}"
    );
}

#[test]
fn what_an_operator_should_change_is_a_warning_once_for_all_servers() {
    let home = home(&cluster(&provided("REDIS_CLUSTER")));
    let text = home.run("doctor").ok();
    let warnings: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("warn"))
        .collect();
    assert_eq!(warnings.len(), 2, "{text}");
    assert!(
        warnings[0].contains("maxmemory-policy allkeys-lfu"),
        "{text}"
    );
    assert!(
        warnings[1].contains("cluster-require-full-coverage"),
        "{text}"
    );
    assert!(warnings[1].contains("and 3 more"), "{text}");
}

#[test]
fn a_server_that_is_set_up_well_has_no_warning() {
    let server = RedisServer::with_args(&WELL).unwrap();
    let home = home(&redis(&server.url()));
    let text = home.run("doctor").ok();
    assert!(!text.contains("warn"), "{text}");
    assert!(text.contains("allkeys-lfu"), "{text}");
}

#[test]
fn settings_that_are_kept_secret_are_no_reason_to_warn() {
    let args = [&WELL[..], &["--rename-command", "CONFIG", ""]].concat();
    let server = RedisServer::with_args(&args).unwrap();
    let home = home(&redis(&server.url()));
    let text = home.run("doctor").ok();
    assert!(
        !text.contains("warn") && !text.contains("persistence"),
        "{text}"
    );
}

#[test]
fn stores_that_work_are_checked_beside_those_that_do_not() {
    let home = Home::new();
    let server = MemcachedServer::start().unwrap();
    let text = format!(
        "[cache]\ndefault = \"near\"\n[stores.near]\ndriver = \"sqlite\"\n\
         [stores.down]\n{}[stores.gone]\n{}[stores.up]\n{}",
        redis(&format!("redis://larder:{SECRET}@{DEAD}/")),
        memcached(DEAD),
        memcached(&server.address().to_string()),
    );
    configure(&home, &text);
    let ran = home.run("doctor");
    tells_no_secret(&ran);
    let text = ran.exits(6);
    for part in [
        "fail  store down: ",
        "start Redis there",
        "fail  store gone: ",
        "start Memcached there",
        "ok    store near: sqlite",
        "ok    store up: memcached",
        "of store up: memcached 1.",
        "ok    read and write of cache default",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let ran = home.run("doctor --json");
    tells_no_secret(&ran);
    let report: Value = serde_json::from_str(&ran.exits(6)).unwrap();
    assert_eq!(report["healthy"], false);
    let nodes = report["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    let up = nodes.iter().filter(|node| node["problem"].is_null());
    assert_eq!(up.count(), 1, "{report}");
}

#[test]
fn a_cache_of_another_store_is_probed_there() {
    let home = Home::new();
    let store = redis(&provided("REDIS_URL"));
    configure(
        &home,
        &format!(
            "[cache]\ndefault = \"far\"\n[stores.far]\n{store}[stores.near]\ndriver = \"memory\"\n[caches.small]\nstore = \"near\"\n"
        ),
    );
    let text = home.run("doctor --cache small").ok();
    assert!(text.ends_with("ms\n"), "{text}");
    assert_eq!(
        text.matches("read and write of cache small").count(),
        1,
        "{text}"
    );
    let text = home.run("doctor --cache unheard-of").ok();
    assert!(
        text.contains("ok    read and write of cache unheard-of"),
        "{text}"
    );
}
