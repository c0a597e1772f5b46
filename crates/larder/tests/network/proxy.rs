//! A TCP proxy that stands between a client and a server and does to their data what networks do.
//!
//! It knows bytes, not protocols. Each direction of a connection is a reader and a writer with a bounded queue between
//! them, so that a delay shifts the data without thinning it out:
//!
//! ```text
//! client <-> [read -> (due, bytes) ... -> wait, fault, write] <-> server
//! ```
//!
//! Faults hold for present and future connections until [`Proxy::heal`]; those at an offset happen once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes read at once, and pieces on their way; beyond, the sender has to wait as on a slow line.
const PIECE: usize = 16 * 1024;
const PIECES_IN_FLIGHT: usize = 64;

/// How long to wait before a port that was given up is tried again.
const BIND_AGAIN: Duration = Duration::from_millis(20);

/// A proxy before one server; stops, with all its connections, when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    weather: watch::Sender<Weather>,
    is_listening: watch::Sender<bool>,
    faults: Mutex<Faults>,
    connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

/// What holds for all connections.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    flow: Flow,
    delay: Duration,
    is_refusing: bool,
    /// How often everything has been cut.
    cuts: u64,
}

/// What becomes of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Forward,
    Hold,
    Swallow,
}

/// What happens once, so many bytes from now towards the client.
#[derive(Debug, Default)]
struct Faults {
    cut_after: Option<usize>,
    corrupt_at: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// A piece of data and when it may go on.
type Piece = (Instant, Vec<u8>);

impl Proxy {
    /// Starts a proxy before the server at `upstream`, on a free port of 127.0.0.1.
    pub(crate) async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            weather: watch::Sender::default(),
            is_listening: watch::Sender::new(true),
            faults: Mutex::default(),
            connections: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let listening = tokio::spawn(listen(Arc::clone(&shared), address, listener));
        Ok(Self {
            address,
            shared,
            listening: listening.abort_handle(),
        })
    }

    /// Returns where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Delays all data by as much in each direction; connecting is not delayed.
    pub(crate) fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Holds all data back, in both directions, without closing anything; clients can still connect.
    pub(crate) fn freeze(&self) {
        self.change(|weather| weather.flow = Flow::Hold);
    }

    /// Lets the data go that [`freeze`](Self::freeze) held back.
    pub(crate) fn thaw(&self) {
        self.change(|weather| weather.flow = Flow::Forward);
    }

    /// Accepts connections and data as if all was well, but passes nothing on: the host behind is gone without a word.
    ///
    /// [`heal`](Self::heal) ends it and closes the connections, whose data is lost.
    pub(crate) fn half_open(&self) {
        self.change(|weather| weather.flow = Flow::Swallow);
    }

    /// Refuses new connections, as a host does on which nothing listens; those that exist go on.
    pub(crate) async fn refuse(&self) {
        self.change(|weather| weather.is_refusing = true);
        self.wait_for_listening(false).await;
    }

    /// Accepts connections again, on the same port.
    pub(crate) async fn accept(&self) {
        self.change(|weather| weather.is_refusing = false);
        self.wait_for_listening(true).await;
    }

    /// Closes the connection by which the client gets data when `bytes` more have been passed on; happens once.
    ///
    /// Counts the data of all connections together; with 0, the next reply is cut before its first byte.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.shared.faults().cut_after = Some(bytes);
    }

    /// Inverts one byte on its way to the client, the one after `offset` more; happens once.
    pub(crate) fn corrupt_at(&self, offset: usize) {
        self.shared.faults().corrupt_at = Some(offset);
    }

    /// Closes all connections at once; new ones are accepted.
    pub(crate) fn cut_now(&self) {
        self.change(|weather| weather.cuts += 1);
    }

    /// Ends every fault, also those that have not happened yet.
    pub(crate) async fn heal(&self) {
        *self.shared.faults() = Faults::default();
        self.change(|weather| {
            let lost_data = weather.flow == Flow::Swallow;
            *weather = Weather {
                cuts: weather.cuts + u64::from(lost_data),
                ..Weather::default()
            };
        });
        self.wait_for_listening(true).await;
    }

    /// Returns how many connections were accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Returns how many bytes have been passed on to the server so far.
    pub(crate) fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }

    /// Returns how many bytes have been passed on to the clients so far.
    pub(crate) fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    async fn wait_for_listening(&self, expected: bool) {
        let mut is_listening = self.shared.is_listening.subscribe();
        let reached = is_listening.wait_for(|&is| is == expected).await;
        reached.expect("the proxy owns the sender");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        counter.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

impl Faults {
    /// Does to `piece` what is due, and tells whether the connection is to be cut after it.
    fn strike(&mut self, piece: &mut Vec<u8>) -> bool {
        // The end of the last byte, so that a cut does not wait for data that may never come.
        let cut = reach(&mut self.cut_after, piece.len() + 1, piece.len());
        if let Some(length) = cut {
            piece.truncate(length);
        }
        if let Some(offset) = reach(&mut self.corrupt_at, piece.len(), piece.len()) {
            piece[offset] ^= 0xff;
        }
        cut.is_some()
    }
}

/// Takes a mark below `end`; brings one beyond closer by `length`, the bytes that have passed.
fn reach(mark: &mut Option<usize>, end: usize, length: usize) -> Option<usize> {
    let offset = (*mark)?;
    if offset < end {
        return mark.take();
    }
    *mark = Some(offset - length);
    None
}

/// Accepts connections while that is wanted; they end with this.
async fn listen(shared: Arc<Shared>, address: SocketAddr, first: TcpListener) {
    let mut weather = shared.weather.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(first);
    loop {
        if weather.borrow_and_update().is_refusing {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        shared.is_listening.send_replace(listener.is_some());
        let Some(listener) = &listener else {
            // Woken by a change, or to try the port once more.
            tokio::select! {
                _ = weather.changed() => {}
                () = sleep(BIND_AGAIN) => {}
            }
            continue;
        };
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connect(Arc::clone(&shared), client));
            },
            _ = weather.changed() => {}
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side ends it, or it is cut.
async fn connect(shared: Arc<Shared>, client: TcpStream) {
    let mut weather = shared.weather.subscribe();
    let born = weather.borrow().cuts;
    tokio::select! {
        // The proxy is a mirror of its peers: errors end a connection as they would without it.
        _ = serve(&shared, client) => {}
        _ = weather.wait_for(|weather| weather.cuts != born) => {}
    }
}

async fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    let server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        carry(shared, Direction::ToServer, from_client, to_server),
        carry(shared, Direction::ToClient, from_server, to_client),
    )?;
    Ok(())
}

/// Carries the data of one direction until its sender ends it.
async fn carry(
    shared: &Shared,
    direction: Direction,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
    tokio::try_join!(
        read(shared, from, sender),
        write(shared, direction, receiver, to)
    )?;
    Ok(())
}

async fn read(
    shared: &Shared,
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<Piece>,
) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        if from.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        let due = Instant::now() + shared.weather.borrow().delay;
        let sent = pieces.send((due, piece)).await;
        sent.map_err(io::Error::other)?;
    }
}

async fn write(
    shared: &Shared,
    direction: Direction,
    mut pieces: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let mut weather = shared.weather.subscribe();
    while let Some((due, mut piece)) = pieces.recv().await {
        sleep_until(due).await;
        let moving = weather.wait_for(|weather| weather.flow != Flow::Hold).await;
        let flow = moving.map_err(io::Error::other)?.flow;
        if flow == Flow::Swallow {
            continue;
        }
        let is_cut = direction == Direction::ToClient && shared.faults().strike(&mut piece);
        to.write_all(&piece).await?;
        shared.count(direction, piece.len());
        if is_cut {
            to.shutdown().await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    // A frozen line does not tell that a side has ended, nor does one whose end is gone.
    let moving = weather.wait_for(|weather| weather.flow == Flow::Forward);
    moving.await.map_err(io::Error::other)?;
    to.shutdown().await
}
