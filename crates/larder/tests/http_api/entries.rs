//! One entry: read, write, delete, add to, expire.

use std::time::Duration;

use larder::TimeLeft;
use serde_json::json;

use crate::client::{Server, serve};

const ENTRY: &str = "/api/v1/caches/default/entries/k";

fn cache(server: &Server) -> larder::Cache {
    server.larder.default_cache()
}

#[tokio::test]
async fn what_is_put_is_got() {
    let server = serve().await;
    let reply = server.send("PUT", ENTRY, "hello").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    let reply = server.get(ENTRY).await;
    assert_eq!((reply.status, reply.text()), (200, "hello"));
    assert_eq!(reply.header("larder-ttl-ms"), None);
    assert_eq!(reply.header("larder-typed"), None);
    let typed: Option<String> = cache(&server).get("k").await.unwrap();
    assert_eq!(typed.as_deref(), Some("hello"));

    assert_eq!(server.send("DELETE", ENTRY, "").await.status, 204);
    server.get(ENTRY).await.problem(404, "miss");
    let reply = server.send("DELETE", ENTRY, "").await;
    reply.problem(404, "miss");
}

#[tokio::test]
async fn values_are_any_bytes() {
    let server = serve().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [&b""[..], &every_byte, &[0xff; 100_000]] {
        assert_eq!(server.send("PUT", ENTRY, value).await.status, 204);
        assert_eq!(server.get(ENTRY).await.body, value);
    }
}

#[tokio::test]
async fn a_miss_is_not_an_unknown_cache() {
    let server = serve().await;
    server.get(ENTRY).await.problem(404, "miss");
    for target in [
        "/api/v1/caches/nope/entries/k",
        "/api/v1/caches/%ff/entries/k",
        "/api/v1/caches/%zz/entries/k",
        "/api/v1/caches/nope/keys",
    ] {
        server.get(target).await.problem(404, "unknown-cache");
    }
}

#[tokio::test]
async fn a_cache_is_found_under_any_spelling_of_its_name() {
    let server = serve().await;
    let partition = server.larder.partition("a/b \u{e4}").unwrap();
    partition.set("k", "v").await.unwrap();
    let reply = server
        .get("/api/v1/caches/%61%2Fb%20%C3%A4/entries/k")
        .await;
    assert_eq!(reply.text(), "\"v\"");
}

#[tokio::test]
async fn the_content_type_is_kept() {
    let server = serve().await;
    let text = "text/plain; charset=utf-8";
    let binary = "application/octet-stream";
    for (sent, body, kept) in [
        (None, &b"text"[..], text),
        (None, &b"\xff"[..], binary),
        (Some("application/x-www-form-urlencoded"), b"a=b", text),
        (
            Some("Application/X-WWW-Form-Urlencoded; charset=x"),
            b"\xff",
            binary,
        ),
        (Some("image/png"), b"x", "image/png"),
        (
            Some("text/html; charset=utf-8"),
            b"x",
            "text/html; charset=utf-8",
        ),
        (Some("application/json"), b"{\"a\":1}", "application/json"),
    ] {
        let headers: Vec<_> = sent.iter().map(|sent| ("Content-Type", *sent)).collect();
        let reply = server.send_with("PUT", ENTRY, &headers, body).await;
        assert_eq!(reply.status, 204, "{sent:?}");
        assert_eq!(server.get(ENTRY).await.header("content-type"), Some(kept));
    }
}

#[tokio::test]
async fn what_is_called_json_must_be() {
    let server = serve().await;
    let json = [("Content-Type", "application/json")];
    for bad in ["", "{", "{} {}", "nul"] {
        let reply = server.send_with("PUT", ENTRY, &json, bad).await;
        reply.problem(400, "invalid-body");
    }
    server.send_with("PUT", ENTRY, &json, "[1, 2]").await;
    let typed: Option<Vec<u8>> = cache(&server).get("k").await.unwrap();
    assert_eq!(typed, Some(vec![1, 2]));
}

#[tokio::test]
async fn bodies_are_stored_as_sent_or_not_at_all() {
    let server = serve().await;
    let gzip = [("Content-Encoding", "gzip")];
    let reply = server.send_with("PUT", ENTRY, &gzip, "x").await;
    reply.problem(415, "unsupported-encoding");
    for bad in ["text", "a/b;\tc", "/", "text/"] {
        let headers = [("Content-Type", bad)];
        let reply = server.send_with("PUT", ENTRY, &headers, "x").await;
        reply.problem(400, "invalid-argument");
    }
    let long = format!("text/{}", "x".repeat(251));
    let reply = server
        .send_with("PUT", ENTRY, &[("Content-Type", &long)], "x")
        .await;
    reply.problem(400, "invalid-argument");
    server.get(ENTRY).await.problem(404, "miss");
}

#[tokio::test]
async fn ttls_are_exact_and_strict() {
    let server = serve().await;
    for (ttl, most) in [("60s", 60_000), ("2.5", 2500), ("1h30m", 5_400_000)] {
        let reply = server.send("PUT", &format!("{ENTRY}?ttl={ttl}"), "v").await;
        assert_eq!(reply.status, 204);
        let left: u64 = server
            .get(ENTRY)
            .await
            .header("larder-ttl-ms")
            .unwrap()
            .parse()
            .unwrap();
        assert!((most - 2000..=most).contains(&left), "{ttl}: {left}");
    }
    let reply = server
        .send("PUT", &format!("{ENTRY}?ttl=forever"), "v")
        .await;
    assert_eq!(reply.status, 204);
    assert_eq!(server.get(ENTRY).await.header("larder-ttl-ms"), None);
    for bad in [
        "",
        "0",
        "0s",
        "-1",
        "-5s",
        "1x",
        "s",
        "1.5h",
        "400000d",
        "never",
        "NaN",
        "inf",
        "99999999999999999999",
        "%ff",
    ] {
        for (method, target) in [
            ("PUT", format!("{ENTRY}?ttl={bad}")),
            ("POST", format!("{ENTRY}/expire?ttl={bad}")),
            ("POST", format!("{ENTRY}/increment?ttl={bad}")),
        ] {
            let reply = server.send(method, &target, "").await;
            assert_eq!(reply.status, 400, "{method} {target}");
        }
    }
    let reply = server.send("PUT", &format!("{ENTRY}?ttl=0"), "v").await;
    reply.problem(400, "invalid-ttl");
    assert_eq!(server.get(ENTRY).await.text(), "v");
}

#[tokio::test]
async fn an_entry_is_gone_when_its_ttl_is_over() {
    let server = serve().await;
    server.send("PUT", &format!("{ENTRY}?ttl=30ms"), "v").await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    server.get(ENTRY).await.problem(404, "miss");
}

#[tokio::test]
async fn if_absent_stores_once() {
    let server = serve().await;
    let target = format!("{ENTRY}?if=absent");
    assert_eq!(server.send("PUT", &target, "1").await.status, 204);
    server
        .send("PUT", &target, "2")
        .await
        .problem(412, "present");
    assert_eq!(server.get(ENTRY).await.text(), "1");
    let reply = server
        .send("PUT", &format!("{ENTRY}?if=present"), "3")
        .await;
    reply.problem(400, "invalid-argument");
}

#[tokio::test]
async fn head_says_what_get_says() {
    let server = serve().await;
    server
        .send("PUT", &format!("{ENTRY}?ttl=60s"), "hello")
        .await;
    let head = server.send("HEAD", ENTRY, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("5"));
    assert!(head.header("larder-ttl-ms").is_some());
    let content_type = "text/plain; charset=utf-8";
    assert_eq!(head.header("content-type"), Some(content_type));
    let head = server
        .send("HEAD", "/api/v1/caches/default/entries/no", "")
        .await;
    assert_eq!((head.status, head.body.len()), (404, 0));
}

#[tokio::test]
async fn typed_values_are_sent_as_json_to_those_who_take_it() {
    let server = serve().await;
    cache(&server).set("k", &json!({"id": 7})).await.unwrap();
    for accept in ["*/*", "application/json", "text/html, application/*;q=0.1"] {
        let reply = server
            .send_with("GET", ENTRY, &[("Accept", accept)], "")
            .await;
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.json(), json!({"id": 7}));
    }
    assert_eq!(server.get(ENTRY).await.header("larder-typed"), Some("true"));
    let reply = server
        .send_with("GET", ENTRY, &[("Accept", "text/plain")], "")
        .await;
    assert_eq!(
        reply.header("content-type"),
        Some("application/vnd.msgpack")
    );
    assert_eq!(reply.body, b"\x81\xa2id\x07");
}

#[tokio::test]
async fn a_sorted_set_is_no_value() {
    let server = serve().await;
    let cache = cache(&server);
    cache.sorted_set("k").add([(1.0, "m")]).await.unwrap();
    server.get(ENTRY).await.problem(409, "wrong-type");
    let reply = server.send("POST", &format!("{ENTRY}/increment"), "").await;
    reply.problem(409, "wrong-type");
    assert_eq!(server.send("DELETE", ENTRY, "").await.status, 204);
}

#[tokio::test]
async fn increments_are_exact() {
    let server = serve().await;
    let by = |by: &str| format!("{ENTRY}/increment?by={by}");
    let reply = server.send("POST", &format!("{ENTRY}/increment"), "").await;
    assert_eq!((reply.status, reply.text()), (200, "{\"value\":1}"));
    assert_eq!(
        server.send("POST", &by("-1"), "").await.text(),
        "{\"value\":0}"
    );
    let max = server.send("POST", &by("9223372036854775807"), "").await;
    assert_eq!(max.text(), "{\"value\":9223372036854775807}");
    assert_eq!(server.get(ENTRY).await.text(), "9223372036854775807");
    server
        .send("POST", &by("1"), "")
        .await
        .problem(409, "overflow");
    for bad in ["", "1.5", "9223372036854775808", "x", "1e3", "--1"] {
        server
            .send("POST", &by(bad), "")
            .await
            .problem(400, "invalid-argument");
    }
    server.send("DELETE", ENTRY, "").await;
    let min = server.send("POST", &by("-9223372036854775808"), "").await;
    assert_eq!(min.text(), "{\"value\":-9223372036854775808}");
    server.send("PUT", ENTRY, "41").await;
    assert_eq!(
        server.send("POST", &by("1"), "").await.text(),
        "{\"value\":42}"
    );
    server.send("PUT", ENTRY, "many").await;
    server
        .send("POST", &by("1"), "")
        .await
        .problem(409, "wrong-type");
    let reply = server.send("POST", &by("1"), "{\"by\":5}").await;
    reply.problem(400, "invalid-body");
}

#[tokio::test]
async fn a_counter_keeps_the_ttl_it_began_with() {
    let server = serve().await;
    for _ in 0..2 {
        let reply = server
            .send("POST", &format!("{ENTRY}/increment?ttl=60s"), "")
            .await;
        assert_eq!(reply.status, 200);
    }
    let left = cache(&server).ttl("k").await.unwrap();
    assert!(matches!(left, TimeLeft::Remaining(left) if left <= Duration::from_secs(60)));
}

#[tokio::test]
async fn expire_changes_the_ttl_of_what_is_there() {
    let server = serve().await;
    let target = format!("{ENTRY}/expire?ttl=60s");
    server.send("POST", &target, "").await.problem(404, "miss");
    server.send("PUT", ENTRY, "v").await;
    assert_eq!(server.send("POST", &target, "").await.status, 204);
    assert!(server.get(ENTRY).await.header("larder-ttl-ms").is_some());
    let forever = format!("{ENTRY}/expire?ttl=forever");
    assert_eq!(server.send("POST", &forever, "").await.status, 204);
    assert_eq!(server.get(ENTRY).await.header("larder-ttl-ms"), None);
    let reply = server.send("POST", &format!("{ENTRY}/expire"), "").await;
    reply.problem(400, "missing-parameter");
    let reply = server.send("POST", &target, "60s").await;
    reply.problem(400, "invalid-body");
}
