//! A store that fails under the server.

use serde_json::json;

use crate::client::{Server, serve, serve_file};

const ENTRY: &str = "/api/v1/caches/default/entries/k";

/// Takes away the tables that the store lives in.
fn break_store(server: &Server) {
    let path = server.dir.path().join("cache.db");
    let database = rusqlite::Connection::open(path).unwrap();
    let batch = "ALTER TABLE entries RENAME TO gone; ALTER TABLE namespaces RENAME TO gone_too;";
    database.execute_batch(batch).unwrap();
}

#[tokio::test]
async fn a_failed_store_is_neither_a_miss_nor_a_success() {
    let server = serve().await;
    server.send("PUT", ENTRY, "v").await;
    break_store(&server);
    let keys = json!({"keys": ["k"]}).to_string();
    let tags = json!({"tags": ["t"]}).to_string();
    for (method, target, body) in [
        ("GET", ENTRY, ""),
        ("PUT", ENTRY, "w"),
        ("DELETE", ENTRY, ""),
        ("POST", "/api/v1/caches/default/entries/k/increment", ""),
        ("POST", "/api/v1/caches/default/entries/k/expire?ttl=1s", ""),
        ("GET", "/api/v1/caches/default/keys", ""),
        ("DELETE", "/api/v1/caches/default/entries?all=true", ""),
        ("DELETE", "/api/v1/caches/default/entries?pattern=*", ""),
        ("POST", "/api/v1/caches/default/batch/get", &keys),
        ("POST", "/api/v1/caches/default/batch/delete", &keys),
        ("GET", "/api/v1/caches/default/tags", ""),
        ("GET", "/api/v1/caches/default/tags/t", ""),
        ("POST", "/api/v1/caches/default/tags/invalidate", &tags),
    ] {
        let reply = server.send(method, target, body).await;
        let detail = reply.problem(503, "unavailable");
        let path = server.dir.path().to_str().unwrap();
        assert!(
            !detail.contains(path) && !detail.contains("table"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_failed_store_is_told_to_probes_and_people() {
    let server = serve().await;
    break_store(&server);
    assert_eq!(server.get("/livez").await.status, 200);
    let reply = server.get("/readyz").await;
    assert_eq!(reply.status, 503);
    let ready = reply.json();
    assert_eq!(ready["status"], "fail");
    assert_eq!(ready["checks"]["store"]["status"], "fail");
    assert_eq!(ready["checks"]["store"]["reason"], "store unavailable");
    let stats = server.get("/api/v1/stats").await;
    assert_eq!(stats.status, 200);
    assert_eq!(stats.json()["caches"][0]["error"], "store unavailable");
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text()
            .contains("<p class=\"bad\">store unavailable</p>")
    );
}

#[tokio::test]
async fn what_a_store_cannot_do_is_not_implemented() {
    let server = serve_file("cache.default = \"off\"\n[stores.off]\ndriver = \"null\"\n").await;
    let reply = server.send("POST", &format!("{ENTRY}/increment"), "").await;
    reply.problem(501, "unsupported");
    assert_eq!(server.send("PUT", ENTRY, "v").await.status, 204);
    server.get(ENTRY).await.problem(404, "miss");
}
