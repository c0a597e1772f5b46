//! Cleaning up behind tags in the background, as `tags.cleanup_every` says.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cache::Cache;
use crate::config::TagsConfig;
use crate::error::{ErrorKind, Result};

/// The longest time that a limiter knows.
const MAX_TURN: Duration = Duration::from_secs(24 * 3600);

/// One task for each cache that has tags. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Cleanups {
    every: Option<Duration>,
    runtime: Handle,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Cleanups {
    /// Creates none yet. The tasks will run on the present runtime.
    pub(super) fn new(config: &TagsConfig) -> Self {
        Self {
            every: config.cleanup_every.filter(|_| config.enabled),
            runtime: Handle::current(),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        }
    }

    /// Starts cleaning up behind the tags of a cache, if it has some and this is configured.
    pub(super) fn start(&self, cache: &Cache) {
        let can = cache.capabilities();
        let Some(every) = self.every.filter(|_| can.tags && can.tag_listing) else {
            return;
        };
        let mut stop = self.stop.subscribe();
        let cache = cache.clone();
        let task = async move {
            tokio::select! {
                // An error would say that the sender is gone: then it is time to stop, too.
                _ = stop.wait_for(|is_over| *is_over) => {}
                () = run(cache, every) => {}
            }
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn_on(task, &self.runtime);
    }

    /// Ends all tasks where they await, and waits for them. What they hold is given up.
    pub(super) async fn shutdown(&self) {
        self.stop.send_replace(true);
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
    }
}

async fn run(cache: Cache, every: Duration) {
    loop {
        // All processes start together after a deployment, and must not ask together for ever.
        sleep(every.mul_f64(0.5 + fastrand::f64())).await;
        match turn(&cache, every).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::debug!(cache = cache.name(), %error, "whose turn it is to clean up is not known");
                continue;
            }
        }
        match cache.cleanup_tags().await {
            Ok(report) => {
                let (keys, tags) = (report.keys, report.tags);
                tracing::debug!(cache = cache.name(), keys, tags, "cleaned up behind tags");
            }
            // Somebody else does it.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => {
                tracing::warn!(cache = cache.name(), %error, "the cleanup behind tags failed");
            }
        }
    }
}

/// Returns whether no other process has taken its turn lately.
async fn turn(cache: &Cache, every: Duration) -> Result<bool> {
    let name = format!("cleanup_tags:every:{}", cache.name());
    let interval = (every / 2).clamp(Duration::from_millis(1), MAX_TURN);
    let limiter = cache.limiter(&*name).per(1, interval);
    Ok(limiter.try_take(1).await?.allowed)
}
