//! Names that look like something else, and as many as there may be.

use std::time::Duration;

use larder::RedisStore;
use larder::store::Register;
use xtask::servers::private::RedisCluster;

use super::super::rig::{now, urls};
use super::{Tagged, numbered, tag, token};
use crate::has_servers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn braces_and_long_names_choose_no_slot() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let builder = RedisStore::cluster(urls(&cluster)).response_timeout(Duration::from_secs(2));
    let tagged = Tagged::new(builder.connect().await.unwrap());
    let strange = ["{a}", "}{", "{", "a\0b", "line\r\nSET x y", "-^\\", "ü:{x}"];
    let mut registers: Vec<_> = strange.iter().map(|name| tag(name)).collect();
    registers.push(Register::from_bytes(b"/{a}:b").unwrap());
    registers.extend((registers.len()..64).map(|n| tag(&format!("{n:02}{}", "x".repeat(198)))));
    assert_eq!(registers.len(), 64);
    let keys: Vec<_> = numbered(8)
        .into_iter()
        .map(|key| format!("{{b}}{key}"))
        .collect();
    for (round, dead) in registers.iter().enumerate().step_by(9) {
        for key in &keys {
            let token = token();
            let begun = tagged.begin(key, &registers, token).await.unwrap();
            assert!(begun.is_granted, "{round}: {key}");
            let stored = tagged.commit(key, "v", token, &begun.stamps).await;
            assert!(stored.unwrap(), "{round}: {key}");
        }
        let found = tagged.get_all(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_some), "{dead:?}");
        tagged.invalidate(std::slice::from_ref(dead)).await.unwrap();
        let found = tagged.get_all(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_none), "{dead:?}");
    }
}
