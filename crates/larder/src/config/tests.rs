//! The configuration as a whole: precedence, the well-known variables, what is refused and how.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::codec::{Codec, Compression};
use crate::error::ErrorKind;

mod properties;
mod refused;

const HOME: (&str, &str) = ("HOME", "/home/ann");

fn load_all(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded> {
    let mut sources = Sources::new()
        .text("larder.toml", file)
        .environment([HOME])
        .environment(environment.iter().copied());
    for (setting, value) in flags {
        sources = sources.flag(*setting, *value);
    }
    Config::load(&sources)
}

fn load(file: &str, environment: &[(&str, &str)]) -> Loaded {
    match load_all(file, environment, &[]) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}

fn origin_of(loaded: &Loaded, key: &str) -> String {
    let found = loaded.settings().find(|setting| setting.key == key);
    found.map_or_else(|| "nowhere".into(), |setting| setting.origin.to_string())
}

/// The example of the design.
const COMPLETE: &str = r#"
[cache]
default = "main"
prefix = "app"
fallback = "sqlite"
[stores.main]
driver = "redis"
url = "redis://127.0.0.1:6379/0"
password_file = "/run/secret"
connect_timeout = 0.5
response_timeout = "250ms"
[stores.main.local]
capacity = "64MiB"
ttl_fraction = 0.25
[stores.tls]
driver = "redis"
url = "rediss://h"
ca = "ca.pem"
cert = "c.pem"
key = "k.pem"
user = "u"
[stores.fleet]
driver = "memcached"
servers = ["127.0.0.1:11211", "127.0.0.1"]
[stores.wide]
driver = "sharded"
strategy = "ring"
virtual_nodes = 200
hash = "md5"
nodes = [ { name = "a", url = "redis://10.0.0.1", weight = 100, role = "primary" }, { name = "b", host = "10.0.0.2", role = "replica" } ]
health = { check_interval = "30s", timeout = "250ms", max_failures = 3, recovery_time = "300s" }
[stores.watched]
driver = "redis-sentinel"
database = 3
password = "of the primary"
servers = ["s1", "s2:5000"]
[stores.cluster]
driver = "redis-cluster"
servers = ["c1"]
buckets = 256
[caches.sessions]
store = "main"
ttl = "30m"
[stampede]
enabled = true
lock_ttl = 60
max_wait = 30
retry_interval = "100ms"
early_expiration = { enabled = true, threshold = 0.85 }
[tags]
enabled = true
groups = { config = ["app_config", "database_config"] }
cleanup_every = 3600
[queue]
default = "main"
[queues.main]
driver = "sqlite"
durability = "relaxed"
[queues.pg]
driver = "postgres"
url = "postgres://localhost/app"
[edge]
providers.varnish = { servers = ["http://10.0.0.1:6081"] }
providers.cloudflare = { zone_id = "z", api_token = "t" }
[alerts]
hit_ratio_below = 0.85
memory_above = 0.9
latency_above = "10ms"
"#;

#[test]
fn without_any_configuration_there_is_one_embedded_store_and_queue() {
    let config = Config::load(&Sources::new().environment([HOME]))
        .unwrap()
        .config;
    let dir = Path::new("/home/ann/.local/share/larder");
    assert_eq!(config.dir.as_deref(), Some(dir));
    assert_eq!(config.cache.default, "main");
    assert_eq!(config.stores.keys().collect::<Vec<_>>(), ["main"]);
    assert_eq!(config.stores["main"].driver, Driver::Sqlite);
    assert_eq!(config.stores["main"].path, Some(dir.join("cache.db")));
    assert_eq!(config.queues["main"].path, Some(dir.join("queue.db")));
    assert_eq!(config.cache("default").unwrap().store, "main");
}

#[test]
fn the_directory_is_larder_dir_then_xdg_then_home() {
    let dir = |environment: &[(&str, &str)]| load("", environment).config.dir.unwrap();
    assert_eq!(
        dir(&[("LARDER_DIR", "/l"), ("XDG_DATA_HOME", "/x")]),
        PathBuf::from("/l")
    );
    assert_eq!(dir(&[("XDG_DATA_HOME", "/x")]), PathBuf::from("/x/larder"));
    assert_eq!(
        dir(&[("XDG_DATA_HOME", "relative")]),
        PathBuf::from("/home/ann/.local/share/larder")
    );
    let error = Config::load(&Sources::new()).unwrap_err();
    assert!(error.message().contains("set LARDER_DIR"), "{error}");
}

#[test]
fn a_configuration_without_embedded_parts_needs_no_directory() {
    let sources = Sources::new().environment([("CACHE_DRIVER", "memory")]);
    let config = Config::load(&sources).unwrap().config;
    assert_eq!(config.dir, None);
    assert!(config.queues.is_empty());
}

#[test]
fn every_key_of_the_design_is_read() {
    let config = load(COMPLETE, &[]).config;
    let main = &config.stores["main"];
    let connection = main.connection.as_ref().unwrap();
    assert_eq!(connection.connect_timeout, Duration::from_millis(500));
    assert_eq!(connection.password_file, Some("/run/secret".into()));
    assert_eq!(main.local.unwrap().capacity, 64 << 20);
    assert!(main.local.unwrap().promote);
    let fleet = config.stores["fleet"].connection.as_ref().unwrap();
    assert_eq!(fleet.servers, ["127.0.0.1:11211", "127.0.0.1:11211"]);
    assert!(
        config.stores["tls"]
            .connection
            .as_ref()
            .unwrap()
            .tls
            .enabled
    );
    let wide = config.stores["wide"].sharding.as_ref().unwrap();
    let ring = Strategy::Ring {
        virtual_nodes: 200,
        hash: RingHash::Md5,
    };
    assert_eq!(wide.strategy, ring);
    assert_eq!(wide.nodes[1].url.expose(), "redis://10.0.0.2:6379");
    assert!(wide.nodes[1].is_replica && !wide.nodes[0].is_replica);
    assert_eq!(wide.health.unwrap().recovery_time, Duration::from_secs(300));
    let watched = config.stores["watched"].connection.as_ref().unwrap();
    assert_eq!(watched.servers, ["s1:26379", "s2:5000"]);
    assert_eq!(watched.service.as_deref(), Some("mymaster"));
    assert_eq!(watched.urls(None)[0].expose(), "redis://s1:26379");
    assert_eq!(config.stores["cluster"].buckets, 256);
    assert_eq!(config.stores["watched"].buckets, 64);
    assert_eq!(config.stampede.refresh_after, Some(0.85));
    assert_eq!(config.stampede.retry_interval, Duration::from_millis(100));
    assert_eq!(
        config.tags.groups["config"],
        ["app_config", "database_config"]
    );
    assert_eq!(config.queues["main"].durability, Durability::Relaxed);
    assert_eq!(
        config.edge.providers["cloudflare"].zone_id.as_deref(),
        Some("z")
    );
    assert_eq!(config.alerts.latency_above, Some(Duration::from_millis(10)));
    assert_eq!(config.cache.fallback.as_deref(), Some("sqlite"));
    assert_eq!(config.stores["sqlite"].driver, Driver::Sqlite);
}

#[test]
fn a_cache_has_the_settings_of_the_cache_section_unless_it_says_otherwise() {
    let file = "[cache]\nprefix = \"app\"\ncodec = \"json\"\nttl = 60\n[caches.sessions]\nttl = \"forever\"\ncompression = \"zstd\"";
    let loaded = load(file, &[]);
    let sessions = loaded.config.cache("sessions").unwrap();
    assert_eq!(sessions.name, "sessions");
    assert_eq!(sessions.store, "main");
    assert_eq!(sessions.settings.prefix, "app");
    assert_eq!(sessions.settings.codec, Codec::Json);
    assert_eq!(sessions.settings.ttl, None);
    assert_eq!(sessions.settings.compression, Compression::Zstd);
    let default = loaded.config.cache("main").unwrap();
    assert_eq!(default.name, "default");
    assert_eq!(default.settings.ttl, Some(Duration::from_secs(60)));
    assert!(loaded.config.cache("nowhere").is_none());
    assert_eq!(origin_of(&loaded, "caches.sessions.codec"), "larder.toml:3");
    assert_eq!(origin_of(&loaded, "caches.sessions.strict"), "default");
}

#[test]
fn the_default_may_be_a_cache() {
    let file = "[cache]\ndefault = \"hot\"\n[caches.hot]\nstore = \"memory\"\nversion = 7";
    let config = load(file, &[]).config;
    let cache = config.cache("default").unwrap();
    assert_eq!((cache.name.as_str(), cache.settings.version), ("hot", 7));
    assert_eq!(config.stores["memory"].driver, Driver::Memory);
    assert!(!config.stores.contains_key("main"));
}

#[test]
fn main_is_the_embedded_store_when_no_store_is_configured() {
    let file = "[cache]\ndefault = \"memory\"\n[caches.kept]\nstore = \"main\"";
    let config = load(file, &[]).config;
    assert_eq!(config.stores["main"].driver, Driver::Sqlite);
    let config = load("", &[("CACHE_DRIVER", "main")]).config;
    assert_eq!(config.stores["main"].driver, Driver::Sqlite);
}

#[test]
fn defaults_give_way_to_the_file_the_file_to_the_environment_that_to_flags() {
    let file = "[cache]\nprefix = \"file\"";
    let environment = [("CACHE_PREFIX", "flat")];
    assert_eq!(load("", &[]).config.cache.settings.prefix, "larder");
    assert_eq!(load(file, &[]).config.cache.settings.prefix, "file");
    let flat = load(file, &environment);
    assert_eq!(flat.config.cache.settings.prefix, "flat");
    assert_eq!(origin_of(&flat, "cache.prefix"), "env CACHE_PREFIX");
    let both = [("CACHE_PREFIX", "flat"), ("LARDER__CACHE__PREFIX", "named")];
    assert_eq!(load(file, &both).config.cache.settings.prefix, "named");
    let flags = load_all(file, &both, &[("cache.prefix", "flag")]).unwrap();
    assert_eq!(flags.config.cache.settings.prefix, "flag");
    assert_eq!(origin_of(&flags, "cache.prefix"), "flag");
    assert_eq!(origin_of(&load(file, &[]), "cache.prefix"), "larder.toml:2");
}

#[test]
fn the_redis_variables_make_the_implied_store() {
    let environment = [
        ("CACHE_DRIVER", "redis"),
        ("CACHE_PREFIX", "glueful_"),
        ("CACHE_FALLBACK_FILE", "true"),
        ("REDIS_HOST", "10.0.0.9"),
        ("REDIS_PORT", "6380"),
        ("REDIS_PASSWORD", "p@ss"),
        ("REDIS_DB", "2"),
        ("REDIS_TIMEOUT", "2.5"),
        ("CACHE_FILE_PATH", "/var/cache/glueful"),
    ];
    let loaded = load("", &environment);
    let config = &loaded.config;
    assert_eq!(config.cache.default, "redis");
    assert_eq!(config.cache.fallback.as_deref(), Some("file"));
    assert!(config.cache.falls_back_at_start);
    assert_eq!(
        config.stores["file"].path,
        Some("/var/cache/glueful".into())
    );
    let connection = config.stores["redis"].connection.as_ref().unwrap();
    assert_eq!(connection.connect_timeout, Duration::from_millis(2500));
    assert_eq!(
        connection.urls(None)[0].expose(),
        "redis://:p%40ss@10.0.0.9:6380/2"
    );
    assert_eq!(
        connection.urls(Some("x"))[0].expose(),
        "redis://:x@10.0.0.9:6380/2"
    );
    assert_eq!(origin_of(&loaded, "stores.redis.port"), "env REDIS_PORT");
}

#[test]
fn null_and_empty_variables_are_none() {
    let environment = [
        ("CACHE_DRIVER", "redis"),
        ("REDIS_PASSWORD", "null"),
        ("REDIS_PORT", ""),
        ("CACHE_PREFIX", ""),
        ("CACHE_FALLBACK_FILE", "false"),
    ];
    let config = load("", &environment).config;
    let connection = config.stores["redis"].connection.as_ref().unwrap();
    assert_eq!(connection.urls(None)[0].expose(), "redis://127.0.0.1:6379");
    assert_eq!(config.cache.settings.prefix, "");
    assert_eq!(config.cache.fallback, None);
    assert!(!config.cache.falls_back_at_start);
}

#[test]
fn every_driver_of_the_environment_is_a_store() {
    for name in ["memory", "sqlite", "file", "redis", "memcached", "null"] {
        let config = load("", &[("CACHE_DRIVER", name)]).config;
        assert_eq!(config.stores[name].driver.name(), name);
        assert_eq!(config.cache.default, name);
    }
    let memcached = [("CACHE_DRIVER", "memcached"), ("MEMCACHED_HOST", "m1")];
    let config = load("", &memcached).config;
    let connection = config.stores["memcached"].connection.as_ref().unwrap();
    assert_eq!(connection.servers, ["m1:11211"]);
}

#[test]
fn variables_of_a_store_apply_to_the_configured_one_and_to_no_other() {
    let file = "[stores.redis]\ndriver = \"redis\"\nurl = \"redis://file:1\"\n[stores.other]\ndriver = \"redis\"\nhost = \"o\"\n[cache]\ndefault = \"other\"";
    let config = load(file, &[("REDIS_HOST", "env")]).config;
    let url = |name: &str| config.stores[name].connection.as_ref().unwrap().urls(None)[0].clone();
    assert_eq!(url("redis").expose(), "redis://env:6379");
    assert_eq!(url("other").expose(), "redis://o:6379");
    let with_file = format!("{file}\n[stores.redis.local]\n")
        .replace("driver", "password_file = \"f\"\ndriver");
    let redis = &load(&with_file, &[("REDIS_PASSWORD", "p")]).config.stores["redis"];
    let connection = redis.connection.as_ref().unwrap();
    assert_eq!(
        (connection.password.is_some(), &connection.password_file),
        (true, &None)
    );
    let ignored = load("", &[("REDIS_PORT", "not used, so not checked")]).config;
    assert_eq!(ignored.cache.default, "main");
}

#[test]
fn the_node_variables_make_a_distributed_store() {
    let environment = [
        ("CACHE_DRIVER", "redis"),
        ("DISTRIBUTED_CACHE_ENABLED", "true"),
        ("CACHE_NODE1_HOST", "192.168.1.10"),
        ("CACHE_NODE1_PORT", "6379"),
        ("CACHE_NODE3_HOST", "192.168.1.12"),
        ("REDIS_PASSWORD", "p"),
    ];
    let config = load("", &environment).config;
    assert_eq!(config.cache.default, "distributed");
    let sharding = config.stores["distributed"].sharding.as_ref().unwrap();
    let names: Vec<&str> = sharding
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names, ["node1", "node3"]);
    assert_eq!(sharding.nodes[0].weight, 100);
    assert_eq!(sharding.nodes[0].url.expose(), "redis://192.168.1.10:6379");
    let first = sharding.node_url(&sharding.nodes[0], None);
    assert_eq!(first.expose(), "redis://:p@192.168.1.10:6379");
    let off = [
        ("DISTRIBUTED_CACHE_ENABLED", "false"),
        ("CACHE_NODE1_HOST", "h"),
    ];
    assert_eq!(load("", &off).config.cache.default, "main");
}

#[test]
fn named_variables_reach_everything_in_any_letter_case() {
    let file = "[stores.My-Store]\ndriver = \"memory\"\n[cache]\ndefault = \"My-Store\"";
    let environment = [
        ("LARDER__STORES__MY_STORE__MAX_SIZE", "1GiB"),
        ("larder__stampede__early_expiration__threshold", "0.5"),
        ("LARDER__STAMPEDE__EARLY_EXPIRATION__ENABLED", "true"),
        ("LARDER__TAGS__GROUPS__CONFIG", "a, b"),
        ("LARDER__STORES__WIDE__DRIVER", "sharded"),
        ("LARDER__STORES__WIDE__NODES__0__NAME", "a"),
        ("LARDER__STORES__WIDE__NODES__0__URL", "redis://a"),
    ];
    let config = load(file, &environment).config;
    assert_eq!(config.stores["My-Store"].max_size, Some(1 << 30));
    assert_eq!(config.stampede.refresh_after, Some(0.5));
    assert_eq!(config.tags.groups["config"], ["a", "b"]);
    assert_eq!(
        config.stores["wide"].sharding.as_ref().unwrap().nodes.len(),
        1
    );
}

#[test]
fn strings_of_the_file_take_variables_for_any_type() {
    let file = "[stores.main]\ndriver = \"redis\"\nhost = \"${HOST:-localhost}\"\nport = \"${PORT}\"\npassword = \"a$$b\"";
    let config = load(file, &[("PORT", "6399")]).config;
    let connection = config.stores["main"].connection.as_ref().unwrap();
    assert_eq!(
        connection.urls(None)[0].expose(),
        "redis://:a%24b@localhost:6399"
    );
}

#[test]
fn paths_of_the_file_are_relative_to_it() {
    let text = "dir = \"data\"\n[stores.main]\ndriver = \"file\"\npath = \"/abs\"";
    let sources = Sources::new().text("/etc/larder/larder.toml", text);
    let config = Config::load(&sources).unwrap().config;
    assert_eq!(config.dir, Some("/etc/larder/data".into()));
    assert_eq!(config.stores["main"].path, Some("/abs".into()));
    let environment = [("CACHE_DRIVER", "file"), ("CACHE_FILE_PATH", "rel")];
    assert_eq!(
        load("", &environment).config.stores["file"].path,
        Some("rel".into())
    );
}

#[test]
fn a_fallback_to_the_default_store_itself_is_dropped_with_a_warning() {
    let environment = [("CACHE_DRIVER", "file"), ("CACHE_FALLBACK_FILE", "true")];
    let loaded = load("", &environment);
    assert_eq!(loaded.config.cache.fallback, None);
    assert_eq!(loaded.warnings.len(), 1);
    let loaded = load("[cache]\nfallback = \"sqlite\"", &[]);
    assert_eq!(loaded.config.cache.fallback, None);
    let shared =
        "[cache]\nfallback = \"sqlite\"\n[stores.shared]\ndriver = \"redis\"\nhost = \"h\"";
    let loaded = load(shared, &[]);
    assert_eq!(loaded.config.cache.fallback.as_deref(), Some("sqlite"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn what_opening_does_without_servers_is_a_setting_of_its_own() {
    let at_start = |text: &str, environment: &[(&str, &str)]| {
        load(text, environment).config.cache.falls_back_at_start
    };
    let seeds = ("CACHE_FALLBACK_FILE", "true");
    let own = ("LARDER__CACHE__FALLBACK_AT_START", "fall-back");
    let redis = "[cache]\ndefault = \"redis\"\nfallback = \"sqlite\"\n";
    let fails = format!("{redis}fallback_at_start = \"fail\"\n");
    assert!(!at_start(redis, &[]));
    assert!(at_start(redis, &[own]));
    assert!(at_start(redis, &[seeds]));
    assert!(!at_start(&fails, &[seeds]), "the file is about just that");
    assert!(at_start(&fails, &[own]));
}

#[test]
fn what_is_shown_is_valid_and_holds_no_secret() {
    let environment = [
        ("LARDER__STORES__TLS__PASSWORD", "hush"),
        ("LARDER__STORES__CLUSTER__PASSWORD", "hush"),
        ("LARDER__QUEUES__PG__URL", "postgres://u:hush@h/db"),
        ("LARDER__EDGE__PROVIDERS__CLOUDFLARE__API_TOKEN", "hush"),
        (
            "LARDER__EDGE__PROVIDERS__VARNISH__SERVERS",
            "http://u:hush@h",
        ),
    ];
    let loaded = load(COMPLETE, &environment);
    let text = loaded.to_toml();
    assert!(!text.contains("hush"), "{text}");
    assert!(!format!("{loaded:?}").contains("hush"));
    assert!(
        !loaded
            .settings()
            .any(|setting| setting.value.contains("hush"))
    );
    let again = load(&text, &[]);
    assert_eq!(again.to_toml(), text);
    assert_eq!(again.config.stores["wide"], loaded.config.stores["wide"]);
    assert_eq!(again.config.caches, loaded.config.caches);
}

#[test]
fn the_default_file_changes_nothing_but_the_groups_of_tags() {
    let text = default_file();
    let mut config = load(&text, &[]).config;
    assert_eq!(config.tags.groups.len(), 8);
    config.tags.groups.clear();
    assert_eq!(config, load("", &[]).config);
    for line in text
        .lines()
        .filter(|line| line.starts_with('#') && !line.starts_with("# "))
    {
        let setting = line.trim_start_matches('#');
        assert!(toml::from_str::<toml::Table>(setting).is_ok(), "{line}");
    }
}

#[test]
fn a_file_on_disk_is_read_and_a_missing_one_is_reported_only_when_required() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("larder.toml");
    let missing = Config::load(&Sources::new().file(&path)).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::InvalidConfig);
    assert!(
        missing.message().contains("larder config init"),
        "{missing}"
    );
    let optional = Sources::new().environment([HOME]).file_if_present(&path);
    assert_eq!(Config::load(&optional).unwrap().file, None);
    std::fs::write(&path, "[cache]\nversion = 3").unwrap();
    let loaded = Config::load(&optional).unwrap();
    assert_eq!(loaded.config.cache.settings.version, 3);
    assert_eq!(loaded.file, Some(path.clone()));
    std::fs::write(&path, "\u{feff}[cache]\r\nversion = 4").unwrap();
    assert_eq!(
        Config::load(&optional)
            .unwrap()
            .config
            .cache
            .settings
            .version,
        4
    );
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert!(Config::load(&optional).is_err());
}
