//! What a cache command works with: the open library, its cache and the output.

use std::time::Duration;

use larder::{Cache, Larder};
use tokio::time::timeout;

use crate::cli::GlobalArgs;
use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::open::open_larder;
use crate::output::Output;

/// How long the end of a command may take.
const FLUSH: Duration = Duration::from_millis(200);

/// An open cache and where to print.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) global: &'a GlobalArgs,
    pub(crate) larder: Larder,
    pub(crate) cache: Cache,
    pub(crate) output: &'a mut Output,
}

impl<'a> Session<'a> {
    /// Opens the cache that `--cache` names; one that is not configured is a partition of the default store.
    pub(crate) async fn open(global: &'a GlobalArgs, output: &'a mut Output) -> Outcome<Self> {
        let larder = open_larder(global).await?;
        let cache = larder.partition(&global.cache)?;
        Ok(Self {
            global,
            larder,
            cache,
            output,
        })
    }

    /// Refuses early what needs a list of keys, on a store that has none; `otherwise` says what to do instead.
    pub(crate) fn needs_listing(&self, otherwise: &str) -> Outcome<()> {
        if self.cache.capabilities().enumeration {
            return Ok(());
        }
        let store = self.cache.store_name();
        let message = format!("{store} cannot list its keys: {otherwise}");
        Err(Failure::new(Exit::Failed, "unsupported", message))
    }

    /// Hands what was counted to the store, so that `status` shows it, without keeping anybody waiting: the output is
    /// out before, and a busy store loses the figures of one command.
    pub(crate) async fn close(self) -> Outcome<()> {
        self.output.flush()?;
        match timeout(FLUSH, self.larder.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "what was counted is lost"),
            Err(_) => tracing::debug!("the store is busy; what was counted is lost"),
        }
        Ok(())
    }

    /// Returns why a read found nothing: there is no entry, it is damaged, or the store cannot be reached.
    pub(crate) async fn why_absent(&self, key: &[u8]) -> Failure {
        let inspected = match self.cache.inspect(key).await {
            Ok(inspected) => inspected,
            Err(error) => return error.into(),
        };
        let missing = Failure::missing(key);
        match inspected.and_then(|inspection| inspection.damage) {
            Some(damage) => Failure::new(
                missing.exit(),
                missing.kind(),
                format!(
                    "the entry {:?} counts as absent: {damage}",
                    escape::text(key)
                ),
            ),
            None => missing,
        }
    }
}
