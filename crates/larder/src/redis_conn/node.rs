//! One server: its connections, made when they are needed and made anew when they break.
//!
//! A connection carries any number of calls at once. A call ends within its deadline, whatever the server does; a
//! reply that comes later is dropped by the client, never given to another call. What breaks the protocol breaks the
//! connection, so a damaged reply cannot be taken for the next one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisResult, Value};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout_at};

use super::endpoint::Endpoint;
use super::failure::{self, Failure};
use crate::breaker::{Attempt, Breaker, State};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

/// Timeouts in a row after which a connection is given up: its peer may be gone without a word.
const MAX_TIMEOUTS: u32 = 2;
/// A connection that was not used for so long may have been closed.
const IDLE_MS: u64 = 10;
/// The calls that a connection's own queue has places for, at least and at most.
const QUEUE: (usize, usize) = (1 << 10, 1 << 20);

/// Bounds of one server's connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long connecting may take, login included.
    pub(crate) connect_timeout: Duration,
    /// How long one reply may take.
    pub(crate) response_timeout: Duration,
    /// Connections; calls with the same lane share one and keep their order.
    pub(crate) connections: u16,
    /// Calls under way at once; more are refused.
    pub(crate) max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(250),
            response_timeout: Duration::from_millis(500),
            connections: 1,
            max_in_flight: 65_536,
        }
    }
}

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    endpoint: Endpoint,
    limits: Limits,
    must_be_primary: bool,
    lanes: Box<[Lane]>,
    breaker: Breaker,
    in_flight: AtomicUsize,
    timeouts_in_row: AtomicU32,
    /// What times of the connections count from.
    born: Instant,
    /// Shared by the nodes of a link: counts connections made.
    epoch: Arc<AtomicU64>,
}

/// A place for one connection.
#[derive(Debug, Default)]
struct Lane {
    live: RwLock<Option<Live>>,
    /// Held while connecting; the latest failure, so that those who waited need not fail again one by one.
    connecting: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

#[derive(Debug, Clone)]
struct Live {
    /// Which connection of the link this is.
    id: u64,
    connection: MultiplexedConnection,
    /// When the first call was sent that no reply has followed, in ms since the server's birth here; 0: none.
    ///
    /// Callers that give up before the timeout tell nothing: only this shows that nobody is ever answered.
    unanswered_since: Arc<AtomicU64>,
    /// When the latest call was sent, in the same measure.
    used_at: Arc<AtomicU64>,
}

/// A call under way.
struct Call<'a> {
    node: &'a Node,
    attempt: Attempt<'a>,
    lane: &'a Lane,
    live: Live,
    deadline: Instant,
    _counted: Counted<'a>,
}

/// Counts a call for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// Creates a server that is connected to on the first call.
    pub(crate) fn new(endpoint: Endpoint, limits: Limits, epoch: Arc<AtomicU64>) -> Self {
        let lanes = (0..limits.connections.max(1)).map(|_| Lane::default());
        Self {
            endpoint,
            limits,
            must_be_primary: false,
            lanes: lanes.collect(),
            breaker: Breaker::new(Clock::system()),
            in_flight: AtomicUsize::new(0),
            timeouts_in_row: AtomicU32::new(0),
            born: Instant::now(),
            epoch,
        }
    }

    /// Refuses connections to a server that says it is a replica.
    pub(crate) fn must_be_primary(mut self) -> Self {
        self.must_be_primary = true;
        self
    }

    /// Returns `host:port` or the path.
    pub(crate) fn address(&self) -> &str {
        &self.endpoint.address
    }

    /// Returns whether recent calls failed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.timeouts_in_row.load(Ordering::Relaxed) > 0 || self.breaker.state().0 != State::Closed
    }

    /// Returns whether calls have gone unanswered since the last reply.
    pub(crate) fn was_silent(&self) -> bool {
        self.timeouts_in_row.load(Ordering::Relaxed) > 0
    }

    /// Returns the breaker's state, and how often it opened.
    pub(crate) fn breaker_state(&self) -> (State, u64) {
        self.breaker.state()
    }

    /// Sends one command; an error reply is a value here.
    pub(crate) async fn one(&self, lane: u64, command: &Cmd) -> Result<Value, Failure> {
        let mut call = self.begin(lane).await?;
        let reply = timeout_at(
            call.deadline,
            call.live.connection.send_packed_command(command),
        )
        .await;
        call.end(reply.ok())
    }

    /// Sends a pipeline and returns one value per command; error replies are values here.
    pub(crate) async fn many(&self, lane: u64, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        let mut call = self.begin(lane).await?;
        let count = commands.len();
        let connection = &mut call.live.connection;
        let reply = timeout_at(
            call.deadline,
            connection.send_packed_commands(commands, 0, count),
        )
        .await;
        call.end(reply.ok())
    }

    /// Sends a pipeline that is made once the connection stands; it is made, and put into the connection's own queue,
    /// while `turn` is held.
    pub(crate) async fn many_in_turn<T>(
        &self,
        lane: u64,
        turn: &Mutex<T>,
        make: impl FnOnce() -> Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        let mut call = self.begin(lane).await?;
        let connection = &mut call.live.connection;
        let send = async {
            let commands = make();
            let count = commands.len();
            connection.send_packed_commands(&commands, 0, count).await
        };
        let reply = timeout_at(call.deadline, begin_under(turn, send)).await;
        call.end(reply.ok())
    }

    /// Opens a connection apart, for messages.
    pub(crate) async fn open_pubsub(&self) -> Result<PubSub, Error> {
        let deadline = Instant::now() + self.limits.connect_timeout;
        let opening = timeout_at(deadline, self.endpoint.client.get_async_pubsub());
        let opened = opening.await.map_err(|_late| self.took_too_long())?;
        opened.map_err(|error| failure::client(error, self.address()))
    }

    async fn begin(&self, lane: u64) -> Result<Call<'_>, Failure> {
        let attempt = self
            .breaker
            .admit()
            .map_err(|wait_ms| self.refuses(wait_ms))?;
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(&self.in_flight);
        if before >= self.limits.max_in_flight {
            let message = format!("{before} calls to {} are under way", self.address());
            return Err(Failure::refusal(Error::new(ErrorKind::Overloaded, message)));
        }
        let lane = &self.lanes[(lane % self.lanes.len() as u64) as usize];
        let now = Instant::now();
        let is_sound = |live: &Live| self.is_answered(lane, live) && self.is_open(lane, live, now);
        let (live, sent) = match lane.live().filter(is_sound) {
            Some(live) => (live, now),
            None => match self.connect(lane).await {
                Ok(live) => (live, Instant::now()),
                Err(error) => {
                    attempt.failed();
                    return Err(Failure::loss(error));
                }
            },
        };
        let (since, first) = (&live.unanswered_since, self.age_ms(sent));
        if since.load(Ordering::Relaxed) == 0 {
            since.store(first, Ordering::Relaxed);
        }
        live.used_at.store(first, Ordering::Relaxed);
        Ok(Call {
            node: self,
            attempt,
            lane,
            live,
            deadline: sent + self.limits.response_timeout,
            _counted: counted,
        })
    }

    /// Gives a connection up on which nobody has been answered for too long, however soon callers went away.
    fn is_answered(&self, lane: &Lane, live: &Live) -> bool {
        let since = live.unanswered_since.load(Ordering::Relaxed);
        let limit = self.limits.response_timeout.as_millis() as u64;
        // One call that was given up long ago, with none since, says nothing.
        let is_silent = since > 0 && live.used_at.load(Ordering::Relaxed) > since + limit;
        if is_silent && lane.discard(live.id) {
            self.timeouts_in_row.fetch_add(1, Ordering::Relaxed);
        }
        !is_silent
    }

    /// Gives a connection up that was closed while nobody used it, which is no failure of a call.
    ///
    /// The client does not say so until something is sent; it does not send what nobody waits for.
    fn is_open(&self, lane: &Lane, live: &Live, now: Instant) -> bool {
        if self.age_ms(now) < live.used_at.load(Ordering::Relaxed) + IDLE_MS {
            return true;
        }
        let (mut connection, ping) = (live.connection.clone(), redis::cmd("PING"));
        let reply = connection.send_packed_command(&ping).now_or_never();
        let is_closed = matches!(reply, Some(Err(_)));
        if is_closed {
            lane.discard(live.id);
        }
        !is_closed
    }

    /// Returns a time in ms since birth, never 0.
    fn age_ms(&self, now: Instant) -> u64 {
        (now - self.born).as_millis() as u64 + 1
    }

    fn refuses(&self, wait_ms: u64) -> Failure {
        let message = format!(
            "{} failed repeatedly; it is tried again in {wait_ms} ms",
            self.address()
        );
        Failure::loss(Error::new(ErrorKind::Unavailable, message))
    }

    fn took_too_long(&self) -> Error {
        let message = format!("connecting to {} took too long", self.address());
        Error::new(ErrorKind::Timeout, message)
    }

    /// Connects, or waits for who does.
    async fn connect(&self, lane: &Lane) -> Result<Live, Error> {
        let began = Instant::now();
        let deadline = began + self.limits.connect_timeout;
        let late = |_| self.took_too_long();
        let mut latest_failure = timeout_at(deadline, lane.connecting.lock())
            .await
            .map_err(late)?;
        if let Some(live) = lane.live() {
            return Ok(live);
        }
        if let Some((_, error)) = latest_failure.as_ref().filter(|(at, _)| *at > began) {
            return Err(error.clone());
        }
        let outcome = timeout_at(deadline, self.dial())
            .await
            .map_err(late)
            .and_then(|made| made);
        match outcome {
            Ok(connection) => {
                let id = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
                let live = Live {
                    id,
                    connection,
                    unanswered_since: Arc::default(),
                    used_at: Arc::default(),
                };
                *lane.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                *latest_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn dial(&self) -> Result<MultiplexedConnection, Error> {
        // The deadlines are ours: one timer for a call is enough.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            // Whoever has to wait for a place need not get in by the order of coming: there is one for each call.
            .set_pipeline_buffer_size(self.limits.max_in_flight.clamp(QUEUE.0, QUEUE.1));
        let client = &self.endpoint.client;
        let failed = |error| failure::client(error, self.address());
        let made = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        let mut connection = made.map_err(failed)?;
        if self.must_be_primary {
            let role = connection
                .send_packed_command(&redis::cmd("ROLE"))
                .await
                .map_err(failed)?;
            if !is_primary(&role) {
                let message = format!("{} is not the primary any more", self.address());
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        Ok(connection)
    }
}

/// Holds a lock during the first step of a future.
async fn begin_under<T, F: Future>(lock: &Mutex<T>, future: F) -> F::Output {
    let (mut future, mut is_first) = (pin!(future), true);
    let stepped = poll_fn(|context| {
        let is_first = std::mem::take(&mut is_first);
        let _held = is_first.then(|| lock.lock().unwrap_or_else(PoisonError::into_inner));
        future.as_mut().poll(context)
    });
    // Otherwise the step may be an empty one, because the task has done much this turn.
    unconstrained(stepped).await
}

fn is_primary(role: &Value) -> bool {
    let Value::Array(fields) = role else {
        return false;
    };
    matches!(fields.first(), Some(Value::BulkString(word)) if word == b"master")
}

impl Lane {
    fn live(&self) -> Option<Live> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets a connection, unless that is done, and returns whether it was this call that did it.
    fn discard(&self, id: u64) -> bool {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.take_if(|live| live.id == id).is_some()
    }
}

impl Call<'_> {
    /// Judges the outcome; `None`: no reply in time.
    fn end<T>(self, reply: Option<RedisResult<T>>) -> Result<T, Failure> {
        let node = self.node;
        match reply {
            Some(Ok(value)) => {
                self.live.unanswered_since.store(0, Ordering::Relaxed);
                if node.timeouts_in_row.load(Ordering::Relaxed) != 0 {
                    node.timeouts_in_row.store(0, Ordering::Relaxed);
                }
                self.attempt.succeeded();
                Ok(value)
            }
            Some(Err(error)) => {
                // One connection that breaks is one failure, however many calls it takes with it.
                if self.lane.discard(self.live.id) {
                    self.attempt.failed();
                }
                Err(Failure::loss(failure::client(error, node.address())))
            }
            None => {
                if node.timeouts_in_row.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_TIMEOUTS {
                    self.lane.discard(self.live.id);
                }
                self.attempt.failed();
                let limit = node.limits.response_timeout;
                let message = format!("{} did not answer within {limit:?}", node.address());
                Err(Failure::loss(Error::new(ErrorKind::Timeout, message)))
            }
        }
    }
}
