//! The commands on locks.

use larder::ErrorKind;

use super::{DEAD, every_redis, home, memcached, provided, redis};

#[test]
fn locks_on_redis_are_listed_and_released() {
    for home in every_redis() {
        assert_eq!(home.run("lock list").ok(), "");
        home.apply_configured(async |larder| {
            let guard = larder.lock("report").acquire().await?;
            let slots = larder.semaphore("slots", 2);
            let _slots = [slots.acquire().await?, slots.acquire().await?];
            let listed = home.run("lock list --json").json();
            assert_eq!(listed["locks"].as_array().unwrap().len(), 1, "{listed}");
            let holder = &listed["locks"][0]["holders"][0];
            assert_eq!(holder["fence"], guard.fence());
            assert_eq!(holder["owner"], guard.owner().as_str());
            let listed = home.run("lock list --semaphores").ok();
            assert_eq!(listed.lines().count(), 3, "{listed}");
            home.run("lock release report").exits(2);
            let done = home.run("lock release report --yes").ok();
            assert!(done.contains(&guard.fence().to_string()), "{done}");
            home.run("lock release report --yes").exits(3);
            let lost = guard.release().await.unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::LockLost);
            Ok(())
        });
    }
}

#[test]
fn memcached_cannot_list_its_locks() {
    let home = home(&memcached(&provided("MEMCACHED")));
    let ran = home.run("lock list");
    assert_eq!(ran.exits(1), "");
    assert!(ran.stderr.contains("locks"), "{ran:?}");
    let ran = home.run("lock list --json");
    assert_eq!((ran.code, ran.error_kind().as_str()), (1, "unsupported"));
}

#[test]
fn a_server_that_is_down_is_exit_code_5() {
    let home = home(&redis(&format!("redis://{DEAD}/")));
    home.run("lock list").exits(5);
    home.run("lock release report --yes").exits(5);
}
