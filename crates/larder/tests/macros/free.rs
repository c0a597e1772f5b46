//! Free functions, and the default cache of the process.

use larder::{Cache, ErrorKind, Key};

use super::{DbError, Runs, cache, is_send};

#[larder::cache(on = cache, key = "square:{number}")]
async fn square(#[skip] cache: &Cache, #[skip] runs: &Runs, number: i64) -> i64 {
    runs.count();
    number * number
}

#[larder::cache(key = "by-default:{id}")]
async fn row(id: i64) -> Result<i64, DbError> {
    if id < 0 {
        return Err(DbError::NoRow(id));
    }
    Ok(id)
}

#[larder::cache(key = "plain:{id}")]
async fn plain(#[skip] runs: Runs, id: i64) -> i64 {
    runs.count();
    id
}

mod elsewhere {
    use super::{Cache, DbError};

    /// A type that nobody else sees.
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Hidden(u8);

    #[larder::cache(on = cache)]
    async fn hidden(#[skip] cache: &Cache, hidden: Hidden) -> Result<Hidden, DbError> {
        Ok(Hidden(hidden.0 + 1))
    }

    #[larder::cache(on = cache)]
    pub(super) async fn shown(#[skip] cache: Cache, number: u8) -> Result<u8, DbError> {
        Ok(hidden(&cache, Hidden(number)).await?.0)
    }
}

#[tokio::test]
async fn a_free_function_has_its_companions_under_its_name() {
    let (cache, runs) = (cache(), Runs::default());
    for _ in 0..2 {
        assert_eq!(is_send(square(&cache, &runs, 3)).await, 9);
    }
    assert_eq!(runs.so_far(), 1);
    assert_eq!(square::key(&cache, &runs, 3), Key::from("square:3"));
    assert!(square::invalidate(&cache, &runs, 3).await.unwrap());
    assert_eq!(square::uncached(&cache, &runs, 3).await, 9);
    assert_eq!(square_uncached(&cache, &runs, 3).await, 9);
    assert!(!cache.has("square:3").await.unwrap());
    assert_eq!(runs.so_far(), 3);
}

#[tokio::test]
async fn private_types_and_other_modules_are_no_obstacle() {
    let cache = cache();
    assert_eq!(elsewhere::shown(cache.clone(), 1).await.unwrap(), 2);
    let key = elsewhere::shown::key(cache.clone(), 1);
    assert_eq!(key, Key::from("macros::free::elsewhere::shown(1)"));
    assert!(cache.has(key).await.unwrap());
    assert!(
        cache
            .has("macros::free::elsewhere::hidden(1)")
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_function_inside_of_another_sees_its_types() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Inner(u8);

    #[larder::cache(on = cache, key = "inner")]
    async fn inner(cache: &Cache) -> Inner {
        let _ = cache;
        Inner(5)
    }

    let cache = cache();
    assert_eq!(inner(&cache).await.0, 5);
    assert!(inner::invalidate(&cache).await.unwrap());
}

/// One test, since the default cache is of the process.
#[tokio::test]
async fn the_default_cache_is_set_once_and_its_absence_named() {
    let runs = Runs::default();
    let error = row(1).await.unwrap_err();
    let DbError::Cache(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.message().contains("`row`"), "{error}");
    assert!(
        error.message().contains("larder::set_default_cache"),
        "{error}"
    );
    let error = row::invalidate(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    for _ in 0..2 {
        assert_eq!(plain(runs.clone(), 1).await, 1);
    }
    assert_eq!(runs.so_far(), 2, "it runs uncached");

    let handle = cache();
    larder::set_default_cache(handle.clone()).unwrap();
    let second = larder::set_default_cache(cache()).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::InvalidConfig);

    for _ in 0..2 {
        assert_eq!(row(1).await.unwrap(), 1);
        assert_eq!(plain(runs.clone(), 1).await, 1);
    }
    assert_eq!(runs.so_far(), 3);
    assert!(matches!(row(-1).await, Err(DbError::NoRow(-1))));
    assert!(handle.has("by-default:1").await.unwrap());
    assert!(row::invalidate(1).await.unwrap());
    assert!(larder::default_cache().is_some());
}
