//! Accepts connections and ends them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::failure::{Failure, Outcome};

/// The most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send the head of a request, and how long it may be silent between two.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address. What others can reach needs a token.
    pub(super) async fn bind(address: &str, has_token: bool) -> Outcome<Self> {
        let found = lookup_host(address).await;
        let addresses: Vec<_> = found
            .map_err(|error| {
                Failure::usage(format!(
                    "{address:?} is no address, such as 127.0.0.1:7878: {error}"
                ))
            })?
            .collect();
        if !has_token && !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Err(Failure::refused(format!(
                "{address} can be reached from other machines: give a --token-file, or listen on 127.0.0.1"
            )));
        }
        let bound = TcpListener::bind(addresses.as_slice()).await;
        let socket = bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Failure::failed(format!(
                "{address} is in use by another program; choose another with --listen"
            )),
            _ => Failure::failed(format!("cannot listen on {address}: {error}")),
        })?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`; then takes no more connections and waits up to `drain` for requests that are under way.
    pub(super) async fn serve(
        self,
        router: Router,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) {
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.accept(&slots) => accepted,
            };
            if let Some((stream, slot)) = accepted {
                answer(stream, slot, router.clone(), &graceful);
            }
        }
        drop(self.socket);
        if timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still under way");
        }
    }

    async fn accept(&self, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((stream, _)) => Some((stream, slot)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Answers the requests of one connection in a task of its own, which ends with the connection.
fn answer(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    router: Router,
    graceful: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection will be slow");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(slot);
    });
}
