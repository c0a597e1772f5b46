//! Limits of size and time.

use std::time::Duration;

use larder::store::{Expiry, Memcached, Store, Write};
use larder::testing::sealed;
use larder::{ErrorKind, ManualClock};

use super::server::{Server, entry_name, raw};
use super::{get, large, namespace, put, small};

#[tokio::test]
async fn a_value_over_the_limit_is_refused_and_the_connection_goes_on() {
    let store = Memcached::connect(small()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"k", b"small").await.unwrap();
    for bytes in [1 << 20, 5 << 20, (16 << 20) - 64] {
        let error = put(&store, &space, b"k", &vec![1; bytes])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(!error.is_retryable());
        assert!(error.message().contains("1048576"), "{error}");
    }
    let read = get(&store, &space, b"k").await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"small"[..]));
    // Around the limit either side may refuse, and both say the same.
    for bytes in (1 << 20) - 400..(1 << 20) - 100 {
        match put(&store, &space, b"edge", &vec![2; bytes]).await {
            Ok(()) => {
                let read = get(&store, &space, b"edge").await.unwrap();
                assert_eq!(read.map(|value| value.len()), Some(bytes));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge),
        }
    }
}

#[tokio::test]
async fn one_value_too_large_fails_the_bulk_before_anything_is_written() {
    let store = Memcached::connect(small()).await.unwrap();
    let space = namespace();
    let (fits, over) = (sealed(b"fits"), sealed(&vec![3; 1 << 20]));
    let writes = [
        Write::put(b"a", fits, Expiry::Never),
        Write::put(b"b", over, Expiry::Never),
    ];
    let error = store.write_many(&space, &writes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(get(&store, &space, b"a").await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_may_not_evict_says_that_it_is_full() {
    let server = Server::start(&["-M", "-m", "2"]).await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let space = namespace();
    let mut refused = None;
    for n in 0..2000_u32 {
        if let Err(error) = put(&store, &space, &n.to_be_bytes(), &[4; 100_000]).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.expect("2 MiB do not hold 200 MB");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.is_retryable(), "it is no outage");
    assert!(get(&store, &space, &0_u32.to_be_bytes()).await.is_ok());
}

#[tokio::test]
async fn ttls_over_thirty_days_are_kept() {
    let store = Memcached::connect(large()).await.unwrap();
    let space = namespace();
    let day_ms = 24 * 3_600_000;
    for (days, seconds) in [(29, 29 * 86400), (31, 31 * 86400), (400, 400 * 86400)] {
        let write = Write::put(b"k", sealed(b"x"), Expiry::After(days * day_ms));
        store.write_many(&space, &[write]).await.unwrap();
        assert!(get(&store, &space, b"k").await.unwrap().is_some());
        let reply = raw(&large(), &format!("mg {} b t", entry_name(&space, b"k"))).await;
        let left = reply.split('t').nth(1).unwrap().trim();
        let left: u64 = left.split(' ').next().unwrap().parse().unwrap();
        assert!((seconds..=seconds + 3).contains(&left), "{reply:?}");
    }
}

/// What is expired by the store's clock is absent, though the server would still keep it.
#[tokio::test]
async fn expiry_follows_the_clock_of_the_store() {
    let time = ManualClock::new();
    let builder = Memcached::builder(large()).clock(time.clock());
    let store = builder.connect().await.unwrap();
    let space = namespace();
    let write = Write::put(b"k", sealed(b"x"), Expiry::After(3_600_000));
    store.write_many(&space, &[write]).await.unwrap();
    time.advance(Duration::from_millis(3_599_999));
    assert!(get(&store, &space, b"k").await.unwrap().is_some());
    time.advance(Duration::from_millis(1));
    assert_eq!(get(&store, &space, b"k").await.unwrap(), None);
}

#[tokio::test]
async fn options_out_of_bounds_are_refused() {
    let builder = || Memcached::builder("127.0.0.1:1");
    let second = Duration::from_secs(1);
    for wrong in [
        Memcached::builder(""),
        builder().connections(0),
        builder().connections(65),
        builder().max_in_flight(0),
        builder().connect_timeout(Duration::ZERO),
        builder().response_timeout(second * 7200),
    ] {
        let error = wrong.build_lazy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let unreachable = builder().connect().await.unwrap_err();
    assert_eq!(unreachable.kind(), ErrorKind::Unavailable);
    assert!(builder().build_lazy().is_ok(), "it connects on first use");
}
