//! Calls that go out together.

use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use larder::{RedisStore, Result};
use tokio::task::yield_now;
use xtask::servers::private::RedisServer;

use super::rig::Rig;
use crate::has_servers;

const LONG: Duration = Duration::from_secs(20);

/// More than a task may do in one turn, by the rules of the runtime.
const CROWD: usize = 3_000;

#[tokio::test]
async fn put_dropped_in_a_crowd_is_not_applied_after_a_later_delete() {
    if !has_servers() {
        return;
    }
    let server = RedisServer::start().unwrap();
    let builder = RedisStore::builder(server.url()).response_timeout(LONG);
    let rig = Rig::new(builder.connect().await.unwrap());
    let keys: Vec<String> = (0..CROWD).map(|n| format!("key:{n}")).collect();
    let last = &keys[CROWD - 1];
    for turns in 0..8 {
        rig.set(last, 1).await.unwrap();
        let mut puts: Vec<Pin<Box<dyn Future<Output = Result<()>>>>> = Vec::new();
        for key in &keys {
            let mut put = Box::pin(rig.set(key, 2));
            assert!(put.as_mut().now_or_never().is_none());
            puts.push(put);
        }
        for _ in 0..turns {
            yield_now().await;
        }
        drop(puts.pop());
        rig.delete(last).await.unwrap();
        for put in puts {
            put.await.unwrap();
        }
        assert_eq!(rig.get(last).await.unwrap(), None, "after {turns} turns");
    }
}
