//! Listing and deleting by pattern.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Server, serve};

const KEYS: &str = "/api/v1/caches/default/keys";
const ENTRIES: &str = "/api/v1/caches/default/entries";

async fn fill(server: &Server, keys: impl IntoIterator<Item = String>) {
    let cache = server.larder.default_cache();
    for key in keys {
        cache.set_raw(&key, "v").await.unwrap();
    }
}

/// Lists page by page.
async fn list(server: &Server, query: &str) -> Vec<Value> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{KEYS}?{query}{cursor}")).await.json();
        keys.extend(page["keys"].as_array().unwrap().clone());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn pages_hold_every_key_once() {
    let server = serve().await;
    fill(&server, (0..25).map(|n| format!("user:{n}"))).await;
    fill(&server, ["other".to_owned()]).await;
    let keys = list(&server, "pattern=user:*&limit=4").await;
    let names: BTreeSet<_> = keys
        .iter()
        .map(|key| key["key"].as_str().unwrap())
        .collect();
    assert_eq!((keys.len(), names.len()), (25, 25));
    assert!(names.contains("user:0") && !names.contains("other"));
    assert_eq!(list(&server, "").await.len(), 26);
    let page = server.get(&format!("{KEYS}?limit=4")).await.json();
    assert!(page["keys"].as_array().unwrap().len() <= 4);
}

#[tokio::test]
async fn a_listed_key_says_how_it_is_written_and_what_it_weighs() {
    let server = serve().await;
    for key in ["\u{e4}<b>", "%FF%00"] {
        let reply = server
            .send(
                "PUT",
                &format!(
                    "{ENTRIES}/{}?ttl=60s",
                    key.replace('\u{e4}', "%C3%A4")
                        .replace('<', "%3C")
                        .replace('>', "%3E")
                ),
                "v",
            )
            .await;
        assert_eq!(reply.status, 204);
    }
    let keys = list(&server, "").await;
    assert_eq!(keys[0]["key"], "\u{e4}<b>");
    assert_eq!(keys[0].get("key_encoding"), None);
    assert_eq!(keys[1]["key"], "/wA=");
    assert_eq!(keys[1]["key_encoding"], "base64");
    assert!(keys[0]["bytes"].as_u64().unwrap() > 1);
    assert!(keys[0]["expires_at_ms"].is_u64());
}

#[tokio::test]
async fn patterns_are_any_bytes() {
    let server = serve().await;
    server.send("PUT", &format!("{ENTRIES}/%FFa"), "v").await;
    server.send("PUT", &format!("{ENTRIES}/a+b"), "v").await;
    assert_eq!(list(&server, "pattern=%FF*").await.len(), 1);
    assert_eq!(list(&server, "pattern=a%2Bb").await.len(), 1);
}

#[tokio::test]
async fn bad_listings_are_refused() {
    let server = serve().await;
    for bad in [
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=x",
        "limit=",
        "pattern=",
        "pattern=[a",
        "cursor=!",
        "cursor=%ff",
    ] {
        let reply = server.get(&format!("{KEYS}?{bad}")).await;
        assert_eq!(reply.status, 400, "{bad}");
        reply.problem(400, "invalid-argument");
    }
    let stars = "*a".repeat(17);
    let reply = server.get(&format!("{KEYS}?pattern={stars}")).await;
    reply.problem(400, "invalid-argument");
}

#[tokio::test]
async fn a_pattern_deletes_what_matches() {
    let server = serve().await;
    fill(&server, ["a:1", "a:2", "b:1"].map(str::to_owned)).await;
    let reply = server
        .send("DELETE", &format!("{ENTRIES}?pattern=a:*"), "")
        .await;
    assert_eq!((reply.status, reply.json()), (200, json!({"deleted": 2})));
    assert_eq!(list(&server, "").await.len(), 1);
    let reply = server
        .send("DELETE", &format!("{ENTRIES}?pattern=a:*"), "")
        .await;
    assert_eq!(reply.json(), json!({"deleted": 0}));
}

#[tokio::test]
async fn all_empties_this_cache_only() {
    let server = serve().await;
    fill(&server, (0..3).map(|n| n.to_string())).await;
    let other = server.larder.partition("other").unwrap();
    other.set("k", "v").await.unwrap();
    let reply = server
        .send("DELETE", &format!("{ENTRIES}?all=true"), "")
        .await;
    assert_eq!((reply.status, reply.json()), (200, json!({"deleted": 3})));
    assert!(list(&server, "").await.is_empty());
    assert!(other.has("k").await.unwrap());
}

#[tokio::test]
async fn nothing_is_deleted_by_mistake() {
    let server = serve().await;
    fill(&server, ["k".to_owned()]).await;
    for (bad, kind) in [
        ("", "missing-parameter"),
        ("?", "missing-parameter"),
        ("?all=false", "invalid-argument"),
        ("?all", "invalid-argument"),
        ("?all=TRUE", "invalid-argument"),
        ("?all=1", "invalid-argument"),
        ("?pattern=", "invalid-argument"),
        ("?pattern=k&all=true", "invalid-argument"),
        ("?pattern=k&pattern=z", "repeated-parameter"),
        ("?all=true&all=true", "repeated-parameter"),
        ("?patern=k", "unknown-parameter"),
        ("?All=true", "unknown-parameter"),
    ] {
        let reply = server.send("DELETE", &format!("{ENTRIES}{bad}"), "").await;
        reply.problem(400, kind);
    }
    assert_eq!(list(&server, "").await.len(), 1);
}
