//! Which calls share a value.

use larder::{Cache, ErrorKind, Key};
use serde::Serialize;

use super::{DbError, cache};

#[derive(Clone, Serialize)]
struct Filter {
    name: Option<String>,
    page: (u32, u32),
}

#[larder::cache(on = cache, name = "search")]
async fn find(
    #[skip] cache: &Cache,
    filter: &Filter,
    text: Option<&'static str>,
) -> Result<u32, DbError> {
    let _ = text;
    Ok(filter.page.0)
}

#[larder::cache(on = cache, key = "{{{filter.page.0}}}:{}:{filter.page.1}")]
async fn templated(#[skip] cache: &Cache, text: &str, filter: Filter) -> Result<u32, DbError> {
    let _ = text;
    Ok(filter.page.0)
}

#[larder::cache(on = cache)]
async fn patterns(
    #[skip] cache: &Cache,
    (a, mut b): (u8, u8),
    [c, ..]: [u8; 3],
    _: u8,
) -> Result<u8, DbError> {
    b += 1;
    Ok(a + b + c)
}

#[larder::cache(on = cache)]
async fn located(#[skip] cache: &Cache, path: std::path::PathBuf) -> Result<String, DbError> {
    Ok(path.display().to_string())
}

mod rivals {
    use super::{Cache, DbError};

    #[derive(Clone)]
    pub(super) struct Ones(pub(super) Cache);

    impl Ones {
        #[larder::cache(on = self.0)]
        pub(super) async fn get(&self, id: u8) -> Result<u8, DbError> {
            Ok(id)
        }
    }

    #[derive(Clone)]
    pub(super) struct Twos<T>(pub(super) Cache, pub(super) T);

    impl<T: Clone + Send + Sync + 'static> Twos<T> {
        #[larder::cache(on = self.0)]
        pub(super) async fn get(&self, id: u8) -> Result<u8, DbError> {
            Ok(id + 1)
        }

        #[larder::cache(on = self.0)]
        pub(super) async fn size(&self) -> Result<usize, DbError> {
            Ok(size_of::<T>())
        }

        #[larder::cache(on = self.0)]
        pub(super) async fn plain(&self) -> usize {
            size_of::<T>()
        }
    }
}

fn filter(name: Option<&str>, page: (u32, u32)) -> Filter {
    let name = name.map(str::to_owned);
    Filter { name, page }
}

#[test]
fn the_default_key_looks_like_the_call() {
    let cache = cache();
    let key = find::key(&cache, &filter(Some("a,b"), (1, 2)), None);
    assert_eq!(
        key,
        Key::from(r#"search({name:some("a,b"),page:(1,2)},none)"#)
    );
    assert_ne!(
        find::key(&cache, &filter(Some("none"), (1, 2)), None),
        find::key(&cache, &filter(None, (1, 2)), Some("none"))
    );
    let key = patterns::key(&cache, (1, 2), [3, 4, 5], 6);
    assert_eq!(key, Key::from("macros::keys::patterns((1,2),(3,4,5),6)"));
}

#[test]
fn a_template_is_taken_literally() {
    let key = templated::key(&cache(), "a:b", filter(None, (1, 2)));
    assert_eq!(key, Key::from("{1}:a:b:2"));
}

#[tokio::test]
async fn patterns_reach_the_body() {
    let cache = cache();
    assert_eq!(patterns(&cache, (1, 2), [3, 4, 5], 6).await.unwrap(), 7);
    assert_eq!(patterns(&cache, (1, 2), [3, 4, 5], 6).await.unwrap(), 7);
    assert_eq!(find(&cache, &filter(None, (7, 0)), None).await.unwrap(), 7);
    assert_eq!(
        templated(&cache, "", filter(None, (8, 0))).await.unwrap(),
        8
    );
}

#[cfg(unix)]
#[tokio::test]
async fn an_argument_that_cannot_be_serialized_is_an_error() {
    use std::os::unix::ffi::OsStringExt as _;

    let cache = cache();
    let path = || std::path::PathBuf::from(std::ffi::OsString::from_vec(vec![0xff]));
    let Err(DbError::Cache(error)) = located(&cache, path()).await else {
        panic!("the key was made");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    let error = located::invalidate(&cache, path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert_eq!(located::key(&cache, path()), Key::from(""));
    assert_eq!(located(&cache, "a".into()).await.unwrap(), "a");
}

#[tokio::test]
async fn methods_of_two_types_do_not_share_a_default_key() {
    let cache = cache();
    let (ones, twos) = (
        rivals::Ones(cache.clone()),
        rivals::Twos(cache.clone(), 0_u8),
    );
    assert_eq!(ones.get(1).await.unwrap(), 1);
    assert_eq!(ones.get(1).await.unwrap(), 1);
    let Err(DbError::Cache(error)) = twos.get(1).await else {
        panic!("a value of another type was returned");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert!(
        error.message().contains("macros::keys::rivals::get(..)"),
        "{error}"
    );
    assert!(error.message().contains("`name = \"..\"`"), "{error}");
}

#[tokio::test]
async fn instances_of_a_generic_type_do_not_share_a_default_key() {
    let cache = cache();
    let (small, large) = (
        rivals::Twos(cache.clone(), 0_u8),
        rivals::Twos(cache.clone(), 0_u64),
    );
    assert_eq!(small.size().await.unwrap(), 1);
    assert_eq!(small.size().await.unwrap(), 1);
    assert!(matches!(large.size().await, Err(DbError::Cache(_))));
    assert_eq!((small.plain().await, large.plain().await), (1, 8));
    let stats = cache.stats().await.unwrap();
    assert_eq!(stats.process.uncached_calls, 1);
}
