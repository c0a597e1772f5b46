//! A proxy in front of a real server that damages one place of the replies.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What happens at a byte of the replies, counted from when the fault was set.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The connection ends before it.
    Cut,
    /// It is changed.
    Flip(u8),
    /// It is missing.
    Drop,
    /// Something stands before it.
    Insert(&'static [u8]),
}

type Armed = Arc<Mutex<Option<(usize, Fault)>>>;

/// Replies that are kept back.
#[derive(Debug, Default)]
pub(super) struct Hold {
    reached: Notify,
    go_on: Notify,
}

impl Hold {
    /// Waits until there are some.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets them go.
    pub(super) fn release(&self) {
        self.go_on.notify_one();
    }
}

type Held = Arc<Mutex<Option<Arc<Hold>>>>;

/// A running proxy; it ends with the value.
#[derive(Debug)]
pub(super) struct Proxy {
    address: String,
    armed: Armed,
    held: Held,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let armed = Armed::default();
        let held = Held::default();
        let shared = (Arc::clone(&armed), Arc::clone(&held));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let upstream = TcpStream::connect(&server).await.unwrap();
                upstream.set_nodelay(true).unwrap();
                let (from_server, to_server) = upstream.into_split();
                tokio::spawn(forward(from_client, to_server));
                tokio::spawn(damage(from_server, to_client, shared.clone()));
            }
        });
        Self {
            address,
            armed,
            held,
            task,
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sets the fault for the byte that comes after so many.
    pub(super) fn arm(&self, at: usize, fault: Fault) {
        *self.armed.lock().unwrap() = Some((at, fault));
    }

    /// Keeps the next replies back.
    pub(super) fn hold(&self) -> Arc<Hold> {
        let hold = Arc::new(Hold::default());
        *self.held.lock().unwrap() = Some(Arc::clone(&hold));
        hold
    }

    /// Returns whether the fault has struck; it will not do so any more.
    pub(super) fn disarm(&self) -> bool {
        self.armed.lock().unwrap().take().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn damage(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, (armed, held): (Armed, Held)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len) = from.read(&mut buffer).await {
        if len == 0 {
            return;
        }
        let hold = held.lock().unwrap().take();
        if let Some(hold) = hold {
            hold.reached.notify_one();
            hold.go_on.notified().await;
        }
        let (bytes, goes_on) = damaged(&buffer[..len], &armed);
        if to.write_all(&bytes).await.is_err() || !goes_on {
            return;
        }
    }
}

fn damaged(bytes: &[u8], armed: &Armed) -> (Vec<u8>, bool) {
    let mut armed = armed.lock().unwrap();
    let mut out = bytes.to_vec();
    let Some((at, fault)) = armed.take() else {
        return (out, true);
    };
    if at >= bytes.len() {
        *armed = Some((at - bytes.len(), fault));
        return (out, true);
    }
    match fault {
        Fault::Cut => {
            out.truncate(at);
            return (out, false);
        }
        Fault::Flip(mask) => out[at] ^= mask,
        Fault::Drop => drop(out.remove(at)),
        Fault::Insert(extra) => drop(out.splice(at..at, extra.iter().copied())),
    }
    (out, true)
}
