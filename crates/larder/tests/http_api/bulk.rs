//! Batch reads, writes and deletes.

use serde_json::{Value, json};

use crate::client::serve;

const GET: &str = "/api/v1/caches/default/batch/get";
const SET: &str = "/api/v1/caches/default/batch/set";
const DELETE: &str = "/api/v1/caches/default/batch/delete";

#[tokio::test]
async fn what_is_set_is_got_and_deleted() {
    let server = serve().await;
    let new = json!({
        "entries": {"a": {"value": "aGk="}, "b": {"value": "/w==", "content_type": "image/png"}},
        "ttl": "60s",
    });
    assert_eq!(server.post_json(SET, &new).await.status, 204);
    let reply = server
        .post_json(GET, &json!({"keys": ["a", "b", "c", "a"]}))
        .await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let reply = reply.json();
    assert_eq!(reply.get("key_encoding"), None);
    let entries = reply["entries"].as_object().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries["a"]["value"], "aGk=");
    assert_eq!(entries["a"]["content_type"], "text/plain; charset=utf-8");
    assert_eq!(entries["b"]["content_type"], "image/png");
    assert!(entries["a"]["ttl_ms"].as_u64().unwrap() <= 60_000);
    let reply = server.get("/api/v1/caches/default/entries/b").await;
    assert_eq!(reply.body, [0xff]);

    let keys = json!({"keys": ["a", "a", "b", "c"]});
    let reply = server.post_json(DELETE, &keys).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"deleted": 2})));
    let reply = server.post_json(GET, &keys).await;
    assert_eq!(reply.json(), json!({"entries": {}}));
}

#[tokio::test]
async fn keys_may_be_base64() {
    let server = serve().await;
    let new = json!({"entries": {"/wA=": {"value": "aGk="}}, "key_encoding": "base64"});
    assert_eq!(server.post_json(SET, &new).await.status, 204);
    let reply = server.get("/api/v1/caches/default/entries/%FF%00").await;
    assert_eq!(reply.text(), "hi");
    let keys = json!({"keys": ["/wA=", "eA=="], "key_encoding": "base64"});
    let reply = server.post_json(GET, &keys).await.json();
    assert_eq!(reply["key_encoding"], "base64");
    assert_eq!(reply["entries"]["/wA="]["value"], "aGk=");
    assert_eq!(server.post_json(DELETE, &keys).await.json()["deleted"], 1);
    let bad = json!({"keys": ["\u{e4}"], "key_encoding": "base64"});
    server
        .post_json(GET, &bad)
        .await
        .problem(400, "invalid-key");
    let bad = json!({"keys": [], "key_encoding": "hex"});
    server
        .post_json(GET, &bad)
        .await
        .problem(400, "invalid-body");
}

#[tokio::test]
async fn typed_values_come_as_json_and_no_ttl_as_null() {
    let server = serve().await;
    let cache = server.larder.default_cache();
    cache.set("k", &json!([1])).await.unwrap();
    cache.sorted_set("s").add([(1.0, "m")]).await.unwrap();
    let reply = server
        .post_json(GET, &json!({"keys": ["k", "s"]}))
        .await
        .json();
    let expected = json!({"k": {
        "value": "WzFd", "content_type": "application/json", "ttl_ms": null, "typed": true,
    }});
    assert_eq!(reply["entries"], expected);
}

#[tokio::test]
async fn a_ttl_is_text_or_seconds() {
    let server = serve().await;
    let entries = json!({"k": {"value": ""}});
    for good in [
        json!("60s"),
        json!(60),
        json!(0.5),
        json!("forever"),
        json!(null),
    ] {
        let new = json!({"entries": entries, "ttl": good});
        assert_eq!(server.post_json(SET, &new).await.status, 204, "{good}");
    }
    for bad in [json!("0"), json!(0), json!(-1), json!("x"), json!(1e300)] {
        let new = json!({"entries": entries, "ttl": bad});
        server
            .post_json(SET, &new)
            .await
            .problem(400, "invalid-ttl");
    }
    for bad in [json!([]), json!(true)] {
        let new = json!({"entries": entries, "ttl": bad});
        server
            .post_json(SET, &new)
            .await
            .problem(400, "invalid-body");
    }
}

#[tokio::test]
async fn nothing_is_written_unless_everything_is_well_formed() {
    let server = serve().await;
    let good = json!({"value": "aGk="});
    let long = "k".repeat(1025);
    for (name, entry, kind) in [
        ("z", json!({"value": "a"}), "invalid-body"),
        ("z", json!({"value": "aGk"}), "invalid-body"),
        ("z", json!({"value": "a-_="}), "invalid-body"),
        ("z", json!({"value": 1}), "invalid-body"),
        ("z", json!({}), "invalid-body"),
        ("z", json!({"value": "", "ttl_ms": 5}), "invalid-body"),
        (
            "z",
            json!({"value": "", "content_type": "x"}),
            "invalid-argument",
        ),
        (
            "z",
            json!({"value": "ew==", "content_type": "application/json"}),
            "invalid-body",
        ),
        ("", json!({"value": ""}), "invalid-key"),
        (&long, json!({"value": ""}), "invalid-key"),
    ] {
        let new = json!({"entries": {"a": good, name: entry}});
        server.post_json(SET, &new).await.problem(400, kind);
    }
    let named = json!({"entries": {"culprit": {"value": "!"}}});
    let detail = server
        .post_json(SET, &named)
        .await
        .problem(400, "invalid-body");
    assert!(detail.contains("culprit"));
    let cache = server.larder.default_cache();
    assert_eq!(cache.count("*").await.unwrap(), 0);
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let server = serve().await;
    for target in [GET, SET, DELETE] {
        for bad in [
            "",
            "{",
            "[]",
            "null",
            "{\"keys\":{}}",
            "{\"kyes\":[]}",
            "{\"entries\":[]}",
        ] {
            let reply = server.send("POST", target, bad).await;
            reply.problem(400, "invalid-body");
        }
        let reply = server.send("POST", target, b"{\"keys\":[\"\xff\"]}").await;
        reply.problem(400, "invalid-body");
        let deep = format!("{{\"keys\":{}", "[".repeat(100_000));
        server
            .send("POST", target, deep)
            .await
            .problem(400, "invalid-body");
    }
    for empty in ["", "no/such"] {
        let bad = json!({"keys": [empty, ""]});
        server
            .post_json(GET, &bad)
            .await
            .problem(400, "invalid-key");
        server
            .post_json(DELETE, &bad)
            .await
            .problem(400, "invalid-key");
    }
}

#[tokio::test]
async fn a_thousand_keys_pass_and_one_more_does_not() {
    let server = serve().await;
    let names: Vec<_> = (0..1001).map(|n| format!("k{n:04}")).collect();
    let entries = |names: &[String]| -> Value {
        let entry = |name: &String| (name.clone(), json!({"value": "eA=="}));
        json!({"entries": names.iter().map(entry).collect::<serde_json::Map<_, _>>()})
    };
    let reply = server.post_json(SET, &entries(&names)).await;
    reply.problem(400, "too-many-keys");
    assert_eq!(
        server.post_json(SET, &entries(&names[..1000])).await.status,
        204
    );
    for target in [GET, DELETE] {
        let reply = server.post_json(target, &json!({"keys": names})).await;
        reply.problem(400, "too-many-keys");
    }
    let reply = server
        .post_json(GET, &json!({"keys": names[..1000]}))
        .await
        .json();
    assert_eq!(reply["entries"].as_object().unwrap().len(), 1000);
    let reply = server
        .post_json(DELETE, &json!({"keys": names[..1000]}))
        .await;
    assert_eq!(reply.json(), json!({"deleted": 1000}));
}
