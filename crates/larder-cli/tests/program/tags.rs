//! tag list, show, invalidate, stats; tags where other commands know them.

use std::fs;

use serde_json::json;

use crate::support::Home;

fn filled() -> Home {
    let home = Home::new();
    home.run("cache set user:1 Ann --tags users,user:1:profile")
        .ok();
    home.run("cache set user:2 Bob --tag users").ok();
    home.run_with(["cache", "set", "post", "p", "--tag", "a, b"])
        .ok();
    home.run("cache set plain v").ok();
    home
}

#[test]
fn tags_are_listed_with_their_keys() {
    let home = filled();
    let tags = home.run("tag list").ok();
    assert_eq!(tags, "a, b\nuser:1:profile\nusers\n");
    let listed = home.run("tag:list user* --json").json();
    assert_eq!(listed, json!({"tags": ["user:1:profile", "users"]}));
    assert_eq!(home.run("tag list [").code, 2);
    let shown = home.run("tag show users").ok();
    let mut keys: Vec<_> = shown.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["user:1", "user:2"]);
    assert_eq!(home.run("tag show user:1:*").ok(), "user:1\n");
    let shown = home.run("tag show users --limit 1 --json").json();
    assert_eq!(shown["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&shown["tag"], &shown["more"]),
        (&json!("users"), &json!(true))
    );
    let ran = home.run("tag show users --limit 1");
    assert!(ran.stderr.contains("--limit"), "{ran:?}");
}

#[test]
fn a_tag_that_nothing_depends_on_is_exit_code_3() {
    let home = filled();
    let ran = home.run("tag show nobody --json");
    assert_eq!((ran.code, ran.error_kind().as_str()), (3, "miss"));
    for refused in ["tag show a[", "tag show users --limit 0", "tag show"] {
        assert_eq!(home.run(refused).code, 2, "{refused}");
    }
    let empty = Home::new();
    let ran = empty.run("tag list");
    assert_eq!(
        (ran.ok().as_str(), &*ran.stderr),
        ("", "no tag is in use\n")
    );
}

#[test]
fn an_invalidation_needs_no_confirmation() {
    let home = filled();
    let printed = home.run("tag invalidate users never").ok();
    let expected = "invalidated users\ninvalidated never: nothing depends on it\n";
    assert_eq!(printed, expected);
    assert_eq!(home.run("cache get user:1").code, 3);
    assert_eq!(home.run("cache has user:2").code, 3);
    assert_eq!(home.run("cache get post").ok(), "p\n");
    assert_eq!(home.run("tag show users").code, 3);
    for refused in [
        "tag invalidate",
        "tag invalidate a[",
        "tag invalidate x --keys 0",
    ] {
        assert_eq!(home.run(refused).code, 2, "{refused}");
    }
}

#[test]
fn patterns_and_stale_marks_need_no_more() {
    let home = filled();
    let printed = home.run("tag invalidate user[s] x*y --stale").ok();
    let expected = "marked stale user[s]\nmarked stale x*y: nothing depends on it\n";
    assert_eq!(printed, expected);
    assert_eq!(home.run("cache has user:1").code, 0);
    let printed = home.run("tag invalidate us?r* --json").ok();
    assert!(printed.contains("\"existed\":true"), "{printed}");
    assert_eq!(home.run("cache has user:1").code, 3);
}

#[test]
fn a_dry_run_lists_what_would_go() {
    let home = filled();
    let shown = home.run("tag invalidate user:1:* never --dry-run").ok();
    let expected = "would invalidate user:1:*\n  user:1\n\
                    would invalidate never: nothing depends on it\n";
    assert_eq!(shown, expected);
    let shown = home
        .run("tag invalidate users --dry-run --keys 1 --json")
        .json();
    assert_eq!(shown["dry_run"], true);
    let users = &shown["tags"][0];
    assert_eq!(users["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&users["existed"], &users["more"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(home.run("cache keys").ok().lines().count(), 4);
    let done = home
        .run("tag invalidate users users --keys 9 --json")
        .json();
    assert_eq!(done["tags"].as_array().unwrap().len(), 1);
    assert_eq!(done["tags"][0]["keys"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&done["parts"], &done["tags"][0]["more"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(home.run("cache keys").ok().lines().count(), 2);
}

#[test]
fn clear_by_tag_asks_nothing_and_leaves_the_rest() {
    let home = filled();
    let shown = home.run("cache clear --tag users --dry-run").ok();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    home.run("cache:clear --tag=users --force").ok();
    assert_eq!(home.run("cache keys").ok().lines().count(), 2);
    home.run("cache clear --tag never").ok();
    assert_eq!(home.run("cache keys").ok().lines().count(), 2);
}

#[test]
fn groups_come_from_the_configuration() {
    let home = filled();
    let ran = home.run("tag list --groups");
    assert_eq!(ran.ok(), "");
    assert!(ran.stderr.contains("[tags.groups]"), "{ran:?}");
    let file = "[tags.groups]\npeople = [\"users\", \"staff:*\"]\nposts = [\"a, b\"]\n";
    fs::write(home.path().join("larder.toml"), file).unwrap();
    let listed = home.run("tag list --groups").ok();
    assert_eq!(listed, "people: users, staff:*\nposts: a, b\n");
    let listed = home.run("tag list pe* --groups --json").json();
    assert_eq!(listed, json!({"groups": {"people": ["users", "staff:*"]}}));
    let ran = home.run("tag invalidate --group nobody");
    ran.exits(2);
    assert!(ran.stderr.contains("people, posts"), "{ran:?}");
    let done = home.run("tag invalidate a --group people").ok();
    assert_eq!(done.lines().count(), 3, "{done}");
    assert_eq!(home.run("cache keys").ok().lines().count(), 2);
}

#[test]
fn tags_that_are_switched_off_are_refused_by_the_name_of_the_setting() {
    let home = filled();
    let off = |line: &str| {
        let mut command = home.command(line.split_whitespace());
        let output = command.env("CACHE_TAGGING_ENABLED", "false").output();
        super::support::Ran::from(output.unwrap())
    };
    for refused in [
        "cache set k v --tags users",
        "tag invalidate users",
        "cache clear --tag users --force",
    ] {
        let ran = off(&format!("{refused} --json"));
        assert_eq!((ran.code, ran.error_kind().as_str()), (1, "invalid_config"));
        assert!(ran.stderr.contains("tags.enabled"), "{ran:?}");
    }
    off("cache set k v").ok();
    assert_eq!(off("cache get user:1").ok(), "Ann\n");
    assert_eq!(off("tag show user:1:profile").ok(), "user:1\n");
    home.run("tag invalidate users").ok();
    assert_eq!(off("cache get user:1").code, 3);
}

#[test]
fn a_store_without_tags_says_so() {
    let home = Home::new();
    let file = "cache.default = \"off\"\n[stores.off]\ndriver = \"null\"\n";
    fs::write(home.path().join("larder.toml"), file).unwrap();
    for refused in ["tag list", "tag show t", "tag invalidate t", "tag stats"] {
        let ran = home.run(&format!("{refused} --json"));
        assert_eq!((ran.code, ran.error_kind().as_str()), (1, "unsupported"));
        assert!(ran.stderr.contains("null has no tags"), "{ran:?}");
    }
    let ran = home.run("cache set k v --tags t --json");
    assert_eq!((ran.code, ran.error_kind().as_str()), (1, "unsupported"));
}

#[test]
fn figures_name_the_most_used_tags_first() {
    let home = filled();
    let text = home.run("tag stats --top 1").ok();
    assert_eq!(text, "TAG    KEYS\nusers     2\n");
    let stats = home.run("tag:stats --json").json();
    assert_eq!(stats["total_tags"], 3);
    assert_eq!(stats["total_tagged_keys"], 3);
    assert_eq!(stats["tags"][0], json!({"tag": "users", "keys": 2}));
    assert_eq!(Home::new().run("tag stats").ok(), "");
}

#[test]
fn entries_are_shown_and_moved_with_their_tags() {
    let home = filled();
    let got = home.run("cache get user:2 --json").json();
    assert_eq!(got["tags"], json!(["users"]));
    let inspected = home.run("cache inspect plain --json").json();
    assert_eq!(inspected["tags"], json!([]));
    let text = home.run("cache inspect user:1").ok();
    assert!(
        text.contains("users") && text.contains("user:1:profile"),
        "{text}"
    );
    home.apply(async |larder| {
        let cache = larder.default_cache();
        cache.set("typed", &1).tags(["users", "numbers"]).await
    });
    let export = home.run("cache export").ok();
    let other = Home::new();
    other.feed("cache import", export.as_bytes()).ok();
    assert_eq!(other.run("cache keys").ok().lines().count(), 5);
    assert_eq!(other.run("tag show numbers").ok(), "typed\n");
    other.run("tag invalidate users").ok();
    assert_eq!(other.run("cache keys").ok(), "plain\npost\n");
}
