//! Who waits is called as soon as it is its turn, over a connection that comes back when it is lost.

use std::time::{Duration, Instant};

use larder::RedisStore;
use larder::lock::{Answer, Ask, Listener, Owner};
use tokio::time::{sleep, timeout};
use xtask::servers::private::{MASTER_NAME, RedisSentinel, RedisServer};

use super::super::rig::now;
use super::{Locks, ask};
use crate::has_servers;
use crate::proxy::Proxy;

/// What a call takes, with what a busy machine may add.
const SOON: Duration = Duration::from_secs(1);
/// How long a server may be silent until that is noticed, and the longest pause behind it.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// How long the connection may outlive its last listener.
const IDLE: Duration = Duration::from_secs(16);

/// A lock that is held, and somebody who waits for it and listens.
struct Waiting {
    locks: Locks,
    holder: Owner,
    waiter: Owner,
    listener: Listener,
}

impl Waiting {
    async fn new(locks: &Locks) -> Self {
        let (holder, waiter) = (Owner::new(), Owner::new());
        locks.fence("a", &ask(&holder)).await.expect("a free lock");
        let began = Instant::now();
        let listener = locks.store.listen(&locks.space, b"a", &waiter).await;
        assert!(began.elapsed() < SOON);
        assert_eq!(locks.fence("a", &ask(&waiter)).await, None);
        Self {
            locks: locks.clone(),
            holder,
            waiter,
            listener,
        }
    }

    /// Releases the lock elsewhere, and returns how long the call took.
    async fn hand_over(&self, elsewhere: &Locks) -> Duration {
        // What was rung before does not count.
        while timeout(Duration::from_millis(50), self.listener.rung())
            .await
            .is_ok()
        {}
        let began = Instant::now();
        assert!(elsewhere.release("a", &self.holder).await);
        timeout(SOON, self.listener.rung()).await.expect("a call");
        let taken = began.elapsed();
        let granted = self.locks.fence("a", &ask(&self.waiter)).await;
        assert!(granted.is_some(), "it was called before its turn");
        taken
    }

    /// Waits for the call after a gap.
    async fn is_called_after_a_gap(&self) -> Duration {
        let began = Instant::now();
        let rung = timeout(NOTICED_WITHIN, self.listener.rung()).await;
        rung.expect("a call after a gap");
        began.elapsed()
    }
}

/// Returns how many clients a server has, which are of a type, apart from the one that asks.
fn clients(server: &RedisServer, is_listening: bool) -> usize {
    let all = now(|| server.call(&["CLIENT", "LIST"])).unwrap().text();
    let listens = |line: &&str| !line.contains(" sub=0 ");
    let others = all.lines().filter(|line| !line.contains("cmd=client"));
    others.filter(|line| !is_listening || listens(line)).count()
}

/// Returns how many fields the lease of the one name has.
fn fields(server: &RedisServer) -> usize {
    let names = now(|| server.call(&["KEYS", "{*}l:*"])).unwrap();
    let fields = now(|| server.call(&["HKEYS", &names.items()[0].text()])).unwrap();
    fields.items().len()
}

async fn until(what: &str, within: Duration, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < within, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiter_is_called_and_the_connection_goes_when_nobody_waits() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (locks, elsewhere) = (Locks::on(&server).await, Locks::on(&server).await);
    let before = clients(&server, false);
    for _ in 0..3 {
        let waiting = Waiting::new(&locks).await;
        println!("called after {:?}", waiting.hand_over(&elsewhere).await);
        locks.release("a", &waiting.waiter).await;
    }
    let channels = || now(|| server.call(&["PUBSUB", "CHANNELS", "*"])).unwrap();
    until("no channel is left", SOON, || channels().items().is_empty()).await;
    assert_eq!(clients(&server, false), before + 1, "it stays for a while");
    until("an idle connection is closed", IDLE, || {
        clients(&server, false) == before
    })
    .await;
    // It is opened again, one for all, and goes with the store.
    let waiting = Waiting::new(&locks).await;
    let other = locks.store.listen(&locks.space, b"b", &Owner::new()).await;
    assert_eq!(clients(&server, true), 1);
    waiting.hand_over(&elsewhere).await;
    drop((locks, waiting, other));
    until("a dropped store has no connection", SOON, || {
        clients(&server, false) == before - 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connection_comes_back_and_all_are_called_once() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let (locks, elsewhere) = (Locks::on(&server).await, Locks::on(&server).await);
    let waiting = Waiting::new(&locks).await;
    let kill = || now(|| server.call(&["CLIENT", "KILL", "TYPE", "pubsub"])).unwrap();
    for _ in 0..3 {
        kill();
        let taken = waiting.is_called_after_a_gap().await;
        println!("called after a gap of {taken:?}");
    }
    waiting.hand_over(&elsewhere).await;
    drop(waiting);
    // A server that is away is no failure of who listens.
    now(|| server.kill());
    let began = Instant::now();
    let owner = Owner::new();
    let listener = locks.store.listen(&locks.space, b"a", &owner).await;
    assert!(began.elapsed() < SOON);
    now(|| server.start_again()).unwrap();
    let rung = timeout(NOTICED_WITHIN, listener.rung()).await;
    rung.expect("a call when the server is back");
    drop(listener);
    // What was held has gone with the server's memory.
    Waiting::new(&locks).await.hand_over(&locks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connection_is_noticed() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let elsewhere = Locks::on(&server).await;
    let store = RedisStore::connect(format!("redis://{}/", proxy.address())).await;
    let locks = Locks::new(&store.unwrap());
    let waiting = Waiting::new(&locks).await;
    // From now on nothing comes through, and nobody says so.
    let before = proxy.connections();
    proxy.half_open();
    until("it is made anew", NOTICED_WITHIN, || {
        proxy.connections() > before
    })
    .await;
    proxy.heal().await;
    let taken = waiting.is_called_after_a_gap().await;
    println!("called {taken:?} after the line was whole again");
    waiting.hand_over(&elsewhere).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_called_when_permits_are_left_and_after_an_eviction() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let locks = Locks::on(&server).await;
    let owners: Vec<_> = (0..4).map(|_| Owner::new()).collect();
    let pair = |owner| Ask {
        permits: 2,
        ..ask(owner)
    };
    for owner in &owners {
        locks.acquire("a", &pair(owner)).await.unwrap();
    }
    let listen = |owner| locks.store.listen(&locks.space, b"a", owner);
    let (first, second) = (listen(&owners[2]).await, listen(&owners[3]).await);
    let evicted = locks.store.evict(&locks.space, b"a").await.unwrap();
    assert_eq!(evicted, 2);
    timeout(SOON, first.rung()).await.expect("the head");
    let early = timeout(Duration::from_millis(100), second.rung()).await;
    assert!(early.is_err(), "one is called at a time");
    assert!(locks.fence("a", &pair(&owners[2])).await.is_some());
    timeout(SOON, second.rung()).await.expect("the next");
    assert!(locks.fence("a", &pair(&owners[3])).await.is_some());
    assert_eq!(fields(&server), 3, "a fence and two holders");
    // Nobody waits: nobody is called.
    let heard = || {
        let stats = now(|| server.call(&["INFO", "commandstats"]))
            .unwrap()
            .text();
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_publish:"));
        line.map(|line| line.split(',').next().unwrap().to_owned())
    };
    let before = heard();
    assert!(locks.release("a", &owners[2]).await);
    assert!(locks.release("a", &owners[3]).await);
    locks.acquire("a", &pair(&owners[0])).await.unwrap();
    assert_eq!(heard(), before);
    // And nobody looks at the queue, after whichever call it became empty.
    assert_eq!(fields(&server), 2, "nobody waits");
    assert_eq!(locks.fence("a", &ask(&owners[1])).await, None);
    assert!(!locks.release("a", &owners[1]).await);
    assert_eq!(fields(&server), 2, "the last waiter went");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_who_may_not_publish_or_listen_has_locks_all_the_same() {
    if !has_servers() {
        return;
    }
    let server = now(RedisServer::start).unwrap();
    let user = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">open",
        "~*",
        "+@all",
        "resetchannels",
    ];
    now(|| server.call(&user)).unwrap();
    let url = format!("redis://app:open@{}/", server.address());
    let locks = Locks::new(&RedisStore::connect(url).await.unwrap());
    let (holder, waiter) = (Owner::new(), Owner::new());
    locks.fence("a", &ask(&holder)).await.unwrap();
    let _listener = locks.store.listen(&locks.space, b"a", &waiter).await;
    let busy = locks.acquire("a", &ask(&waiter)).await.unwrap();
    assert!(matches!(busy, Answer::Busy { ahead: 0, .. }));
    assert!(locks.release("a", &holder).await);
    assert!(locks.fence("a", &ask(&waiter)).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_are_called_over_tls_with_a_login_and_over_a_socket() {
    if !has_servers() {
        return;
    }
    let server = now(|| RedisServer::with_tls(&["--requirepass", "open"])).unwrap();
    let (address, certificates) = server.tls().expect("a server with TLS");
    let url = format!("rediss://:open@localhost:{}/3", address.port());
    let encrypted = RedisStore::builder(url)
        .ca(certificates.join("ca.pem"))
        .connections(3)
        .connect_timeout(SOON);
    let socket = format!("unix://{}?pass=open&db=3", server.socket().display());
    let (encrypted, socket) = (encrypted.connect().await, RedisStore::connect(socket).await);
    let (encrypted, socket) = (
        Locks::new(&encrypted.unwrap()),
        Locks::new(&socket.unwrap()),
    );
    for (locks, elsewhere) in [(&encrypted, &socket), (&socket, &encrypted)] {
        let waiting = Waiting::new(locks).await;
        waiting.hand_over(elsewhere).await;
        assert!(locks.release("a", &waiting.waiter).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_behind_sentinels_are_called_by_the_new_primary() {
    if !has_servers() {
        return;
    }
    let group = now(RedisSentinel::start).unwrap();
    let connect = async || {
        let urls = group.sentinels().iter().map(RedisServer::url);
        let store = RedisStore::sentinel(urls, MASTER_NAME).connect().await;
        Locks::new(&store.unwrap())
    };
    let (locks, elsewhere) = (connect().await, connect().await);
    let waiting = Waiting::new(&locks).await;
    now(|| group.failover()).unwrap();
    // The old primary lives on as a replica: its connections may last.
    let primary = now(|| group.master()).unwrap();
    // Sentinels listen there, too, on a channel of their own.
    let channels = || now(|| primary.call(&["PUBSUB", "CHANNELS", "{*}l:*"])).unwrap();
    let moved = Duration::from_secs(20);
    until("it listens to the new primary", moved, || {
        channels().items().len() == 1
    })
    .await;
    drop(waiting);
    let began = Instant::now();
    while hand_over(&locks, &elsewhere).await.is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "nobody is called"
        );
    }
    println!("called {:?} after it listened", began.elapsed());
}

/// Hands a new lock over; `None`: a server refused, or nobody was called.
async fn hand_over(locks: &Locks, elsewhere: &Locks) -> Option<()> {
    let (space, name) = (&locks.space, Owner::new().to_string());
    let (holder, waiter) = (Owner::new(), Owner::new());
    locks.acquire(&name, &ask(&holder)).await.ok()?;
    let listener = locks.store.listen(space, name.as_bytes(), &waiter).await;
    locks.acquire(&name, &ask(&waiter)).await.ok()?;
    let released = elsewhere
        .store
        .release(space, name.as_bytes(), &holder, None);
    released.await.ok()?;
    timeout(SOON, listener.rung()).await.ok()
}
