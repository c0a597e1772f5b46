//! Bad input gets an error that names the tag.

use larder::{Cache, ErrorKind, Local, MAX_TAGS, NullStore};

use super::get;
use super::rig::Rig;

async fn tags_out_of_bounds_are_refused_and_nothing_is_written(rig: Rig) {
    let cache = rig.cache();
    let many: Vec<String> = (0..=MAX_TAGS).map(|n| format!("t{n}")).collect();
    let cases: [Vec<String>; 6] = [
        many,
        vec![String::new()],
        vec!["x".repeat(201)],
        vec!["a*".into()],
        vec!["a?".into()],
        vec!["1:2:3:4:5:6:7".into()],
    ];
    for tags in cases {
        let error = cache.set("k", "v").tags(&tags).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let error = cache.add("k", "v").tags(&tags).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let load = || async { Ok::<_, std::io::Error>("v".to_owned()) };
        assert!(cache.remember("k", load).tags(&tags).await.is_err());
    }
    assert_eq!(get(&cache, "k").await, None);
}

async fn invalidating_nothing_or_what_is_no_tag_is_refused(rig: Rig) {
    let cache = rig.cache();
    let none: [&str; 0] = [];
    for tags in [&none[..], &[""], &["a", "b[c"], &[":*"]] {
        let error = cache.invalidate_tags(tags.iter().copied()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

async fn separators_and_braces_are_just_text(rig: Rig) {
    let cache = rig.cache();
    let tags = ["a::b", ":", "{x}", "}{", "a b\n", "ü"];
    for tag in tags {
        cache.set("k", "v").tags([tag]).await.unwrap();
        for other in tags.iter().filter(|other| **other != tag) {
            cache.invalidate_tags([*other]).await.unwrap();
        }
        assert!(get(&cache, "k").await.is_some(), "{tag:?}");
        let outcome = cache.invalidate_tags([tag]).await.unwrap();
        assert!(outcome.tags[0].existed);
        assert_eq!(get(&cache, "k").await, None, "{tag:?}");
    }
}

#[tokio::test]
async fn a_store_without_tags_says_so() {
    let local = Local::capacity_bytes(1 << 20);
    let cache = Cache::builder(NullStore::new()).local(local).build();
    let cache = cache.unwrap();
    let error = cache.invalidate_tags(["t"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = cache.set("k", "v").tags(["t"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // A loaded value is returned, and kept nowhere: nobody could invalidate it.
    let load = || async { Ok::<_, std::io::Error>("v".to_owned()) };
    let loaded = cache.remember("k", load).tags(["t"]).await.unwrap();
    assert_eq!(loaded, "v");
    assert_eq!(get(&cache, "k").await, None);
}

on_every_store! {
    tags_out_of_bounds_are_refused_and_nothing_is_written
    invalidating_nothing_or_what_is_no_tag_is_refused
    separators_and_braces_are_just_text
}
