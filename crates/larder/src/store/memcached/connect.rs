//! Sockets: TCP or Unix, opened within a time, with the server's settings asked before first use.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::reply::{self, Code, Parsed};
use crate::error::{Error, ErrorKind, Result};

/// The longest answer to `stats settings` that is read; real ones take 2 KiB.
const MAX_SETTINGS_BYTES: usize = 64 << 10;

/// Either kind of stream.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// What a server says of itself that the store goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// The largest item, with its name and Memcached's own header; `u64::MAX`: it does not tell.
    pub(super) item_size_max: u64,
    has_versions: bool,
}

/// Opens a connection and asks for the settings, all within `timeout`.
///
/// # Errors
/// `Unavailable`, `Timeout`; `InvalidConfig`: the server runs without versions, which conditional writes need.
pub(super) async fn open(
    address: &str,
    keepalive: Option<Duration>,
    timeout: Duration,
) -> Result<(Box<dyn Socket>, Settings)> {
    let connecting = async {
        let mut socket = open_socket(address, keepalive).await?;
        let settings = ask_settings(&mut *socket).await?;
        io::Result::Ok((socket, settings))
    };
    let opened = within(timeout, address, connecting).await?;
    if !opened.1.has_versions {
        let message = format!("{address} runs with -C; conditional writes need item versions");
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(opened)
}

async fn within<T>(
    timeout: Duration,
    address: &str,
    connecting: impl Future<Output = io::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, connecting).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => {
            let message = format!("cannot connect to {address}");
            Err(Error::new(ErrorKind::Unavailable, message).caused_by(error))
        }
        Err(_elapsed) => {
            let message = format!("cannot connect to {address} within {timeout:?}");
            Err(Error::new(ErrorKind::Timeout, message))
        }
    }
}

async fn open_socket(address: &str, keepalive: Option<Duration>) -> io::Result<Box<dyn Socket>> {
    if address.starts_with('/') {
        return Ok(Box::new(UnixStream::connect(address).await?));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // A connection that was given up must not deliver, from the system's buffer, what callers have long forgotten.
    stream.set_zero_linger()?;
    if let Some(idle) = keepalive {
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, idle.max(Duration::from_secs(1)))?;
    }
    Ok(Box::new(stream))
}

async fn ask_settings(socket: &mut dyn Socket) -> io::Result<Settings> {
    socket.write_all(b"stats settings\r\n").await?;
    let mut settings = Settings {
        item_size_max: u64::MAX,
        has_versions: true,
    };
    let mut inbox = BytesMut::with_capacity(4096);
    let mut at = 0;
    loop {
        match reply::parse(&inbox[at..]) {
            Ok(Parsed::Whole(head)) => {
                let line = &inbox[at..][head.body.clone()];
                match head.code {
                    Code::Stat => settings.note(line),
                    // A proxy may not tell: then large values are refused by the server itself.
                    Code::End | Code::Refused => return Ok(settings),
                    _ => return Err(io::Error::other("it does not speak Memcached's protocol")),
                }
                at += head.len;
            }
            Ok(Parsed::Partial(_)) if inbox.len() < MAX_SETTINGS_BYTES => {
                if socket.read_buf(&mut inbox).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            _ => return Err(io::Error::other("it does not speak Memcached's protocol")),
        }
    }
}

impl Settings {
    fn note(&mut self, line: &[u8]) {
        if let Some(bytes) = line.strip_prefix(b"item_size_max ") {
            let bytes = std::str::from_utf8(bytes).ok().and_then(|n| n.parse().ok());
            self.item_size_max = bytes.unwrap_or(u64::MAX);
        }
        if line == b"cas_enabled no" {
            self.has_versions = false;
        }
    }
}
