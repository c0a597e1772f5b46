//! A Redis server, alone or as part of a group.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::super::resp::{Connection, Value};
use super::super::{Launch, Lifetime, Place, Process, Program, tls};
use super::Daemon;

/// What runs Redis, Sentinel too.
pub(crate) const REDIS: Program = Program {
    package: "redis-server",
    binary: "redis-server",
};

/// How long a server may take until it answers, which includes loading its data.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// The file below the directory of a server that clients of the same host may connect to.
const SOCKET: &str = "redis.sock";

/// The directory of the certificates, beside that of the server.
const CERTIFICATES: &str = "tls";

/// A Redis server, killed when dropped.
///
/// It keeps nothing on disk and needs no password unless its arguments say otherwise.
#[derive(Debug)]
pub struct RedisServer {
    daemon: Daemon,
    password: Option<String>,
    certificates: Option<PathBuf>,
}

impl RedisServer {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub fn start() -> Result<Self> {
        Self::with_args(&[])
    }

    /// Starts a server with more arguments, such as `["--appendonly", "yes"]`, which win over the usual ones.
    ///
    /// # Errors
    ///
    /// When it does not get ready.
    pub fn with_args(args: &[&str]) -> Result<Self> {
        let extra = owned(args);
        let launch = custom_launch("redis", Lifetime::Program, move |place| {
            Ok([usual_args(place), extra.clone()].concat())
        });
        let daemon = Daemon::start(|_| Ok(launch))?;
        Ok(Self {
            password: password_of(args),
            ..Self::from(daemon)
        })
    }

    /// Starts a server that speaks TLS on a second port; clients may come without a certificate, unless `args` have
    /// `["--tls-auth-clients", "yes"]`.
    ///
    /// # Errors
    ///
    /// When it does not get ready, or the certificates cannot be made.
    pub fn with_tls(args: &[&str]) -> Result<Self> {
        let mut certificates = None;
        let daemon = Daemon::start(|home| {
            let dir = certificates.insert(home.join(CERTIFICATES));
            tls_launch("redis", Lifetime::Program, dir, owned(args))
        })?;
        Ok(Self {
            password: password_of(args),
            certificates,
            ..Self::from(daemon)
        })
    }

    /// Starts a server as [`with_tls`](Self::with_tls) does, with its files below `dir`.
    pub(crate) fn start_in(
        dir: &Path,
        name: &str,
        lifetime: Lifetime,
        args: &[&str],
    ) -> Result<Self> {
        let certificates = dir.join(CERTIFICATES);
        let launch = tls_launch(name, lifetime, &certificates, owned(args))?;
        Ok(Self {
            password: password_of(args),
            certificates: Some(certificates),
            ..Self::from(Daemon::start_in(dir, launch)?)
        })
    }

    /// Returns the address as a URL, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self.password.iter().map(|password| format!(":{password}@"));
        format!("redis://{}{}/", login.collect::<String>(), self.address())
    }

    /// Returns where the server speaks TLS and the directory of its certificates, if it was started with that.
    ///
    /// Its certificate is for `localhost` and `127.0.0.1`; the directory has `ca.pem`, `other-ca.pem`, which did not sign
    /// it, and `client.pem` with `client.key`.
    #[must_use]
    pub fn tls(&self) -> Option<(SocketAddr, &Path)> {
        let certificates = self.certificates.as_deref()?;
        Some((self.second_address(), certificates))
    }

    /// Returns the path of the unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir().join(SOCKET)
    }

    /// Connects to the server, past its password.
    ///
    /// # Errors
    ///
    /// When it cannot be reached.
    pub fn connect(&self) -> Result<Connection> {
        let mut connection = Connection::open(self.address())?;
        if let Some(password) = &self.password {
            connection.call(&["AUTH", password])?;
        }
        Ok(connection)
    }

    /// Sends one command on a connection of its own and returns the reply.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or replies with an error.
    pub fn call(&self, command: &[&str]) -> Result<Value> {
        self.connect()?.call(command)
    }

    pub(crate) fn into_process(self) -> Process {
        self.daemon.into_process()
    }
}

impl From<Daemon> for RedisServer {
    fn from(daemon: Daemon) -> Self {
        Self {
            daemon,
            password: None,
            certificates: None,
        }
    }
}

impl Deref for RedisServer {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

/// Returns how to run a server that speaks TLS on the second port, with its certificates in `dir`.
fn tls_launch(name: &str, lifetime: Lifetime, dir: &Path, extra: Vec<String>) -> Result<Launch> {
    tls::make_certificates(dir)?;
    let file = |name: &str| dir.join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    Ok(custom_launch(name, lifetime, move |place| {
        let port = place.second_port.to_string();
        let tls = owned(&[
            "--tls-port",
            &port,
            "--tls-ca-cert-file",
            &ca,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-auth-clients",
            "optional",
        ]);
        Ok([usual_args(place), tls, extra.clone()].concat())
    }))
}

/// Returns how to run the program of Redis with arguments of any kind.
pub(super) fn custom_launch(
    name: &str,
    lifetime: Lifetime,
    args: impl Fn(&Place) -> Result<Vec<String>> + Send + Sync + 'static,
) -> Launch {
    Launch {
        name: name.to_owned(),
        binary: REDIS.binary,
        args: Box::new(args),
        is_ready,
        ready_within: READY_WITHIN,
        lifetime,
    }
}

/// Returns the arguments that every server has: nothing on disk, no waiting when it is replicated or told to end.
pub(super) fn usual_args(place: &Place) -> Vec<String> {
    let (port, dir) = (place.port.to_string(), place.dir.display().to_string());
    let args = [
        ["--bind", "127.0.0.1"],
        ["--port", &port],
        ["--dir", &dir],
        ["--unixsocket", SOCKET],
        ["--unixsocketperm", "700"],
        ["--databases", "16"],
        ["--save", ""],
        ["--appendonly", "no"],
        ["--repl-diskless-sync-delay", "0"],
        ["--shutdown-timeout", "0"],
    ];
    owned(args.as_flattened())
}

pub(super) fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

fn password_of(args: &[&str]) -> Option<String> {
    let mut pairs = args.windows(2);
    let pair = pairs.find(|pair| pair[0] == "--requirepass")?;
    Some(pair[1].to_owned())
}

/// Tells whether a server answers: an error counts too, except that it is still loading its data.
fn is_ready(place: &Place) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], place.port));
    let Ok(mut connection) = Connection::open_within(address, PROBE_LIMIT) else {
        return false;
    };
    let reply = connection.call(&["PING"]).context("PING");
    reply.map_or_else(|error| format!("{error:#}").contains("NOAUTH"), |_| true)
}
