//! Replies that are cut, altered, or made up: calls may fail, but none is answered with what belongs to another.

use std::time::Duration;

use larder::store::{Memcached, Store};
use larder::testing::body;
use larder::{ErrorKind, Namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::proxy::{Fault, Proxy};
use super::{PATIENCE, eventually, get, large, namespace, put};

const KEYS: [&[u8]; 3] = [b"first", b"second", b"third"];

/// Reads all keys at a time, under a fault, and then again: each read fails, misses, or finds its own value.
async fn assert_no_mix(store: &Memcached, space: &Namespace, proxy: &Proxy, fault: &Fault) -> bool {
    let check = |key: &[u8], read: larder::Result<Option<Vec<u8>>>| match read {
        // An altered body is told by the entry's own checksum: nothing can be read of it.
        Ok(Some(value)) => assert!(value == key || value.is_empty(), "{fault:?}: {value:?}"),
        Ok(None) => {}
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
            "{fault:?}: {error}"
        ),
    };
    // Two calls: three failures in a row would open the breaker, and each fault would cost its wait.
    let (bulk, third) = tokio::join!(
        store.get_many(space, &KEYS[..2]),
        get(store, space, KEYS[2]),
    );
    match bulk {
        Ok(entries) => {
            for (key, entry) in KEYS.into_iter().zip(entries) {
                let value = entry.map(|entry| body(&entry.value).unwrap_or_default().to_vec());
                check(key, Ok(value));
            }
        }
        Err(error) => check(KEYS[0], Err(error)),
    }
    check(KEYS[2], third);
    let struck = proxy.disarm();
    for key in KEYS {
        eventually("the store works again", || async {
            let read = get(store, space, key).await;
            let found = matches!(&read, Ok(Some(value)) if value == key);
            check(key, read);
            found
        })
        .await;
    }
    struck
}

async fn survives(faults: impl Fn(usize) -> Vec<Fault>) {
    let proxy = Proxy::start(large()).await;
    let builder = Memcached::builder(proxy.address());
    let builder = builder.response_timeout(Duration::from_millis(60));
    let store = builder.connect().await.unwrap();
    let space = namespace();
    for key in KEYS {
        put(&store, &space, key, key).await.unwrap();
    }
    let mut at = 0;
    loop {
        let mut struck = true;
        for fault in faults(at) {
            proxy.arm(at, fault.clone());
            struck &= assert_no_mix(&store, &space, &proxy, &fault).await;
        }
        if !struck {
            break;
        }
        at += 1;
    }
    assert!(at > 250, "only {at} bytes of replies were tried");
}

#[tokio::test]
async fn a_reply_cut_at_any_byte_answers_nobody_else() {
    survives(|_| vec![Fault::Cut]).await;
}

#[tokio::test]
async fn a_reply_altered_at_any_byte_answers_nobody_else() {
    survives(|at| vec![Fault::Flip(1 << (at % 8)), Fault::Drop]).await;
}

#[tokio::test]
async fn a_reply_made_up_at_any_byte_answers_nobody_else() {
    survives(|at| {
        let extra: [&[u8]; 4] = [b"EN\r\n", b"VA 0 O1\r\n\r\n", b"MN\r\n", b"\r\n"];
        vec![Fault::Insert(extra[at % 4])]
    })
    .await;
}

/// Writes whose replies are lost are reported as failed, and the next ones are not taken for them.
#[tokio::test]
async fn a_lost_reply_to_a_write_is_an_error() {
    let proxy = Proxy::start(large()).await;
    let store = Memcached::connect(proxy.address()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"k", b"0").await.unwrap();
    for at in 0..40 {
        proxy.arm(at, Fault::Cut);
        let failed = put(&store, &space, b"k", b"1").await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
        assert!(proxy.disarm());
        put(&store, &space, b"k", b"2").await.unwrap();
        let read = get(&store, &space, b"k").await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"2"[..]));
    }
}

/// Starts a server that answers everything with the same bytes.
async fn parrot(reply: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(1..) = client.read(&mut buffer).await {
                    if client.write_all(reply).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_memcached_is_refused() {
    for reply in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"-ERR unknown command\r\n",
        b"\0\0\0\0",
        b"\xff\xfe\r\n",
        b"EN\r\n",
        b"VA 99999999999 O1\r\n",
    ] {
        let start = std::time::Instant::now();
        let error = Memcached::connect(parrot(reply).await).await.unwrap_err();
        let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(start.elapsed() < PATIENCE);
    }
}

/// It answers the settings and then only repeats itself.
#[tokio::test]
async fn a_server_that_answers_other_questions_is_cut_off() {
    for reply in [&b"END\r\n"[..], b"END\r\nHD O1\r\n", b"END\r\nMN\r\n"] {
        let builder = Memcached::builder(parrot(reply).await);
        let builder = builder.response_timeout(Duration::from_millis(50));
        let store = builder.build_lazy().unwrap();
        for _ in 0..5 {
            let error = get(&store, &namespace(), b"k").await.unwrap_err();
            let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        assert!(store.clear(&namespace()).await.is_err());
    }
}
