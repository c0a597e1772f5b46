//! How to reach a server: addresses, login, timeouts, TLS.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use super::typed::Table;
use super::url;

/// The connection to one server or to the servers of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// The address as a URL, made of `host` and `port` where those are set; `None` when there are `servers`.
    pub url: Option<Secret>,
    /// Cluster nodes, sentinels or Memcached servers as `host:port`, ports filled in.
    pub servers: Vec<String>,
    /// The name that the sentinels know the primary by, default `mymaster`; `None` without sentinels.
    pub service: Option<String>,
    /// The database, where it is not the one of the URL.
    pub database: Option<u32>,
    /// The user, where it is not the one of the URL.
    pub user: Option<String>,
    /// The password, where it is not the one of the URL.
    pub password: Option<Secret>,
    /// A file to read the password from; never together with `password`.
    pub password_file: Option<PathBuf>,
    /// The user of the sentinels.
    pub sentinel_user: Option<String>,
    /// The password of the sentinels.
    pub sentinel_password: Option<Secret>,
    /// How long connecting may take. Default 250 ms for stores, 2.5 s for queues.
    pub connect_timeout: Duration,
    /// How long one reply may take. Default 500 ms for stores, 5 s for queues.
    pub response_timeout: Duration,
    /// Connections to each server, 1 to 64. Default 1 for stores, 4 for queues.
    pub connections: u16,
    /// The idle time before the system probes a connection; `None`: never. Default 1 min.
    pub tcp_keepalive: Option<Duration>,
    /// Encryption.
    pub tls: Tls,
}

/// The encryption of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tls {
    /// Whether the connection is encrypted, by `tls` or by the URL's scheme.
    pub enabled: bool,
    /// Certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// This client's certificate; with `key`.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    pub key: Option<PathBuf>,
}

impl Connection {
    pub(super) fn read(table: &Table<'_>, driver: &str) -> Self {
        let url = table.text("url");
        let secure = url
            .as_deref()
            .and_then(url::split)
            .is_some_and(|parts| matches!(parts.scheme, "rediss" | "valkeys"));
        let tls = Tls {
            enabled: table.flag("tls") || secure,
            ca: table.path("ca"),
            cert: table.path("cert"),
            key: table.path("key"),
        };
        let default_port = default_port(driver);
        let port = table.optional_integer("port").unwrap_or(default_port);
        let host = table.text("host").map(|host| address(&host, port));
        let mut servers: Vec<String> = table
            .list("servers")
            .iter()
            .map(|server| with_port(server, default_port))
            .collect();
        let url = match host {
            Some(server) if driver == "memcached" => {
                servers.push(server);
                None
            }
            Some(server) => Some(format!("{}://{server}", scheme(tls.enabled))),
            None => url,
        };
        Self {
            url: url.map(Secret::new),
            servers,
            service: table.text("service").filter(|_| driver == "redis-sentinel"),
            database: table.optional_integer("database"),
            user: table.text("user"),
            password: table.secret("password"),
            password_file: table.path("password_file"),
            sentinel_user: table.text("sentinel_user"),
            sentinel_password: table.secret("sentinel_password"),
            connect_timeout: table.duration("connect_timeout"),
            response_timeout: table.duration("response_timeout"),
            connections: table.integer("connections"),
            tcp_keepalive: table.nonzero("tcp_keepalive"),
            tls,
        }
    }

    /// Returns the complete URLs for a client: scheme, login and database filled in.
    ///
    /// One for each server of a cluster. With sentinels, theirs with their own login: the primary
    /// that they name takes `user`, `password` and `database`. `password` is used instead of the
    /// configured one: pass the content of [`Connection::password_file`], when there is one. Not for
    /// Memcached, whose servers have no URLs.
    #[must_use]
    pub fn urls(&self, password: Option<&str>) -> Vec<Secret> {
        let scheme = scheme(self.tls.enabled);
        let servers = self
            .servers
            .iter()
            .map(|server| format!("{scheme}://{server}"));
        let url = self.url.iter().map(|url| url.expose().to_owned());
        url.chain(servers)
            .map(|url| self.complete(&url, password))
            .collect()
    }

    fn complete(&self, url: &str, password: Option<&str>) -> Secret {
        if self.service.is_some() {
            let password = self.sentinel_password.as_ref().map(Secret::expose);
            let user = self.sentinel_user.as_deref();
            return Secret::new(url::with_credentials(url, user, password));
        }
        let own_password = self.password.as_ref().map(Secret::expose);
        let password = password.or(own_password);
        let url = with_database(url, self.database);
        Secret::new(url::with_credentials(&url, self.user.as_deref(), password))
    }
}

fn scheme(encrypted: bool) -> &'static str {
    if encrypted { "rediss" } else { "redis" }
}

/// Puts a database into a URL, in place of its own.
fn with_database(url: &str, database: Option<u32>) -> String {
    let Some(database) = database else {
        return url.to_owned();
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    if scheme.ends_with("unix") {
        let separator = if rest.contains('?') { '&' } else { '?' };
        return format!("{url}{separator}db={database}");
    }
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, format!("?{query}")),
        None => (rest, String::new()),
    };
    let host_start = before_query.rfind('@').map_or(0, |at| at + 1);
    let host_end = before_query[host_start..]
        .find('/')
        .map_or(before_query.len(), |slash| host_start + slash);
    format!("{scheme}://{}/{database}{query}", &before_query[..host_end])
}

pub(super) fn default_port(driver: &str) -> u16 {
    match driver {
        "memcached" => 11211,
        "redis-sentinel" => 26379,
        _ => 6379,
    }
}

/// Writes host and port, an IPv6 address in brackets.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Fills in the port of `host[:port]`. A socket path stays as it is.
fn with_port(server: &str, port: u16) -> String {
    match split_port(server) {
        Some((_, Some(_))) | None => server.to_owned(),
        Some((host, None)) => address(host, port),
    }
}

/// Splits `host[:port]`; `None` when it is not of that form.
pub(super) fn split_port(server: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (_, after) = rest.split_once(']')?;
            let host = &server[..server.len() - after.len()];
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match server.split_once(':') {
            // More than one colon: an IPv6 address without a port.
            Some((_, rest)) if rest.contains(':') => (server, None),
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let plain = |c: char| c.is_alphanumeric() || "-._:[]%".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    match port {
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 => Some((host, Some(number))),
            _ => None,
        },
        None => Some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_ports() {
        for (server, expected) in [
            ("h", Some(("h", None))),
            ("10.0.0.1:80", Some(("10.0.0.1", Some(80)))),
            ("[::1]:80", Some(("[::1]", Some(80)))),
            ("::1", Some(("::1", None))),
            ("h:0", None),
            ("h:70000", None),
            (":80", None),
            ("redis://h", None),
            ("[::1", None),
            ("", None),
        ] {
            assert_eq!(split_port(server), expected, "{server}");
        }
        assert_eq!(with_port("::1", 6379), "[::1]:6379");
    }

    #[test]
    fn a_database_replaces_that_of_the_url() {
        for (url, expected) in [
            ("redis://h", "redis://h/3"),
            ("redis://u:a/b@h:1/0?x=y", "redis://u:a/b@h:1/3?x=y"),
            ("unix:///run/r.sock", "unix:///run/r.sock?db=3"),
        ] {
            assert_eq!(with_database(url, Some(3)), expected);
        }
    }
}
