//! One server: its connections, opened when they are needed and replaced when they break, behind one breaker.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::connect;
use super::driver::Driver;
use super::frame::ItemKey;
use super::pipe::{Failure, Pipe, Reply};
use super::register::{register_value, unexpected};
use super::request::Batch;
use crate::breaker::{Breaker, State};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// How to reach a server.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) address: String,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) connections: usize,
    pub(super) max_in_flight: usize,
    pub(super) tcp_keepalive: Option<Duration>,
}

/// A server and the connections to it.
#[derive(Debug)]
pub(super) struct Server {
    options: Options,
    lanes: Box<[Lane]>,
    breaker: Breaker,
    /// The largest item; 0 before the first connection.
    item_limit: AtomicU64,
    /// How many connections were made; raised before one is used.
    epoch: AtomicU64,
}

/// The place of one connection, which each key always uses.
#[derive(Debug, Default)]
struct Lane {
    line: Mutex<Line>,
    /// Held by the one who connects.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Line {
    pipe: Option<Arc<Pipe>>,
    driver: Option<AbortHandle>,
    /// How often somebody connected or tried to, and the error of the last time.
    attempts: u64,
    failure: Option<Error>,
}

impl Server {
    pub(super) fn new(options: Options) -> Self {
        Self {
            lanes: (0..options.connections).map(|_| Lane::default()).collect(),
            // Of the system's time: a server recovers in real time, whatever clock entries follow.
            breaker: Breaker::new(Clock::system()),
            item_limit: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            options,
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.options.address
    }

    /// Returns how many connections there are to choose from.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn breaker_state(&self) -> (State, u64) {
        self.breaker.state()
    }

    /// Returns how many connections were made so far.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns the limit of an item, from the server's settings. Connects before first use.
    ///
    /// # Errors
    /// As [`Server::call`].
    pub(super) async fn item_limit(&self) -> Result<u64> {
        match self.item_limit.load(Ordering::Relaxed) {
            0 => {
                self.call(0, |_| Batch::ping()).await?;
                Ok(self.item_limit.load(Ordering::Relaxed))
            }
            known => Ok(known),
        }
    }

    /// Sends a batch on a connection and waits for its replies. Cost: one round trip.
    ///
    /// # Errors
    /// `Unavailable`: no connection, it broke, or the breaker is open. `Timeout`: no reply in time. `Overloaded`:
    /// too many commands in flight all that time. The commands of a failed batch were carried out or not.
    pub(super) async fn call(
        &self,
        lane: usize,
        build: impl FnOnce(&Pipe) -> Batch,
    ) -> Result<Vec<Reply>> {
        let exchange = async {
            let pipe = self.pipe(lane).await?;
            let batch = build(&pipe);
            let replies = pipe.call(batch).await;
            replies.map_err(|failure| self.error(failure))
        };
        self.guarded(exchange).await
    }

    /// As [`Server::call`], with the value of a register, read in the same round trip.
    ///
    /// # Errors
    /// As [`Server::call`].
    pub(super) async fn read(
        &self,
        lane: usize,
        register: &ItemKey<'_>,
        build: impl FnOnce(&Pipe) -> Batch,
    ) -> Result<(Option<u64>, Vec<Reply>)> {
        let exchange = async {
            let pipe = self.pipe(lane).await?;
            let batch = build(&pipe);
            let read = pipe.read(batch, register).await;
            read.map_err(|failure| self.error(failure))
        };
        let (shared, replies) = self.guarded(exchange).await?;
        // It comes before the replies, on the same connection.
        let reply = shared.get().ok_or_else(unexpected)?;
        Ok((register_value(register, reply)?, replies))
    }

    /// Runs an exchange if the breaker lets it, and tells the breaker how it went.
    async fn guarded<T>(&self, exchange: impl Future<Output = Result<T>>) -> Result<T> {
        let attempt = match self.breaker.admit() {
            Ok(attempt) => attempt,
            Err(wait_ms) => {
                let address = self.address();
                let message =
                    format!("{address} failed repeatedly; it is tried again in {wait_ms} ms");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        };
        let outcome = exchange.await;
        match &outcome {
            Ok(_) => attempt.succeeded(),
            // The server may be well; it is us who ask too much.
            Err(error) if error.kind() == ErrorKind::Overloaded => drop(attempt),
            Err(_) => attempt.failed(),
        }
        outcome
    }

    /// Returns the connection of a lane, opened where there is none.
    async fn pipe(&self, lane: usize) -> Result<Arc<Pipe>> {
        match self.lanes[lane].open_pipe() {
            Some(pipe) => Ok(pipe),
            None => self.connect(&self.lanes[lane]).await,
        }
    }

    fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Timeout => {
                let (address, limit) = (self.address(), self.options.response_timeout);
                let message = format!("{address} did not answer within {limit:?}");
                Error::new(ErrorKind::Timeout, message)
            }
            Failure::Full => Error::new(
                ErrorKind::Overloaded,
                format!(
                    "{} commands were in flight for {:?}",
                    self.options.max_in_flight, self.options.response_timeout
                ),
            ),
            Failure::Lost(reason) => {
                let message = format!("{}: {reason}", self.address());
                Error::new(ErrorKind::Unavailable, message)
            }
        }
    }

    /// Connects, or waits for the one who does and shares the outcome.
    async fn connect(&self, lane: &Lane) -> Result<Arc<Pipe>> {
        let attempts = lane.line().attempts;
        let limit = self.options.connect_timeout;
        // The one who connects may stand still: a future that is kept and not polled, a runtime that does not run.
        let turn = tokio::time::timeout(limit, lane.connecting.lock()).await;
        let _turn = turn.map_err(|_elapsed| {
            let message = format!(
                "nobody could connect to {} within {limit:?}",
                self.address()
            );
            Error::new(ErrorKind::Timeout, message)
        })?;
        if let Some(pipe) = lane.open_pipe() {
            return Ok(pipe);
        }
        if let Some(failure) = lane.failure_since(attempts) {
            return Err(failure);
        }
        let opened = connect::open(
            &self.options.address,
            self.options.tcp_keepalive,
            self.options.connect_timeout,
        )
        .await;
        let mut line = lane.line();
        line.attempts += 1;
        match opened {
            Ok((socket, settings)) => {
                self.item_limit
                    .store(settings.item_size_max.max(1), Ordering::Relaxed);
                let pipe = Pipe::new(self.options.max_in_flight, self.options.response_timeout);
                let pipe = Arc::new(pipe);
                let driver = Driver::new(Arc::clone(&pipe), socket);
                self.epoch.fetch_add(1, Ordering::AcqRel);
                let driver = tokio::spawn(driver).abort_handle();
                if let Some(former) = line.driver.replace(driver) {
                    former.abort();
                }
                line.pipe = Some(Arc::clone(&pipe));
                line.failure = None;
                Ok(pipe)
            }
            Err(error) => {
                line.pipe = None;
                line.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

impl Lane {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_pipe(&self) -> Option<Arc<Pipe>> {
        let line = self.line();
        line.pipe.as_ref().filter(|pipe| pipe.is_open()).cloned()
    }

    /// Returns the error of an attempt that ended after `attempts` of them.
    fn failure_since(&self, attempts: u64) -> Option<Error> {
        let line = self.line();
        line.failure.clone().filter(|_| line.attempts > attempts)
    }
}

/// The connections end with the last handle of the store; a task that waits on one holds such a handle.
impl Drop for Line {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}
