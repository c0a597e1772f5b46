//! What calls cost: the commands that a server sees, by `MONITOR`.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use larder::store::{Condition, Expiry, Write};
use larder::testing::sealed;
use larder::{RedisStore, Store as _};
use xtask::servers::private::RedisServer;

use super::super::rig::now;
use super::super::slots::{monitor, parse};
use super::{Tagged, tag, token};
use crate::has_servers;

/// Commands about keys, as a server meets them; not those that its scripts run.
struct Watched {
    server: RedisServer,
    lines: mpsc::Receiver<(SocketAddr, String)>,
}

impl Watched {
    fn start() -> Self {
        let server = RedisServer::start().unwrap();
        let (tell, lines) = mpsc::channel();
        monitor(server.address(), tell);
        Self { server, lines }
    }

    async fn store(&self) -> Tagged {
        Tagged::new(RedisStore::connect(self.server.url()).await.unwrap())
    }

    /// Returns each command since the last call: its name, and how many words follow.
    fn commands(&self) -> Vec<(String, usize)> {
        let mark = format!("mark-{:x}", token());
        self.server.call(&["ECHO", &mark]).unwrap();
        let mut commands = Vec::new();
        loop {
            let (_, line) = self.lines.recv_timeout(Duration::from_secs(5)).unwrap();
            let Some((is_from_script, words)) = parse(&line) else {
                continue;
            };
            if words.get(1).is_some_and(|word| *word == mark.as_bytes()) {
                return commands;
            }
            let name = String::from_utf8_lossy(&words[0]).to_uppercase();
            let is_about_keys = matches!(
                name.as_str(),
                "MGET" | "GET" | "SET" | "EVALSHA" | "DEL" | "GETDEL" | "UNLINK" | "XADD"
            );
            if is_about_keys && !is_from_script {
                commands.push((name, words.len() - 1));
            }
        }
    }

    /// Returns the names of the commands since the last call.
    fn names(&self) -> Vec<String> {
        let commands = self.commands().into_iter();
        commands.map(|(name, _)| name).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_without_tags_cost_what_they_did_beside_others() {
    if !has_servers() {
        return;
    }
    let watched = now(Watched::start);
    let tagged = watched.store().await;
    tagged.put("tagged", "v", &[tag("a")]).await.unwrap();
    tagged.set("plain", "1").await.unwrap();
    assert_eq!(tagged.get("plain").await.unwrap().unwrap(), "1");
    now(|| watched.names());
    tagged.set("plain", "2").await.unwrap();
    assert_eq!(now(|| watched.names()), ["SET", "MGET"]);
    assert_eq!(tagged.get("plain").await.unwrap().unwrap(), "2");
    assert_eq!(now(|| watched.commands()), [("MGET".to_owned(), 2)]);
    // What was tagged once and is not any more.
    tagged.set("tagged", "plain").await.unwrap();
    tagged.get("tagged").await.unwrap();
    now(|| watched.names());
    tagged.get("tagged").await.unwrap();
    assert_eq!(now(|| watched.commands()), [("MGET".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_known_tags_are_one_command() {
    if !has_servers() {
        return;
    }
    let watched = now(Watched::start);
    let (here, there) = (watched.store().await, watched.store().await);
    let registers = [tag("a"), tag("b"), tag("c")];
    here.put("key", "1", &registers).await.unwrap();
    now(|| watched.names());
    here.get("key").await.unwrap().unwrap();
    assert_eq!(now(|| watched.commands()), [("MGET".to_owned(), 5)]);
    // Who does not know the tags asks for them once.
    for commands in [2, 1, 1] {
        there.get("key").await.unwrap().unwrap();
        assert_eq!(now(|| watched.names()).len(), commands);
    }
    here.put("key", "2", &registers[..2]).await.unwrap();
    now(|| watched.names());
    there.get("key").await.unwrap().unwrap();
    assert_eq!(now(|| watched.names()), ["MGET"]);
    let keys = super::numbered(20);
    for key in &keys {
        here.put(key, "v", &registers).await.unwrap();
    }
    now(|| watched.names());
    let found = there.get_all(&keys).await.unwrap();
    assert!(found.iter().all(Option::is_some));
    assert_eq!(now(|| watched.names()), ["MGET", "MGET"]);
    there.get_all(&keys).await.unwrap();
    assert_eq!(now(|| watched.commands()), [("MGET".to_owned(), 24)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_loads_and_commits_are_one_command() {
    if !has_servers() {
        return;
    }
    let watched = now(Watched::start);
    let tagged = watched.store().await;
    let registers = [tag("a"), tag("b")];
    // The server learns the scripts.
    tagged.put("warm", "v", &registers[..1]).await.unwrap();
    let begun = tagged.begin("warm:2", &[], 1).await.unwrap();
    assert!(begun.is_granted && tagged.commit("warm:2", "v", 1, &[]).await.unwrap());
    now(|| watched.names());
    for key in ["put:1", "put:2"] {
        tagged.put(key, "v", &registers).await.unwrap();
        assert_eq!(now(|| watched.names()), ["EVALSHA"], "{key}");
    }
    for key in ["load:1", "load:2"] {
        let token = token();
        let begun = tagged.begin(key, &registers, token).await.unwrap();
        assert!(begun.is_granted);
        assert_eq!(now(|| watched.names()), ["EVALSHA"], "{key}");
        let stored = tagged.commit(key, "v", token, &begun.stamps).await.unwrap();
        assert!(stored);
        assert_eq!(now(|| watched.names()), ["EVALSHA"], "{key}");
    }
    // A load over a valid entry brings it along.
    let begun = tagged.begin("load:1", &registers, token()).await.unwrap();
    assert!(begun.entry.is_some());
    assert_eq!(now(|| watched.names()), ["EVALSHA"]);
    // After an invalidation the numbers have to be learnt anew.
    tagged.invalidate(&registers[..1]).await.unwrap();
    now(|| watched.names());
    for commands in [2, 1] {
        tagged.put("put:1", "v", &registers).await.unwrap();
        assert_eq!(now(|| watched.names()).len(), commands);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_on_known_tags_are_one_command() {
    if !has_servers() {
        return;
    }
    let watched = now(Watched::start);
    let (here, there) = (watched.store().await, watched.store().await);
    here.put("key", "v", &[tag("a")]).await.unwrap();
    let add = || {
        let put = Write::put(b"key", sealed(b"new"), Expiry::Never);
        put.when(Condition::IfAbsent)
    };
    for store in [&here, &there] {
        store.set("other", "v").await.unwrap();
        store.write(Write::delete(b"other")).await.unwrap();
    }
    now(|| watched.names());
    assert!(!here.write(add()).await.unwrap());
    assert_eq!(now(|| watched.names()), ["EVALSHA"]);
    for commands in [2, 1] {
        assert!(!there.write(add()).await.unwrap());
        assert_eq!(now(|| watched.names()).len(), commands);
    }
    assert!(there.write(Write::delete(b"key")).await.unwrap());
    assert_eq!(now(|| watched.names()), ["EVALSHA"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalidation_costs_the_same_for_few_and_for_many_entries() {
    if !has_servers() {
        return;
    }
    let watched = now(Watched::start);
    let tagged = watched.store().await;
    let registers = [tag("few"), tag("many")];
    for (register, count) in registers.iter().zip([10, 10_000]) {
        let of_entry = std::slice::from_ref(register);
        let captured = tagged.store.capture(&tagged.namespace, b"k", of_entry);
        let stamps = captured.await.unwrap();
        let keys: Vec<_> = (0..count).map(|n| format!("{register:?}:{n}")).collect();
        let value = larder::testing::stamped(&sealed(b"v"), stamps);
        let put = |key| Write::put(key, value.clone(), Expiry::Never);
        let writes: Vec<_> = keys.iter().map(|key| put(key.as_bytes())).collect();
        let written = tagged.store.write_many(&tagged.namespace, &writes);
        assert!(written.await.unwrap().iter().all(|applied| *applied));
        let found = tagged.get_all(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_some));
        now(|| watched.names());
        let told = tagged.invalidate(of_entry).await.unwrap();
        assert_eq!((told.had, told.parts, told.missing), (vec![true], 1, 0));
        let commands = ["DEL", "GETDEL", "GET", "XADD"];
        assert_eq!(now(|| watched.names()), commands, "{count}");
        let found = tagged.get_all(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_none));
    }
}
