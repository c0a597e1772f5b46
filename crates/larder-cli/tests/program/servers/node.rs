//! node list.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use serde_json::Value;
use xtask::servers::private::RedisCluster;

use super::{DEAD, cluster, every_redis, home, memcached, provided};
use crate::support::{Home, Ran};

fn nodes(ran: &Ran, code: i32) -> Vec<Value> {
    let document: Value = serde_json::from_str(&ran.exits(code)).unwrap();
    document["nodes"].as_array().unwrap().clone()
}

#[test]
fn embedded_stores_have_no_servers() {
    let home = Home::new();
    let ran = home.run("node list");
    assert_eq!(ran.ok(), "");
    assert!(ran.stderr.contains("there are no servers"), "{ran:?}");
    assert_eq!(home.run("node:list -q").stderr, "");
    assert!(nodes(&home.run("node list --json"), 0).is_empty());
}

#[test]
fn every_server_is_listed_with_its_figures() {
    let mut homes = Vec::from(every_redis());
    homes.push(home(&memcached(&provided("MEMCACHED"))));
    for home in homes {
        home.run("cache set k v").ok();
        for node in nodes(&home.run("node list --json"), 0) {
            assert_eq!(node["store"], "main");
            for figure in [
                "version",
                "latency_us",
                "memory_bytes",
                "keys",
                "connections",
                "operations_per_second",
            ] {
                assert!(!node[figure].is_null(), "{figure}: {node}");
            }
        }
        let text = home.run("node list").ok();
        let mut lines = text.lines();
        let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(
            header[..6],
            ["STORE", "ADDRESS", "ROLE", "STATE", "VERSION", "SLOTS"]
        );
        assert!(
            lines.all(|line| line.starts_with("main ") && line.contains(" ok ")),
            "{text}"
        );
    }
}

#[test]
fn the_servers_of_a_cluster_share_all_slots() {
    let home = home(&cluster(&provided("REDIS_CLUSTER")));
    let nodes = nodes(&home.run("node list --json"), 0);
    let of_role = |role: &str| nodes.iter().filter(|node| node["role"] == role).count();
    assert_eq!((of_role("primary"), of_role("replica")), (3, 3));
    let slots: u64 = nodes.iter().filter_map(|node| node["slots"].as_u64()).sum();
    assert_eq!(slots, 16384);
}

#[test]
fn a_server_that_is_down_is_in_the_list_with_the_reason() {
    let servers = RedisCluster::start().unwrap();
    let addresses: Vec<_> = servers
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let home = home(&cluster(&addresses.join(",")));
    let lost = servers.replica_of(0).unwrap();
    servers.nodes()[lost].kill();
    let nodes = nodes(&home.run("node list --json"), 4);
    let down = nodes.iter().filter(|node| !node["problem"].is_null());
    let down: Vec<_> = down.map(|node| node["address"].as_str().unwrap()).collect();
    assert_eq!(down, [addresses[lost].as_str()]);
    let text = home.run("node list").exits(4);
    let last = text.lines().last().unwrap();
    let reason = format!("down: {} of store main: ", addresses[lost]);
    assert!(
        last.starts_with(&reason) && last.contains("refused"),
        "{text}"
    );
    let text = home.run("doctor").exits(6);
    assert!(
        text.contains(&format!(
            "fail  replica {} of store main: ",
            addresses[lost]
        )),
        "{text}"
    );
    assert!(
        text.contains("ok    read and write of cache default"),
        "{text}"
    );
    for node in servers.nodes() {
        node.kill();
    }
    let text = home.run("node list").exits(5);
    assert!(text.contains("down: store main: "), "{text}");
}

#[test]
fn a_store_without_any_server_is_exit_code_5_beside_one_that_is_well() {
    let home = Home::new();
    let up = memcached(&provided("MEMCACHED"));
    let down = memcached(DEAD);
    let text = format!("[cache]\ndefault = \"up\"\n[stores.up]\n{up}[stores.down]\n{down}");
    super::configure(&home, &text);
    let text = home.run("node list").exits(5);
    assert!(
        text.contains(&format!("down: {DEAD} of store down: ")),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("up ") && line.contains(" ok ")),
        "{text}"
    );
}
