//! lock list, lock release.

use std::fs;
use std::time::Duration;

use larder::{ErrorKind, Larder, Result};

use crate::support::Home;

const SECOND: Duration = Duration::from_secs(1);

/// Returns once so many wait for the lock.
async fn until_waiting(larder: &Larder, count: u64) -> Result<()> {
    loop {
        let listed = larder.locks().list().await?;
        if listed.iter().any(|lock| lock.waiters == count) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the cells of a table.
fn cells(text: &str) -> Vec<Vec<String>> {
    // Columns are two blanks apart, and only headings hold single ones.
    let cells = |line: &str| {
        let cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    text.lines().map(cells).collect()
}

#[test]
fn without_locks_there_is_a_message() {
    let home = Home::new();
    let ran = home.run("lock list");
    assert_eq!(ran.ok(), "");
    assert_eq!(ran.stderr, "no lock is in use\n");
    let ran = home.run("lock:list --semaphores");
    assert_eq!(ran.ok(), "");
    assert_eq!(ran.stderr, "no semaphore is in use\n");
    assert_eq!(home.run("lock list -q").stderr, "");
    let listed = home.run("lock list --json").ok();
    assert_eq!(listed, "{\"locks\":[]}\n");
    assert_eq!(home.run("lock list [").code, 2);
}

#[test]
fn holders_and_waiters_are_listed() {
    let home = Home::new();
    home.apply(async |larder| {
        let lock = larder.lock("report").ttl(60 * SECOND);
        let guard = lock.acquire().await?;
        let other = larder.lock("other").ttl(60 * SECOND).acquire().await?;
        let waiter = tokio::spawn(async move { lock.acquire().await });
        until_waiting(&larder, 1).await?;
        let listed = home.run("lock:list rep*").ok();
        let rows = cells(&listed);
        let header = ["NAME", "OWNER", "FENCE", "HELD FOR", "TTL LEFT", "WAITERS"];
        assert_eq!(rows[0], header);
        assert_eq!(rows.len(), 2, "{listed}");
        let [name, owner, fence, ..] = &rows[1][..] else {
            panic!("{listed}");
        };
        assert_eq!(name, "report");
        assert_eq!(owner, guard.owner().as_str());
        assert_eq!(*fence, guard.fence().to_string());
        assert_eq!(rows[1][5], "1");
        let locks = home.run("lock list --json").json();
        assert_eq!(locks["locks"].as_array().unwrap().len(), 2);
        let (first, second) = (&locks["locks"][0], &locks["locks"][1]);
        assert_eq!(
            (&first["name"], &second["name"]),
            (&"other".into(), &"report".into())
        );
        assert_eq!(first["waiters"], 0);
        let holder = &second["holders"][0];
        assert_eq!(holder["fence"], guard.fence());
        assert_eq!(holder["owner"], guard.owner().as_str());
        assert!(holder["held_ms"].as_u64().unwrap() < 60_000);
        assert!((30_000..=60_000).contains(&holder["left_ms"].as_u64().unwrap()));
        waiter.abort();
        other.release().await
    });
}

#[test]
fn semaphores_have_a_line_for_each_holder_and_are_no_locks() {
    let home = Home::new();
    home.apply(async |larder| {
        let slots = larder.semaphore("slots", 2);
        let guards = [slots.acquire().await?, slots.acquire().await?];
        let rows = cells(&home.run("lock list --semaphores").ok());
        let owners: Vec<_> = rows[1..].iter().map(|row| row[1].as_str()).collect();
        assert_eq!(
            owners,
            guards.each_ref().map(|guard| guard.owner().as_str())
        );
        assert_eq!(home.run("lock list --semaphores nothing").ok(), "");
        assert_eq!(home.run("lock list").ok(), "");
        home.run("lock release slots --yes").exits(3);
        Ok(())
    });
}

#[test]
fn a_name_that_some_wait_for_and_nobody_holds_has_dashes() {
    let home = Home::new();
    home.apply(async |larder| {
        let held = larder.lock("report").acquire().await?;
        let lock = larder.lock("report").wait(60 * SECOND);
        let waiter = tokio::spawn(async move { lock.acquire().await });
        until_waiting(&larder, 1).await?;
        // The waiter cannot take it meanwhile: the program runs on its only thread.
        home.run("lock release report --yes").ok();
        let rows = cells(&home.run("lock list").ok());
        assert_eq!(rows[1], ["report", "-", "-", "-", "-", "1"]);
        let listed = home.run("lock list --json").json();
        assert_eq!(listed["locks"][0]["holders"].as_array().unwrap().len(), 0);
        home.run("lock release report --yes").exits(3);
        let next = waiter.await.unwrap()?;
        assert!(next.fence() > held.fence());
        Ok(())
    });
}

#[test]
fn a_release_takes_the_lock_and_says_from_whom() {
    let home = Home::new();
    home.apply(async |larder| {
        let lock = larder.lock("report").ttl(60 * SECOND);
        let guard = lock.acquire().await?;
        let dry = home.run("lock release report --dry-run").ok();
        assert!(dry.starts_with("would release the lock report (store sqlite)"), "{dry}");
        assert!(dry.contains(guard.owner().as_str()), "{dry}");
        let dry = home.run("lock release report --dry-run --json").json();
        assert_eq!(dry["dry_run"], true);
        assert_eq!(dry["holders"][0]["fence"], guard.fence());
        assert_eq!(home.run("lock list --json").json()["locks"][0]["waiters"], 0);
        let done = home.run("lock release report --force").ok();
        assert!(done.starts_with("released the lock report"), "{done}");
        assert!(done.contains(&format!("fence {}", guard.fence())), "{done}");
        let lost = guard.release().await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::LockLost);
        let next = lock.acquire().await?;
        assert!(next.fence() > guard.fence());
        let done = home.run("lock:release report --yes --json").json();
        let expected = serde_json::json!({"name": "report", "store": "sqlite", "waiters": 0, "dry_run": false});
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&done[field], value, "{done}");
        }
        assert_eq!(done["holders"][0]["fence"], next.fence());
        Ok(())
    });
}

#[test]
fn nobody_loses_a_lock_without_a_flag() {
    let home = Home::new();
    home.apply(async |larder| {
        let guard = larder.lock("report").acquire().await?;
        let ran = home.run("lock release report");
        assert_eq!(ran.exits(2), "");
        assert!(ran.stderr.contains("add --yes"), "{ran:?}");
        let ran = home.run("lock release report --json");
        assert_eq!((ran.code, ran.error_kind().as_str()), (2, "refused"));
        guard.release().await
    });
}

#[test]
fn a_lock_that_nobody_holds_is_exit_code_3() {
    let home = Home::new();
    for flag in ["--yes", "--dry-run"] {
        let ran = home.run(&format!("lock release report {flag}"));
        assert_eq!(ran.exits(3), "");
        assert_eq!(ran.stderr, "error: nobody holds the lock \"report\"\n");
        let ran = home.run(&format!("lock release report {flag} --json"));
        assert_eq!((ran.code, ran.error_kind().as_str()), (3, "miss"));
    }
    let ran = home.run_with(["lock", "release", "", "--yes"]);
    assert_eq!(ran.exits(2), "");
}

#[test]
fn names_may_be_any_bytes() {
    let home = Home::new();
    home.apply(async |larder| {
        let names: [&[u8]; 4] = [b"a*[x]?\\", b"\xff\x00", b"\x1b[2J", &[b'*'; 1024]];
        let mut guards = Vec::new();
        for name in names {
            guards.push(larder.lock(name).acquire().await?);
        }
        let listed = home.run("lock list").ok();
        assert!(
            listed.contains("\\xff\\u{0}") && !listed.contains('\x1b'),
            "{listed}"
        );
        let listed = home.run("lock list --json").json();
        let base64 = |lock: &&serde_json::Value| lock["name_encoding"] == "base64";
        let bytes = listed["locks"]
            .as_array()
            .unwrap()
            .iter()
            .find(base64)
            .unwrap();
        assert_eq!(bytes["name"], "/wA=");
        home.run("lock release /wA= --name-base64 --yes").ok();
        home.run("lock release !! --name-base64 --yes").exits(2);
        for name in ["a*[x]?\\", "\x1b[2J", &"*".repeat(1024)] {
            home.run_with(["lock", "release", name, "--yes"]).ok();
        }
        assert_eq!(home.run("lock list").ok(), "");
        Ok(())
    });
}

#[test]
fn locks_in_files_are_listed_and_released() {
    let home = Home::new();
    let file = home.path().join("larder.toml");
    fs::write(file, "[stores.main]\ndriver = \"file\"\npath = \"cache\"\n").unwrap();
    home.apply_configured(async |larder| {
        let guard = larder.lock("report").acquire().await?;
        let rows = cells(&home.run("lock list").ok());
        assert_eq!(rows[1][1], guard.owner().as_str());
        let done = home.run("lock release report --yes").ok();
        assert!(
            done.starts_with("released the lock report (store file)"),
            "{done}"
        );
        let lost = guard.release().await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::LockLost);
        Ok(())
    });
}

#[test]
fn a_store_without_locks_says_so() {
    let home = Home::new();
    let ran = home
        .command(["lock", "list"])
        .env("CACHE_DRIVER", "null")
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let message = String::from_utf8(ran.stderr).unwrap();
    assert!(message.contains("the store null has no locks"), "{message}");
}
