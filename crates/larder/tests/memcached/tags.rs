//! Tags on a server that evicts, restarts and is written by others: what it loses makes misses, and nothing old comes back.

use std::sync::Arc;
use std::time::Duration;

use larder::store::{
    Condition, Expiry, Fallback, Invalidation, LoadRequest, Memcached, Memory, Register, Stamp,
    StampedPut, Store, Write,
};
use larder::testing::{body, sealed, stamped};
use larder::{Cache, ErrorKind, Namespace, Result};

use super::proxy::Proxy;
use super::server::{Server, entry_name, raw, register_name, tag_register_name};
use super::{PATIENCE, eventually, get, large, namespace, put};

pub(super) fn tag(name: &str) -> Register {
    Register::exact(name).unwrap()
}

pub(super) async fn put_tagged(
    store: &dyn Store,
    space: &Namespace,
    key: &[u8],
    registers: &[Register],
    expiry: Expiry,
) -> Result<()> {
    let seal = |stamps: Vec<Stamp>| Ok(stamped(&sealed(key), stamps));
    let put = StampedPut {
        registers,
        expiry,
        seal: &seal,
    };
    store.put_stamped(space, key, &put).await
}

/// Invalidates and returns which registers were there.
async fn invalidate(
    store: &dyn Store,
    space: &Namespace,
    registers: &[Register],
    how: Invalidation,
) -> Vec<bool> {
    let done = store.invalidate(space, registers, how).await.unwrap();
    assert_eq!((done.parts, done.missing), (1, 0));
    done.had
}

async fn is_there(store: &Memcached, space: &Namespace, key: &[u8]) -> bool {
    get(store, space, key).await.unwrap().is_some()
}

/// Returns how many seconds the server keeps a register; `None`: for good.
async fn left_s(space: &Namespace, register: &Register) -> Option<u64> {
    let name = tag_register_name(space, register);
    let reply = raw(&large(), &format!("mg {name} b t")).await;
    let left = reply.strip_prefix("HD t").expect("it is there");
    left.split(' ').next().unwrap().parse().ok()
}

/// Whether this process knows what the entry depends on, or has to ask.
#[tokio::test]
async fn a_register_that_is_lost_takes_its_entries_along() {
    let ours = Memcached::connect(large()).await.unwrap();
    let builder = Memcached::builder(large()).connections(3);
    let theirs = builder.connect().await.unwrap();
    let space = namespace();
    let registers = [tag("a"), tag("b")];
    for lost in &registers {
        put_tagged(&ours, &space, b"k", &registers, Expiry::Never)
            .await
            .unwrap();
        assert!(is_there(&theirs, &space, b"k").await);
        let name = tag_register_name(&space, lost);
        assert_eq!(raw(&large(), &format!("md {name} b")).await, "HD");
        for created_again in [false, true] {
            if created_again {
                theirs.capture(&space, b"k", &registers).await.unwrap();
            }
            let fresh = Memcached::connect(large()).await.unwrap();
            for store in [&ours, &theirs, &fresh] {
                assert!(!is_there(store, &space, b"k").await);
                let read = store.get_many(&space, &[b"k", b"x"]).await.unwrap();
                assert_eq!(read, [None, None]);
            }
            let touch = Write::touch(b"k", Expiry::Never);
            assert_eq!(ours.write_many(&space, &[touch]).await.unwrap(), [false]);
        }
    }
    let add = Write::put(b"k", sealed(b"new"), Expiry::Never).when(Condition::IfAbsent);
    assert_eq!(theirs.write_many(&space, &[add]).await.unwrap(), [true]);
    assert!(is_there(&ours, &space, b"k").await);
}

/// What others wrote under the name of a register, or what another one holds, validates nothing.
#[tokio::test]
async fn junk_in_place_of_a_register_validates_nothing() {
    let store = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    let (a, b) = (tag("a"), tag("b"));
    let (name_of_a, name_of_b) = (tag_register_name(&space, &a), tag_register_name(&space, &b));
    for junk in ["", "r", "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr", "junk"] {
        let registers = [a.clone(), b.clone()];
        put_tagged(&store, &space, b"k", &registers, Expiry::Never)
            .await
            .unwrap();
        assert!(is_there(&store, &space, b"k").await, "{junk:?}");
        let len = junk.len();
        raw(&large(), &format!("ms {name_of_a} {len} b\r\n{junk}")).await;
        assert!(!is_there(&store, &space, b"k").await, "{junk:?}");
        let softened = invalidate(&store, &space, &registers, Invalidation::Soft).await;
        assert_eq!(softened, [false, true], "{junk:?}");
        raw(&large(), &format!("md {name_of_b} b")).await;
    }
    raw(&large(), &format!("ms {name_of_a} 1 b\r\nx")).await;
    let gone = invalidate(&store, &space, &[a], Invalidation::Hard).await;
    assert_eq!(gone, [false], "junk is no register");
}

#[tokio::test]
async fn no_tag_breaks_out_of_its_command() {
    let server = Server::start(&[]).await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"canary", b"ok").await.unwrap();
    let long = |end: &str| format!("{}{end}", "x".repeat(200 - end.len()));
    let names = [
        "x\r\nflush_all\r\n".to_owned(),
        "x b v\r\nflush_all\r\nmg x".to_owned(),
        "a b".to_owned(),
        " ".to_owned(),
        "\0".to_owned(),
        "\r\n".to_owned(),
        "größe:日本:🦀".to_owned(),
        long(""),
        long("y"),
        long("\r\nflush_all\r\n"),
        long("日本"),
        "h:0123456789abcdef0123456789abcdef".to_owned(),
    ];
    let cache = Cache::builder(store.clone()).prefix("hostile").build();
    let cache = cache.unwrap();
    for name in &names {
        cache.set(name, "v").tags([name]).await.unwrap();
        cache.set("all", "v").tags(&names).await.unwrap();
        for other in names.iter().filter(|other| *other != name) {
            cache.set(other, "v").tags([other]).await.unwrap();
        }
        let outcome = cache.invalidate_tags([name]).await.unwrap();
        assert!(outcome.tags[0].existed, "{name:?}");
        for other in &names {
            let is_there = cache.has(other).await.unwrap();
            assert_eq!(is_there, other != name, "{other:?} by {name:?}");
        }
        assert!(!cache.has("all").await.unwrap(), "{name:?}");
    }
    assert!(is_there(&store, &space, b"canary").await);
}

/// Registers outlast what depends on them, and nothing shortens that.
#[tokio::test]
async fn registers_are_kept_as_long_as_they_are_needed() {
    const HOUR_MS: u64 = 3_600_000;
    let store = Memcached::connect(large()).await.unwrap();
    let other = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    let registers = [tag("a")];
    store.capture(&space, b"k", &registers).await.unwrap();
    let least = left_s(&space, &registers[0]).await.unwrap();
    assert!(least >= 3600, "{least}");
    let mut kept = least;
    for (hours, store) in [(1, &store), (5, &other), (2, &store), (24 * 40, &store)] {
        let expiry = Expiry::After(hours * HOUR_MS);
        put_tagged(store, &space, b"k", &registers, expiry)
            .await
            .unwrap();
        let left = left_s(&space, &registers[0]).await.unwrap();
        assert!(left >= hours * 3600 + 60, "{left} of {hours} h");
        assert!(left + 10 >= kept, "{left} after {kept}");
        kept = left;
        let softened = invalidate(store, &space, &registers, Invalidation::Soft).await;
        assert_eq!(softened, [true]);
        let left = left_s(&space, &registers[0]).await.unwrap();
        assert!(left + 10 >= kept, "{left} after {kept}, by softening");
    }
    for key in [&b"brief"[..], b"endless", b"brief"] {
        let expiry = match key {
            b"brief" => Expiry::After(1000),
            _ => Expiry::Never,
        };
        put_tagged(&other, &space, key, &registers, expiry)
            .await
            .unwrap();
    }
    assert_eq!(left_s(&space, &registers[0]).await, None);
    invalidate(&store, &space, &registers, Invalidation::Soft).await;
    assert_eq!(left_s(&space, &registers[0]).await, None, "softened");
    let lives = [tag("touched")];
    put_tagged(&store, &space, b"t", &lives, Expiry::After(1000))
        .await
        .unwrap();
    let touch = Write::touch(b"t", Expiry::Never);
    assert_eq!(other.write_many(&space, &[touch]).await.unwrap(), [true]);
    assert_eq!(left_s(&space, &lives[0]).await, None, "touched");
}

/// Nothing that was captured or stored before a restart is valid after it, though versions start from the beginning.
#[tokio::test]
async fn a_restart_forgets_everything_and_revives_nothing() {
    let mut server = Server::start(&[]).await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let space = namespace();
    let registers = [tag("a"), tag("b")];
    for round in 0..3 {
        put_tagged(&store, &space, b"k", &registers, Expiry::Never)
            .await
            .unwrap();
        let old = store.capture(&space, b"late", &registers).await.unwrap();
        let token = fastrand::u64(1..);
        let load = LoadRequest {
            registers: &registers,
            token,
            lease_ms: 60_000,
        };
        let begun = store.begin_load(&space, b"load", &load).await.unwrap();
        assert!(begun.is_granted);
        server.kill();
        server.restart().await;
        assert!(!is_there(&store, &space, b"k").await, "{round}");
        for captured_again in [false, true] {
            if captured_again {
                let new = store.capture(&space, b"late", &registers).await.unwrap();
                assert!(new != old);
            }
            let late = stamped(&sealed(b"late"), old.clone());
            let put = Write::put(b"late", late, Expiry::Never);
            store.write_many(&space, &[put]).await.unwrap();
            assert!(!is_there(&store, &space, b"late").await);
        }
        let loaded = stamped(&sealed(b"old"), begun.stamps);
        let commit = Write::put(b"load", loaded, Expiry::Never);
        let commit = commit.when(Condition::IfUnchanged(token));
        assert_eq!(store.write_many(&space, &[commit]).await.unwrap(), [false]);
        let gone = invalidate(&store, &space, &registers, Invalidation::Hard).await;
        assert_eq!(gone, [true, true], "captured again");
    }
}

/// A server that evicts registers only forgets.
#[tokio::test]
async fn an_evicting_server_only_forgets() {
    let server = Server::start(&["-m", "2"]).await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let space = namespace();
    let key = |n: u32| n.to_be_bytes();
    let of = |n: u32| [tag(&format!("t{n}")), tag("all")];
    let mut lost = 0;
    for n in 0..8000_u32 {
        put_tagged(&store, &space, &key(n), &of(n), Expiry::Never)
            .await
            .unwrap();
        if n % 2 == 0 {
            invalidate(&store, &space, &of(n)[..1], Invalidation::Hard).await;
            store.capture(&space, &key(n), &of(n)).await.unwrap();
        }
        let older = n - fastrand::u32(..=n.min(4000));
        let there = is_there(&store, &space, &key(older)).await;
        assert!(!there || older % 2 == 1, "{older} was invalidated");
        lost += u32::from(!there && older % 2 == 1);
    }
    assert!(lost > 0, "nothing was evicted");
    invalidate(&store, &space, &[tag("all")], Invalidation::Hard).await;
    for n in 0..8000 {
        assert!(!is_there(&store, &space, &key(n)).await);
    }
}

/// The mark of a load is an entry of its own kind for whoever looks; a clear by hand ends it.
#[tokio::test]
async fn a_load_whose_mark_or_namespace_is_lost_stores_nothing() {
    let store = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    for registers in [&[][..], &[tag("a")]] {
        for lost in [entry_name(&space, b"k"), register_name(&space)] {
            let token = fastrand::u64(1..);
            let load = LoadRequest {
                registers,
                token,
                lease_ms: 60_000,
            };
            let begun = store.begin_load(&space, b"k", &load).await.unwrap();
            assert!(begun.is_granted);
            raw(&large(), &format!("md {lost} b")).await;
            let loaded = stamped(&sealed(b"old"), begun.stamps);
            let commit = Write::put(b"k", loaded, Expiry::Never);
            let commit = commit.when(Condition::IfUnchanged(token));
            assert_eq!(store.write_many(&space, &[commit]).await.unwrap(), [false]);
            assert!(!is_there(&store, &space, b"k").await);
        }
    }
}

/// Who captures a tag and finds that nothing was invalidated so far must not have found the tag after the next invalidation.
#[tokio::test]
async fn the_register_of_all_invalidations_is_captured_last() {
    let proxy = Proxy::start(large()).await;
    let builder = Memcached::builder(proxy.address());
    let ours = builder.response_timeout(PATIENCE).connect().await.unwrap();
    let theirs = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    let (any, registers) = ([Register::any()], [tag("a")]);
    // Whether it believes that the register is there, or that it is not.
    for believed in [true, false] {
        let before = ours.capture(&space, b"k", &any).await.unwrap();
        if believed {
            ours.capture(&space, b"k", &registers).await.unwrap();
            let name = tag_register_name(&space, &registers[0]);
            raw(&large(), &format!("md {name} b")).await;
        }
        let hold = proxy.hold();
        let capture = tokio::spawn({
            let (ours, space) = (ours.clone(), space.clone());
            let names = [any[0].clone(), registers[0].clone()];
            async move { ours.capture(&space, b"k", &names).await.unwrap() }
        });
        hold.reached().await;
        invalidate(&theirs, &space, &registers, Invalidation::Hard).await;
        hold.release();
        let late = capture.await.unwrap();
        let entry = stamped(&sealed(b"old"), late[1..].to_vec());
        let put = Write::put(b"k", entry, Expiry::Never);
        ours.write_many(&space, &[put]).await.unwrap();
        let is_valid = is_there(&theirs, &space, b"k").await;
        assert!(late[..1] != before || !is_valid, "believed: {believed}");
    }
}

/// An answer that comes late is of the time when it was asked: the entry was valid then, or is not.
#[tokio::test]
async fn an_invalidation_between_two_round_trips_is_seen() {
    let proxy = Proxy::start(large()).await;
    let builder = Memcached::builder(proxy.address());
    let ours = builder.response_timeout(PATIENCE).connect().await.unwrap();
    let theirs = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    let registers = [tag("a")];
    put_tagged(&theirs, &space, b"first", &[], Expiry::Never)
        .await
        .unwrap();
    let present = [Write::touch(b"k", Expiry::Never), Write::delete(b"k")];
    for write in [None].into_iter().chain(present.map(Some)) {
        put_tagged(&theirs, &space, b"k", &registers, Expiry::Never)
            .await
            .unwrap();
        // One that does not know what the entry depends on takes two.
        let fresh = Memcached::builder(proxy.address()).response_timeout(PATIENCE);
        let ours = match write {
            None => ours.clone(),
            Some(_) => fresh.connect().await.unwrap(),
        };
        assert!(is_there(&ours, &space, b"first").await);
        let hold = proxy.hold();
        let asked = tokio::spawn({
            let (ours, space, write) = (ours, space.clone(), write.clone());
            async move {
                match write {
                    None => is_there(&ours, &space, b"k").await,
                    Some(write) => ours.write_many(&space, &[write]).await.unwrap()[0],
                }
            }
        });
        hold.reached().await;
        invalidate(&theirs, &space, &registers, Invalidation::Hard).await;
        theirs.capture(&space, b"k", &registers).await.unwrap();
        hold.release();
        assert!(!asked.await.unwrap(), "{write:?}");
        assert!(!is_there(&theirs, &space, b"k").await, "{write:?}");
    }
}

/// Tags are the primary's alone: the standby neither takes them nor serves what has some.
#[tokio::test]
async fn a_fallback_leaves_tags_to_the_server() {
    let mut server = Server::start(&[]).await;
    let builder = Memcached::builder(server.address());
    let builder = builder.response_timeout(Duration::from_millis(200));
    let primary = Arc::new(builder.connect().await.unwrap());
    let store = Fallback::new(primary, Arc::new(Memory::new())).unwrap();
    assert!(store.capabilities().tags && !store.capabilities().tag_listing);
    let (space, registers) = (namespace(), [tag("a")]);
    let read = async |key: &[u8]| {
        let entry = store.get_many(&space, &[key]).await.unwrap().remove(0);
        entry.map(|entry| body(&entry.value).unwrap())
    };
    put_tagged(&store, &space, b"k", &registers, Expiry::Never)
        .await
        .unwrap();
    assert_eq!(read(b"k").await.unwrap(), "k");
    let gone = invalidate(&store, &space, &registers, Invalidation::Hard).await;
    assert_eq!(gone, [true]);
    assert_eq!(read(b"k").await, None);
    put_tagged(&store, &space, b"k", &registers, Expiry::Never)
        .await
        .unwrap();
    server.kill();
    eventually("the standby has taken over", || async {
        let put = Write::put(b"free", sealed(b"free"), Expiry::Never);
        store.write_many(&space, &[put]).await.is_ok()
    })
    .await;
    assert_eq!(read(b"k").await, None, "it is not on the standby");
    let refused = put_tagged(&store, &space, b"k", &registers, Expiry::Never).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    let refused = store
        .invalidate(&space, &registers, Invalidation::Hard)
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart().await;
    eventually("tags work again", || async {
        let put = put_tagged(&store, &space, b"k", &registers, Expiry::Never);
        put.await.is_ok()
    })
    .await;
    assert_eq!(read(b"k").await.unwrap(), "k");
    let gone = invalidate(&store, &space, &registers, Invalidation::Hard).await;
    assert_eq!(gone, [true]);
    assert_eq!(read(b"k").await, None);
}
