//! What other clients do to the same items: placeholders, junk, clears, evictions.

use larder::Namespace;
use larder::store::{Condition, Expiry, Memcached, Store, Write};
use larder::testing::{body, sealed};

use super::server::{entry_name, raw, register_name};
use super::{get, large, namespace, put};

async fn write(store: &Memcached, space: &Namespace, write: Write<'_>) -> bool {
    store.write_many(space, &[write]).await.unwrap()[0]
}

#[tokio::test]
async fn a_placeholder_counts_as_absent() {
    let store = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"other", b"x").await.unwrap();
    let name = entry_name(&space, b"k");
    let entry = sealed(b"value");
    let add = || Write::put(b"k", entry.clone(), Expiry::Never).when(Condition::IfAbsent);
    for _ in 0..2 {
        let vivified = raw(&large(), &format!("mg {name} b N30 v")).await;
        assert_eq!(vivified, "VA 0 W");
        assert_eq!(get(&store, &space, b"k").await.unwrap(), None);
        assert!(!write(&store, &space, add().when(Condition::IfPresent)).await);
        assert!(!write(&store, &space, Write::touch(b"k", Expiry::Never)).await);
        assert!(write(&store, &space, add()).await);
        assert!(!write(&store, &space, add()).await);
        assert!(get(&store, &space, b"k").await.unwrap().is_some());
        assert!(write(&store, &space, Write::delete(b"k")).await);
    }
    raw(&large(), &format!("mg {name} b N30 v")).await;
    assert!(!write(&store, &space, Write::delete(b"k")).await);
    raw(&large(), &format!("mg {name} b N30 v")).await;
    assert_eq!(
        store
            .increment(&space, b"k", 3, Expiry::Never)
            .await
            .unwrap(),
        3
    );
}

#[tokio::test]
async fn junk_under_our_names_is_absent_and_is_overwritten() {
    let store = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    for junk in ["", "e", "junk", "gggggggggggggggggggggggggggggg"] {
        let len = junk.len();
        let name = entry_name(&space, b"k");
        raw(&large(), &format!("ms {name} {len} b\r\n{junk}")).await;
        assert_eq!(get(&store, &space, b"k").await.unwrap(), None, "{junk:?}");
        put(&store, &space, b"k", b"v").await.unwrap();
        assert!(get(&store, &space, b"k").await.unwrap().is_some());
    }
    for junk in ["", "g", "eeeeeeeeeeeeeeeee"] {
        let len = junk.len();
        let name = register_name(&space);
        raw(&large(), &format!("ms {name} {len} b\r\n{junk}")).await;
        assert_eq!(get(&store, &space, b"k").await.unwrap(), None, "{junk:?}");
        put(&store, &space, b"k", b"v").await.unwrap();
        assert!(get(&store, &space, b"k").await.unwrap().is_some());
    }
}

/// Two processes, each with its own idea of the register.
#[tokio::test]
async fn a_clear_by_another_process_is_seen_at_once() {
    let ours = Memcached::connect(large()).await.unwrap();
    let builder = Memcached::builder(large()).connections(3);
    let theirs = builder.connect().await.unwrap();
    let space = namespace();
    let entry = sealed(b"new");
    for round in 0..20_u8 {
        put(&ours, &space, b"k", &[round]).await.unwrap();
        let read = get(&theirs, &space, b"k").await.unwrap();
        assert_eq!(read, Some(vec![round]));
        theirs.clear(&space).await.unwrap();
        assert_eq!(get(&ours, &space, b"k").await.unwrap(), None);
        assert!(!write(&ours, &space, Write::delete(b"k")).await);
        let add = Write::put(b"k", entry.clone(), Expiry::Never).when(Condition::IfAbsent);
        assert!(write(&ours, &space, add).await, "round {round}");
        for store in [&ours, &theirs] {
            let read = store.get_many(&space, &[b"k"]).await.unwrap().remove(0);
            assert_eq!(body(&read.unwrap().value).unwrap(), "new");
        }
        theirs.clear(&space).await.unwrap();
    }
}

/// Losing a register to eviction loses entries, and nothing comes back when it is created anew.
#[tokio::test]
async fn a_lost_register_only_causes_misses() {
    let store = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"a", b"old").await.unwrap();
    put(&store, &space, b"b", b"old").await.unwrap();
    raw(&large(), &format!("md {} b", register_name(&space))).await;
    assert_eq!(get(&store, &space, b"a").await.unwrap(), None);
    put(&store, &space, b"a", b"new").await.unwrap();
    assert_eq!(
        get(&store, &space, b"a").await.unwrap().as_deref(),
        Some(&b"new"[..])
    );
    assert_eq!(get(&store, &space, b"b").await.unwrap(), None);
}

/// A bulk call of writes with every kind of condition, larger than one round trip takes.
#[tokio::test]
async fn a_bulk_call_may_exceed_a_round_trip() {
    for connections in [1, 4] {
        let builder = Memcached::builder(large()).connections(connections);
        let store = builder.connect().await.unwrap();
        let space = namespace();
        let keys: Vec<_> = (0..3000_u32).map(u32::to_be_bytes).collect();
        let value = sealed(&[7; 4000]);
        let puts: Vec<_> = keys
            .iter()
            .map(|key| Write::put(key, value.clone(), Expiry::After(600_000)))
            .collect();
        let applied = store.write_many(&space, &puts).await.unwrap();
        assert_eq!(applied, vec![true; keys.len()]);
        let mixed: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(n, key)| match n % 4 {
                0 => Write::delete(key),
                1 => Write::touch(key, Expiry::Never),
                2 => Write::put(key, value.clone(), Expiry::Keep),
                _ => Write::put(key, value.clone(), Expiry::Never).when(Condition::IfAbsent),
            })
            .collect();
        let applied = store.write_many(&space, &mixed).await.unwrap();
        assert!(
            applied
                .iter()
                .enumerate()
                .all(|(n, was)| *was == (n % 4 != 3))
        );
        let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let read = store.get_many(&space, &asked).await.unwrap();
        for (n, entry) in read.iter().enumerate() {
            let expires = entry.as_ref().map(|entry| entry.expires_at_ms.is_some());
            assert_eq!(expires, [None, Some(false), Some(true), Some(true)][n % 4]);
        }
    }
}

/// Whoever deletes what another one has just put says so: one of the two came first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_removes_a_new_entry_reports_it() {
    let keys: Vec<Vec<u8>> = (0..256_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    let (one, two) = tokio::join!(Memcached::connect(large()), Memcached::connect(large()));
    let (one, two) = (one.unwrap(), two.unwrap());
    for _ in 0..300 {
        let space = namespace();
        let put = |key| Write::put(key, sealed(b"v"), Expiry::Never);
        let puts: Vec<_> = keys.iter().map(|key| put(key)).collect();
        let deletes: Vec<_> = keys.iter().map(|key| Write::delete(key)).collect();
        let (put, deleted) = tokio::join!(
            one.write_many(&space, &puts),
            two.write_many(&space, &deletes)
        );
        put.unwrap();
        let keys: Vec<_> = keys.iter().map(|key| &key[..]).collect();
        let left = one.get_many(&space, &keys).await.unwrap();
        for (deleted, left) in deleted.unwrap().into_iter().zip(left) {
            assert!(deleted || left.is_some(), "deleted without a word");
        }
    }
}
