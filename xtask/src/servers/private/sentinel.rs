//! A master and its replica under the watch of three sentinels.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::super::resp::Value;
use super::super::{Lifetime, Place, Process};
use super::redis::{RedisServer, custom_launch, owned, usual_args};
use super::{Daemon, new_home, wait_until};

/// What the sentinels call the master.
pub const MASTER_NAME: &str = "mymaster";

const SENTINELS: usize = 3;

/// How long the group may take to find each other; two seconds are usual, because sentinels greet that often.
const FORMED_WITHIN: Duration = Duration::from_secs(30);

/// How long a failover that was asked for may take.
const FAILOVER_WITHIN: Duration = Duration::from_secs(20);

/// A master, a replica and three sentinels, killed when dropped.
///
/// The master counts as down after 1 second, if two sentinels say so; another try at a failover begins after 3 seconds.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    // Dropped last: the servers write to it.
    _home: Option<TempDir>,
}

impl RedisSentinel {
    /// Starts the group and returns once every sentinel knows the master, the replica and the other two.
    ///
    /// # Errors
    ///
    /// When a process does not get ready, or they do not find each other.
    pub fn start() -> Result<Self> {
        Self::with_args(&[])
    }

    /// Starts the group; master and replica have more arguments, such as `["--appendonly", "yes"]`; passwords are not
    /// supported.
    ///
    /// # Errors
    ///
    /// When a process does not get ready, or they do not find each other.
    pub fn with_args(args: &[&str]) -> Result<Self> {
        let home = new_home()?;
        let mut group = Self::start_in(home.path(), Lifetime::Program, args)?;
        group._home = Some(home);
        Ok(group)
    }

    pub(crate) fn start_in(dir: &Path, lifetime: Lifetime, args: &[&str]) -> Result<Self> {
        let start = |name, role| start_server(dir, name, lifetime, role, args);
        let master = start("watched-1", String::new())?;
        let role = |master: SocketAddr| format!("replicaof {} {}\n", master.ip(), master.port());
        let replica = start("watched-2", role(master.address()))?;
        let address = master.address();
        // Sentinels ask for replicas at once, and then not again for 10 seconds.
        wait_until("a replica in step", FORMED_WITHIN, || {
            let info = master.call(&["INFO", "replication"])?.text();
            Ok(info.contains("state=online"))
        })?;
        let sentinels =
            (1..=SENTINELS).map(|number| start_sentinel(dir, number, lifetime, address));
        let group = Self {
            sentinels: sentinels.collect::<Result<_>>()?,
            servers: vec![master, replica],
            _home: None,
        };
        group.wait_until_whole(FORMED_WITHIN)?;
        Ok(group)
    }

    /// Returns the two servers with data; the first is the master until a failover.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Returns the sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Returns the addresses of the sentinels.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let sentinels = self.sentinels.iter();
        sentinels.map(|sentinel| sentinel.address()).collect()
    }

    /// Returns the master's address, as most of the running sentinels have it.
    ///
    /// # Errors
    ///
    /// When they do not agree, or do not answer.
    pub fn master_address(&self) -> Result<SocketAddr> {
        let sentinels = self.running_sentinels();
        let masters = sentinels.map(ask_master).collect::<Result<Vec<_>>>()?;
        let count = |address: &SocketAddr| masters.iter().filter(|&other| other == address).count();
        let agreed = masters
            .iter()
            .find(|address| count(address) * 2 > masters.len());
        agreed.copied().context("the sentinels do not agree")
    }

    /// Returns the server that is the master.
    ///
    /// # Errors
    ///
    /// When the sentinels do not agree, or do not answer.
    pub fn master(&self) -> Result<&RedisServer> {
        let address = self.master_address()?;
        let mut servers = self.servers.iter();
        let master = servers.find(|server| server.address() == address);
        master.with_context(|| format!("{address} is not one of the servers"))
    }

    /// Makes the replica the master, while the master lives, and waits until all running sentinels say so.
    ///
    /// # Errors
    ///
    /// When the sentinels refuse, or it takes too long.
    pub fn failover(&self) -> Result<()> {
        let old = self.master_address()?;
        let sentinel = self.running_sentinels().next();
        let sentinel = sentinel.context("no sentinel runs")?;
        sentinel.call(&["SENTINEL", "FAILOVER", MASTER_NAME])?;
        self.wait_for_failover(old, FAILOVER_WITHIN)
    }

    /// Waits until all running sentinels name another master than `old`, and it says it is one.
    ///
    /// # Errors
    ///
    /// When that takes longer than `within`.
    pub fn wait_for_failover(&self, old: SocketAddr, within: Duration) -> Result<()> {
        wait_until("a failover", within, || {
            for sentinel in self.running_sentinels() {
                if ask_master(sentinel)? == old {
                    return Ok(false);
                }
            }
            let role = self.master()?.call(&["ROLE"])?;
            Ok(role
                .items()
                .first()
                .is_some_and(|role| role.text() == "master"))
        })
    }

    /// Waits until every sentinel knows a healthy master, a replica in step with it and the other two sentinels.
    ///
    /// Sentinels let half a minute pass before they turn a master of old into a replica and look at it again.
    ///
    /// # Errors
    ///
    /// When that takes longer than `within`.
    pub fn wait_until_whole(&self, within: Duration) -> Result<()> {
        wait_until("a whole group of sentinels", within, || {
            for sentinel in &self.sentinels {
                if !is_content(sentinel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    pub(crate) fn into_processes(self) -> Vec<Process> {
        let servers = self.servers.into_iter().chain(self.sentinels);
        servers.map(RedisServer::into_process).collect()
    }

    fn running_sentinels(&self) -> impl Iterator<Item = &RedisServer> {
        let sentinels = self.sentinels.iter();
        sentinels.filter(|sentinel| sentinel.is_running())
    }
}

/// Starts a server with a file in which the sentinels can have it note down whom it follows.
fn start_server(
    dir: &Path,
    name: &str,
    lifetime: Lifetime,
    role: String,
    args: &[&str],
) -> Result<RedisServer> {
    let extra = owned(args);
    let launch = custom_launch(name, lifetime, move |place| {
        let config = write_once(place, "redis.conf", &role)?;
        Ok([vec![config], usual_args(place), extra.clone()].concat())
    });
    Ok(RedisServer::from(Daemon::start_in(dir, launch)?))
}

fn start_sentinel(
    dir: &Path,
    number: usize,
    lifetime: Lifetime,
    master: SocketAddr,
) -> Result<RedisServer> {
    let name = format!("sentinel-{number}");
    let launch = custom_launch(&name, lifetime, move |place| {
        let (ip, port) = (master.ip(), master.port());
        let text = format!(
            "bind 127.0.0.1\n\
             port {}\n\
             dir {}\n\
             sentinel monitor {MASTER_NAME} {ip} {port} 2\n\
             sentinel down-after-milliseconds {MASTER_NAME} 1000\n\
             sentinel failover-timeout {MASTER_NAME} 3000\n",
            place.port,
            place.dir.display(),
        );
        let config = write_once(place, "sentinel.conf", &text)?;
        Ok(vec![config, "--sentinel".to_owned()])
    });
    Ok(RedisServer::from(Daemon::start_in(dir, launch)?))
}

/// Writes a configuration unless there is one: the server keeps in it what it learns.
fn write_once(place: &Place, name: &str, text: &str) -> Result<String> {
    let path = place.dir.join(name);
    if !path.exists() {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path.display().to_string())
}

fn ask_master(sentinel: &RedisServer) -> Result<SocketAddr> {
    let reply = sentinel.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME])?;
    let [ip, port] = reply.items() else {
        bail!("the sentinel knows no {MASTER_NAME}");
    };
    Ok(SocketAddr::new(ip.text().parse()?, port.text().parse()?))
}

/// Tells whether a sentinel knows a healthy master, a replica in step with it, and the other sentinels.
fn is_content(sentinel: &RedisServer) -> Result<bool> {
    let mut connection = sentinel.connect()?;
    let master = connection.call(&["SENTINEL", "MASTER", MASTER_NAME])?;
    let replicas = connection.call(&["SENTINEL", "REPLICAS", MASTER_NAME])?;
    let others = (SENTINELS - 1).to_string();
    let [replica] = replicas.items() else {
        return Ok(false);
    };
    let has =
        |value: &Value, name: &str, expected: &str| value.field(name).as_deref() == Some(expected);
    Ok(has(&master, "flags", "master")
        && has(&master, "num-other-sentinels", &others)
        && has(replica, "flags", "slave")
        && has(replica, "master-link-status", "ok"))
}
