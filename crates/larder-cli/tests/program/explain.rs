//! cache explain.

use serde_json::json;

use crate::support::Home;

#[test]
fn a_present_entry_is_described() {
    let home = Home::new();
    home.run("cache set k hello --ttl 1h --tags users").ok();
    let told = home.run("cache explain k --json").json();
    assert_eq!(
        (&told["key"], &told["state"]),
        (&json!("k"), &json!("present"))
    );
    assert_eq!(
        (&told["source"], &told["causes"]),
        (&json!("store"), &json!([]))
    );
    let entry = &told["entry"];
    assert_eq!(
        (&entry["encoding"], &entry["plain_bytes"]),
        (&json!("raw"), &json!(5))
    );
    assert_eq!(
        (&entry["tags"], &entry["ttl_ms"]),
        (&json!(["users"]), &json!(3_600_000))
    );
    let text = home.run("cache explain k").ok();
    assert!(text.contains("present") && text.contains("users"), "{text}");
    assert!(!text.contains("a read misses"), "{text}");
}

#[test]
fn an_invalidation_by_another_run_is_named_with_its_time() {
    let home = Home::new();
    home.run("cache set user:1 Ann --tags users,user:1:profile")
        .ok();
    home.run("tag invalidate user:1:*").ok();
    assert_eq!(home.run("cache get user:1").code, 3);
    let told = home.run("cache:explain user:1 --json").json();
    assert_eq!(
        (&told["state"], &told["source"]),
        (&json!("invalidated"), &json!("nowhere"))
    );
    let causes = told["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{told}");
    assert_eq!(causes[0]["tag"], "user:1:*");
    assert_eq!(causes[0]["happened"], "invalidated", "{told}");
    assert!(causes[0]["ago_ms"].as_u64().unwrap() < 60_000, "{told}");
    let text = home.run("cache explain user:1").ok();
    assert!(text.contains("user:1:* was invalidated"), "{text}");
    assert!(text.contains(" ago"), "{text}");
    home.run("cache set user:1 Ann").ok();
    let told = home.run("cache explain user:1 --json").json();
    assert_eq!(
        (&told["state"], &told["causes"]),
        (&json!("present"), &json!([]))
    );
}

#[test]
fn the_notes_of_invalidations_are_no_entries_of_anybody() {
    let home = Home::new();
    home.run("cache set k v --tags users").ok();
    home.run("tag invalidate users").ok();
    assert_eq!(home.run("cache keys").ok(), "");
    let status = home.run("cache status --json").json();
    let names: Vec<_> = status["caches"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 1, "{status}");
}

#[test]
fn entries_of_any_schema_are_present_to_the_program() {
    let home = Home::new();
    home.apply(async |larder| larder.default_cache().schema(3).set("k", &1).await);
    let told = home.run("cache explain k --json").json();
    assert_eq!(
        (&told["state"], &told["entry"]["schema"]),
        (&json!("present"), &json!(3))
    );
}

#[test]
fn misses_by_tags_are_counted_apart() {
    let home = Home::new();
    home.run("cache set k v --tags users").ok();
    home.run("tag invalidate users").ok();
    assert_eq!(home.run("cache get k").code, 3);
    assert_eq!(home.run("cache get nobody").code, 3);
    let stats = home.run("cache stats --json").json();
    let misses = &stats["total"]["misses"];
    assert_eq!(
        (&misses["invalidated"], &misses["absent"]),
        (&json!(1), &json!(1))
    );
    let text = home.run("cache stats").ok();
    assert!(text.contains("invalidated"), "{text}");
}
