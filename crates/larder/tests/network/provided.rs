//! The servers that `cargo xtask test` provides are where the variables say.

use std::env;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use xtask::servers::resp::Connection;

use super::is_strict;

/// Returns a variable of the test run; a strict run must have it.
fn provided(name: &str) -> Option<String> {
    let value = env::var(format!("LARDER_TEST_{name}")).ok();
    assert!(
        value.is_some() || !is_strict(),
        "LARDER_TEST_{name} is missing"
    );
    value
}

/// Returns the address in a URL, past its scheme and login.
fn address(url: &str) -> SocketAddr {
    let authority = url.rsplit(['/', '@']).find(|part| !part.is_empty());
    let authority = authority.expect("a URL with an address");
    let mut addresses = authority.to_socket_addrs().expect("an address");
    let address = addresses.find(SocketAddr::is_ipv4);
    address.expect("an address of the loopback interface")
}

#[test]
fn redis_has_a_default_user_and_one_with_a_password() {
    let (Some(open), Some(closed)) = (provided("REDIS_URL"), provided("REDIS_ACL_URL")) else {
        return;
    };
    let mut connection = Connection::open(address(&open)).unwrap();
    assert_eq!(
        connection.call(&["ACL", "WHOAMI"]).unwrap().text(),
        "default"
    );
    assert!(closed.contains("larder:secret@"), "{closed}");
    assert!(connection.call(&["AUTH", "larder", "wrong"]).is_err());
    connection.call(&["AUTH", "larder", "secret"]).unwrap();
    assert_eq!(
        connection.call(&["ACL", "WHOAMI"]).unwrap().text(),
        "larder"
    );
}

#[test]
fn redis_has_a_socket_and_certificates() {
    let (Some(socket), Some(url)) = (provided("REDIS_UNIX"), provided("REDIS_TLS_URL")) else {
        return;
    };
    std::os::unix::net::UnixStream::connect(socket).unwrap();
    std::net::TcpStream::connect(address(&url)).unwrap();
    let dir = provided("REDIS_TLS_DIR").expect("a directory of certificates");
    for name in ["ca.pem", "other-ca.pem", "client.pem", "client.key"] {
        assert!(Path::new(&dir).join(name).is_file(), "{name}");
    }
}

#[test]
fn cluster_has_six_nodes_and_all_slots() {
    let Some(nodes) = provided("REDIS_CLUSTER") else {
        return;
    };
    let nodes: Vec<_> = nodes.split(',').map(address).collect();
    assert_eq!(nodes.len(), 6);
    for node in nodes {
        let mut connection = Connection::open(node).unwrap();
        let info = connection.call(&["CLUSTER", "INFO"]).unwrap().text();
        assert!(info.contains("cluster_state:ok"), "{info}");
        assert!(info.contains("cluster_slots_ok:16384"), "{info}");
    }
}

#[test]
fn sentinels_watch_one_master_with_a_replica() {
    let Some(sentinels) = provided("REDIS_SENTINELS") else {
        return;
    };
    let sentinels: Vec<_> = sentinels.split(',').map(address).collect();
    assert_eq!(sentinels.len(), 3);
    for sentinel in sentinels {
        let mut connection = Connection::open(sentinel).unwrap();
        let master = connection
            .call(&["SENTINEL", "MASTER", "mymaster"])
            .unwrap();
        assert_eq!(master.field("num-slaves").as_deref(), Some("1"));
        assert_eq!(master.field("num-other-sentinels").as_deref(), Some("2"));
    }
}

#[test]
fn memcached_comes_large_and_small() {
    let (Some(large), Some(small)) = (provided("MEMCACHED"), provided("MEMCACHED_SMALL")) else {
        return;
    };
    assert_ne!(address(&large), address(&small));
    std::net::TcpStream::connect(address(&large)).unwrap();
    std::net::TcpStream::connect(address(&small)).unwrap();
}
