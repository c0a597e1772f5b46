//! Keys, queries, paths and bodies as nobody should send them.

use crate::client::{serve, serve_as};

const ENTRIES: &str = "/api/v1/caches/default/entries";

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn keys_are_any_bytes() {
    let server = serve().await;
    let cache = server.larder.default_cache();
    let every_byte: Vec<u8> = (0..=255).collect();
    let longest = vec![b'k'; 1024];
    for key in [
        &b"\0"[..],
        b"/",
        b"a/b",
        b"..",
        b"../../etc/passwd",
        b"%",
        b"%41",
        b"a+b c",
        b"?ttl=1s#x",
        b"\xff",
        b"\r\n\r\nGET / HTTP/1.1",
        b"<script>alert(1)</script>",
        "\u{202e}\u{1b}[31m".as_bytes(),
        &every_byte,
        &longest,
        &[0xff; 1024],
    ] {
        let target = format!("{ENTRIES}/{}", percent_encoded(key));
        assert_eq!(
            server.send("PUT", &target, "v").await.status,
            204,
            "{key:?}"
        );
        assert_eq!(server.get(&target).await.text(), "v");
        assert!(cache.has(key).await.unwrap(), "{key:?}");
        assert_eq!(server.send("DELETE", &target, "").await.status, 204);
        assert_eq!(cache.count("*").await.unwrap(), 0, "{key:?}");
    }
}

#[tokio::test]
async fn plain_and_encoded_spellings_are_one_key() {
    let server = serve().await;
    server.send("PUT", &format!("{ENTRIES}/user:1"), "v").await;
    for same in ["user%3A1", "%75ser%3a1", "user:1"] {
        assert_eq!(server.get(&format!("{ENTRIES}/{same}")).await.text(), "v");
    }
    let reply = server.get(&format!("{ENTRIES}/user%253A1")).await;
    reply.problem(404, "miss");
    server.send("PUT", &format!("{ENTRIES}/a+b"), "plus").await;
    let reply = server.get(&format!("{ENTRIES}/a%20b")).await;
    reply.problem(404, "miss");
}

#[tokio::test]
async fn keys_out_of_bounds_are_refused() {
    let server = serve().await;
    let too_long = percent_encoded(&[b'k'; 1025]);
    for bad in ["", &too_long, "%", "%4", "%zz", "a%", "a/b", "a/b/c", "a/"] {
        let target = format!("{ENTRIES}/{bad}");
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let reply = server.send(method, &target, "").await;
            assert_eq!(reply.status, 400, "{method} {bad}");
            if method != "HEAD" {
                reply.problem(400, "invalid-key");
            }
        }
    }
    for bad in ["", "%zz"] {
        let target = format!("{ENTRIES}/{bad}/increment");
        let reply = server.send("POST", &target, "").await;
        reply.problem(400, "invalid-key");
    }
}

#[tokio::test]
async fn absurdly_long_keys_are_refused() {
    let server = serve().await;
    let reply = server
        .get(&format!("{ENTRIES}/{}", "k".repeat(60_000)))
        .await;
    reply.problem(400, "invalid-key");
    // Beyond 64 KiB the connection's parser answers, before any route.
    let reply = server
        .get(&format!("{ENTRIES}/{}", "k".repeat(100_000)))
        .await;
    assert_eq!(reply.status, 414);
    let body = format!("{{\"keys\":[\"{}\"]}}", "k".repeat(1 << 20));
    let reply = server
        .send("POST", "/api/v1/caches/default/batch/get", body)
        .await;
    reply.problem(400, "invalid-key");
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn unknown_and_repeated_parameters_are_refused_by_name() {
    let server = serve().await;
    let entry = format!("{ENTRIES}/k");
    server.send("PUT", &entry, "v").await;
    for (method, path) in [
        ("GET", entry.clone()),
        ("PUT", entry.clone()),
        ("DELETE", entry.clone()),
        ("POST", format!("{entry}/increment")),
        ("POST", format!("{entry}/expire")),
        ("DELETE", ENTRIES.to_owned()),
        ("GET", "/api/v1/caches".to_owned()),
        ("GET", "/api/v1/stats".to_owned()),
        ("GET", "/api/v1/caches/default/keys".to_owned()),
        ("POST", "/api/v1/caches/default/batch/get".to_owned()),
        ("POST", "/api/v1/caches/default/batch/set".to_owned()),
        ("POST", "/api/v1/caches/default/batch/delete".to_owned()),
        ("GET", "/api/v1/caches/default/tags".to_owned()),
        ("GET", "/api/v1/caches/default/tags/t".to_owned()),
        ("POST", "/api/v1/caches/default/tags/invalidate".to_owned()),
    ] {
        let reply = server.send(method, &format!("{path}?patern=x"), "").await;
        assert!(reply.problem(400, "unknown-parameter").contains("patern"));
    }
    for target in [
        format!("{entry}?ttl=1s&ttl=1s"),
        format!("{entry}?ttl=1s&%74tl=2s"),
    ] {
        let reply = server.send("PUT", &target, "x").await;
        assert!(reply.problem(400, "repeated-parameter").contains("ttl"));
    }
    let reply = server.send("PUT", &format!("{entry}?ttl=%zz"), "x").await;
    reply.problem(400, "invalid-query");
    assert_eq!(server.get(&entry).await.text(), "v");
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_and_the_sender_is_told() {
    let server = serve().await;
    let entry = format!("{ENTRIES}/k");
    let body = vec![b'x'; (16 << 20) + 1];
    server
        .send("PUT", &entry, &body)
        .await
        .problem(413, "too-large");
    let reply = server
        .send("POST", "/api/v1/caches/default/batch/get", &body)
        .await;
    reply.problem(413, "too-large");

    let head = format!(
        "PUT {entry} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    );
    let reply = server.send_raw(head.into_bytes()).await;
    reply.problem(413, "too-large");
    server.get(&entry).await.problem(404, "miss");
}

#[tokio::test]
async fn the_body_limit_is_exact_also_without_a_length() {
    let server = serve_as(|dashboard| dashboard.max_body_bytes(10)).await;
    let entry = format!("{ENTRIES}/k");
    assert_eq!(server.send("PUT", &entry, [0; 10]).await.status, 204);
    server
        .send("PUT", &entry, [0; 11])
        .await
        .problem(413, "too-large");
    let head = format!(
        "PUT {entry} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let chunked = |chunks: &str| format!("{head}{chunks}0\r\n\r\n").into_bytes();
    let reply = server
        .send_raw(chunked("6\r\nabcdef\r\n5\r\nghijk\r\n"))
        .await;
    reply.problem(413, "too-large");
    let reply = server
        .send_raw(chunked("6\r\nabcdef\r\n4\r\nghij\r\n"))
        .await;
    assert_eq!(reply.status, 204);
    assert_eq!(server.get(&entry).await.text(), "abcdefghij");
}

#[tokio::test]
async fn a_value_that_does_not_fit_with_its_header_is_too_large() {
    let server = serve().await;
    let noise: Vec<u8> = (0_u64..2 << 20)
        .flat_map(|n| mix(n).to_le_bytes())
        .collect();
    assert_eq!(noise.len(), 16 << 20);
    let reply = server.send("PUT", &format!("{ENTRIES}/k"), noise).await;
    reply.problem(413, "too-large");
}

/// Scrambles a number so that a sequence of them cannot be compressed.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 31))
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

#[tokio::test]
async fn a_stored_page_cannot_run_as_one() {
    let server = serve().await;
    let entry = format!("{ENTRIES}/k");
    let html = [("Content-Type", "text/html")];
    let script = "<script>alert(1)</script>";
    server.send_with("PUT", &entry, &html, script).await;
    let reply = server.get(&entry).await;
    assert_eq!(reply.text(), script);
    let policy = "sandbox; default-src 'none'";
    assert_eq!(reply.header("content-security-policy"), Some(policy));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_stored_content_type_cannot_add_headers() {
    let server = serve().await;
    let cache = server.larder.default_cache();
    let hostile = "text/html\r\nSet-Cookie: a=b";
    cache.set_raw("k", "v").content_type(hostile).await.unwrap();
    let reply = server.get(&format!("{ENTRIES}/k")).await;
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(reply.text(), "v");
}
