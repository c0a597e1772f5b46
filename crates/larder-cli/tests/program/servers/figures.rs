//! status and its figures of servers.

use super::{cluster, configure, home, memcached, provided, redis};
use crate::support::Home;

#[test]
fn detailed_status_tells_of_every_server_and_their_total() {
    let home = home(&cluster(&provided("REDIS_CLUSTER")));
    home.run("cache set k v").ok();
    home.run("cache get k").ok();
    let store = &home.run("cache status --detailed --json").json()["stores"][0];
    assert_eq!(store["nodes"].as_array().unwrap().len(), 6);
    let totals = &store["totals"];
    assert_eq!(
        (&totals["servers"], &totals["down"]),
        (&6.into(), &0.into())
    );
    for figure in [
        "memory_bytes",
        "hit_ratio",
        "keys",
        "evicted",
        "connections",
        "operations_per_second",
        "response_time_us",
    ] {
        assert!(totals[figure].is_number(), "{figure}: {totals}");
    }
    assert!(
        totals["memory_limit_bytes"].is_null(),
        "no server has a bound"
    );
    let text = home.run("cache status --detailed").ok();
    for part in [
        "servers of store main (redis-cluster)",
        "\ntotal ",
        "RESPONSE",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn plain_status_asks_no_server() {
    let home = home(&memcached(&provided("MEMCACHED")));
    let text = home.run("cache status").ok();
    assert!(!text.contains("servers of store"), "{text}");
    let status = home.run("cache status --json").json();
    assert!(status["stores"][0].get("nodes").is_none(), "{status}");
    let status = home.run("cache status --detailed --json").json();
    let node = &status["stores"][0]["nodes"][0];
    assert!(node["memory_limit_bytes"].as_u64().unwrap() > 0, "{status}");
    assert!(status["stores"][0]["totals"]["keys"].is_u64(), "{status}");
}

#[test]
fn a_store_is_shown_once_however_its_figures_move_meanwhile() {
    let home = Home::new();
    let (memcached, redis) = (
        memcached(&provided("MEMCACHED")),
        redis(&provided("REDIS_URL")),
    );
    let prefix = fastrand::u64(..);
    let caches = "[caches.a]\n[caches.b]\n[caches.c]\nstore = \"far\"\n";
    configure(
        &home,
        &format!(
            "[cache]\ndefault = \"main\"\nprefix = \"p{prefix}\"\n[stores.main]\n{memcached}[stores.far]\n{redis}{caches}"
        ),
    );
    let status = home.run("cache status --json").json();
    assert_eq!(status["caches"].as_array().unwrap().len(), 4);
    let stores = status["stores"].as_array().unwrap();
    let mut names: Vec<_> = stores
        .iter()
        .map(|store| store["configured_as"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["far", "main"]);
}
