//! Generics, lifetimes, bounds, aliases and names.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use larder::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DbError, Runs, cache, is_send};

trait Row: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    const TABLE: &'static str;
}

impl Row for u8 {
    const TABLE: &'static str = "bytes";
}

impl Row for String {
    const TABLE: &'static str = "texts";
}

#[larder::cache(on = cache, key = "{T::TABLE}:{N}:{id}")]
async fn load<T: Row, const N: usize>(#[skip] cache: &Cache, id: u32) -> Result<T, DbError>
where
    Vec<T>: Send,
{
    let _ = id;
    Ok(T::default())
}

#[larder::cache(on = cache, key = "shown:{value}:{more}")]
async fn shown<'a, T>(
    #[skip] cache: &'a Cache,
    value: &'a T,
    more: impl Display + Clone + Send + Sync + 'static,
) -> String
where
    T: Display + Clone + Send + Sync + 'static,
{
    format!("{value}{more}")
}

#[larder::cache(on = cache, key = "{}")]
#[expect(clippy::too_many_arguments, reason = "one of each sort")]
async fn lengths(
    name: &str,
    #[skip] bytes: &[u8],
    #[skip] path: &Path,
    #[skip] owned: PathBuf,
    #[skip] fixed: &'static str,
    #[skip] cache: &Cache,
) -> Result<usize, DbError> {
    Ok(name.len() + bytes.len() + path.as_os_str().len() + owned.as_os_str().len() + fixed.len())
}

/// Names that an expansion might use itself.
#[larder::cache(on = found, key = "{key}:{cache}:{value}", tag = "{tags}", if = |value| *value > 0)]
#[expect(clippy::too_many_arguments, reason = "so many names are to be met")]
async fn names(
    found: &Cache,
    key: u8,
    cache: u8,
    value: u8,
    tags: &str,
    loaded: u8,
    context: u8,
    this: u8,
) -> u8 {
    let _ = (found, key, cache, tags, loaded, context, this);
    value
}

#[larder::cache(on = cache, key = "alias:{id}")]
async fn alias(#[skip] cache: &Cache, #[skip] runs: &Runs, id: u8) -> larder::Result<u8> {
    runs.count();
    cache.ping().await?;
    Ok(id)
}

#[larder::cache(on = cache, key = "r:{type}")]
#[expect(unused_variables, reason = "lints of the body stay with it")]
async fn r#match(cache: &Cache, r#type: u8) -> u8 {
    let unused = 1;
    r#type
}

#[tokio::test]
async fn a_generic_function_has_the_type_in_its_key() {
    let cache = cache();
    assert_eq!(load::<u8, 1>(&cache, 1).await.unwrap(), 0);
    assert_eq!(is_send(load::<String, 2>(&cache, 1)).await.unwrap(), "");
    assert!(cache.has("bytes:1:1").await.unwrap() && cache.has("texts:2:1").await.unwrap());
    assert!(load::invalidate::<u8, 1>(&cache, 1).await.unwrap());
}

#[tokio::test]
async fn lifetimes_bounds_and_impl_arguments_are_kept() {
    let cache = cache();
    assert_eq!(shown(&cache, &5, 'x').await, "5x");
    assert_eq!(is_send(shown(&cache, &String::from("a"), 1)).await, "a1");
    assert!(cache.has("shown:a:1").await.unwrap());
}

#[tokio::test]
async fn borrowed_arguments_are_copied() {
    let (cache, name) = (cache(), String::from("ab"));
    let path = PathBuf::from("abc");
    for _ in 0..2 {
        let length = lengths(&name, &[1], &path, path.clone(), "x", &cache);
        assert_eq!(length.await.unwrap(), 10);
    }
    assert!(cache.has("ab").await.unwrap());
}

#[tokio::test]
async fn names_of_the_user_and_of_the_macro_do_not_meet() {
    let handle = cache();
    assert_eq!(names(&handle, 1, 2, 3, "t", 0, 0, 0).await, 3);
    assert_eq!(names(&handle, 1, 2, 3, "t", 0, 0, 0).await, 3);
    assert!(
        handle
            .tag_keys("t", 10)
            .await
            .unwrap()
            .contains(&larder::Key::from("1:2:3"))
    );
    assert_eq!(r#match(&handle, 4).await, 4);
    assert!(handle.has("r:4").await.unwrap());
}

#[tokio::test]
async fn an_alias_named_result_is_a_result() {
    let (cache, runs) = (cache(), Runs::default());
    for _ in 0..2 {
        assert_eq!(alias(&cache, &runs, 3).await.unwrap(), 3);
    }
    assert_eq!(runs.so_far(), 1);
}
