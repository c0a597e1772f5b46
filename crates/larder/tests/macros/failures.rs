//! What happens when the cache fails, or the function.

use larder::{Cache, ErrorKind, MemoryStore};

use super::{DbError, Runs, cache};

#[larder::cache(on = cache, key = "{key}")]
async fn plain(cache: &Cache, #[skip] runs: Runs, key: String) -> usize {
    let _ = (cache, key);
    runs.count()
}

#[larder::cache(on = cache, key = "{key}")]
async fn fallible(cache: &Cache, #[skip] runs: Runs, key: String) -> Result<usize, DbError> {
    let _ = (cache, key);
    Ok(runs.count())
}

#[larder::cache(on = cache, key = "panics")]
async fn panics(cache: &Cache, #[skip] runs: &Runs) -> u8 {
    let _ = cache;
    runs.count();
    panic!("the body fell over")
}

#[larder::cache(on = cache, key = "panics, too")]
async fn panics_too(cache: &Cache) -> Result<u8, DbError> {
    let _ = cache;
    panic!("the body fell over")
}

#[tokio::test]
async fn without_a_result_the_function_runs_uncached_and_that_is_counted() {
    let (cache, runs) = (cache(), Runs::default());
    assert_eq!(plain(&cache, runs.clone(), String::new()).await, 1);
    assert_eq!(plain(&cache, runs.clone(), "k".repeat(2000)).await, 2);
    assert_eq!(cache.stats().await.unwrap().process.uncached_calls, 2);
    let untagged = Cache::builder(MemoryStore::new())
        .tagging(false)
        .build()
        .unwrap();
    assert_eq!(plain(&untagged, runs, "k".to_owned()).await, 3);
    assert_eq!(untagged.stats().await.unwrap().process.uncached_calls, 0);
}

#[tokio::test]
async fn with_a_result_the_failure_of_the_cache_is_the_error() {
    let (cache, runs) = (cache(), Runs::default());
    let Err(DbError::Cache(error)) = fallible(&cache, runs.clone(), String::new()).await else {
        panic!("an empty key was accepted");
    };
    assert_eq!((error.kind(), runs.so_far()), (ErrorKind::InvalidKey, 0));
    assert_eq!(fallible(&cache, runs, "k".to_owned()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_panic_is_the_callers_or_an_error() {
    let (cache, runs) = (cache(), Runs::default());
    let task = {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move { panics(&cache, &runs).await })
    };
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(runs.so_far(), 2, "once for all, once for the caller");
    let Err(DbError::Cache(error)) = panics_too(&cache).await else {
        panic!("a panic gave a value");
    };
    assert_eq!(error.kind(), ErrorKind::Load);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_runs_the_body() {
    let (cache, runs) = (cache(), Runs::default());
    let calls = (0..50).map(|_| {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move { fallible(&cache, runs, "many".to_owned()).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 1);
    }
    assert_eq!(runs.so_far(), 1);
}
