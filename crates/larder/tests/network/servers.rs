//! Smoke tests of the private servers: what the fault tests rely on holds.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use xtask::servers::private::{MemcachedServer, RedisCluster, RedisSentinel, RedisServer};
use xtask::servers::resp::{Connection, Value};

use super::has_servers;

const SOON: Duration = Duration::from_millis(300);

/// What a healthy group may take to get over a fault: three times what it usually takes.
const RECOVERY: Duration = Duration::from_secs(20);

#[test]
fn redis_that_is_killed_starts_again_with_its_data_or_without() {
    if !has_servers() {
        return;
    }
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = RedisServer::with_args(&args).unwrap();
    server.call(&["SET", "key", "value"]).unwrap();
    server.kill();
    assert!(!server.is_running());
    assert!(server.call(&["PING"]).is_err());
    server.start_again().unwrap();
    assert_eq!(server.call(&["GET", "key"]).unwrap().text(), "value");
    assert!(server.start_again().is_err(), "it runs already");
    assert!(server.wipe().is_err(), "it still runs");
    server.kill();
    server.wipe().unwrap();
    server.start_again().unwrap();
    assert_eq!(server.call(&["GET", "key"]).unwrap(), Value::Nil);
}

#[test]
fn paused_redis_accepts_but_does_not_answer_until_it_resumes() {
    if !has_servers() {
        return;
    }
    let server = RedisServer::start().unwrap();
    server.pause().unwrap();
    assert!(!server.is_running());
    let mut connection = Connection::open_within(server.address(), SOON).unwrap();
    assert!(connection.call(&["PING"]).is_err());
    server.resume().unwrap();
    assert_eq!(server.call(&["PING"]).unwrap().text(), "PONG");
    // A paused server cannot hear a polite request to end.
    server.pause().unwrap();
    let address = server.address();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn redis_takes_a_password_and_speaks_tls() {
    if !has_servers() {
        return;
    }
    let server = RedisServer::with_tls(&["--requirepass", "open"]).unwrap();
    assert_eq!(server.url(), format!("redis://:open@{}/", server.address()));
    let mut stranger = Connection::open(server.address()).unwrap();
    assert!(stranger.call(&["GET", "key"]).is_err());
    server.call(&["GET", "key"]).unwrap();
    let (address, certificates) = server.tls().unwrap();
    TcpStream::connect(address).unwrap();
    assert!(certificates.join("client.key").is_file());
    assert!(server.socket().exists());
}

#[test]
fn memcached_that_is_killed_starts_again_empty() {
    if !has_servers() {
        return;
    }
    let server = MemcachedServer::with_args(&["-m", "8"]).unwrap();
    let address = server.address();
    assert_eq!(ask(address, "ms key 1\r\nv\r\n"), "HD\r\n");
    assert_eq!(ask(address, "mg key\r\n"), "HD\r\n");
    server.kill();
    assert!(TcpStream::connect(address).is_err());
    server.start_again().unwrap();
    assert_eq!(ask(address, "mg key\r\n"), "EN\r\n");
}

/// Sends one request to Memcached and returns the first bytes of the reply.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("memcached accepts");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reply = [0; 64];
    let length = stream.read(&mut reply).expect("a reply");
    String::from_utf8_lossy(&reply[..length]).into_owned()
}

#[test]
fn cluster_moves_slots_with_their_keys_while_it_serves() {
    if !has_servers() {
        return;
    }
    let cluster = RedisCluster::start().unwrap();
    let slot = cluster.slot_of("{moved}").unwrap();
    let from = cluster.master_of(slot).unwrap();
    let to = (from + 1) % 3;
    let key = |number: u32| format!("{{moved}}:{number}");
    for number in 0..250 {
        let set = cluster.nodes()[from].call(&["SET", &key(number), "value"]);
        set.unwrap();
    }
    // The slot and its neighbours, as far as the same master has them.
    let slots = (slot - 20..=slot + 20)
        .filter(|&slot| cluster.master_of(slot).is_ok_and(|owner| owner == from))
        .collect::<Vec<_>>();
    let slots = slots[0]..=slots[slots.len() - 1];
    cluster.move_slots(from, to, slots.clone()).unwrap();
    assert_eq!(cluster.master_of(*slots.start()).unwrap(), to);
    assert_eq!(cluster.master_of(*slots.end()).unwrap(), to);
    for number in 0..250 {
        let value = cluster.nodes()[to].call(&["GET", &key(number)]).unwrap();
        assert_eq!(value.text(), "value");
    }
    assert!(cluster.nodes()[from].call(&["GET", &key(0)]).is_err());
    cluster.wait_until_whole(RECOVERY).unwrap();
}

#[test]
fn replica_takes_over_from_a_paused_master_of_a_cluster() {
    if !has_servers() {
        return;
    }
    let cluster = RedisCluster::start().unwrap();
    let slot = cluster.slot_of("key").unwrap();
    let master = cluster.master_of(slot).unwrap();
    let replica = cluster.replica_of(master).unwrap();
    cluster.nodes()[master].pause().unwrap();
    let begun = Instant::now();
    while cluster.nodes()[replica]
        .call(&["SET", "key", "value"])
        .is_err()
    {
        assert!(begun.elapsed() < RECOVERY, "no replica took over");
        thread::sleep(Duration::from_millis(50));
    }
    println!("writes are possible again after {:?}", begun.elapsed());
    assert_eq!(cluster.master_of(slot).unwrap(), replica);
    cluster.nodes()[master].resume().unwrap();
    cluster.wait_until_whole(RECOVERY).unwrap();
    assert_eq!(cluster.replica_of(replica).unwrap(), master);
    println!("the cluster is whole after {:?}", begun.elapsed());
}

#[test]
fn killed_master_of_a_cluster_comes_back_as_a_replica_or_as_it_was() {
    if !has_servers() {
        return;
    }
    let cluster = RedisCluster::with_args(&["--appendonly", "yes"]).unwrap();
    let slot = cluster.slot_of("key").unwrap();
    let master = &cluster.nodes()[cluster.master_of(slot).unwrap()];
    master.call(&["SET", "key", "value"]).unwrap();
    master.call(&["WAIT", "1", "1000"]).unwrap();
    master.kill();
    master.start_again().unwrap();
    cluster.wait_until_whole(RECOVERY).unwrap();
    let master = &cluster.nodes()[cluster.master_of(slot).unwrap()];
    assert_eq!(master.call(&["GET", "key"]).unwrap().text(), "value");
}

#[test]
fn sentinels_replace_a_killed_master() {
    if !has_servers() {
        return;
    }
    let group = RedisSentinel::start().unwrap();
    let first = group.master_address().unwrap();
    assert_eq!(first, group.servers()[0].address());
    group.servers()[0].kill();
    let begun = Instant::now();
    group.wait_for_failover(first, RECOVERY).unwrap();
    println!("another master after {:?}", begun.elapsed());
    let second = group.master().unwrap();
    assert_eq!(second.address(), group.servers()[1].address());
    second.call(&["SET", "key", "value"]).unwrap();
}

#[test]
fn sentinels_fail_over_when_asked() {
    if !has_servers() {
        return;
    }
    let group = RedisSentinel::start().unwrap();
    let begun = Instant::now();
    group.failover().unwrap();
    println!("another master after {:?}", begun.elapsed());
    let master = group.master_address().unwrap();
    assert_eq!(master, group.servers()[1].address());
    let role = group.master().unwrap().call(&["ROLE"]).unwrap();
    assert_eq!(role.items()[0].text(), "master");
}
