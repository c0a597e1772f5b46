//! Messages of channels: one connection for all, which is there as long as somebody listens.
//!
//! ```text
//! subscribe --> [channels wanted] --> one task: SUBSCRIBE, UNSUBSCRIBE, PING --> Heard --> the ear
//! ```
//! Messages get lost: while the connection is away, and when a server does not pass them on. Whoever listens must get
//! along without; after a gap it is told that there was one. A cluster passes messages to all its servers, so any of
//! its primaries will do.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSubSink;
use redis::{Msg, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::failure;
use super::link::Link;
use super::node::Node;
use super::supervise;
use crate::error::{Error, ErrorKind, Result};

/// How often the server is asked whether it is there, and whether it is still the one to listen to.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long the connection outlives its last listener.
const IDLE: Duration = Duration::from_secs(10);
/// The first and the longest pause before the connection is made anew.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Channels of one command.
const BATCH: usize = 500;

/// What came over the connection.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// A message.
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// Messages may have been missed, of all channels.
    Gap,
}

/// The listeners of a link. Its task ends with it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    link: Link,
    desk: Arc<Desk>,
}

/// A listener's interest in a channel, until it is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    desk: Arc<Desk>,
    channel: Vec<u8>,
    is_confirmed: watch::Receiver<bool>,
}

/// Where listeners and the task meet.
struct Desk {
    ear: Box<dyn Fn(Heard<'_>) + Send + Sync>,
    state: Mutex<State>,
    /// Rung when a channel was touched.
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<Vec<u8>, Channel>,
    /// Channels that may have to be subscribed to or left; only noted while there is a connection.
    touched: Vec<Vec<u8>>,
    is_connected: bool,
    /// When the last listener went.
    unused_since: Option<Instant>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Channel {
    listeners: usize,
    is_confirmed: watch::Sender<bool>,
}

/// The task's side of a connection.
struct Line<'a> {
    desk: &'a Desk,
    node: Arc<Node>,
    sink: PubSubSink,
    subscribed: HashSet<Vec<u8>>,
    limit: Duration,
}

impl Subscriber {
    /// Creates a subscriber that does nothing until somebody listens. The ear must not block.
    pub(crate) fn new(link: Link, ear: impl Fn(Heard<'_>) + Send + Sync + 'static) -> Self {
        let desk = Arc::new(Desk {
            ear: Box::new(ear),
            state: Mutex::default(),
            bell: Notify::new(),
        });
        Self { link, desk }
    }

    /// Begins to listen to a channel.
    pub(crate) fn subscribe(&self, channel: &[u8]) -> Subscription {
        let mut state = self.desk.state();
        let known = state.channels.get_mut(channel).map(|known| {
            known.listeners += 1;
            known.is_confirmed.subscribe()
        });
        let is_confirmed = known.unwrap_or_else(|| {
            let (sender, receiver) = watch::channel(false);
            let new = Channel {
                listeners: 1,
                is_confirmed: sender,
            };
            state.channels.insert(channel.to_vec(), new);
            self.desk.touch(&mut state, channel);
            receiver
        });
        state.unused_since = None;
        // It may have ended, or its runtime has.
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
            state.is_connected = false;
            let run = run(self.link.clone(), Arc::clone(&self.desk));
            state.task = Some(tokio::spawn(run));
        }
        drop(state);
        Subscription {
            desk: Arc::clone(&self.desk),
            channel: channel.to_vec(),
            is_confirmed,
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(task) = self.desk.state().task.take() {
            task.abort();
        }
    }
}

impl Subscription {
    /// Waits until the server has confirmed that messages will come.
    pub(crate) async fn confirmed(&self) {
        // An error would say that nobody listens any more, but this does.
        let _ = self.is_confirmed.clone().wait_for(|is| *is).await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        let Some(known) = state.channels.get_mut(&self.channel) else {
            return;
        };
        known.listeners -= 1;
        if known.listeners > 0 {
            return;
        }
        state.channels.remove(&self.channel);
        if state.channels.is_empty() {
            state.unused_since = Some(Instant::now());
        }
        self.desk.touch(&mut state, &self.channel);
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, state: &mut State, channel: &[u8]) {
        if state.is_connected {
            state.touched.push(channel.to_vec());
            self.bell.notify_one();
        }
    }

    /// Notes that there is a connection, which has no channels yet.
    fn connected(&self) {
        let mut state = self.state();
        state.is_connected = true;
        state.touched = state.channels.keys().cloned().collect();
    }

    /// Notes that there is none.
    fn disconnected(&self) {
        let mut state = self.state();
        state.is_connected = false;
        state.touched.clear();
        for channel in state.channels.values() {
            channel.is_confirmed.send_replace(false);
        }
    }

    fn confirm(&self, channels: &[Vec<u8>]) {
        let state = self.state();
        for channel in channels.iter().filter_map(|name| state.channels.get(name)) {
            channel.is_confirmed.send_replace(true);
        }
    }

    /// Returns whether the task may end, since nobody has listened for long; the next listener starts another.
    fn retires(&self) -> bool {
        let mut state = self.state();
        let is_over = state
            .unused_since
            .is_some_and(|since| since.elapsed() >= IDLE);
        if is_over {
            state.is_connected = false;
            state.touched.clear();
            state.task = None;
        }
        is_over
    }

    fn hear(&self, message: &Msg) {
        if let Ok(channel) = message.get_channel::<Vec<u8>>() {
            let payload = message.get_payload_bytes();
            (self.ear)(Heard::Message {
                channel: &channel,
                payload,
            });
        }
    }
}

/// Keeps a connection until nobody listens.
async fn run(link: Link, desk: Arc<Desk>) {
    let (mut pause, mut is_anew) = (FIRST_PAUSE, false);
    loop {
        let began = Instant::now();
        let Err(error) = serve(&link, &desk, is_anew).await else {
            return;
        };
        tracing::debug!(%error, "the connection for messages of redis is made anew");
        desk.disconnected();
        supervise::alarm(&link.shared);
        if began.elapsed() > LAST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(pause.mul_f64(1.0 + fastrand::f64() / 5.0)).await;
        pause = (pause * 2).min(LAST_PAUSE);
        if desk.retires() {
            return;
        }
        is_anew = true;
    }
}

/// Connects and listens, until nobody else does.
async fn serve(link: &Link, desk: &Desk, is_anew: bool) -> Result<()> {
    let node = primary(link).await?;
    let (sink, mut messages) = node.open_pubsub().await?.split();
    let mut line = Line {
        desk,
        node,
        sink,
        subscribed: HashSet::new(),
        limit: link.shared.limits.response_timeout,
    };
    desk.connected();
    line.settle().await?;
    if is_anew {
        (desk.ear)(Heard::Gap);
    }
    let mut tick = interval(PING_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => desk.hear(&message),
                None => return Err(line.broke()),
            },
            () = desk.bell.notified() => line.settle().await?,
            _ = tick.tick() => {
                if desk.retires() {
                    return Ok(());
                }
                line.check(link).await?;
            }
        }
    }
}

/// Chooses a primary that seems well.
async fn primary(link: &Link) -> Result<Arc<Node>> {
    let map = link.map().await?;
    let well: Vec<_> = map.primaries.iter().filter(|n| !n.is_suspect()).collect();
    let node = fastrand::choice(well).or_else(|| fastrand::choice(&map.primaries));
    let nobody = || Error::new(ErrorKind::Unavailable, "there is no server to listen to");
    node.cloned().ok_or_else(nobody)
}

impl Line<'_> {
    /// Subscribes to what has become wanted, and leaves what has become unwanted.
    async fn settle(&mut self) -> Result<()> {
        let (wanted, unwanted) = self.changes();
        for channels in unwanted.chunks(BATCH) {
            let left = timeout(self.limit, self.sink.unsubscribe(channels)).await;
            self.accept(left.ok())?;
        }
        for channels in wanted.chunks(BATCH) {
            let joined = timeout(self.limit, self.sink.subscribe(channels)).await;
            self.accept(joined.ok())?;
            self.subscribed.extend(channels.iter().cloned());
            self.desk.confirm(channels);
        }
        Ok(())
    }

    /// Takes the channels that were touched; returns those to subscribe to and those to leave.
    fn changes(&mut self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut wanted, mut unwanted) = (HashSet::new(), Vec::new());
        let mut state = self.desk.state();
        for channel in std::mem::take(&mut state.touched) {
            match state.channels.get(&channel) {
                Some(known) if self.subscribed.contains(&channel) => {
                    known.is_confirmed.send_replace(true);
                }
                Some(_) => {
                    wanted.insert(channel);
                }
                None if self.subscribed.remove(&channel) => unwanted.push(channel),
                None => {}
            }
        }
        (wanted.into_iter().collect(), unwanted)
    }

    /// Finds out whether the server is there, and is still one that changes go to.
    async fn check(&mut self, link: &Link) -> Result<()> {
        let pong = timeout(self.limit, self.sink.ping::<redis::Value>()).await;
        self.accept(pong.ok())?;
        let map = link.map().await?;
        let is_primary = map.primaries.iter().any(|n| Arc::ptr_eq(n, &self.node));
        is_primary.then_some(()).ok_or_else(|| self.broke())
    }

    fn accept<T>(&self, reply: Option<RedisResult<T>>) -> Result<T> {
        let address = self.node.address();
        let silent = || {
            let message = format!("{address} did not answer within {:?}", self.limit);
            Error::new(ErrorKind::Timeout, message)
        };
        let reply = reply.ok_or_else(silent)?;
        reply.map_err(|error| failure::client(error, address))
    }

    fn broke(&self) -> Error {
        let message = format!("{} has no messages any more", self.node.address());
        Error::new(ErrorKind::Unavailable, message)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
