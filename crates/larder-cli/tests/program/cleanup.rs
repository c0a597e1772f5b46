//! tag cleanup.

use std::thread;

use serde_json::json;

use crate::support::{Home, Ran};

fn with_idle_tags() -> Home {
    let home = Home::new();
    home.run("cache set user:1 Ann --tags users,user:1:row --ttl forever")
        .ok();
    home.run("cache set user:2 Bob --tags users --ttl forever")
        .ok();
    home.run("cache delete user:1").ok();
    home
}

#[test]
fn tags_that_nothing_carries_are_named() {
    let home = with_idle_tags();
    let shown = home.run("tag cleanup --dry-run --json").json();
    let names = json!(["user:*", "user:1:*", "user:1:row"]);
    assert_eq!((&shown["names"], &shown["tags"]), (&names, &json!(3)));
    assert_eq!(shown["dry_run"], true);
    let would = home.run("tag:cleanup --dry-run --max-age 2h").ok();
    assert!(
        would.starts_with("would remove 0 entries; 3 tags") && would.contains(" 2h "),
        "{would}"
    );
    let done = home.run("tag cleanup").ok();
    let lines: Vec<_> = done.lines().collect();
    assert!(lines[0].starts_with("removed 0 entries; 3 tags"), "{done}");
    assert_eq!(lines[1..], ["  user:*", "  user:1:*", "  user:1:row"]);
    let shown = home.run("tag cleanup --dry-run").ok();
    assert_eq!(
        shown,
        "would remove 0 entries; every tag is in use or goes by itself\n"
    );
    assert_eq!(home.run("cache get user:2").ok(), "Bob\n");
}

#[test]
fn one_process_of_many_does_it_and_the_others_say_why_they_do_not() {
    let home = with_idle_tags();
    let runs: Vec<Ran> = thread::scope(|scope| {
        let start = |_| scope.spawn(|| home.run("tag cleanup --json"));
        let started: Vec<_> = (0..8).map(start).collect();
        started.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let (done, refused): (Vec<_>, Vec<_>) = runs.iter().partition(|ran| ran.code == 0);
    assert_eq!(done.len(), 1, "{runs:?}");
    assert_eq!(done[0].json()["tags"], 3);
    for ran in refused {
        assert_eq!((ran.code, ran.error_kind().as_str()), (1, "conflict"));
        assert!(
            ran.stderr.contains("another cleanup") || ran.stderr.contains("a cleanup began"),
            "{ran:?}"
        );
    }
}

#[test]
fn ages_and_stores_that_will_not_do_are_refused() {
    let home = Home::new();
    for refused in [
        "tag cleanup --max-age 59m",
        "tag cleanup --max-age x",
        "tag cleanup all",
    ] {
        assert_eq!(home.run(refused).code, 2, "{refused}");
    }
    let file = "cache.default = \"off\"\n[stores.off]\ndriver = \"null\"\n";
    std::fs::write(home.path().join("larder.toml"), file).unwrap();
    let ran = home.run("tag cleanup --json");
    assert_eq!((ran.code, ran.error_kind().as_str()), (1, "unsupported"));
}
