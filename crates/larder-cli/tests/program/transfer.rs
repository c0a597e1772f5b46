//! export and import.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Home, ended, eventually, signal};

fn filled() -> Home {
    let home = Home::new();
    home.apply(|larder| async move {
        let cache = larder.default_cache();
        cache.set_raw("text", "hello\nworld").await?;
        cache.set_raw("bytes", vec![0, 255]).await?;
        cache.set_raw(b"\xff\x00", "binary key").await?;
        cache.set_raw("control", "\x1b[2J").await?;
        let json = cache.set_raw("json", "{\"a\":1}");
        json.content_type("application/json").await?;
        let hour = std::time::Duration::from_secs(3600);
        cache
            .set("typed", &(7u64, "ann".to_owned()))
            .ttl(hour)
            .await?;
        cache.set("big", &"x".repeat(100_000)).await?;
        cache.increment("counter", 41).await?;
        cache.sorted_set("board").add([(1.5, "ann")]).await
    });
    home
}

/// Returns the lines of an export between the first and the last.
fn entries(text: &str) -> Vec<Value> {
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let header = lines.remove(0);
    assert_eq!(header["larder_export"], 1);
    let trailer = lines.pop().expect("there is a last line");
    assert_eq!(trailer, json!({"entries": lines.len()}));
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        line.remove("ttl_ms");
        if let Some(sealed) = line.get_mut("sealed") {
            *sealed = json!(without_write_id(sealed.as_str().expect("a text")));
        }
    }
    lines
}

/// Returns a sealed entry without the number of its write, which is new with each, and the checksum over it.
fn without_write_id(sealed: &str) -> Vec<u8> {
    let mut entry = STANDARD.decode(sealed).expect("base64");
    entry[8..16].fill(0);
    entry[48..52].fill(0);
    entry
}

#[test]
fn everything_survives_a_round_trip() {
    let home = filled();
    let exported = home.run("cache export").ok();
    assert_eq!(entries(&exported).len(), 9);
    let other = Home::new();
    let imported = other.feed("cache import --json", exported.as_bytes());
    assert_eq!(imported.json(), json!({"imported": 9, "skipped": 0}));
    assert_eq!(entries(&other.run("cache export").ok()), entries(&exported));
    assert_ne!(other.run("cache ttl typed").ok(), "forever\n");
    assert_eq!(other.run("cache ttl text").ok(), "forever\n");
    assert_eq!(other.run("cache incr counter").ok(), "42\n");
    let typed = other.apply(|larder| async move {
        let cache = larder.default_cache();
        assert_eq!(cache.sorted_set("board").score("ann").await?, Some(1.5));
        cache.get::<(u64, String)>("typed").await
    });
    assert_eq!(typed, Some((7, "ann".to_owned())));
}

#[test]
fn files_appear_when_they_are_complete() {
    let home = filled();
    home.run("cache export all.ndjson --pattern t*").ok();
    let text = fs::read_to_string(home.path().join("all.ndjson")).unwrap();
    assert_eq!(entries(&text).len(), 2);
    let other = Home::new();
    let file = home.path().join("all.ndjson");
    other.run(&format!("cache import {}", file.display())).ok();
    assert_eq!(other.run("cache get text").ok(), "hello\nworld\n");
    assert_eq!(home.run("cache export no/such/dir").code, 1);
    assert_eq!(home.run("cache import no-such-file").code, 1);
    let left: Vec<_> = fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn existing_entries_are_replaced_or_skipped() {
    let home = filled();
    let exported = home.run("cache export --pattern text").ok();
    home.run("cache set text mine").ok();
    let skipped = home.feed("cache import --skip-existing --json", exported.as_bytes());
    assert_eq!(skipped.json(), json!({"imported": 0, "skipped": 1}));
    assert_eq!(home.run("cache get text").ok(), "mine\n");
    home.feed("cache import --replace", exported.as_bytes())
        .ok();
    assert_eq!(home.run("cache get text").ok(), "hello\nworld\n");
}

#[test]
fn a_file_that_was_cut_off_is_noticed() {
    let home = filled();
    let exported = home.run("cache export").ok();
    let lines: Vec<_> = exported.lines().collect();
    let without_trailer = lines[..lines.len() - 1].join("\n");
    let mid_line = &exported[..exported.len() / 2];
    let missing_entry = [&lines[..3], &lines[4..]].concat().join("\n");
    for (cut, expected) in [
        (without_trailer.as_str(), "incomplete"),
        (mid_line, "line "),
        (&missing_entry, "9 entries were exported, but 8 are here"),
        ("", "empty"),
        ("{}\n", "no export"),
    ] {
        let other = Home::new();
        let ran = other.feed("cache import", cut.as_bytes());
        ran.exits(1);
        assert!(ran.stderr.contains(expected), "{expected}: {ran:?}");
        assert!(ran.stderr.contains("are kept"), "{ran:?}");
    }
}

#[test]
fn a_malformed_line_is_named_and_what_came_before_is_kept() {
    let home = Home::new();
    let header = r#"{"larder_export":1,"cache":"default","created_ms":1}"#;
    let good = r#"{"key":"good","value":"v"}"#;
    for bad in [
        r#"{"key":"k"}"#,
        r#"{"key":"k","value":"v","ttl_ms":-1}"#,
        r#"{"key":"k","value":"v","ttl_ms":0}"#,
        r#"{"key":"k","value":"!","encoding":"base64"}"#,
        r#"{"key":"k","kind":"typed","sealed":"TFJEUg=="}"#,
        r#"{"key":"","value":"v"}"#,
        "{",
        "[]",
    ] {
        home.run("cache clear --yes").ok();
        let ran = home.feed(
            "cache import --json",
            format!("{header}\n{good}\n{bad}\n").as_bytes(),
        );
        ran.exits(1);
        assert!(ran.stderr.contains("line 3: "), "{bad}: {ran:?}");
        assert!(ran.stderr.contains("1 entries were imported"), "{ran:?}");
        assert_eq!(home.run("cache keys").ok(), "good\n");
    }
}

#[test]
fn ctrl_c_stops_an_import_at_a_clean_place() {
    let home = Home::new();
    let mut command = home.command(["cache", "import"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let header = r#"{"larder_export":1,"cache":"default","created_ms":1}"#;
    writeln!(stdin, "{header}").unwrap();
    for n in 0..50 {
        writeln!(stdin, r#"{{"key":"k{n}","value":"v{n}"}}"#).unwrap();
    }
    write!(stdin, r#"{{"key":"half","#).unwrap();
    stdin.flush().unwrap();
    eventually("the import", || {
        home.run("cache keys").ok().lines().count() == 50
    });
    signal(&child, Signal::INT);
    let (ran, took) = ended(child);
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(
        ran.stderr
            .contains("50 entries were imported before and are kept"),
        "{ran:?}"
    );
    assert!(took.as_secs() < 2);
    assert_eq!(home.run("cache keys").ok().lines().count(), 50);
    drop(stdin);
}
