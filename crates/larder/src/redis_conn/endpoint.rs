//! Addresses with their login and encryption, ready to connect.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates,
};

use crate::error::{Error, ErrorKind, Result};

/// Files that encryption needs, all PEM.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    /// Certificates to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// This client's certificate and its private key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// Login, database and encryption that all servers of one group share.
#[derive(Clone)]
pub(crate) struct Template {
    info: ConnectionInfo,
    certificates: TlsCertificates,
}

/// One server, ready to connect.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) client: Client,
    /// `host:port` or a path, for messages; without a login.
    pub(crate) address: String,
}

impl Template {
    /// Reads a URL and the files of encryption; blocks for as long as reading them takes.
    pub(crate) fn new(url: &str, keepalive: Option<Duration>, tls: &TlsFiles) -> Result<Self> {
        let mut tcp = TcpSettings::default().set_nodelay(true);
        if let Some(idle) = keepalive {
            tcp = tcp.set_keepalive(TcpKeepalive::new().with_time(idle));
        }
        let info = url.into_connection_info().map_err(|error| {
            // The client's text may hold the URL, and the URL a password.
            Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the address is no Redis URL ({}): use redis://host:port/database",
                    error.category()
                ),
            )
        })?;
        let login = info.redis_settings().clone().set_skip_set_lib_name();
        let certificates = TlsCertificates {
            root_cert: tls.ca.as_ref().map(read).transpose()?,
            client_tls: match &tls.client {
                None => None,
                Some((cert, key)) => Some(ClientTlsConfig {
                    client_cert: read(cert)?,
                    client_key: read(key)?,
                }),
            },
        };
        Ok(Self {
            info: info.set_tcp_settings(tcp).set_redis_settings(login),
            certificates,
        })
    }

    /// Replaces the database.
    pub(crate) fn database(mut self, database: u32) -> Self {
        let login = self.info.redis_settings().clone();
        self.info = self
            .info
            .set_redis_settings(login.set_db(i64::from(database)));
        self
    }

    /// Replaces the login.
    pub(crate) fn login(mut self, user: Option<&str>, password: Option<&str>) -> Self {
        let mut login = self.info.redis_settings().clone();
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        self.info = self.info.set_redis_settings(login);
        self
    }

    /// Returns the server of the URL itself.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        Endpoint::new(self.info.clone(), &self.certificates)
    }

    /// Returns another server of the group.
    pub(crate) fn at(&self, host: &str, port: u16) -> Result<Endpoint> {
        let host = host.to_owned();
        let address = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: None,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        Endpoint::new(self.info.clone().set_addr(address), &self.certificates)
    }

    /// Returns whether connections are encrypted, so that names must fit certificates.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl Endpoint {
    fn new(info: ConnectionInfo, certificates: &TlsCertificates) -> Result<Self> {
        let address = describe(info.addr());
        let refused = |error: redis::RedisError| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the certificates for {address} cannot be used: check ca, cert and key"),
            )
            .caused_by(error)
        };
        let client = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            choose_cryptography();
            Client::build_with_tls(info, certificates.clone()).map_err(refused)?
        } else {
            Client::open(info).map_err(refused)?
        };
        Ok(Self { client, address })
    }
}

/// Picks ring, unless the application has chosen before.
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may just have done so, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("{} cannot be read", path.display());
        Error::new(ErrorKind::InvalidConfig, message).caused_by(error)
    })
}

fn describe(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Unix(path) => path.display().to_string(),
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            join(host, *port)
        }
        other => other.to_string(),
    }
}

/// Returns `host:port`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template")
            .field(&describe(self.info.addr()))
            .finish()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.address).finish()
    }
}
