//! Opens the stores that are servers.

use std::sync::Arc;

use crate::config::{Connection, Driver, StoreConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Opens a store on servers; `lazy`: without asking whether they answer.
///
/// # Errors
/// `InvalidConfig`: something the servers refuse; `Unsupported`: a driver that is not built in; `Unavailable`,
/// `Timeout`: no answer, unless lazy.
pub(super) async fn open(config: &StoreConfig, lazy: bool) -> Result<Arc<dyn Store>> {
    let missing = || Error::new(ErrorKind::InvalidConfig, "the store needs an address");
    match config.driver {
        Driver::Redis | Driver::RedisSentinel | Driver::RedisCluster => {
            redis(
                config,
                config.connection.as_ref().ok_or_else(missing)?,
                lazy,
            )
            .await
        }
        Driver::Memcached => memcached(config.connection.as_ref().ok_or_else(missing)?, lazy).await,
        other => Err(super::open::not_built_in(other)),
    }
}

#[cfg(feature = "redis")]
async fn redis(
    config: &StoreConfig,
    connection: &Connection,
    lazy: bool,
) -> Result<Arc<dyn Store>> {
    use crate::store::Redis;

    let password = password(connection)?;
    let urls = connection.urls(password.as_deref());
    let mut urls = urls.iter().map(|url| url.expose().to_owned());
    let mut builder = match config.driver {
        Driver::RedisCluster => Redis::cluster(urls).buckets(config.buckets),
        Driver::RedisSentinel => {
            let service = connection.service.as_deref().unwrap_or("mymaster");
            let mut builder = Redis::sentinel(urls, service).encrypted(connection.tls.enabled);
            let own = connection
                .password
                .as_ref()
                .map(|secret| secret.expose().to_owned());
            if let Some(password) = password.or(own) {
                builder = builder.password(password);
            }
            if let Some(user) = &connection.user {
                builder = builder.user(user);
            }
            if let Some(database) = connection.database {
                builder = builder.database(database);
            }
            builder
        }
        _ => Redis::builder(urls.next().unwrap_or_default()),
    };
    builder = builder
        .connect_timeout(connection.connect_timeout)
        .response_timeout(connection.response_timeout)
        .connections(connection.connections)
        .tcp_keepalive(connection.tcp_keepalive);
    if let Some(ca) = &connection.tls.ca {
        builder = builder.ca(ca);
    }
    if let (Some(cert), Some(key)) = (&connection.tls.cert, &connection.tls.key) {
        builder = builder.client_certificate(cert, key);
    }
    Ok(Arc::new(if lazy {
        builder.build_lazy()?
    } else {
        builder.connect().await?
    }))
}

/// Reads the file that holds the password; a final line break is not part of it.
#[cfg(feature = "redis")]
fn password(connection: &Connection) -> Result<Option<String>> {
    let Some(path) = &connection.password_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("the password file {} cannot be read", path.display());
        Error::new(ErrorKind::InvalidConfig, message).caused_by(error)
    })?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(not(feature = "redis"))]
#[expect(clippy::unused_async, reason = "as its twin")]
async fn redis(config: &StoreConfig, _: &Connection, _: bool) -> Result<Arc<dyn Store>> {
    Err(super::open::not_built_in(config.driver))
}

#[cfg(feature = "memcached")]
async fn memcached(connection: &Connection, lazy: bool) -> Result<Arc<dyn Store>> {
    let [server] = connection.servers.as_slice() else {
        let message =
            "memcached with several servers needs the driver sharded, with a node for each";
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    };
    let builder = crate::store::Memcached::builder(server)
        .connect_timeout(connection.connect_timeout)
        .response_timeout(connection.response_timeout)
        .connections(usize::from(connection.connections))
        .tcp_keepalive(connection.tcp_keepalive);
    Ok(Arc::new(if lazy {
        builder.build_lazy()?
    } else {
        builder.connect().await?
    }))
}

#[cfg(not(feature = "memcached"))]
#[expect(clippy::unused_async, reason = "as its twin")]
async fn memcached(_: &Connection, _: bool) -> Result<Arc<dyn Store>> {
    Err(super::open::not_built_in(Driver::Memcached))
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    #[tokio::test]
    async fn nothing_that_is_shown_holds_a_password() {
        for (driver, address) in [
            ("redis", "url=redis://ann:hunter2@127.0.0.1:1/0"),
            ("redis", "host=127.0.0.1"),
            ("redis-cluster", "url=rediss://ann:hunter2@127.0.0.1:1"),
            ("redis-cluster", "servers=127.0.0.1:1"),
            ("redis-sentinel", "servers=127.0.0.1:1"),
        ] {
            let (key, value) = address.split_once('=').unwrap();
            let mut sources = Sources::new()
                .flag("cache.default", "shared")
                .flag("stores.shared.driver", driver)
                .flag(format!("stores.shared.{key}"), value);
            if key != "url" {
                sources = sources.flag("stores.shared.password", "hunter2");
            }
            if key == "host" {
                sources = sources.flag("stores.shared.port", "1");
            }
            if driver == "redis-sentinel" {
                sources = sources.flag("stores.shared.sentinel_password", "hunter2");
            }
            let loaded = Config::load(&sources).unwrap();
            let config = &loaded.config.stores["shared"];
            let store = open(config, true).await.unwrap();
            let refused = store.ping().await.unwrap_err();
            let shown = [
                format!("{loaded:?}"),
                format!("{store:?}"),
                format!("{refused:?} {refused} {}", refused.explained()),
                format!("{:?}", crate::Larder::nodes_of(&loaded).await),
                format!("{:?}", store.stats().await),
                config.servers_label(),
            ];
            for text in shown {
                assert!(!text.contains("hunter2"), "{driver} {key}: {text}");
            }
        }
    }

    #[tokio::test]
    async fn a_cluster_gets_the_configured_number_of_buckets() {
        let sources = Sources::new()
            .flag("cache.default", "shared")
            .flag("stores.shared.driver", "redis-cluster")
            .flag("stores.shared.servers", "10.0.0.1");
        let mut config = Config::load(&sources).unwrap().config;
        let store = config.stores.get_mut("shared").unwrap();
        for (buckets, is_accepted) in [(64, true), (1024, true), (100, false)] {
            store.buckets = buckets;
            let opened = open(store, true).await;
            assert_eq!(opened.is_ok(), is_accepted, "{opened:?}");
        }
    }
}
