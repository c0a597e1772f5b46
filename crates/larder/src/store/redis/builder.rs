//! How to reach Redis, option by option.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Redis;
use crate::error::{Error, ErrorKind, Result};
use crate::redis_conn::{Limits, Link, Template, TlsFiles, Topology};

/// Buckets of a cluster, unless told otherwise.
const CLUSTER_BUCKETS: u16 = 64;
/// A power of two in this range is a number of buckets.
const BUCKETS: std::ops::RangeInclusive<u16> = 16..=1024;

/// What stands behind the addresses.
#[derive(Debug, Clone)]
enum Kind {
    Single,
    Sentinel(String),
    Cluster,
}

/// Options of a [`Redis`] store; see [`Redis::builder`], [`Redis::cluster`] and [`Redis::sentinel`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    kind: Kind,
    urls: Vec<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<u32>,
    limits: Limits,
    keepalive: Option<Duration>,
    encrypted: bool,
    tls: TlsFiles,
    buckets: u16,
}

impl Builder {
    pub(super) fn single(url: String) -> Self {
        Self::new(Kind::Single, vec![url])
    }

    pub(super) fn sentinel(urls: Vec<String>, service: String) -> Self {
        Self::new(Kind::Sentinel(service), urls)
    }

    pub(super) fn cluster(urls: Vec<String>) -> Self {
        Self {
            buckets: CLUSTER_BUCKETS,
            ..Self::new(Kind::Cluster, urls)
        }
    }

    fn new(kind: Kind, urls: Vec<String>) -> Self {
        Self {
            kind,
            urls,
            user: None,
            password: None,
            database: None,
            limits: Limits::default(),
            keepalive: Some(Duration::from_mins(1)),
            encrypted: false,
            tls: TlsFiles::default(),
            buckets: 1,
        }
    }

    /// The user to log in as; default that of the URL. Behind sentinels, the user of the primary.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password; default that of the URL. Behind sentinels, the password of the primary.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The database; default that of the URL, else 0. A cluster has only 0.
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// How long connecting may take, login included; default 250 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// How long one reply may take; default 500 ms. On a cluster, less than half of `cluster-node-timeout`: then
    /// nobody uses what a paused primary still answers after its replica took over.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.limits.response_timeout = timeout;
        self
    }

    /// Connections to each server, 1 to 64; default 1. Each carries any number of calls at once.
    pub fn connections(mut self, connections: u16) -> Self {
        self.limits.connections = connections;
        self
    }

    /// Calls to one server that may be under way at once; default 65,536. More are refused as `Overloaded`. Reads and
    /// puts that go out together count as one.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.limits.max_in_flight = calls;
        self
    }

    /// The idle time before the system probes a connection; default 1 min, `None`: never.
    pub fn tcp_keepalive(mut self, idle: Option<Duration>) -> Self {
        self.keepalive = idle;
        self
    }

    /// Encrypts the connections to the primary behind sentinels; elsewhere the URLs say so (`rediss://`).
    pub fn encrypted(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        self
    }

    /// A file of certificates (PEM) to trust instead of the system's.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// The files (PEM) of this client's certificate and its private key.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// In how many slots a cluster keeps a namespace: a power of two from 16 to 1024, default 64; one server has one.
    ///
    /// More slots spread the load over more servers, and make `clear` touch more registers. All processes of a
    /// cluster must agree: the number is stored in the cluster, and another one is refused.
    pub fn buckets(mut self, buckets: u16) -> Self {
        self.buckets = buckets;
        self
    }

    /// Connects, and fails if a primary does not answer. Cost: two round trips, and one for the list of servers.
    ///
    /// # Errors
    /// `InvalidConfig`: an address, file or login that cannot be used, or another number of buckets than the cluster
    /// has; `Unavailable`, `Timeout`: a server cannot be reached.
    pub async fn connect(self) -> Result<Redis> {
        let store = self.build_lazy()?;
        // In a box: callers' own futures stay small, and shallow for the compiler.
        Box::pin(store.inner.link.connect()).await?;
        Box::pin(store.inner.ready()).await?;
        Ok(store)
    }

    /// Returns a store that connects on its first use, and then checks what [`connect`](Self::connect) does.
    ///
    /// # Errors
    /// `InvalidConfig`: an address or file that cannot be used.
    pub fn build_lazy(self) -> Result<Redis> {
        self.check()?;
        let templates = self
            .urls
            .iter()
            .map(|url| Template::new(url, self.keepalive, &self.tls));
        let templates = templates.collect::<Result<Vec<_>>>()?;
        let first = templates.first().cloned().ok_or_else(no_address)?;
        let endpoints = |logged_in: bool| {
            let templates = templates.iter().map(|template| {
                let template = template.clone();
                let template = if logged_in {
                    self.log_in(template)
                } else {
                    template
                };
                template.endpoint()
            });
            templates.collect::<Result<Vec<_>>>()
        };
        let topology = match &self.kind {
            Kind::Single => Topology::Single(self.log_in(first).endpoint()?),
            Kind::Cluster => Topology::Cluster {
                seeds: endpoints(true)?,
                node: self.log_in(first),
            },
            Kind::Sentinel(service) => Topology::Sentinel {
                sentinels: endpoints(false)?,
                service: service.clone(),
                primary: self.log_in(self.primary()?),
            },
        };
        Ok(Redis::new(Link::new(topology, self.limits), self.buckets))
    }

    /// Returns the template of the primary behind sentinels, whose login is not theirs.
    fn primary(&self) -> Result<Template> {
        let is_secure = |url: &String| url.starts_with("rediss:") || url.starts_with("valkeys:");
        let encrypted = self.encrypted || self.urls.iter().any(is_secure);
        let scheme = if encrypted { "rediss" } else { "redis" };
        Template::new(&format!("{scheme}://primary"), self.keepalive, &self.tls)
    }

    fn log_in(&self, template: Template) -> Template {
        let template = template.login(self.user.as_deref(), self.password.as_deref());
        match self.database {
            Some(database) => template.database(database),
            None => template,
        }
    }

    fn check(&self) -> Result<()> {
        let invalid = |message: &'static str| Err(Error::new(ErrorKind::InvalidConfig, message));
        let is_cluster = matches!(self.kind, Kind::Cluster);
        if is_cluster && self.database.unwrap_or(0) != 0 {
            return invalid("a cluster has only database 0");
        }
        if is_cluster && !(self.buckets.is_power_of_two() && BUCKETS.contains(&self.buckets)) {
            return invalid("buckets must be a power of two from 16 to 1024");
        }
        if !is_cluster && self.buckets != 1 {
            return invalid("only a cluster has buckets");
        }
        if !(1..=64).contains(&self.limits.connections) {
            return invalid("connections must be from 1 to 64");
        }
        if self.limits.connect_timeout.is_zero() || self.limits.response_timeout.is_zero() {
            return invalid("a timeout must not be zero");
        }
        Ok(())
    }
}

fn no_address() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "there is no address to connect to",
    )
}

/// Shows no address: it may hold a password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("kind", &self.kind)
            .field("limits", &self.limits)
            .field("buckets", &self.buckets)
            .finish_non_exhaustive()
    }
}
