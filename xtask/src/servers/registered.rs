//! Every server that the tests of the workspace need, and the variables that say where it is.

use std::env;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::private::{MEMCACHED, MemcachedServer, REDIS, RedisCluster, RedisSentinel, RedisServer};
use super::{Export, Group, Lifetime, Started, tls};

/// All groups that the tests of the workspace need.
pub const REGISTERED: &[Group] = &[
    Group {
        name: "redis",
        programs: &[REDIS, tls::OPENSSL],
        start: redis,
    },
    Group {
        name: "redis-cluster",
        programs: &[REDIS],
        start: redis_cluster,
    },
    Group {
        name: "redis-sentinel",
        programs: &[REDIS],
        start: redis_sentinel,
    },
    Group {
        name: "memcached",
        programs: &[MEMCACHED],
        start: memcached,
    },
    Group {
        name: "memcached-small",
        programs: &[MEMCACHED],
        start: memcached_small,
    },
];

/// The user of the Redis server that has a password; the default user has none.
const USER: &str = "larder";
const PASSWORD: &str = "secret";

/// Set to `none` by the tests of this crate, which are about what happens around the servers.
const SELECTION: &str = "LARDER_TEST_SERVERS";

/// Returns [`REGISTERED`], or nothing when `LARDER_TEST_SERVERS=none`.
///
/// That leaves no test out in silence: where tests run strictly, those that miss their server fail.
#[must_use]
pub fn registered() -> &'static [Group] {
    match env::var(SELECTION).as_deref() {
        Ok("none") => &[],
        _ => REGISTERED,
    }
}

fn redis(dir: &Path) -> Result<Started> {
    let password = format!(">{PASSWORD}");
    let user = ["--user", USER, "on", &password, "~*", "&*", "+@all"];
    let server = RedisServer::start_in(dir, "redis", Lifetime::Own, &user)?;
    let address = server.address();
    let mut exports = vec![
        export("REDIS_URL", &server.url()),
        export("REDIS_UNIX", &server.socket().display()),
        export(
            "REDIS_ACL_URL",
            &format!("redis://{USER}:{PASSWORD}@{address}/"),
        ),
    ];
    if let Some((address, certificates)) = server.tls() {
        // By name, because the certificate is to be checked against one.
        let url = format!("rediss://localhost:{}/", address.port());
        exports.push(export("REDIS_TLS_URL", &url));
        exports.push(export("REDIS_TLS_DIR", &certificates.display()));
    }
    Ok(Started {
        processes: vec![server.into_process()],
        exports,
    })
}

fn redis_cluster(dir: &Path) -> Result<Started> {
    let cluster = RedisCluster::start_in(dir, Lifetime::Own, &[])?;
    Ok(Started {
        exports: vec![export("REDIS_CLUSTER", &list(&cluster.addresses()))],
        processes: cluster.into_processes(),
    })
}

fn redis_sentinel(dir: &Path) -> Result<Started> {
    let group = RedisSentinel::start_in(dir, Lifetime::Own, &[])?;
    Ok(Started {
        exports: vec![export("REDIS_SENTINELS", &list(&group.addresses()))],
        processes: group.into_processes(),
    })
}

fn memcached(dir: &Path) -> Result<Started> {
    let args = ["-I", "32m", "-m", "256"];
    start_memcached(dir, "MEMCACHED", "memcached", &args)
}

fn memcached_small(dir: &Path) -> Result<Started> {
    start_memcached(dir, "MEMCACHED_SMALL", "memcached-small", &[])
}

fn start_memcached(dir: &Path, variable: &str, name: &str, args: &[&str]) -> Result<Started> {
    let server = MemcachedServer::start_in(dir, name, Lifetime::Own, args)?;
    Ok(Started {
        exports: vec![export(variable, &server.address())],
        processes: vec![server.into_process()],
    })
}

fn export(name: &str, value: &dyn Display) -> Export {
    (format!("LARDER_TEST_{name}"), value.to_string())
}

fn list(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(",")
}
