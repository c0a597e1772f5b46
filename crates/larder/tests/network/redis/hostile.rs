//! Servers that refuse: wrong logins and databases, no memory, replicas, certificates. Errors say what to change, and
//! never show a password.

use std::path::Path;
use std::time::{Duration, Instant};

use larder::store::RedisBuilder;
use larder::{Error, ErrorKind, RedisStore, Store as _};
use xtask::servers::private::RedisServer;

use super::rig::{Rig, now};
use crate::has_servers;

/// A password that may show nowhere.
const SECRET: &str = "secret-of-the-tests";

/// Connects, which must fail in time, and returns the error, which must not show the password.
async fn refused(builder: RedisBuilder) -> Error {
    let shown = format!("{builder:?}");
    assert!(!shown.contains("secret"), "{shown}");
    let began = Instant::now();
    let error = builder.connect().await.expect_err("it is refused");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("secret"), "{shown}");
    println!("{error:?}");
    error
}

fn patient(builder: RedisBuilder) -> RedisBuilder {
    let long = Duration::from_secs(2);
    builder.connect_timeout(long).response_timeout(long)
}

/// The store works, and shows no password.
async fn works(builder: RedisBuilder) -> Rig {
    let store = patient(builder).connect().await.unwrap();
    let shown = format!("{store:?} {:?}", store.nodes().await.unwrap());
    assert!(!shown.contains("secret"), "{shown}");
    let rig = Rig::new(store);
    rig.set("key", 1).await.unwrap();
    assert_eq!(rig.get("key").await.unwrap(), Some(1));
    rig.increment("count").await.unwrap();
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_login_and_database_are_refused_by_name() {
    if !has_servers() {
        return;
    }
    let server = now(|| RedisServer::with_args(&["--requirepass", SECRET])).unwrap();
    works(RedisStore::builder(server.url())).await;
    let bare = format!("redis://{}/", server.address());
    works(RedisStore::builder(&bare).password(SECRET)).await;
    let wrong = format!("redis://:wrong-secret@{}/", server.address());
    for builder in [
        RedisStore::builder(&bare),
        RedisStore::builder(&wrong),
        RedisStore::builder(server.url()).user("nobody"),
        RedisStore::cluster([&wrong]),
    ] {
        let error = refused(patient(builder)).await;
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().contains("password"), "{error}");
        assert!(!error.is_retryable());
    }
    let error = refused(patient(RedisStore::builder(server.url()).database(99))).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("database"), "{error}");
    let error = refused(RedisStore::builder(format!("redis:/{SECRET}@"))).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    // A server that is no cluster says so.
    let error = refused(patient(RedisStore::cluster([server.url()]))).await;
    assert!(error.to_string().contains("cluster"), "{error}");
    let user = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">app-secret",
        "~*",
        "+@all",
        "-get",
    ];
    now(|| server.call(&user)).unwrap();
    let url = format!("redis://app:app-secret@{}/", server.address());
    let limited = Rig::new(RedisStore::connect(url).await.unwrap());
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(limited.set("key", 2).await);
    }
    let error = outcomes
        .into_iter()
        .find_map(Result::err)
        .expect("GET is forbidden");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("permission"), "{error}");
    now(|| server.call(&["ACL", "SETUSER", "app", "+get"])).unwrap();
    limited.set("key", 3).await.unwrap();
    // Logged out while it is connected.
    now(|| server.call(&["ACL", "DELUSER", "app"])).unwrap();
    let error = loop {
        if let Err(error) = limited.get("key").await
            && error.kind() == ErrorKind::InvalidConfig
        {
            break error;
        }
    };
    assert!(error.to_string().contains("login"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_server_and_replica_refuse_writes_and_serve_reads() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let rig = works(RedisStore::builder(server.url())).await;
    let set = |name: &str, value: &str| {
        now(|| server.call(&["CONFIG", "SET", name, value])).unwrap();
    };
    set("maxmemory-policy", "noeviction");
    set("maxmemory", "1");
    for outcome in [
        rig.set("key", 2).await,
        rig.add("new", 2).await.map(|_| ()),
        rig.increment("count").await.map(|_| ()),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("memory"), "{error}");
    }
    assert_eq!(rig.get("key").await.unwrap(), Some(1));
    assert!(
        rig.delete("key").await.unwrap(),
        "a full server can be emptied"
    );
    rig.clear().await.unwrap();
    set("maxmemory", "0");
    rig.set("key", 3).await.unwrap();
    // Redis evicts what it likes, registers too: values are right or absent.
    set("maxmemory-policy", "allkeys-random");
    let used = now(|| server.call(&["INFO", "memory"])).unwrap().text();
    let used = used
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let limit = used.unwrap().trim().parse::<u64>().unwrap() + 300_000;
    set("maxmemory", &limit.to_string());
    let (mut hits, mut misses) = (0, 0);
    for n in 0..4000_u64 {
        rig.set(&format!("key:{}", n % 2000), n).await.unwrap();
        let index = fastrand::u64(..2000);
        let latest = if index <= n % 2000 {
            n - n % 2000 + index
        } else {
            (n - n % 2000 + index).wrapping_sub(2000)
        };
        match rig.get(&format!("key:{index}")).await.unwrap() {
            Some(read) => {
                assert_eq!(read, latest);
                hits += 1;
            }
            None => misses += 1,
        }
    }
    println!("under eviction: {hits} hits, {misses} misses");
    set("maxmemory", "0");

    let replica = now(RedisServer::start).unwrap();
    let port = server.address().port().to_string();
    now(|| replica.call(&["REPLICAOF", "127.0.0.1", &port])).unwrap();
    let store = RedisStore::connect(replica.url()).await.unwrap();
    let copy = Rig::new(store);
    for outcome in [
        copy.set("key", 4).await,
        copy.delete("key").await.map(|_| ()),
        copy.clear().await,
    ] {
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("replica"), "{error}");
    }
    copy.get("key").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_and_named_when_they_are_wrong() {
    if !has_servers() {
        return;
    }
    let server = now(|| RedisServer::with_tls(&["--tls-auth-clients", "yes"])).unwrap();
    let (address, dir) = server.tls().unwrap();
    let url = format!("rediss://{address}/");
    let file = |name: &str| dir.join(name);
    let with = |ca: &str| {
        patient(RedisStore::builder(&url))
            .ca(file(ca))
            .client_certificate(file("client.pem"), file("client.key"))
    };
    works(with("ca.pem")).await;
    let error = refused(with("other-ca.pem")).await;
    let text = error.to_string();
    assert!(
        text.contains("certificate") && text.contains("ca"),
        "{text}"
    );
    assert!(!error.is_retryable(), "{error}");
    let error = refused(patient(RedisStore::builder(&url))).await;
    assert!(error.to_string().contains("certificate"), "{error}");
    // Without a certificate of its own: the server hangs up.
    let stranger = patient(RedisStore::builder(&url)).ca(file("ca.pem"));
    let error = refused(stranger).await;
    println!("without a certificate: {error:?}");
    let missing = patient(RedisStore::builder(&url)).ca(Path::new("/none/ca.pem"));
    let error = refused(missing).await;
    assert!(error.to_string().contains("/none/ca.pem"), "{error}");
    let mixed = with("ca.pem").client_certificate(file("client.pem"), file("server.key"));
    let error = refused(mixed).await;
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    // The address without TLS is answered by what is no TLS, and the other way round.
    let plain = format!("rediss://{}/", server.address());
    refused(patient(RedisStore::builder(plain)).ca(file("ca.pem"))).await;
    refused(patient(RedisStore::builder(format!("redis://{address}/")))).await;
    // A socket needs no port.
    let socket = format!("unix://{}", server.socket().display());
    works(RedisStore::builder(socket)).await;
    refused(RedisStore::builder("unix:///none/redis.sock")).await;
}
