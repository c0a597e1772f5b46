//! What is refused, and in which words: the message is the product here.

use super::*;

/// Returns the problems, one a line, of a configuration that must not load.
fn problems(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let error = match load_all(file, environment, &[]) {
        Ok(loaded) => panic!("loaded: {loaded:?}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let lines = error.message().lines().map(|line| line.trim().to_owned());
    let all: Vec<String> = lines.collect();
    if all.len() > 1 {
        all[1..].to_vec()
    } else {
        all
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
    let file = "[stores.main]\ndrivre = \"sqlite\"";
    let expected = "larder.toml:2: unknown key \"stores.main.drivre\", did you mean \"driver\"?";
    assert_eq!(problems(file, &[]), [expected]);
    let file = "[stores.main]\ndriver = \"memory\"\ncapacity = \"1GiB\"";
    let expected = "larder.toml:3: unknown key \"stores.main.capacity\", did you mean \"stores.*.local.capacity\"?";
    assert_eq!(problems(file, &[]), [expected]);
    assert_eq!(
        problems("", &[("LARDER__STAMPEDE__LOK_TTL", "1")]),
        [
            "env LARDER__STAMPEDE__LOK_TTL: unknown setting \"stampede.lok_ttl\", did you mean \"lock_ttl\"?"
        ]
    );
    let flag = load_all("", &[], &[("cache.defualt", "x")]).unwrap_err();
    let expected = "flag: unknown setting \"cache.defualt\", did you mean \"default\"?";
    assert_eq!(flag.message(), expected);
}

#[test]
fn buckets_are_a_power_of_two_of_a_cluster() {
    let file = |driver: &str, buckets| {
        format!("[stores.main]\ndriver = \"{driver}\"\nservers = [\"h\"]\nbuckets = {buckets}")
    };
    for (driver, buckets, expected) in [
        (
            "redis-cluster",
            100,
            "larder.toml:4: stores.main.buckets must be a power of two, like 64 or 128, not 100",
        ),
        (
            "redis-cluster",
            8,
            "larder.toml:4: stores.main.buckets must be an integer from 16 to 1024, not 8",
        ),
        (
            "memcached",
            64,
            "larder.toml:4: stores.main.buckets means nothing to driver memcached, only to redis-cluster",
        ),
    ] {
        assert_eq!(problems(&file(driver, buckets), &[]), [expected]);
    }
}

#[test]
fn wrong_types_and_values_say_what_is_wanted() {
    for (file, expected) in [
        (
            "[stores.main]\ndriver = \"rediss\"",
            "larder.toml:2: stores.main.driver must be one of memory, sqlite, file, redis, redis-sentinel, redis-cluster, memcached, sharded, null, not \"rediss\", did you mean \"redis\"?",
        ),
        (
            "[stampede]\nenabled = \"true\"",
            "larder.toml:2: stampede.enabled must be true or false, not \"true\" (remove the quotes)",
        ),
        (
            "[stampede]\nmax_wait = \"30x\"",
            "larder.toml:2: stampede.max_wait must be a duration, not \"30x\": write seconds, or 250ms, 90s, 10m, 1h30m, 7d",
        ),
        (
            "[stampede]\nretry_interval = 100000",
            "larder.toml:2: stampede.retry_interval must be a duration from 1ms to 10m, not 100000 (a bare number is seconds)",
        ),
        (
            "[cache]\njitter = 1.5",
            "larder.toml:2: cache.jitter must be a number from 0 to 1, not 1.5",
        ),
        (
            "[cache]\nttl = 2024-01-01",
            "larder.toml:2: cache.ttl must be a duration of at least 1ms, or \"forever\", not a datetime",
        ),
        (
            "[tags.groups]\nconfig = \"app_config\"",
            "larder.toml:2: tags.groups.config must be a list of strings, not \"app_config\" (put it in brackets)",
        ),
        (
            "[tags.groups]\nconfig = [\"app_config\", \"a:b:c:d:e:f:g\"]",
            "larder.toml:2: tags.groups.config: the tag \"a:b:c:d:e:f:g\" has more than 6 parts",
        ),
        (
            "[tags.groups]\nconfig = []",
            "larder.toml:2: tags.groups.config needs at least one tag",
        ),
        (
            "cache = 1",
            "larder.toml:1: cache must be a table, [cache], not an integer",
        ),
        (
            "[stores.main]\ndriver = \"file\"\npath = \"~/cache\"",
            "larder.toml:3: stores.main.path must not begin with ~, which only shells replace: write ${HOME}",
        ),
    ] {
        assert_eq!(problems(file, &[]), [expected]);
    }
}

#[test]
fn text_that_is_no_toml_and_duplicate_keys_have_their_line() {
    for (file, line) in [
        ("[cache]\nprefix = \"a\"\nprefix = \"b\"", "larder.toml:3: "),
        ("[cache\n", "larder.toml:1: "),
        ("\n\npassword = \"hush", "larder.toml:3: "),
    ] {
        let found = problems(file, &[]);
        assert!(found[0].starts_with(line), "{found:?}");
        assert!(!found.iter().any(|line| line.contains("hush")), "{found:?}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file_and_bounded() {
    let file = "[stampede]\nenabled = 1\nlock_ttl = -1\n[alerts]\nx = 1";
    let found = problems(file, &[("CACHE_TAGGING_ENABLED", "maybe")]);
    let places: Vec<&str> = found
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        places,
        [
            "larder.toml:2",
            "larder.toml:3",
            "larder.toml:5",
            "env CACHE_TAGGING_ENABLED"
        ]
    );
    let many: String = (0..50).map(|n| format!("zzzz{n} = 1\n")).collect();
    let found = problems(&many, &[]);
    assert_eq!(found.len(), 21);
    assert_eq!(found[20], "and 30 more");
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let file = "[stores.main]\ndriver = \"redis\"\nurl = \"redis://${HOST}\"";
    let expected = "larder.toml:3: stores.main.url needs the environment variable HOST, which is not set; set it or write ${HOST:-default}";
    assert_eq!(problems(file, &[]), [expected]);
}

#[test]
fn names_must_lead_somewhere() {
    for (file, expected) in [
        (
            "[cache]\ndefault = \"mian\"\n[stores.main]\ndriver = \"memory\"",
            "larder.toml:2: cache.default is \"mian\", which is no store or cache, did you mean \"main\"?",
        ),
        (
            "[caches.users]\nstore = \"rdis\"",
            "larder.toml:2: caches.users.store is \"rdis\", which is no store, did you mean \"redis\"?",
        ),
        (
            "[stores.a]\ndriver = \"memory\"\n[stores.b]\ndriver = \"memory\"",
            "larder.toml:1: there are several stores and none is called main: set cache.default to one of a, b",
        ),
        (
            "[caches.main]\nttl = 1",
            "larder.toml:1: caches.main has the name of a store: rename one of them",
        ),
        (
            "[caches.default]",
            "larder.toml:1: caches.default cannot have this name: default always means the cache that cache.default names",
        ),
        (
            "[stores.\"a.b\"]\ndriver = \"memory\"",
            "larder.toml:1: \"stores.a.b\": a name is 1 to 64 of the characters a-z A-Z 0-9 - _",
        ),
        (
            "[cache]\nfallback = \"redis\"",
            "larder.toml:2: cache.fallback is \"redis\", which may be down as well: use none, sqlite, file or a store of those",
        ),
        (
            "[queue]\ndefault = \"jobs\"",
            "larder.toml:2: queue.default is \"jobs\", which is no queue",
        ),
    ] {
        assert_eq!(problems(file, &[]), [expected]);
    }
}

#[test]
fn stores_must_be_complete_and_without_what_has_no_effect() {
    for (file, expected) in [
        (
            "[stores.main]",
            "larder.toml:1: stores.main needs driver, one of memory, sqlite, file, redis, redis-sentinel, redis-cluster, memcached, sharded, null",
        ),
        (
            "[stores.main]\ndriver = \"redis\"",
            "larder.toml:1: stores.main needs url or host, where its server is",
        ),
        (
            "[stores.main]\ndriver = \"memory\"\nurl = \"redis://h\"",
            "larder.toml:3: stores.main.url means nothing to driver memory, only to redis, redis-cluster",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nurl = \"redis://h\"\nhost = \"h\"",
            "larder.toml:4: stores.main has both url and host: keep one",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nurl = \"http://u:hush@h\"",
            "larder.toml:3: stores.main.url must begin with redis:// or rediss:// or valkey:// or valkeys:// or unix:// or redis+unix://, not \"http://***@h\"",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nhost = \"h:6379\"",
            "larder.toml:3: stores.main.host must be a name or address alone, not \"h:6379\"",
        ),
        (
            "[stores.main]\ndriver = \"memcached\"\nservers = [\"a:b\"]",
            "larder.toml:3: stores.main.servers must be host:port each, not \"a:b\"",
        ),
        (
            "[stores.main]\ndriver = \"sharded\"",
            "larder.toml:1: stores.main needs nodes: nodes = [{ name = \"a\", url = \"redis://10.0.0.1\" }]",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nhost = \"h\"\ntls = true\ncert = \"c\"",
            "larder.toml:5: stores.main.cert needs stores.main.key",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nhost = \"h\"\nca = \"c\"",
            "larder.toml:4: stores.main.ca needs encryption: a rediss:// URL, or tls = true",
        ),
        (
            "[edge.providers.cloudflare]\nzone_id = \"z\"",
            "larder.toml:1: edge.providers.cloudflare needs api_token, as driver cloudflare",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nurl = \"redis://h:port/0\"",
            "larder.toml:3: stores.main.url has no valid host and port: \"redis://h:port/0\"",
        ),
        (
            "[stores.main]\ndriver = \"sharded\"\nreplicas = 2\nnodes = [{ name = \"a\", host = \"h\" }]",
            "larder.toml:1: stores.main.replicas is more than the 1 nodes",
        ),
        (
            "[stores.main]\ndriver = \"redis\"\nurl = \"redis://h\"\npassword = \"p\"\npassword_file = \"f\"",
            "larder.toml:5: stores.main has both password and password_file: keep one",
        ),
        (
            "[edge.providers.varnish]\nservers = [\"u:hush@h\"]",
            "larder.toml:2: edge.providers.varnish.servers must be http:// or https:// URLs, not \"***@h\"",
        ),
        (
            "[edge.providers.cdn]\nsoft = true",
            "larder.toml:1: edge.providers.cdn needs driver, one of varnish, nginx, souin, http, cloudflare, fastly, cloudfront, akamai, bunny",
        ),
    ] {
        assert_eq!(problems(file, &[]), [expected]);
    }
}

#[test]
fn nodes_are_checked_one_by_one() {
    let file = "[stores.main]\ndriver = \"sharded\"\nnodes = [\n{ name = \"a\", url = \"redis://h\" },\n{ name = \"a\", host = \"h\", wieght = 3 },\n{ url = \"redis://h\", host = \"h\" },\n{ name = \"c\" },\n]";
    let expected = [
        "larder.toml:5: unknown key \"stores.main.nodes.1.wieght\", did you mean \"weight\"?",
        "larder.toml:5: stores.main.nodes.1.name is taken by another node: \"a\"",
        "larder.toml:6: stores.main.nodes.2 needs name, its identity whatever its address",
        "larder.toml:6: stores.main.nodes.2 has both url and host: keep one",
        "larder.toml:7: stores.main.nodes.3 needs url or host, where it is",
    ];
    assert_eq!(problems(file, &[]), expected);
}

#[test]
fn keys_of_other_systems_are_translated_or_warned_about() {
    let file = "\
fallback_to_file = true
[stores.main]
driver = \"redis\"
host = \"h\"
timeout = 2.5
[stores.main.options]
compression = \"lz4\"
[stampede_protection]
retry_interval = 100000
[nodes]
";
    let found = problems(file, &[]);
    for (line, expected) in [
        (
            0,
            "larder.toml:1: fallback_to_file is called cache.fallback here: write \"file\" for true",
        ),
        (
            1,
            "larder.toml:5: stores.main.timeout is called stores.*.connect_timeout here",
        ),
        (
            2,
            "larder.toml:7: stores.main.options.compression is called cache.compression here",
        ),
        (
            3,
            "larder.toml:9: stampede_protection.retry_interval is called stampede.retry_interval here: was in microseconds",
        ),
    ] {
        assert!(found[line].starts_with(expected), "{found:#?}");
    }
    let file = "\
[stores.main]
driver = \"memcached\"
host = \"h\"
persistent = true
options = { serializer = \"igbinary\", binary_protocol = true, no_block = true }
";
    let warnings = load(file, &[]).warnings;
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    let serializer = warnings
        .iter()
        .find(|warning| warning.contains("serializer"));
    let serializer = serializer.map(String::as_str).unwrap_or_default();
    assert!(
        serializer.starts_with("larder.toml:5: stores.main.options.serializer has no effect: PHP")
    );
}
