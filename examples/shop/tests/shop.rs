//! The shop as its visitors see it, over HTTP, and how often each visit asks the database.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

mod http;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use shop::{AppError, Settings, Shop};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

const VISITORS: usize = 50;

/// A shop that is open.
struct Running {
    shop: Shop,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), AppError>>,
}

impl Running {
    async fn open(dir: &Path) -> Self {
        Self::open_with(Settings {
            requests_per_minute: 100_000,
            ..Settings::new(dir)
        })
        .await
    }

    async fn open_with(settings: Settings) -> Self {
        let shop = Shop::open(settings).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = shop.clone().serve(listener, async {
            let _ = stopped.await;
        });
        Self {
            shop,
            address,
            stop,
            served: tokio::spawn(serving),
        }
    }

    async fn get(&self, path: &str) -> http::Response {
        http::get(self.address, path).await
    }

    async fn post(&self, path: &str, form: &str) -> http::Response {
        http::post(self.address, path, form).await
    }

    /// Returns the body of a page that must be there, and how many queries it took.
    async fn page(&self, path: &str) -> (String, u64) {
        let before = self.shop.queries();
        let response = self.get(path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        (response.body, self.shop.queries() - before)
    }

    /// Returns what many visitors get who come at once.
    async fn crowd(&self, path: &'static str) -> Vec<http::Response> {
        let mut visits = JoinSet::new();
        for _ in 0..VISITORS {
            visits.spawn(http::get(self.address, path));
        }
        visits.join_all().await
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

/// Returns the names in the links of the list under this headline.
fn ranking(page: &str, headline: &str) -> Vec<String> {
    let (_, list) = page.split_once(headline).unwrap();
    let (list, _) = list.split_once("</ol>").unwrap();
    let name = |item: &str| Some(item.split_once("\">")?.1.split_once('<')?.0.to_owned());
    list.split("<li>").filter_map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_loaded_once_for_all_who_ask_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let before = shop.shop.queries();
    for response in shop.crowd("/users").await {
        assert_eq!(response.status, 200);
        assert_eq!(response.body.matches("<li>").count(), 20);
        assert!(response.body.contains("1@example.com"));
    }
    assert_eq!(shop.shop.queries() - before, 1);
    assert_eq!(shop.page("/users?page=1").await.1, 0);
}

#[tokio::test]
async fn a_product_is_loaded_once_for_all_pages_that_show_it() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    // One query for the ids of the page, one for all its products.
    assert_eq!(shop.page("/products").await.1, 2);
    assert_eq!(shop.page("/products").await.1, 0);
    assert_eq!(shop.page("/products/7").await.1, 0);
    // After a sale, only that product is loaded again.
    assert_eq!(shop.post("/products/7/buy", "").await.status, 303);
    let (page, queries) = shop.page("/products").await;
    assert_eq!(queries, 1);
    assert_eq!(page.matches("<li>").count(), 20);
    assert!(page.contains("no. 7</a> 5.09, 6 left"), "{page}");
}

#[tokio::test]
async fn a_new_name_is_on_every_page_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let pages = ["/", "/users?page=12", "/users/240"];
    for path in pages {
        assert!(shop.page(path).await.0.contains("Ann Baker"), "{path}");
        assert_eq!(shop.page(path).await.1, 0, "{path}");
    }
    let response = shop.post("/users/240", "name=Zo%C3%AB+Zimmer").await;
    assert_eq!(response.status, 303);
    assert_eq!(response.header("location"), Some("/users/240"));
    for path in pages {
        let (page, queries) = shop.page(path).await;
        assert!(page.contains("Zoë Zimmer"), "{path}: {page}");
        assert_eq!(queries, 1, "{path}");
    }
}

#[tokio::test]
async fn an_import_is_seen_by_all_pages_of_users() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let pages = ["/users?page=12", "/users/240", "/products/7"];
    for path in pages {
        shop.page(path).await;
        assert_eq!(shop.page(path).await.1, 0, "{path}");
    }
    assert_eq!(shop.post("/users/imported", "").await.status, 303);
    for (path, expected) in pages.into_iter().zip([1, 1, 0]) {
        assert_eq!(shop.page(path).await.1, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_under_way_does_not_bring_the_old_name_back() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    for round in 0..10 {
        let name = format!("Round-{round}-");
        let mut visits = JoinSet::new();
        for path in ["/", "/users?page=12", "/users/240"] {
            visits.spawn(http::get(shop.address, path));
        }
        // From before the query of the pages to after it.
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        let form = format!("name={name}");
        assert_eq!(shop.post("/users/240", &form).await.status, 303);
        visits.join_all().await;
        for path in ["/", "/users?page=12", "/users/240"] {
            assert!(shop.page(path).await.0.contains(&name), "{path} {name}");
        }
        // The next round begins with pages that must be loaded.
        shop.post("/users/240", &form).await;
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    assert_eq!(shop.post("/users/1", "name=+").await.status, 400);
    let long = format!("name={}", "n".repeat(81));
    assert_eq!(shop.post("/users/1", &long).await.status, 400);
    assert_eq!(shop.post("/users/9999", "name=Ann").await.status, 404);
}

#[tokio::test]
async fn a_name_cannot_bring_its_own_html() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let form = "name=%3Cscript%3Ealert(%22x%22)%3C%2Fscript%3E";
    assert_eq!(shop.post("/users/240", form).await.status, 303);
    for path in ["/", "/users?page=12", "/users/240"] {
        let (page, _) = shop.page(path).await;
        assert!(!page.contains("<script>"), "{path}");
        assert!(
            page.contains("&lt;script&gt;alert(&quot;x&quot;)"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_missing_user_is_looked_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let before = shop.shop.queries();
    for _ in 0..3 {
        assert_eq!(shop.get("/users/9999").await.status, 404);
    }
    assert_eq!(shop.shop.queries() - before, 1);
}

#[tokio::test]
async fn a_missing_page_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let before = shop.shop.queries();
    for _ in 0..2 {
        assert_eq!(shop.get("/users?page=4000000000").await.status, 404);
        assert_eq!(shop.get("/products?page=4000000000").await.status, 404);
    }
    assert_eq!(shop.shop.queries() - before, 4);
    assert_eq!(shop.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn too_many_requests_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        requests_per_minute: 3,
        ..Settings::new(dir.path())
    };
    let shop = Running::open_with(settings).await;
    for _ in 0..3 {
        assert_eq!(shop.get("/users/1").await.status, 200);
    }
    let response = shop.get("/users/1").await;
    assert_eq!(response.status, 429);
    let wait_s: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    assert_eq!(shop.get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    shop.crowd("/products/3").await;
    let (page, _) = shop.page("/products/3").await;
    let seen = format!("seen {} times", VISITORS + 1);
    assert!(page.contains(&seen), "{page}");
    // A product that is not there has no views.
    assert_eq!(shop.get("/products/9999").await.status, 404);
    let names = ranking(&shop.page("/").await.0, "Most viewed");
    assert_eq!(names, ["Small jar no. 3"]);
}

#[tokio::test]
async fn best_sellers_are_in_order_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    assert!(ranking(&shop.page("/").await.0, "Best sellers").is_empty());
    for (product, count) in [(11, 2), (12, 3), (13, 1)] {
        for _ in 0..count {
            let response = shop.post(&format!("/products/{product}/buy"), "").await;
            assert_eq!(response.status, 303);
        }
    }
    let expected = [
        "Red knife no. 12".to_owned(),
        "Green pan no. 11".to_owned(),
        "Small spoon no. 13".to_owned(),
    ];
    let (page, _) = shop.page("/").await;
    assert!(page.contains("Just sold: "));
    shop.close().await;

    // The rankings are a copy, so losing the cache loses none of them.
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    let shop = Running::open(dir.path()).await;
    assert_eq!(
        ranking(&shop.page("/").await.0, "Best sellers"),
        ranking(&page, "Best sellers")
    );
    assert_eq!(ranking(&page, "Best sellers"), expected);
}

#[tokio::test]
async fn what_is_sold_out_cannot_be_bought() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    assert_eq!(shop.post("/products/1/buy", "").await.status, 303);
    assert!(shop.page("/products/1").await.0.contains("0 left, 1 sold"));
    assert_eq!(shop.post("/products/1/buy", "").await.status, 409);
    assert_eq!(shop.post("/products/9999/buy", "").await.status, 404);
}

#[tokio::test]
async fn a_visitor_is_welcomed_once() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let pages = shop.crowd("/").await;
    let welcomed = pages.iter().filter(|page| page.body.contains("Welcome!"));
    assert_eq!(welcomed.count(), 1);
}

#[tokio::test]
async fn the_cache_is_warm_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let paths = ["/", "/users", "/users/5", "/products"];
    let mut pages = Vec::new();
    for path in paths {
        pages.push(shop.page(path).await.0.replace("<p>Welcome!</p>\n", ""));
    }
    // A visitor who sends nothing must not keep the shop open.
    let _silent = TcpStream::connect(shop.address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), shop.close());
    closed.await.expect("the shop closes");

    let shop = Running::open(dir.path()).await;
    for (path, before) in paths.iter().zip(pages) {
        let (page, queries) = shop.page(path).await;
        assert_eq!((page, queries), (before, 0), "{path}");
    }
}

#[tokio::test]
async fn a_broken_cache_makes_the_shop_slow_but_does_not_close_it() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    let cache = rusqlite::Connection::open(dir.path().join("cache/cache.db")).unwrap();
    let tables: String = cache
        .query_one(
            "SELECT group_concat('DROP TABLE ' || name, ';') FROM sqlite_schema
             WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    cache.execute_batch(&tables).unwrap();

    assert_eq!(shop.get("/healthz").await.status, 503);
    for path in ["/", "/users", "/users/5", "/products", "/products/5"] {
        assert!(shop.page(path).await.1 > 0, "{path}");
        assert!(shop.page(path).await.1 > 0, "{path}");
    }
    assert_eq!(shop.post("/products/5/buy", "").await.status, 303);
    assert!(shop.page("/products/5").await.0.contains("4 left, 1 sold"));
    // That the old name may still be shown somewhere must not look like success.
    assert_eq!(shop.post("/users/5", "name=Zora").await.status, 503);
    assert!(shop.page("/users/5").await.0.contains("Zora"));
}

#[tokio::test]
async fn statistics_tell_what_the_cache_did() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Running::open(dir.path()).await;
    shop.page("/users").await;
    shop.page("/users").await;
    let stats: serde_json::Value = serde_json::from_str(&shop.page("/stats").await.0).unwrap();
    let pages = &stats["caches"]["pages"];
    assert_eq!(pages["entries"], 1);
    assert_eq!(pages["process"]["loads"], 1);
    assert_eq!(pages["process"]["store_hits"], 1);
    assert_eq!(pages["hit_ratio"], 0.5);
    assert_eq!(stats["queries"], shop.shop.queries());
}
