//! What `docs/stores.md` shows operators is what works.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::time::Duration;

use larder::lock::HOLD_TIMES;
use larder::{Cache, RedisStore, Store, Ttl};
use xtask::servers::private::{RedisCluster, RedisServer};

use super::{cluster, home, memcached, provided, redis};
use crate::support::Home;

const GUIDE: &str = include_str!("../../../../../docs/stores.md");

/// Returns the fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = GUIDE.split(&fence).skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

/// Returns the rules of the guide's user as a command, for the prefix of a home.
fn set_user(prefix: &str) -> Vec<String> {
    let [rules] = blocks("acl")[..] else {
        panic!("the guide shows one user");
    };
    let rules = rules.replace(":shop:", &format!(":{prefix}:"));
    let words = rules.split_whitespace().skip(1).map(str::to_owned);
    [String::from("ACL"), String::from("SETUSER")]
        .into_iter()
        .chain(words)
        .collect()
}

fn permit(server: &RedisServer, prefix: &str) {
    let command = set_user(prefix);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    server.call(&command).expect("the rules are accepted");
}

/// Returns the commands that the guide's user may use and that nobody has used.
fn unused(server: &RedisServer) -> Vec<String> {
    let figures = server.call(&["INFO", "commandstats"]).unwrap();
    let figures = figures.text();
    let allowed = set_user("shop").into_iter();
    let allowed = allowed.filter_map(|rule| rule.strip_prefix('+').map(str::to_owned));
    let mut unused: Vec<_> = allowed
        .filter(|command| !figures.contains(&format!("cmdstat_{command}:")))
        .collect();
    unused.sort();
    unused
}

/// Uses everything a store can do as the guide's user.
fn use_all(home: &Home, store: RedisStore, prefix: &str) {
    for line in [
        "cache set user:1 hello --ttl 60",
        "cache get user:1",
        "cache expire user:1 1h",
        "cache expire user:1 forever",
        "cache ttl user:1",
        "cache incr visits",
        "cache incr visits",
        "cache inspect user:1",
        "cache explain user:1",
        "cache keys user:*",
        "cache export file",
        "cache import file",
        "cache status --detailed",
        "cache prune",
        "cache purge visits --yes",
        "cache clear --yes",
        "node list",
        "doctor",
    ] {
        home.run(line).ok();
    }
    let report = home.run("doctor --json").json();
    assert_eq!(report["nodes"][0]["persistence"], "none", "{report}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cache = Cache::builder(store).prefix(prefix).build().unwrap();
        cache.set("k", &1).await.unwrap();
        assert!(!cache.add("k", &2).await.unwrap());
        assert_eq!(cache.increment("k", 1).await.unwrap(), 2);
        let board = cache.sorted_set("board");
        board.add([(1.0, "ann"), (2.0, "bob")]).await.unwrap();
        assert_eq!(board.len().await.unwrap(), 2);
        assert_eq!(board.score("ann").await.unwrap(), Some(1.0));
        assert_eq!(board.range(0, -1).await.unwrap().len(), 2);
        assert_eq!(board.top(1).await.unwrap().len(), 1);
        assert_eq!(board.range_by_score(0.0, 1.0).await.unwrap().len(), 1);
        assert!(cache.expire("board", Ttl::Forever).await.unwrap());
        assert_eq!(board.remove(["ann"]).await.unwrap(), 1);
        assert_eq!(board.remove_by_score(0.0, 9.0).await.unwrap(), 1);
        assert!(cache.delete("k").await.unwrap());
        // What was cleared above may still be there.
        cache.prune(1000).await.unwrap();
        cache.set("page", &1).tags(["a:b", "c"]).await.unwrap();
        cache.set("idle", &1).tags(["idle"]).await.unwrap();
        assert!(cache.delete("idle").await.unwrap());
        cache.invalidate_tags(["c"]).await.unwrap();
        let cleaned = cache.cleanup_tags().await.unwrap();
        assert_eq!((cleaned.keys, cleaned.tags), (1, 3));
        cache.clear().await.unwrap();
        cache.prune(1000).await.unwrap();
        use_locks(&cache).await;
    });
}

async fn use_locks(cache: &Cache) {
    let minute = Duration::from_secs(60);
    let lock = cache.lock("report").adaptive_ttl(minute).wait(minute);
    // One more than are remembered.
    for _ in 0..=HOLD_TIMES {
        lock.acquire().await.unwrap().release().await.unwrap();
    }
    let guard = lock.acquire().await.unwrap();
    guard.extend(minute).await.unwrap();
    let waiter = tokio::spawn(async move { lock.acquire().await });
    let is_waited_for = async || cache.locks().list().await.unwrap()[0].waiters == 1;
    while !is_waited_for().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    guard.release().await.unwrap();
    drop(waiter.await.unwrap().unwrap());
    let evicted = cache.lock("evicted").acquire().await.unwrap();
    assert!(cache.locks().force_release("evicted").await.unwrap());
    evicted.release().await.unwrap_err();
    let taken = cache.limiter("api").per(1, minute).try_take(1).await;
    assert!(taken.unwrap().allowed);
}

#[test]
fn the_user_of_the_guide_may_do_everything_on_its_prefix_and_nothing_else() {
    let server = RedisServer::start().unwrap();
    permit(&server, "shop");
    let url = format!("redis://shop:CHANGE-ME@{}/3", server.address());
    let home = home(&redis(&url));
    let file = home.path().join("larder.toml");
    let text = fs::read_to_string(&file).unwrap();
    let prefix = text
        .lines()
        .find_map(|line| line.strip_prefix("prefix = \""))
        .unwrap();
    let prefix = prefix.trim_end_matches('"');
    // Another prefix is out of its reach.
    let denied = home.run("cache set k v");
    denied.exits(1);
    assert!(denied.stderr.contains("lacks a permission"), "{denied:?}");
    fs::write(&file, text.replace(prefix, "shop")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(RedisStore::connect(url)).unwrap();
    assert!(store.capabilities().native_sorted_sets);
    drop(store);
    let store = RedisStore::builder(format!("redis://shop:CHANGE-ME@{}/3", server.address()));
    use_all(&home, store.build_lazy().unwrap(), "shop");
    // For clusters and sentinels, and for local tiers, of which the program has none here.
    let elsewhere = ["asking", "cluster|nodes", "role", "xrange", "xrevrange"];
    assert_eq!(unused(&server), elsewhere);
    let mut connection = server.connect().unwrap();
    connection.call(&["AUTH", "shop", "CHANGE-ME"]).unwrap();
    for refused in [
        &["FLUSHALL"][..],
        &["KEYS", "*"],
        &["CONFIG", "SET", "save", ""],
        &["GET", "elsewhere"],
        &["SCRIPT", "FLUSH"],
    ] {
        let error = format!("{:#}", connection.call(refused).unwrap_err());
        assert!(error.contains("NOPERM"), "{refused:?}: {error}");
    }
}

#[test]
fn a_permission_that_is_missing_is_named_also_of_a_script() {
    let server = RedisServer::start().unwrap();
    permit(&server, "shop");
    let home = Home::new();
    let url = format!("redis://shop:CHANGE-ME@{}/", server.address());
    super::configure(
        &home,
        &format!(
            "[cache]\ndefault = \"main\"\nprefix = \"shop\"\n[stores.main]\n{}",
            redis(&url)
        ),
    );
    home.run("cache incr visits").ok();
    server.call(&["ACL", "SETUSER", "shop", "-info"]).unwrap();
    let text = home.run("doctor").ok();
    assert!(text.contains("allow +info"), "{text}");
    for command in ["incrby", "getrange"] {
        let rule = format!("-{command}");
        server.call(&["ACL", "SETUSER", "shop", &rule]).unwrap();
        let ran = home.run("cache incr visits --json");
        ran.exits(1);
        assert_eq!(ran.error_kind(), "invalid_config", "{ran:?}");
        assert!(ran.stderr.contains("permission"), "{ran:?}");
    }
}

#[test]
fn the_user_of_the_guide_may_use_a_cluster() {
    let servers = RedisCluster::start().unwrap();
    for node in servers.nodes() {
        permit(node, "shop");
    }
    let addresses: Vec<_> = servers
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let settings = format!(
        "{}user = \"shop\"\npassword = \"CHANGE-ME\"\n",
        cluster(&addresses.join(","))
    );
    let home = Home::new();
    let text = format!("[cache]\ndefault = \"main\"\nprefix = \"shop\"\n[stores.main]\n{settings}");
    super::configure(&home, &text);
    let urls = addresses.iter().map(|address| format!("redis://{address}"));
    let builder = RedisStore::cluster(urls).user("shop").password("CHANGE-ME");
    use_all(&home, builder.build_lazy().unwrap(), "shop");
}

#[test]
fn the_samples_of_the_guide_are_valid_configurations() {
    let samples = blocks("toml");
    assert_eq!(samples.len(), 4);
    for sample in samples {
        let home = Home::new();
        super::configure(&home, sample);
        let ran = home.run("config check");
        ran.ok();
        assert!(!ran.stderr.contains("warning"), "{ran:?}");
    }
}

#[test]
fn an_item_over_the_limit_of_memcached_is_refused_and_the_old_value_stays() {
    let home = home(&memcached(&provided("MEMCACHED_SMALL")));
    home.run("cache set k v").ok();
    // Bytes that no compression helps.
    let large: Vec<u8> = (0..2 << 20).map(|_| fastrand::u8(..)).collect();
    let ran = home.feed("cache set k - --json", &large);
    ran.exits(1);
    assert_eq!(ran.error_kind(), "too_large");
    assert!(ran.stderr.contains("-I"), "{ran:?}");
    assert_eq!(home.run("cache get k").ok(), "v\n");
}
