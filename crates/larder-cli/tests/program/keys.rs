//! keys.

use std::collections::BTreeSet;

use crate::support::Home;

fn filled() -> Home {
    let home = Home::new();
    home.apply(|larder| async move {
        let cache = larder.default_cache();
        for n in 0..1200 {
            cache.set_raw(format!("user:{n}"), "v").await?;
        }
        cache.set_raw("other", "v").await
    });
    home
}

#[test]
fn listings_follow_the_pattern() {
    let home = filled();
    assert_eq!(home.run("cache keys").ok().lines().count(), 1201);
    assert_eq!(home.run("cache keys user:*").ok().lines().count(), 1200);
    assert_eq!(home.run("cache keys o[a-z]her").ok(), "other\n");
    assert_eq!(home.run("cache keys nothing*").ok(), "");
    assert_eq!(home.run("cache keys [").code, 2);
}

#[test]
fn cursors_walk_every_key_once() {
    let home = filled();
    let mut seen = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = home
            .run(&format!("cache keys user:* --limit 700 --json {cursor}"))
            .json();
        let keys = page["keys"].as_array().unwrap();
        assert!(keys.len() <= 700);
        for key in keys {
            assert!(seen.insert(key["key"].as_str().unwrap().to_owned()));
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("--cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 1200);
    assert_eq!(home.run("cache keys --cursor=!").code, 2);
    assert_eq!(home.run("cache keys --limit 0").code, 2);
    let ran = home.run("cache keys --limit 1");
    assert!(ran.stderr.contains("--cursor="), "{ran:?}");
}

#[test]
fn long_listings_show_size_and_ttl() {
    let home = Home::new();
    home.run("cache set k v --ttl 1h").ok();
    let text = home.run("cache keys --long").ok();
    let row = text.lines().nth(1).unwrap();
    assert!(row.ends_with("  k") && row.contains("3599s"), "{text}");
    let listed = home.run("cache keys --json").json();
    assert!(listed["keys"][0]["bytes"].as_u64().unwrap() > 1);
    assert!(listed["keys"][0]["ttl_ms"].as_u64().unwrap() > 3_590_000);
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let home = filled();
    let mut child = home.command(["cache", "keys"]).spawn().unwrap();
    drop(child.stdout.take());
    let (ran, _) = crate::support::ended(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
