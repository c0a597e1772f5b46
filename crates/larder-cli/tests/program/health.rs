//! doctor, and stores that cannot be reached.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Home, Ran};

/// Runs the program on a store whose directory cannot be made.
fn unreachable(home: &Home, line: &str) -> Ran {
    fs::write(home.path().join("file"), "in the way").expect("a file can be written");
    let mut command = home.command(line.split_whitespace());
    let command = command.env("LARDER_DIR", home.path().join("file/larder"));
    command.output().expect("the program runs").into()
}

#[test]
fn a_store_that_cannot_be_reached_is_exit_code_5() {
    let home = Home::new();
    for line in [
        "cache get k",
        "cache set k v",
        "cache keys",
        "cache status",
        "serve --listen 127.0.0.1:0",
    ] {
        let ran = unreachable(&home, line);
        assert_eq!(ran.exits(5), "", "{line}");
        assert!(ran.stderr.contains("file/larder"), "{ran:?}");
    }
    let ran = unreachable(&home, "cache get k --json");
    assert_eq!(ran.error_kind(), "unavailable");
}

#[test]
fn doctor_is_content_with_a_fresh_home() {
    let home = Home::new();
    let text = home.run("doctor").ok();
    assert!(
        text.contains("ok    read and write of cache default"),
        "{text}"
    );
    assert_eq!(home.run("doctor --json").json()["healthy"], true);
    assert_eq!(home.run("cache keys").ok(), "");
}

#[test]
fn doctor_finds_what_is_wrong() {
    let home = Home::new();
    let ran = unreachable(&home, "doctor");
    let text = ran.exits(6);
    assert!(text.contains("fail  store main: "), "{text}");
    let ran = unreachable(&home, "doctor --json");
    let report: serde_json::Value = serde_json::from_str(&ran.exits(6)).unwrap();
    assert_eq!(report["healthy"], false);
    fs::write(home.path().join("larder.toml"), "[cache]\nprefx = 1\n").unwrap();
    let text = home.run("doctor").exits(6);
    assert!(text.contains("fail  configuration: "), "{text}");
}

#[test]
fn doctor_warns_of_open_directories_and_damaged_files() {
    let home = Home::new();
    home.run("cache set k v").ok();
    let dir = home.path().join(".local/share/larder");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.join("cache.db.aside-1"), "").unwrap();
    let text = home.run("doctor").ok();
    assert!(text.contains("warn  directory of store"), "{text}");
    assert!(text.contains("warn  files of store"), "{text}");
}
