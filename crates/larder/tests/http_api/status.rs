//! Statistics, health and the status page.

use serde_json::json;

use crate::client::{serve, serve_file};

const ENTRY: &str = "/api/v1/caches/default/entries/k";

#[tokio::test]
async fn caches_are_listed_with_their_stores() {
    let server = serve().await;
    server.larder.partition("sessions").unwrap();
    let caches = server.get("/api/v1/caches").await.json();
    let caches = caches["caches"].as_array().unwrap();
    assert_eq!(caches.len(), 2);
    assert_eq!(caches[0]["name"], "default");
    assert_eq!(caches[0]["store"], "sqlite");
    assert_eq!(caches[0]["capabilities"]["counters"], true);
    assert_eq!(caches[1]["name"], "sessions");
}

#[tokio::test]
async fn caches_are_listed_under_the_names_that_requests_use() {
    let server = serve_file(
        "cache.default = \"main\"\n\
         [stores.main]\ndriver = \"memory\"\n\
         [caches.sessions]\nstore = \"main\"\n",
    )
    .await;
    for target in ["/api/v1/caches", "/api/v1/stats"] {
        let caches = server.get(target).await.json();
        let caches = caches["caches"].as_array().unwrap();
        let names: Vec<_> = caches.iter().map(|cache| &cache["name"]).collect();
        assert_eq!(names, ["default", "sessions"]);
        for name in names {
            let name = name.as_str().unwrap();
            let keys = server.get(&format!("/api/v1/caches/{name}/keys")).await;
            assert_eq!(keys.status, 200);
        }
    }
}

#[tokio::test]
async fn statistics_count_what_the_api_did() {
    let server = serve().await;
    let stats = server.get("/api/v1/stats").await.json();
    assert_eq!(stats["caches"][0]["hit_ratio"], json!(null));
    server.send("PUT", ENTRY, "v").await;
    for _ in 0..3 {
        server.get(ENTRY).await;
    }
    server.get("/api/v1/caches/default/entries/absent").await;
    let stats = server.get("/api/v1/stats").await.json();
    let cache = &stats["caches"][0];
    assert_eq!(cache["name"], "default");
    assert_eq!(cache["hit_ratio"], 0.75);
    assert_eq!(cache["entries"], 1);
    assert_eq!(cache["local"], json!(null));
    for counts in ["process", "total"] {
        assert_eq!(cache[counts]["store_hits"], 3);
        assert_eq!(cache[counts]["misses"]["absent"], 1);
        assert_eq!(cache[counts]["sets"], 1);
        assert_eq!(cache[counts]["hit_ratio"], 0.75);
    }
    assert_eq!(cache["store"]["name"], "sqlite");
    assert!(cache["store"]["bytes"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_healthy_server_passes_its_probes() {
    let server = serve().await;
    let reply = server.get("/livez").await;
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({"status": "pass"}))
    );
    let reply = server.get("/readyz?verbose").await;
    assert_eq!(reply.status, 200);
    let ready = reply.json();
    assert_eq!(ready["status"], "pass");
    assert_eq!(ready["checks"]["store"]["status"], "pass");
    assert!(ready["checks"]["store"]["latency_ms"].is_f64());
}

#[tokio::test]
async fn the_page_shows_every_cache_without_script_or_inline_style() {
    let server = serve().await;
    server.send("PUT", ENTRY, "v").await;
    server.get(ENTRY).await;
    let reply = server.get("/").await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"));
    let page = reply.text();
    assert!(page.contains("<h2>default <small>sqlite</small></h2>"));
    assert!(page.contains("<dt>hit ratio</dt><dd>100.0 %</dd>"));
    assert!(page.contains("<dt>entries</dt><dd>1</dd>"));
    assert!(page.contains("<dt>misses, absent</dt><dd>0</dd>"));
    assert!(page.contains("<meta http-equiv=\"refresh\" content=\"2\">"));
    assert!(page.contains("href=\"static/larder.css\""));
    assert!(!page.contains("<script") && !page.contains("<style") && !page.contains("style="));
    let css = server.get("/static/larder.css").await;
    assert_eq!(css.header("content-type"), Some("text/css; charset=utf-8"));
    assert!(css.text().contains("prefers-color-scheme"));
}

#[tokio::test]
async fn a_cache_name_cannot_become_markup() {
    let server = serve().await;
    let name = "<script>alert(1)</script>\"'&\u{202e}";
    let cache = server.larder.partition(name).unwrap();
    cache
        .set("<img src=x onerror=alert(1)>", "v")
        .await
        .unwrap();
    let page = server.get("/").await;
    assert!(!page.text().contains("<script"));
    assert!(!page.text().contains('\u{202e}'));
    assert!(
        page.text()
            .contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\u{202e}")
    );
    let caches = server.get("/api/v1/caches").await.json();
    assert_eq!(caches["caches"][0]["name"], name);
}
