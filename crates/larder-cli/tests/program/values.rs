//! get, set, delete, ttl, expire, has, incr, inspect.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::thread;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::Home;

#[test]
fn a_value_comes_back_with_a_line_break() {
    let home = Home::new();
    let set = home.run_with(["cache", "set", "user:123", "User Data", "--ttl=3600"]);
    assert_eq!(set.ok(), "");
    assert_eq!(home.run("cache get user:123").ok(), "User Data\n");
    assert_eq!(home.run("cache get user:123 --raw").ok(), "User Data");
    let ttl = home.run("cache ttl user:123").ok();
    assert!(["3600\n", "3599\n"].contains(&ttl.as_str()), "{ttl}");
    assert_eq!(home.run("cache:get user:123").ok(), "User Data\n");
    assert_eq!(home.run("cache:delete user:123").ok(), "1\n");
    assert_eq!(home.run("cache:get user:123").exits(3), "");
}

#[test]
fn a_miss_is_exit_code_3_and_a_message() {
    let home = Home::new();
    for command in ["get", "ttl", "inspect", "explain"] {
        let ran = home.run(&format!("cache {command} nobody"));
        assert_eq!(ran.exits(3), "");
        assert_eq!(ran.stderr, "error: there is no entry \"nobody\"\n");
        let ran = home.run(&format!("cache {command} nobody --json"));
        ran.exits(3);
        assert_eq!(ran.error_kind(), "miss");
    }
    assert_eq!(home.run("cache expire nobody 60").code, 3);
}

#[test]
fn values_of_any_bytes_survive() {
    let home = Home::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    home.feed("cache set blob -", &bytes).ok();
    let raw = home.run("cache get blob --raw");
    assert_eq!(raw.stdout, bytes);
    let base64 = home.run("cache get blob --base64").ok();
    home.feed("cache set copy - --base64", base64.as_bytes())
        .ok();
    assert_eq!(home.run("cache get copy --raw").stdout, bytes);
    let printed = home.run("cache get blob --json").json();
    assert_eq!(printed["encoding"], "base64");
    assert_eq!(printed["value"], base64.trim());
    assert_eq!(printed["content_type"], "application/octet-stream");
    assert_eq!(home.run("cache set bad !! --base64").code, 2);
}

#[test]
fn keys_of_any_bytes_survive() {
    let home = Home::new();
    let key = OsStr::from_bytes(b"k\xff:\n1");
    let words = |verb, rest: &[&'static str]| {
        let mut words = vec![OsStr::new("cache"), OsStr::new(verb), key];
        words.extend(rest.iter().map(OsStr::new));
        words.into_iter().map(OsStr::to_owned).collect::<Vec<_>>()
    };
    home.run_with(words("set", &["v"])).ok();
    assert_eq!(home.run_with(words("get", &[])).ok(), "v\n");
    assert_eq!(home.run("cache keys").stdout, b"k\xff:\n1\n");
    let listed = home.run("cache keys --json").json();
    assert_eq!(listed["keys"][0]["key_encoding"], "base64");
    let encoded = listed["keys"][0]["key"].as_str().unwrap().to_owned();
    let got = home.run(&format!("cache get {encoded} --key-base64"));
    assert_eq!(got.ok(), "v\n");
    let deleted = home.run(&format!("cache delete {encoded} --key-base64"));
    assert_eq!(deleted.ok(), "1\n");
}

#[test]
fn json_values_are_checked_and_marked() {
    let home = Home::new();
    home.run("cache set j {\"a\":[1,2]} --json-value").ok();
    let printed = home.run("cache get j --json").json();
    assert_eq!(printed["content_type"], "application/json");
    assert_eq!(printed["value"], "{\"a\":[1,2]}");
    assert_eq!(printed["ttl_ms"], json!(null));
    let refused = home.run("cache set j {a} --json-value");
    refused.exits(2);
    assert!(refused.stderr.contains("not JSON"), "{refused:?}");
    home.run("cache set css x --content-type text/css").ok();
    let printed = home.run("cache get css --json").json();
    assert_eq!(printed["content_type"], "text/css");
}

#[test]
fn a_bad_ttl_is_a_usage_error_in_clear_words() {
    let home = Home::new();
    for ttl in ["0", "-1", "1x", "", "0ms"] {
        let ran = home.run_with(["cache", "set", "k", "v", "--ttl", ttl]);
        ran.exits(2);
        let clear = ran.stderr.contains("ttl of zero") || ran.stderr.contains("10m");
        assert!(clear, "{ran:?}");
    }
    assert_eq!(home.run("cache set k v --ttl=-5").code, 2);
    assert_eq!(home.run("cache has k").code, 3);
    assert_eq!(home.run("cache expire k -1").code, 2);
    assert_eq!(home.run("cache expire k 0").code, 2);
}

#[test]
fn ttls_can_be_changed_and_read() {
    let home = Home::new();
    home.run("cache set k v").ok();
    assert_eq!(home.run("cache ttl k").ok(), "forever\n");
    home.run("cache expire k 1h30m").ok();
    let left = home.run("cache ttl k --json").json();
    let left = left["ttl_ms"].as_u64().unwrap();
    assert!((5_390_000..=5_400_000).contains(&left), "{left}");
    home.run("cache expire k forever").ok();
    assert_eq!(home.run("cache ttl k").ok(), "forever\n");
    home.run("cache set short v --ttl 50ms").ok();
    crate::support::eventually("expiry", || home.run("cache get short").code == 3);
}

#[test]
fn if_absent_leaves_what_is_there() {
    let home = Home::new();
    home.run("cache set k one --if-absent").ok();
    let ran = home.run("cache set k two --if-absent --json");
    ran.exits(1);
    assert_eq!(ran.error_kind(), "present");
    assert_eq!(home.run("cache get k").ok(), "one\n");
}

#[test]
fn has_answers_by_word_and_exit_code() {
    let home = Home::new();
    home.run("cache set k v").ok();
    assert_eq!(home.run("cache has k").exits(0), "true\n");
    assert_eq!(home.run("cache has x").exits(3), "false\n");
    assert_eq!(home.run("cache has k --json").json()["present"], true);
}

#[test]
fn delete_counts_and_misses_only_when_nothing_was_there() {
    let home = Home::new();
    for key in ["a", "b"] {
        home.run(&format!("cache set {key} v")).ok();
    }
    assert_eq!(home.run("cache delete a b c").ok(), "2\n");
    assert_eq!(home.run("cache delete a").exits(3), "0\n");
    assert_eq!(home.run("cache delete a --json").code, 3);
}

#[test]
fn counters_count_across_processes() {
    let home = Home::new();
    assert_eq!(home.run("cache incr n --by -3").ok(), "-3\n");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(home.run("cache incr n").ok())));
        }
    });
    assert_eq!(home.run("cache get n").ok(), "37\n");
    home.run("cache set text hello").ok();
    let ran = home.run("cache incr text --json");
    ran.exits(1);
    assert_eq!(ran.error_kind(), "wrong_type");
    let ran = home.run("cache incr n --by 9223372036854775807 --json");
    ran.exits(1);
    assert_eq!(ran.error_kind(), "overflow");
    assert_eq!(home.run("cache get n").ok(), "37\n");
    home.run("cache incr short --ttl 60").ok();
    assert_ne!(home.run("cache ttl short").ok(), "forever\n");
}

#[test]
fn keys_out_of_bounds_are_usage_errors() {
    let home = Home::new();
    let long = "k".repeat(1025);
    for key in ["", &long] {
        let ran = home.run_with(["cache", "set", key, "v", "--json"]);
        ran.exits(2);
        assert_eq!(ran.error_kind(), "invalid_key");
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    name: String,
    tags: Vec<u8>,
}

#[test]
fn what_applications_store_prints_as_json() {
    let home = Home::new();
    home.apply(|larder| async move {
        let cache = larder.default_cache();
        let user = User {
            name: "Ann".into(),
            tags: vec![1, 2],
        };
        cache.set("user", &user).await?;
        cache.set("text", "plain").await?;
        let board = [(100.0, "ann"), (95.5, "bob")];
        cache.sorted_set("board").add(board).await
    });
    assert_eq!(
        home.run("cache get user").ok(),
        "{\"name\":\"Ann\",\"tags\":[1,2]}\n"
    );
    assert_eq!(home.run("cache get text").ok(), "\"plain\"\n");
    let printed = home.run("cache get user --json").json();
    assert_eq!(printed["encoding"], "json");
    assert_eq!(printed["typed"], true);
    assert_eq!(printed["value"]["name"], "Ann");
    let board = home.run("cache get board --json").json();
    let expected = json!([{"member": "bob", "score": 95.5}, {"member": "ann", "score": 100.0}]);
    assert_eq!(board["value"], expected);
    assert_eq!(home.run("cache get board --raw").code, 1);
}

#[test]
fn what_the_program_stores_applications_read() {
    let home = Home::new();
    home.run("cache set text hello").ok();
    home.run("cache set user {\"name\":\"Ann\",\"tags\":[]} --json-value")
        .ok();
    home.run("cache incr n --by 5").ok();
    let (text, user, n) = home.apply(|larder| async move {
        let cache = larder.default_cache();
        let text: Option<String> = cache.get("text").await?;
        let user: Option<User> = cache.get("user").await?;
        let n: Option<i64> = cache.get("n").await?;
        Ok((text, user, n))
    });
    assert_eq!(text.as_deref(), Some("hello"));
    assert_eq!(user.unwrap().name, "Ann");
    assert_eq!(n, Some(5));
}

#[test]
fn inspect_tells_what_is_stored() {
    let home = Home::new();
    home.run("cache set k hello --ttl 60").ok();
    let entry = home.run("cache inspect k --json").json();
    assert_eq!(entry["kind"], "value");
    assert_eq!(entry["encoding"], "raw");
    assert_eq!(entry["ttl_ms"], 60_000);
    assert_eq!(entry["plain_bytes"], 5);
    assert!(home.run("cache inspect k").ok().contains("text/plain"));
}

#[test]
fn caches_of_other_names_are_apart() {
    let home = Home::new();
    home.run("cache set k one").ok();
    home.run("--cache sessions cache set k two").ok();
    assert_eq!(home.run("cache get k").ok(), "one\n");
    assert_eq!(home.run("cache get k --cache sessions").ok(), "two\n");
    home.run("cache clear --yes --cache sessions").ok();
    assert_eq!(home.run("cache get k").ok(), "one\n");
    assert_eq!(home.run("cache get k --cache sessions").code, 3);
}
