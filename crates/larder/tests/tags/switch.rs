//! Tags that are switched off, raw values, and entries that move in their stored form.

use std::sync::Arc;

use larder::cache::LoadContext;
use larder::{Cache, Error, ErrorKind, MemoryStore, RememberError};

use super::{cache, get};

/// Returns a cache without tags and one with them, on the same store.
fn off_and_on() -> (Cache, Cache) {
    let store = Arc::new(MemoryStore::new());
    let off = Cache::builder(Arc::clone(&store)).tagging(false).build();
    (off.unwrap(), Cache::builder(store).build().unwrap())
}

#[track_caller]
fn check(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.message().contains("tags.enabled"), "{error}");
}

#[tokio::test]
async fn tags_that_are_off_are_refused_and_never_ignored() {
    let (off, _) = off_and_on();
    assert!(!off.capabilities().tags);
    check(&off.set("k", "v").tags(["t"]).await.unwrap_err());
    check(&off.add("k", "v").tags(["t"]).await.unwrap_err());
    check(&off.set_raw("k", "v").tags(["t"]).await.unwrap_err());
    let pairs = [("k", "v".to_owned())];
    check(&off.set_many(&pairs).tags(["t"]).await.unwrap_err());
    check(&off.add_tags("k", ["t"]).await.unwrap_err());
    check(&off.invalidate_tags(["t"]).await.unwrap_err());
    off.add_group("g", ["t"]).unwrap();
    check(&off.invalidate_group("g").await.unwrap_err());
    let load = || async { Ok::<_, std::io::Error>("v".to_owned()) };
    match off.remember("k", load).tags(["t"]).await.unwrap_err() {
        RememberError::Cache(error) => check(&error),
        RememberError::Load(error) => panic!("{error}"),
    }
    assert_eq!(get(&off, "k").await, None);
    off.set("k", "v").await.unwrap();
    assert_eq!(get(&off, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_value_whose_loader_names_tags_is_not_stored_without_them() {
    let (off, _) = off_and_on();
    let load = |context: LoadContext| async move {
        context.tag("t");
        Ok::<_, std::io::Error>("v".to_owned())
    };
    assert_eq!(off.remember_with("k", load).await.unwrap(), "v");
    assert_eq!(get(&off, "k").await, None);
}

#[tokio::test]
async fn entries_with_tags_are_judged_by_them_also_where_tags_are_off() {
    let (off, on) = off_and_on();
    on.set("k", "v").tags(["t"]).await.unwrap();
    assert_eq!(get(&off, "k").await.as_deref(), Some("v"));
    assert_eq!(off.key_tags("k").await.unwrap().unwrap(), ["t"]);
    on.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(get(&off, "k").await, None);
}

#[tokio::test]
async fn raw_values_have_tags() {
    let cache = cache();
    assert!(cache.set_raw("k", "v").tags(["a", "b:c"]).await.unwrap());
    let again = cache.set_raw("k", "w").tags(["d"]).if_absent();
    assert!(!again.await.unwrap());
    let raw = cache.get_raw("k").await.unwrap().unwrap();
    assert_eq!(raw.tags, ["a", "b:c"]);
    let inspection = cache.inspect("k").await.unwrap().unwrap();
    assert_eq!(inspection.tags, raw.tags);
    cache.invalidate_tags(["b:*"]).await.unwrap();
    assert!(cache.get_raw("k").await.unwrap().is_none());
    let again = cache.set_raw("k", "w").tags(["d"]).if_absent();
    assert!(again.await.unwrap());
    let error = cache.set_raw("k", "v").tags(["a*"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

/// The stamps of one store mean nothing in another.
#[tokio::test]
async fn entries_move_with_their_tags() {
    let (from, to) = (cache(), cache());
    from.set("k", "v").tags(["a:b"]).await.unwrap();
    let sealed = from.get_sealed("k").await.unwrap().unwrap();
    from.invalidate_tags(["a:b"]).await.unwrap();
    for target in [&to, &from] {
        let moved = target.set_sealed("k", sealed.entry.clone()).if_absent();
        assert!(moved.await.unwrap());
        assert_eq!(get(target, "k").await.as_deref(), Some("v"));
        assert_eq!(target.tag_keys("a:*", 9).await.unwrap(), ["k".into()]);
        target.invalidate_tags(["a:*"]).await.unwrap();
        assert_eq!(get(target, "k").await, None);
    }
    let (off, _) = off_and_on();
    check(&off.set_sealed("k", sealed.entry).await.unwrap_err());
}

#[tokio::test]
async fn increments_keep_the_tags() {
    let cache = cache();
    cache.set("n", &1).tags(["t"]).await.unwrap();
    assert_eq!(cache.increment("n", 1).await.unwrap(), 2);
    assert_eq!(cache.key_tags("n").await.unwrap().unwrap(), ["t"]);
    cache.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(cache.increment("n", 1).await.unwrap(), 1);
}
