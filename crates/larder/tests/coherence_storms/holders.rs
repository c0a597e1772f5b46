//! Processes that are killed or stopped while they load.

use std::time::Duration;

use crate::moment::now;
use crate::party::{Asked, Party};
use crate::{Kind, Site, report};

const LEASE: Duration = Duration::from_millis(600);
const SHORT_LEASE: Duration = Duration::from_millis(150);
/// What a look at the store, and a busy machine, may add to a lease.
const SLACK: Duration = Duration::from_millis(200);
const LOAD: Duration = Duration::from_millis(50);
const CALLERS: u64 = 20;

macro_rules! on_shared_stores {
    ($($name:ident: $kind:ident,)*) => {$(
        mod $name {
            use crate::Kind;

            #[test]
            fn the_load_of_the_killed_is_taken_over_once() {
                super::the_load_of_the_killed_is_taken_over_once(Kind::$kind);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn who_was_stopped_stores_nothing() {
                super::who_was_stopped_stores_nothing(Kind::$kind).await;
            }
        }
    )*};
}

on_shared_stores! {
    sqlite: Sqlite,
    file: File,
    redis: Redis,
    redis_cluster: RedisCluster,
    memcached: Memcached,
}

fn start(kind: Kind, site: &Site, number: usize) -> Party {
    Party::start(kind, &site.store, number, None)
}

fn the_load_of_the_killed_is_taken_over_once(kind: Kind) {
    let site = Site::new();
    let trials = report::trials(1, 1000);
    let mut times_ns = Vec::new();
    let mut waiting: Vec<_> = (1..3).map(|number| start(kind, &site, number)).collect();
    for trial in 0..trials {
        let key = format!("key:{trial}");
        let mut asked = Asked {
            key: &key,
            callers: 1,
            load: None,
            lease: LEASE,
            shares: true,
        };
        let mut holder = start(kind, &site, 0);
        holder.ask(asked);
        holder.load_begun();
        (asked.callers, asked.load) = (CALLERS, Some(LOAD));
        waiting.iter_mut().for_each(|party| party.ask(asked));
        // Longer than the lease: it is renewed.
        std::thread::sleep(LEASE * 2);
        let killed_ns = now();
        holder.0.kill();
        let answers: Vec<_> = waiting.iter().map(Party::answers).collect();
        let loads: Vec<u64> = answers.iter().flat_map(|it| it.loads_ns.clone()).collect();
        assert_eq!(loads.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|it| it.count == CALLERS), "{answers:?}");
        assert!(answers.iter().all(|it| it.values.len() == 1), "{answers:?}");
        assert_eq!(answers[0].values, answers[1].values);
        assert!(loads[0] > killed_ns, "somebody did not wait");
        times_ns.push(loads[0] - killed_ns);
    }
    if report::is_long() {
        let longest = times_ns.iter().max().copied().unwrap_or(0);
        assert!(longest <= (LEASE + SLACK).as_nanos() as u64, "{longest} ns");
    }
    report::row(
        format!("holder killed, {}, lease {LEASE:?}", kind.name()),
        format!("{trials} trials, next load: {}", report::times(times_ns)),
    );
}

/// Whether somebody else has loaded meanwhile or not.
async fn who_was_stopped_stores_nothing(kind: Kind) {
    let site = Site::new();
    let trials = report::trials(10, 100);
    let here = crate::cache(kind.open(&site.store).await, &site.store, None);
    let mut holder = start(kind, &site, 0);
    for trial in 0..trials {
        let key = format!("key:{trial}");
        holder.ask(Asked {
            key: &key,
            callers: 1,
            load: None,
            lease: SHORT_LEASE,
            shares: true,
        });
        holder.load_begun();
        holder.0.signal("STOP");
        tokio::time::sleep(SHORT_LEASE * 2).await;
        let other = match trial % 2 {
            0 => None,
            _ => {
                let load = || async { Ok::<_, std::io::Error>("other".to_owned()) };
                Some(here.remember(&key, load).tags([&key]).await.unwrap())
            }
        };
        holder.0.tell("go");
        holder.0.signal("CONT");
        assert_eq!(holder.answers().count, 1);
        let left: Option<String> = here.get(&key).await.unwrap();
        assert_eq!(left, other, "trial {trial}");
    }
    let [_, _, overtaken] = holder.stats();
    report::row(
        format!("holder stopped, {}", kind.name()),
        format!("{overtaken} of {trials} commits refused"),
    );
    assert_eq!(overtaken, trials);
}
