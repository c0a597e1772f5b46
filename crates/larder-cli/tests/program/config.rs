//! config, and the configuration of all commands.

use std::fs;

use crate::support::Home;

#[test]
fn show_tells_where_values_come_from() {
    let home = Home::new();
    fs::write(
        home.path().join("larder.toml"),
        "[cache]\nprefix = \"shop\"\n",
    )
    .unwrap();
    let text = home.run("config show").ok();
    assert!(text.contains("prefix = \"shop\""), "{text}");
    let text = home.run("config show --origin").ok();
    assert!(
        text.contains("cache.prefix = \"shop\"  # larder.toml:2"),
        "{text}"
    );
    let mut command = home.command(["config", "show", "--json"]);
    let output = command.env("CACHE_PREFIX", "other").output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = shown["settings"].as_array().unwrap();
    let prefix = settings
        .iter()
        .find(|setting| setting["key"] == "cache.prefix")
        .unwrap();
    assert_eq!(prefix["value"], "\"other\"");
    assert_eq!(prefix["origin"], "env CACHE_PREFIX");
}

#[test]
fn check_names_the_line_of_a_mistake() {
    let home = Home::new();
    home.run("config check").ok();
    let file = home.path().join("other.toml");
    fs::write(&file, "[cache]\n\nprefx = \"shop\"\n").unwrap();
    let ran = home.run("--config other.toml config check");
    ran.exits(1);
    assert!(ran.stderr.contains("other.toml:3"), "{ran:?}");
    assert!(ran.stderr.contains("prefix"), "{ran:?}");
    let ran = home.run("--config other.toml cache get k --json");
    ran.exits(1);
    assert_eq!(ran.error_kind(), "invalid_config");
    assert_eq!(home.run("--config missing.toml cache get k").code, 1);
}

#[test]
fn init_writes_a_file_that_changes_nothing() {
    let home = Home::new();
    let before = home.run("config show").ok();
    home.run("config init").ok();
    home.run("config check").ok();
    let lines = |text: &str| text.lines().filter(|line| line.contains('=')).count();
    assert!(lines(&home.run("config show").ok()) >= lines(&before));
    assert_eq!(home.run("config init").code, 2);
    home.run("config init --force").ok();
    assert!(home.run("config init -").ok().contains("[cache]"));
}

#[test]
fn the_configuration_holds_for_every_command() {
    let home = Home::new();
    let text = "[cache]\nttl = \"1h\"\n[caches.sessions]\nttl = \"60s\"\n";
    fs::write(home.path().join("larder.toml"), text).unwrap();
    home.run("cache set k v").ok();
    home.run("--cache sessions cache set k v").ok();
    let ttl = |line| home.run(line).ok().trim().parse::<u64>().unwrap();
    assert!((3590..=3600).contains(&ttl("cache ttl k")));
    assert!((50..=60).contains(&ttl("--cache sessions cache ttl k")));
    let status = home.run("cache status --json").json();
    assert_eq!(status["caches"][1]["name"], "sessions");
}

#[test]
fn the_file_store_works_too() {
    let home = Home::new();
    let run = |line: &str| {
        let mut command = home.command(line.split_whitespace());
        let output = command.env("CACHE_DRIVER", "file").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("cache set k v --ttl 60");
    assert_eq!(run("cache get k"), "v\n");
    assert_eq!(run("cache keys"), "k\n");
    assert!(run("cache status").contains("file"));
    run("doctor");
    run("cache clear --yes");
    assert_eq!(run("cache keys"), "");
}
