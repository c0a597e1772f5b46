//! The commands on caches.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::time::{Duration, Instant};

use xtask::servers::private::RedisServer;

use super::{DEAD, SECRET, every_redis, home, memcached, provided, redis, tells_no_secret};
use crate::support::{Home, Ran};

/// What works on every server.
fn use_entries(home: &Home) {
    home.run("cache set user:1 hello --ttl 60").ok();
    assert_eq!(home.run("cache get user:1").ok(), "hello\n");
    assert_eq!(home.run("cache has user:1").ok(), "true\n");
    let left: u64 = home.run("cache ttl user:1").ok().trim().parse().unwrap();
    assert!((58..=60).contains(&left), "{left}");
    home.run("cache expire user:1 forever").ok();
    assert_eq!(home.run("cache ttl user:1").ok(), "forever\n");
    assert_eq!(home.run("cache incr visits --by 41").ok(), "41\n");
    assert_eq!(home.run("cache incr visits").ok(), "42\n");
    home.run("cache set user:1 other --if-absent").exits(1);
    assert_eq!(
        home.run("cache inspect user:1 --json").json()["plain_bytes"],
        5
    );
    home.run("cache get nobody").exits(3);
    let stats = home.run("cache stats --json").json();
    assert_eq!(stats["total"]["store_hits"], 1);
    assert_eq!(stats["total"]["misses"]["absent"], 1);
    home.run("cache prune").ok();
    assert_eq!(home.run("cache delete user:1 nobody").ok(), "1\n");
    home.run("cache delete user:1").exits(3);
}

#[test]
fn every_command_works_on_redis() {
    for home in every_redis() {
        use_entries(&home);
        home.run("cache set user:2 two").ok();
        home.run("cache set user:3 three --ttl 1h").ok();
        assert_eq!(home.run("cache keys user:*").ok().lines().count(), 2);
        assert_eq!(
            home.run("cache status --json").json()["caches"][0]["entries"],
            3
        );
        assert_eq!(
            home.run("cache status --json").json()["stores"][0]["configured_as"],
            "main"
        );
        home.run("cache export file").ok();
        home.run("--cache copy cache import file").ok();
        assert_eq!(home.run("--cache copy cache get user:3").ok(), "three\n");
        assert_eq!(home.run("--cache copy cache incr visits").ok(), "43\n");
        home.run("cache purge user:*").exits(2);
        assert_eq!(home.run("cache purge user:* --yes").ok(), "2\n");
        assert_eq!(home.run("cache keys").ok(), "visits\n");
        let shown = home.run("cache clear --dry-run --json").json();
        assert_eq!(shown["would_remove"], 1);
        assert_eq!(home.run("cache clear --yes").ok(), "1\n");
        assert_eq!(home.run("cache keys").ok(), "");
        assert_eq!(home.run("--cache copy cache get user:3").ok(), "three\n");
        home.run("--cache copy cache clear --yes").ok();
    }
}

#[test]
fn memcached_says_what_it_cannot_do() {
    let home = home(&memcached(&provided("MEMCACHED")));
    use_entries(&home);
    home.run("cache set k v").ok();
    for line in [
        "cache keys",
        "cache export",
        "cache export file",
        "cache purge k* --yes",
        "cache purge k* --dry-run",
    ] {
        let ran = home.run(line);
        assert_eq!(ran.exits(1), "", "{line}");
        assert!(
            ran.stderr.contains("memcached cannot list its keys"),
            "{ran:?}"
        );
        let ran = home.run(&format!("{line} --json"));
        assert_eq!(ran.exits(1), "", "{line}");
        assert_eq!(ran.error_kind(), "unsupported");
    }
    assert!(!home.path().join("file").exists());
    assert_eq!(home.run("cache get k").ok(), "v\n");
    let status = home.run("cache status --json").json();
    assert!(status["caches"][0]["entries"].is_null());
    assert!(
        home.run("cache prune --dry-run")
            .ok()
            .contains("expired entries")
    );
}

#[test]
fn memcached_can_be_cleared_and_filled_though_it_cannot_be_listed() {
    let home = home(&memcached(&provided("MEMCACHED")));
    let source = Home::new();
    source.run("cache set k v").ok();
    let export = source.run("cache export").stdout;
    home.feed("cache import", &export).ok();
    assert_eq!(home.run("cache get k").ok(), "v\n");
    home.run("cache clear").exits(2);
    let shown = home.run("cache clear --dry-run --json").json();
    assert!(shown["would_remove"].is_null(), "{shown}");
    assert_eq!(home.run("cache get k").ok(), "v\n");
    assert_eq!(home.run("cache clear --yes").ok(), "");
    home.run("cache get k").exits(3);
    let cleared = home.run("cache clear --yes --json").json();
    assert!(cleared["removed"].is_null(), "{cleared}");
}

#[test]
fn a_server_that_is_down_is_exit_code_5_with_its_address_and_what_to_do() {
    let stores = [
        (
            redis(&format!("redis://larder:{SECRET}@{DEAD}/")),
            "start Redis there",
        ),
        (memcached(DEAD), "start Memcached there"),
    ];
    for (store, advice) in stores {
        let home = home(&store);
        let told = |ran: &Ran, line: &str| {
            assert_eq!(ran.exits(5), "", "{line}");
            tells_no_secret(ran);
            for part in [DEAD, "stores.main", "refused", "larder doctor"] {
                assert!(ran.stderr.contains(part), "{line}: {part}: {ran:?}");
            }
            assert!(ran.stderr.contains(advice), "{line}: {ran:?}");
        };
        for line in [
            "cache get k",
            "cache set k v",
            "cache delete k",
            "cache ttl k",
            "cache expire k 60",
            "cache has k",
            "cache incr k",
            "cache keys",
            "cache inspect k",
            "cache explain k",
            "cache clear --yes",
            "cache purge * --yes",
            "cache status",
            "cache stats",
            "cache prune",
            "cache export",
            "cache import",
        ] {
            told(&home.run(line), line);
        }
        let ran = home.run("cache get k --json");
        assert_eq!(ran.error_kind(), "unavailable");
        tells_no_secret(&ran);
        let mut loud = home.command(["cache", "get", "k", "-vv"]);
        tells_no_secret(&loud.env("LARDER_LOG", "trace").output().unwrap().into());
    }
}

#[test]
fn a_login_that_is_refused_says_so_without_the_password() {
    let url = provided("REDIS_URL").replacen("redis://", &format!("redis://nobody:{SECRET}@"), 1);
    let home = home(&redis(&url));
    for line in [
        "cache get k",
        "doctor",
        "node list",
        "config show",
        "-vv cache get k",
    ] {
        tells_no_secret(&home.run(line));
    }
    let ran = home.run("cache get k --json");
    ran.exits(1);
    assert_eq!(ran.error_kind(), "invalid_config");
    assert!(ran.stderr.contains("check user and password"), "{ran:?}");
    let text = home.run("doctor").exits(6);
    assert!(text.contains("fail  store main: "), "{text}");
}

#[test]
fn a_silent_server_keeps_nobody_waiting() {
    let server = RedisServer::start().unwrap();
    let home = home(&redis(&server.url()));
    home.run("cache set k v").ok();
    server.pause().unwrap();
    for (line, code) in [("cache get k", 5), ("doctor", 6), ("node list", 5)] {
        let start = Instant::now();
        let ran = home.run(line);
        ran.exits(code);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{line}: {:?}",
            start.elapsed()
        );
    }
    server.resume().unwrap();
    assert_eq!(home.run("cache get k").ok(), "v\n");
}
