//! status and stats.

use std::thread;
use std::time::Duration;

use crate::support::Home;

#[test]
fn status_sums_what_all_processes_did() {
    let home = Home::new();
    home.apply(|larder| async move {
        for name in ["default", "sessions"] {
            let cache = larder.partition(name)?;
            cache.set("k", &1).await?;
            for _ in 0..3 {
                cache.get::<i32>("k").await?;
            }
            cache.get::<i32>("absent").await?;
        }
        larder.shutdown().await
    });
    let status = home.run("cache status --json").json();
    let caches = status["caches"].as_array().unwrap();
    assert_eq!(caches.len(), 2);
    for cache in caches {
        assert_eq!(cache["hits"], 3);
        assert_eq!(cache["misses"], 1);
        assert_eq!(cache["hit_ratio"], 0.75);
        assert_eq!(cache["entries"], 1);
    }
    assert_eq!(status["stores"].as_array().unwrap().len(), 1);
    assert!(status["stores"][0]["capacity_bytes"].as_u64().unwrap() > 0);
    let text = home.run("cache:status").ok();
    assert!(
        text.contains("sessions") && text.contains("75.0%"),
        "{text}"
    );
    let text = home.run("cache:status --detailed").ok();
    assert!(text.contains("unknown layout"), "{text}");
}

#[test]
fn stats_tell_why_reads_missed() {
    let home = Home::new();
    home.run("cache set text hello").ok();
    home.apply(|larder| async move {
        let cache = larder.default_cache();
        assert_eq!(cache.get::<Vec<u64>>("text").await?, None);
        larder.shutdown().await
    });
    let stats = home.run("cache stats --json").json();
    assert_eq!(stats["total"]["misses"]["decode"], 1);
    assert_eq!(stats["total"]["sets"], 1);
    assert!(home.run("cache stats").ok().contains("other type"));
}

#[test]
fn status_can_be_watched() {
    let home = Home::new();
    let mut command = home.command(["cache", "status", "--json", "--watch=100ms"]);
    let mut child = command.spawn().unwrap();
    thread::sleep(Duration::from_millis(700));
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().count();
    assert!(lines >= 2, "{lines}");
}
