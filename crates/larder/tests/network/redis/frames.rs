//! Replies that are cut or damaged anywhere: the call fails, and the next one gets its own answer.

use std::time::{Duration, Instant};

use larder::store::{SortedSetOp, SortedSetReply};
use larder::{Cache, Glob, RedisStore, Result, Store as _};
use xtask::servers::private::RedisServer;

use super::rig::{Rig, now, put};
use crate::has_servers;
use crate::proxy::Proxy;

/// A server behind a proxy, and a store that talks through it.
struct Line {
    _server: RedisServer,
    proxy: Proxy,
    rig: Rig,
}

impl Line {
    async fn new(response_timeout: Duration) -> Self {
        let server = now(RedisServer::start).unwrap();
        let proxy = Proxy::start(server.address()).await.unwrap();
        let url = format!("redis://{}/", proxy.address());
        let store = RedisStore::builder(url).response_timeout(response_timeout);
        let rig = Rig::new(store.connect().await.unwrap());
        for (key, version) in [("a", 1), ("b", 2), ("probe", 3)] {
            rig.set(key, version).await.unwrap();
        }
        rig.increment("n").await.unwrap();
        Self {
            _server: server,
            proxy,
            rig,
        }
    }

    /// Returns how many bytes the replies to an operation have.
    async fn length(&self, what: Operation) -> usize {
        what.run(&self.rig).await.unwrap();
        let before = self.proxy.bytes_to_client();
        what.run(&self.rig).await.unwrap();
        (self.proxy.bytes_to_client() - before) as usize
    }

    /// The store answers again, each key with its own value.
    async fn check(&self, what: Operation, offset: usize) {
        for (key, version) in [("probe", 3), ("a", 1), ("b", 2)] {
            let began = Instant::now();
            let read = loop {
                match self.rig.get(key).await {
                    Ok(read) => break read,
                    // The breaker may need a moment.
                    Err(error) => assert!(
                        began.elapsed() < Duration::from_secs(5),
                        "{what:?} at {offset}: {error}"
                    ),
                }
            };
            assert_eq!(read, Some(version), "{what:?} at {offset}");
        }
    }
}

/// Operations whose replies differ in form.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Get,
    GetMany,
    Set,
    SetMany,
    Increment,
    SortedSet,
    Scan,
}

const ALL: [Operation; 7] = [
    Operation::Get,
    Operation::GetMany,
    Operation::Set,
    Operation::SetMany,
    Operation::Increment,
    Operation::SortedSet,
    Operation::Scan,
];

impl Operation {
    async fn run(self, rig: &Rig) -> Result<()> {
        match self {
            Self::Get => assert_eq!(rig.get("a").await?, Some(1)),
            Self::GetMany => {
                let keys: [&[u8]; 3] = [b"a", b"none", b"b"];
                let read = rig.store.get_many(&rig.namespace, &keys).await?;
                let found: Vec<_> = read.iter().map(Option::is_some).collect();
                assert_eq!(found, [true, false, true]);
            }
            Self::Set => rig.set("a", 1).await?,
            Self::SetMany => {
                let writes = [put("a", 1), put("b", 2)];
                let written = rig.store.write_many(&rig.namespace, &writes).await?;
                assert_eq!(written, [true, true]);
            }
            Self::Increment => assert!(rig.increment("n").await? > 0),
            Self::SortedSet => {
                let add = SortedSetOp::Add {
                    members: vec![(1.5, "m".into())],
                    expiry: larder::store::Expiry::Never,
                };
                let set = |op| async move { rig.store.sorted_set(&rig.namespace, b"s", &op).await };
                set(add).await?;
                let range = SortedSetOp::RangeByScore { min: 0.0, max: 9.0 };
                let members = vec![(1.5, "m".into())];
                assert_eq!(set(range).await?, SortedSetReply::Members(members));
            }
            Self::Scan => {
                let all = Glob::all();
                let page = rig.store.scan(&rig.namespace, &all, None, 100).await?;
                assert!(page.keys.len() >= 4);
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_that_is_cut_anywhere_fails_and_the_next_is_right() {
    if !has_servers() {
        return;
    }
    let line = Line::new(Duration::from_secs(2)).await;
    let mut cuts = 0;
    for what in ALL {
        let length = line.length(what).await;
        for offset in 0..length {
            line.proxy.cut_after(offset);
            let outcome = what.run(&line.rig).await;
            assert!(
                outcome.is_err(),
                "{what:?} of {length} bytes, cut after {offset}"
            );
            line.check(what, offset).await;
            cuts += 1;
        }
    }
    println!("{cuts} cuts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_reply_is_no_value_of_another() {
    if !has_servers() {
        return;
    }
    let line = Line::new(Duration::from_millis(300)).await;
    let cache = Cache::builder(line.rig.store.clone())
        .strict(true)
        .build()
        .unwrap();
    let text = "a value that says what it is".to_owned();
    cache.set("text", &text).await.unwrap();
    cache.set("other", "another").await.unwrap();
    let before = line.proxy.bytes_to_client();
    assert_eq!(cache.get("text").await.unwrap(), Some(text.clone()));
    let length = (line.proxy.bytes_to_client() - before) as usize;
    let (mut errors, mut misses) = (0, 0);
    for offset in 0..length {
        line.proxy.corrupt_at(offset);
        match cache.get::<String>("text").await {
            Ok(Some(read)) => assert_eq!(read, text, "damaged at {offset}"),
            Ok(None) => misses += 1,
            Err(_) => errors += 1,
        }
        // What was not used up must not hit the check.
        line.proxy.heal().await;
        let began = Instant::now();
        loop {
            match cache.get::<String>("other").await {
                Ok(read) => break assert_eq!(read.as_deref(), Some("another"), "{offset}"),
                Err(error) => assert!(began.elapsed() < Duration::from_secs(5), "{error}"),
            }
        }
    }
    println!("{length} bytes: {errors} errors, {misses} misses");
    for what in [Operation::Set, Operation::Increment] {
        for offset in 0..line.length(what).await.min(40) {
            line.proxy.corrupt_at(offset);
            // A status may be damaged unseen; a value never.
            let outcome = tokio::spawn({
                let rig = line.rig.another();
                async move { what.run(&rig).await.is_ok() }
            });
            let _ = outcome.await;
            line.proxy.heal().await;
            line.check(what, offset).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_reply_goes_to_nobody() {
    if !has_servers() {
        return;
    }
    let line = Line::new(Duration::from_millis(100)).await;
    for _ in 0..10 {
        line.proxy.freeze();
        line.rig.get("a").await.unwrap_err();
        line.proxy.thaw();
        line.check(Operation::Get, 0).await;
    }
}
