//! What the store tells of its server.

use larder::ErrorKind;
use larder::store::{Memcached, NodeRole, Store};

use super::server::Server;
use super::{get, large, namespace, put};

#[tokio::test]
async fn the_node_tells_what_operators_ask() {
    let server = Server::start(&["-m", "100"]).await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"k", b"v").await.unwrap();
    get(&store, &space, b"k").await.unwrap();
    let nodes = store.nodes().await.unwrap();
    let [node] = &nodes[..] else {
        panic!("one server: {nodes:?}");
    };
    assert_eq!(node.address, server.address());
    assert_eq!(
        (node.role, node.problem.as_deref()),
        (NodeRole::Single, None)
    );
    assert!(node.warnings.is_empty(), "{node:?}");
    assert!(node.version.as_ref().unwrap().starts_with("memcached 1."));
    assert!(node.latency_us.is_some() && node.uptime_s.is_some());
    assert_eq!(node.memory_limit_bytes, Some(100 << 20));
    assert!(node.memory_bytes.unwrap() > 0 && node.keys == Some(2));
    assert!(node.hits.unwrap() > 0 && node.misses.is_some() && node.evicted == Some(0));
    assert!(node.connections.unwrap() >= 1);
    assert!(node.operations_per_second.unwrap() >= 0.0);
    assert_eq!(node.eviction_policy.as_deref(), Some("lru"));
    let stats = store.stats().await.unwrap();
    assert_eq!(
        (stats.entries, stats.capacity_bytes),
        (None, Some(100 << 20))
    );
    let items = stats.details.iter().find(|(name, _)| name == "curr_items");
    assert_eq!(items.unwrap().1, "2");
}

#[tokio::test]
async fn a_server_without_eviction_is_warned_of() {
    let server = Server::start(&["-M"]).await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let node = store.nodes().await.unwrap().remove(0);
    assert_eq!(node.eviction_policy.as_deref(), Some("none"));
    assert_eq!(node.warnings.len(), 1);
}

#[tokio::test]
async fn a_server_without_versions_is_refused() {
    let server = Server::start(&["-C"]).await;
    let error = Memcached::connect(server.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_dead_node_is_listed_with_its_problem() {
    let store = Memcached::builder("127.0.0.1:1").build_lazy().unwrap();
    let node = store.nodes().await.unwrap().remove(0);
    assert!(node.problem.unwrap().contains("127.0.0.1:1"));
    assert_eq!(node.version, None);
}

#[tokio::test]
async fn a_unix_socket_works_like_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memcached.sock");
    let path = path.to_str().unwrap();
    // With `-s` it opens no port, so it is not asked there.
    let mut process = std::process::Command::new("memcached")
        .args(["-u", "root", "-s", path])
        .spawn()
        .unwrap();
    super::eventually("the socket is there", || async {
        std::os::unix::net::UnixStream::connect(path).is_ok()
    })
    .await;
    let store = Memcached::connect(path).await.unwrap();
    let space = namespace();
    put(&store, &space, b"k", b"v").await.unwrap();
    let read = get(&store, &space, b"k").await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"v"[..]));
    assert_eq!(store.nodes().await.unwrap()[0].address, path);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[tokio::test]
async fn what_the_store_cannot_do_is_said() {
    let store = Memcached::connect(large()).await.unwrap();
    let scan = store
        .scan(&namespace(), &larder::Glob::all(), None, 1)
        .await;
    assert_eq!(scan.unwrap_err().kind(), ErrorKind::Unsupported);
}
