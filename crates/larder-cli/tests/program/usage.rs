//! Arguments, help, and how errors look.

use crate::support::Home;

#[test]
fn help_lists_the_exit_codes() {
    let home = Home::new();
    for line in ["--help", "cache --help"] {
        let help = home.run(line).ok();
        for code in ["  3    miss", "  5    the store", "  130  interrupted"] {
            assert!(help.contains(code), "{help}");
        }
    }
    assert!(home.run("--version").ok().starts_with("larder "));
    assert_eq!(home.run("").code, 2);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let home = Home::new();
    for line in [
        "nonsense",
        "cache",
        "cache nonsense",
        "cache get",
        "cache get k --nonsense",
        "cache:nonsense",
        "cache get k --raw --base64",
        "cache get k --raw --json",
        "cache get k --color purple",
    ] {
        let ran = home.run(line);
        assert_eq!(ran.exits(2), "", "{line}");
        assert!(!ran.stderr.is_empty());
    }
    let ran = home.run("--json cache get");
    ran.exits(2);
    assert_eq!(ran.error_kind(), "usage");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let home = Home::new();
    let colored = home.run("cache get k --color always");
    assert!(colored.stderr.contains("\x1b["), "{colored:?}");
    assert!(!home.run("cache get k").stderr.contains('\x1b'));
    let mut command = home.command(["cache", "get", "k"]);
    let quiet = command.env("NO_COLOR", "1").env("CLICOLOR_FORCE", "1");
    assert!(!quiet.output().unwrap().stderr.contains(&b'\x1b'));
}

#[test]
fn every_shell_has_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&format!("completions {shell}")).ok();
        assert!(script.contains("larder"), "{shell}");
    }
    assert_eq!(home.run("completions nonsense").code, 2);
}

#[test]
fn the_library_can_be_heard() {
    let home = Home::new();
    let mut command = home.command(["cache", "has", "k"]);
    let loud = command.env("LARDER_LOG", "trace").output().unwrap();
    assert_eq!(loud.status.code(), Some(3));
    assert_eq!(home.run("cache has k").stderr, "");
}

#[test]
fn the_store_is_where_the_environment_says() {
    let home = Home::new();
    home.run("cache set k v").ok();
    assert!(home.path().join(".local/share/larder/cache.db").exists());
    let dir = home.path().join("elsewhere");
    let mut command = home.command(["cache", "set", "k", "v"]);
    command.env("LARDER_DIR", &dir).output().unwrap();
    assert!(dir.join("cache.db").exists());
    let mut command = home.command(["cache", "get", "k"]);
    let homeless = command.env_remove("HOME").output().unwrap();
    assert!(!homeless.status.success());
    let message = String::from_utf8(homeless.stderr).unwrap();
    assert!(message.contains("LARDER_DIR"), "{message}");
}
