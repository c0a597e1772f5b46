//! Who may ask, and what every reply carries.

use serde_json::json;

use crate::client::{serve, serve_as};

const ENTRY: &str = "/api/v1/caches/default/entries/k";

#[tokio::test]
async fn without_a_token_only_loopback_names_are_served() {
    let server = serve().await;
    for host in [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:7878",
    ] {
        let reply = server
            .send_with("GET", "/livez", &[("Host", host)], "")
            .await;
        assert_eq!(reply.status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example:80",
        "127.0.0.1.nip.io",
        "0.0.0.0",
        "",
    ] {
        for target in ["/", ENTRY, "/livez", "/readyz", "/api/v1/stats"] {
            let reply = server.send_with("GET", target, &[("Host", host)], "").await;
            reply.problem(421, "misdirected-host");
        }
    }
    let two = [("Host", "localhost"), ("Host", "evil.example")];
    let reply = server.send_with("GET", "/", &two, "").await;
    assert!(matches!(reply.status, 400 | 421));
    let reply = server.send_raw(b"GET / HTTP/1.0\r\n\r\n".to_vec()).await;
    reply.problem(421, "misdirected-host");
    let absolute =
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let reply = server.send_raw(absolute.to_vec()).await;
    reply.problem(421, "misdirected-host");
}

#[tokio::test]
async fn web_pages_of_other_sites_may_not_change_anything() {
    let server = serve().await;
    let own = format!("http://{}", server.address);
    let requests = [
        ("PUT", ENTRY),
        ("DELETE", ENTRY),
        ("DELETE", "/api/v1/caches/default/entries?all=true"),
        ("POST", "/api/v1/caches/default/entries/k/increment"),
        ("POST", "/api/v1/caches/default/batch/delete"),
    ];
    for (method, target) in requests {
        for foreign in [
            ("Origin", "http://evil.example"),
            ("Origin", "http://127.0.0.1:1"),
            ("Origin", "null"),
            ("Origin", ""),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("sec-fetch-site", "Same-Origin"),
        ] {
            let reply = server.send_with(method, target, &[foreign], "").await;
            reply.problem(403, "cross-origin");
        }
        let both = [("Origin", &*own), ("Sec-Fetch-Site", "cross-site")];
        let reply = server.send_with(method, target, &both, "").await;
        reply.problem(403, "cross-origin");
    }
    let same = [("Origin", &*own), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(server.send_with("PUT", ENTRY, &same, "v").await.status, 204);
    let typed = [("Sec-Fetch-Site", "none")];
    assert_eq!(
        server.send_with("PUT", ENTRY, &typed, "v").await.status,
        204
    );
    let foreign = [("Origin", "http://evil.example")];
    let reply = server.send_with("GET", ENTRY, &foreign, "").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), None);
    assert_eq!(
        reply.header("cross-origin-resource-policy"),
        Some("same-origin")
    );
}

#[tokio::test]
async fn a_token_is_demanded_everywhere_but_of_probes() {
    let server = serve_as(|dashboard| dashboard.token("s3cret")).await;
    let named = [("Host", "larder.example")];
    for probe in ["/livez", "/readyz"] {
        assert_eq!(server.send_with("GET", probe, &named, "").await.status, 200);
    }
    for target in [
        "/",
        "/static/larder.css",
        "/nothing",
        "/api/v1/stats",
        ENTRY,
        "/livez/",
    ] {
        let reply = server.get(target).await;
        reply.problem(401, "unauthorized");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        for wrong in [
            "Bearer",
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
        ] {
            let reply = server
                .send_with("GET", target, &[("Authorization", wrong)], "")
                .await;
            reply.problem(401, "unauthorized");
            assert!(!reply.text().contains("s3cret"));
        }
    }
    let right = ("Authorization", "Bearer s3cret");
    let twice = [right, ("Authorization", "Bearer x")];
    let reply = server.send_with("GET", "/", &twice, "").await;
    reply.problem(401, "unauthorized");
    let reply = server
        .send_with("PUT", ENTRY, &[right, named[0]], "v")
        .await;
    assert_eq!(reply.status, 204);
    let reply = server.send_with("GET", ENTRY, &[right], "").await;
    assert_eq!(reply.text(), "v");
    let foreign = [right, ("Origin", "http://evil.example")];
    let reply = server.send_with("DELETE", ENTRY, &foreign, "").await;
    reply.problem(403, "cross-origin");
}

#[tokio::test]
async fn read_only_refuses_every_change_and_no_read() {
    let server = serve_as(|dashboard| dashboard.read_only(true)).await;
    let cache = server.larder.default_cache();
    cache.set_raw("k", "v").await.unwrap();
    for (method, target) in [
        ("PUT", ENTRY),
        ("DELETE", ENTRY),
        ("PATCH", ENTRY),
        ("DELETE", "/api/v1/caches/default/entries?all=true"),
        ("POST", "/api/v1/caches/default/entries/k/increment"),
        ("POST", "/api/v1/caches/default/entries/k/expire?ttl=1s"),
        ("POST", "/api/v1/caches/default/batch/set"),
        ("POST", "/api/v1/caches/default/batch/delete"),
        ("POST", "/nothing"),
    ] {
        let reply = server.send(method, target, "").await;
        reply.problem(403, "read-only");
    }
    for target in [
        "/",
        ENTRY,
        "/api/v1/caches",
        "/api/v1/stats",
        "/api/v1/caches/default/keys",
    ] {
        assert_eq!(server.get(target).await.status, 200, "{target}");
    }
    let keys = json!({"keys": ["k"]});
    let reply = server
        .post_json("/api/v1/caches/default/batch/get", &keys)
        .await;
    assert_eq!(reply.json()["entries"]["k"]["value"], "dg==");
}

#[tokio::test]
async fn every_reply_forbids_what_browsers_might_do_with_it() {
    let server = serve().await;
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/static/larder.css"),
        ("GET", "/livez"),
        ("GET", "/nothing"),
        ("GET", ENTRY),
        ("PUT", ENTRY),
        ("POST", ENTRY),
        ("GET", "/api/v1/stats"),
        ("HEAD", "/api/v1/caches"),
    ] {
        let reply = server.send(method, target, "").await;
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{target}"
        );
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("x-frame-options"), Some("DENY"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    }
    let reply = server
        .send_with("GET", "/", &[("Host", "evil.example")], "")
        .await;
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let server = serve().await;
    for target in [
        "/nothing",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/caches",
        "/livez/",
        "//",
    ] {
        server.get(target).await.problem(404, "unknown-route");
    }
    let target = "/api/v1/caches/default/tags/a/b";
    server.get(target).await.problem(404, "unknown-route");
    for (method, target, allow) in [
        ("POST", ENTRY, "GET,HEAD,PUT,DELETE"),
        ("OPTIONS", ENTRY, "GET,HEAD,PUT,DELETE"),
        ("PUT", "/", "GET,HEAD"),
        ("GET", "/api/v1/caches/default/entries", "DELETE"),
        ("GET", "/api/v1/caches/default/entries/k/increment", "POST"),
        ("DELETE", "/api/v1/caches/default/batch/get", "POST"),
        ("BREW", "/livez", "GET,HEAD"),
    ] {
        let reply = server.send(method, target, "").await;
        reply.problem(405, "method-not-allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {target}");
    }
}
