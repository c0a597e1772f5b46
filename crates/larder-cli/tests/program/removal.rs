//! clear, purge, prune: nothing is removed that nobody confirmed.

use crate::support::Home;

fn filled() -> Home {
    let home = Home::new();
    for key in ["user:1", "user:2", "other"] {
        home.run(&format!("cache set {key} v")).ok();
    }
    home
}

#[test]
fn without_a_terminal_removals_need_a_flag() {
    let home = filled();
    for command in ["cache clear", "cache purge user:*", "cache:clear"] {
        let ran = home.run(command);
        ran.exits(2);
        assert!(ran.stderr.contains("--yes"), "{ran:?}");
        let ran = home.run(&format!("{command} --json"));
        assert_eq!((ran.code, ran.error_kind().as_str()), (2, "refused"));
    }
    assert_eq!(home.run("cache keys").ok().lines().count(), 3);
}

#[test]
fn a_dry_run_shows_and_keeps() {
    let home = filled();
    let text = home.run("cache purge user:* --dry-run").ok();
    assert!(
        text.contains("2 entries") && text.contains("user:1"),
        "{text}"
    );
    let shown = home.run("cache clear --dry-run --json").json();
    assert_eq!(shown["would_remove"], 3);
    assert_eq!(shown["sample"][0]["key"], "other");
    home.run("cache prune --dry-run").ok();
    assert_eq!(home.run("cache keys").ok().lines().count(), 3);
}

#[test]
fn purge_removes_what_matches() {
    let home = filled();
    assert_eq!(
        home.run_with(["cache:purge", "user:*", "--yes"]).ok(),
        "2\n"
    );
    assert_eq!(home.run("cache keys").ok(), "other\n");
    let purged = home.run("cache purge user:* --yes --json").json();
    assert_eq!(purged["removed"], 0);
    assert_eq!(home.run("cache purge [ --yes").code, 2);
}

#[test]
fn clear_removes_everything() {
    let home = filled();
    home.run("cache incr n").ok();
    assert_eq!(home.run("cache:clear --force").ok(), "4\n");
    assert_eq!(home.run("cache keys").ok(), "");
    assert_eq!(home.run("cache clear --yes --json").json()["removed"], 0);
}

#[test]
fn prune_removes_only_what_has_expired() {
    let home = filled();
    home.run("cache set gone v --ttl 1ms").ok();
    let pruned = home.run("cache prune").ok();
    assert!(["0\n", "1\n"].contains(&pruned.as_str()), "{pruned}");
    assert_eq!(home.run("cache keys").ok().lines().count(), 3);
}
