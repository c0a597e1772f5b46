//! A random history: processes load, touch, delete, invalidate and clear, while replies are lost and registers vanish. No read
//! returns what an invalidation that had returned before it should have taken.
//!
//! The truth is a number per tag, which whoever invalidates raises first. A value is the number that its loader read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use larder::store::{
    Condition, Expiry, Invalidation, LoadRequest, Memcached, Register, Store, Write,
};
use larder::testing::{body, sealed, stamped};
use larder::{Namespace, Result};
use tokio::task::JoinSet;

use super::proxy::{Fault, Proxy};
use super::server::{raw, tag_register_name};
use super::tags::tag;
use super::{large, namespace};

const TAGS: usize = 3;
const LENGTH: Duration = Duration::from_secs(4);

/// What happened so far.
#[derive(Debug)]
struct World {
    space: Namespace,
    /// By tag, the number in the database.
    truth: [AtomicU64; TAGS],
    /// By tag, the number below which no value may be read any more.
    floor: [AtomicU64; TAGS],
    hits: AtomicUsize,
    failures: AtomicUsize,
    stop: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            space: namespace(),
            truth: Default::default(),
            floor: Default::default(),
            hits: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Key `k` depends on the tag `k % TAGS`, and on that of all.
    fn registers(key: usize) -> [Register; 2] {
        [tag(&format!("t:{}", key % TAGS)), tag("all")]
    }

    async fn read(&self, store: &Memcached, key: usize) -> Result<()> {
        let floor = self.floor[key % TAGS].load(SeqCst);
        let name = [key as u8];
        let entry = store.get_many(&self.space, &[&name]).await?.remove(0);
        let Some(text) = entry.and_then(|entry| body(&entry.value)) else {
            return Ok(());
        };
        let value = u64::from_le_bytes(text[..].try_into().unwrap());
        assert!(value >= floor, "key {key} has {value}, and not {floor}");
        self.hits.fetch_add(1, SeqCst);
        Ok(())
    }

    async fn load(&self, store: &Memcached, key: usize) -> Result<()> {
        let (name, [own, all]) = ([key as u8], Self::registers(key));
        // Some learn their tag only from what they load.
        let registers = match fastrand::u8(..3) {
            0 => vec![Register::any()],
            1 => vec![own.clone()],
            _ => vec![own.clone(), all],
        };
        let load = LoadRequest {
            registers: &registers,
            token: fastrand::u64(1..),
            lease_ms: 50,
        };
        let begun = store.begin_load(&self.space, &name, &load).await?;
        if !begun.is_granted {
            return Ok(());
        }
        let value = self.truth[key % TAGS].load(SeqCst);
        pause().await;
        let mut stamps = begun.stamps;
        if registers == [Register::any()] {
            let named = [Register::any(), own];
            let mut late = store.capture(&self.space, &name, &named).await?;
            let any = std::mem::replace(&mut stamps, late.split_off(1));
            if late != any {
                return Ok(());
            }
        }
        let entry = stamped(&sealed(&value.to_le_bytes()), stamps);
        let commit = Write::put(&name, entry, expiry());
        let commit = commit.when(Condition::IfUnchanged(load.token));
        store.write_many(&self.space, &[commit]).await.map(drop)
    }

    async fn touch_or_delete(&self, store: &Memcached, key: usize) -> Result<()> {
        let name = [key as u8];
        let write = match fastrand::u8(..3) {
            0 => Write::delete(&name),
            _ => Write::touch(&name, expiry()),
        };
        store.write_many(&self.space, &[write]).await.map(drop)
    }

    /// What is invalid stays so, whatever becomes of its soft number.
    async fn soften(&self, store: &Memcached) -> Result<()> {
        let registers = Self::registers(fastrand::usize(..TAGS));
        let soft = store.invalidate(&self.space, &registers, Invalidation::Soft);
        soft.await.map(drop)
    }

    async fn invalidate(&self, store: &Memcached) -> Result<()> {
        let at = fastrand::usize(..TAGS);
        let number = self.truth[at].fetch_add(1, SeqCst) + 1;
        if fastrand::u8(..20) == 0 {
            store.clear(&self.space).await?;
        } else {
            let registers = Self::registers(at);
            let registers = &registers[..1];
            let hard = store.invalidate(&self.space, registers, Invalidation::Hard);
            hard.await?;
        }
        self.floor[at].fetch_max(number, SeqCst);
        Ok(())
    }

    async fn work(self: Arc<Self>, store: Memcached, task: usize) {
        while !self.stop.load(SeqCst) {
            let key = fastrand::usize(..2 * TAGS);
            let outcome = match (task % 4, fastrand::u8(..10)) {
                (0, 0..3) => self.soften(&store).await,
                (0, _) => self.invalidate(&store).await,
                (1, _) => self.read(&store, key).await,
                (_, 0) => self.touch_or_delete(&store, key).await,
                (_, 1..4) => self.read(&store, key).await,
                _ => self.load(&store, key).await,
            };
            if outcome.is_err() {
                self.failures.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            pause().await;
        }
    }

    /// Takes registers away as an eviction does.
    async fn evict(&self) {
        let [one, all] = Self::registers(fastrand::usize(..TAGS));
        for register in [one, all, Register::any()] {
            if fastrand::bool() {
                let name = tag_register_name(&self.space, &register);
                raw(&large(), &format!("md {name} b")).await;
            }
        }
    }
}

/// Some that need registers to be kept longer, so that they are stored again while others remove them.
fn expiry() -> Expiry {
    match fastrand::u8(..3) {
        0 => Expiry::Never,
        hours => Expiry::After(5000 + u64::from(hours - 1) * 3 * 3_600_000),
    }
}

async fn pause() {
    if fastrand::bool() {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..2000))).await;
    }
}

async fn run(stores: &[Memcached], mut disturb: impl AsyncFnMut(&World)) -> Arc<World> {
    let world = World::new();
    let mut tasks = JoinSet::new();
    for (at, store) in stores.iter().enumerate() {
        for task in 0..4 {
            tasks.spawn(Arc::clone(&world).work(store.clone(), at + task));
        }
    }
    let start = Instant::now();
    while start.elapsed() < LENGTH && tasks.try_join_next().is_none() {
        disturb(&world).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop.store(true, SeqCst);
    tasks.join_all().await;
    assert!(world.hits.load(SeqCst) > 50, "{world:?}");
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_old_is_read_while_registers_vanish() {
    let long = Duration::from_secs(20);
    // Another way there, another time: steps of one fall between those of the other.
    let proxy = Proxy::start(large()).await;
    let mut stores = Vec::new();
    for (address, connections) in [(proxy.address(), 1), (&large(), 1), (&large(), 3)] {
        let builder = Memcached::builder(address).connections(connections);
        let builder = builder.connect_timeout(long).response_timeout(long);
        stores.push(builder.connect().await.unwrap());
    }
    let world = run(&stores, async |world: &World| world.evict().await).await;
    assert_eq!(world.failures.load(SeqCst), 0, "{world:?}");
}

/// What was carried out and not acknowledged is not done again, and what was tried again is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_old_is_read_while_replies_are_lost() {
    let proxy = Proxy::start(large()).await;
    let mut stores = Vec::new();
    for address in [proxy.address(), proxy.address(), &large()] {
        let builder = Memcached::builder(address).response_timeout(Duration::from_millis(500));
        stores.push(builder.connect().await.unwrap());
    }
    let world = run(&stores, async |world: &World| {
        proxy.arm(fastrand::usize(..2000), Fault::Cut);
        if fastrand::u8(..8) == 0 {
            world.evict().await;
        }
    });
    let world = world.await;
    assert!(world.failures.load(SeqCst) > 10, "{world:?}");
}
