//! The supervisor: looks where the work went when a server is lost or silent, so that callers need not.
//!
//! It asks the other servers, which need not wait for the silent one, every 250 ms until the trouble is over; without
//! trouble, every 10 s, and sentinels every second: a primary that they replaced while it was well goes on taking
//! writes for some seconds, all of which it then throws away. It holds no lock that callers wait for, and nothing it does blocks them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::link::{Shared, Topology};
use super::refresh;

/// How often servers are asked in peace.
const IN_PEACE: Duration = Duration::from_secs(10);
/// How often sentinels are asked in peace.
const SENTINELS_IN_PEACE: Duration = Duration::from_secs(1);
/// How often they are asked while one is suspect.
const IN_TROUBLE: Duration = Duration::from_millis(250);

/// Makes the supervisor look at once.
pub(super) fn alarm(shared: &Arc<Shared>) {
    if matches!(shared.topology, Topology::Single(_)) {
        return;
    }
    ensure(shared);
    shared.wake.notify_one();
}

/// Starts the supervisor where one is needed and none runs.
pub(super) fn ensure(shared: &Arc<Shared>) {
    if matches!(shared.topology, Topology::Single(_)) {
        return;
    }
    shared.supervise(|| tokio::spawn(watch(Arc::downgrade(shared), Arc::clone(&shared.wake))));
}

async fn watch(shared: Weak<Shared>, wake: Arc<tokio::sync::Notify>) {
    loop {
        let Some(present) = shared.upgrade() else {
            return;
        };
        let in_trouble = look(&present).await;
        let in_peace = match present.topology {
            Topology::Sentinel { .. } => SENTINELS_IN_PEACE,
            Topology::Single(_) | Topology::Cluster { .. } => IN_PEACE,
        };
        drop(present);
        if in_trouble {
            sleep(IN_TROUBLE).await;
            continue;
        }
        let jitter = in_peace.mul_f64(fastrand::f64() / 5.0);
        // An alarm wakes it; time alone, too.
        let _ = timeout(in_peace + jitter, wake.notified()).await;
    }
}

/// Refreshes the map and tries suspect servers; returns whether any is still suspect.
async fn look(shared: &Shared) -> bool {
    let refreshed = refresh::run(shared).await;
    if let Err(error) = &refreshed {
        tracing::debug!(%error, "the servers of redis cannot be listed");
    }
    let map = shared.map();
    let suspects = map.primaries.iter().filter(|node| node.is_suspect());
    // A good reply closes the breaker. The next look at the map does not wait for a silent server.
    let pings = suspects.map(|node| async {
        let _ = timeout(IN_TROUBLE, node.one(0, &redis::cmd("PING"))).await;
    });
    join_all(pings).await;
    refreshed.is_err() || map.primaries.iter().any(|node| node.is_suspect())
}
