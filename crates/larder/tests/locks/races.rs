//! What happens on several runtimes.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::{SECOND, cache};

const SHORT: Duration = Duration::from_millis(300);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn leases_live_on_when_another_runtime_ends() {
    let cache = cache();
    let lock = cache.lock("l").ttl(SHORT).renew(true);
    let (first, second) = (runtime(), runtime());
    let other = first.block_on(cache.lock("other").acquire()).unwrap();
    let guard = second.block_on(lock.acquire()).unwrap();
    drop(first);
    second.block_on(async { sleep(2 * SHORT).await });
    assert!(guard.is_valid());
    let lost = guard.lost();
    second.block_on(cache.locks().force_release("l")).unwrap();
    second.block_on(async { timeout(5 * SECOND, lost).await.unwrap() });
    drop(other);
}

#[test]
fn leases_live_on_while_another_runtime_is_busy() {
    let cache = cache();
    let lock = cache.lock("l").ttl(SHORT).renew(true);
    let (idle, busy) = (runtime(), runtime());
    let other = idle.block_on(cache.lock("other").acquire()).unwrap();
    let guard = busy.block_on(lock.acquire()).unwrap();
    busy.block_on(async { sleep(2 * SHORT).await });
    assert!(guard.is_valid());
    drop(other);
}

