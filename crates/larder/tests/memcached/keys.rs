//! Keys that would break out of a command line, were they written into one.

use larder::store::{Memcached, Store, Write};

use super::server::{Server, raw};
use super::{get, large, namespace, put};

/// Keys with line ends, spaces and NULs, and of every length that matters.
fn hostile_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        "x\r\nflush_all\r\n",
        "x b v\r\nflush_all\r\nmg x",
        "\r\n",
        "\n",
        " ",
        "a b",
        "\0",
        "flush_all",
        "h:0123456789abcdef0123456789abcdef",
        "x 0\r\n\r\nflush_all\r\n",
        "\u{feff}",
    ]
    .map(|key| key.as_bytes().to_vec())
    .to_vec();
    for len in [179, 180, 181, 249, 250, 251, 1023, 1024] {
        keys.push(vec![b'k'; len]);
        let mut injection = vec![b'k'; len];
        injection[len - 13..].copy_from_slice(b"\r\nflush_all\r\n");
        keys.push(injection);
    }
    keys
}

#[tokio::test]
async fn no_key_breaks_out_of_its_command() {
    // Of its own: a flush would ruin what others keep.
    let server = Server::start(&[]).await;
    raw(&server.address(), "ms canary 2\r\nok").await;
    let store = Memcached::connect(server.address()).await.unwrap();
    let space = namespace();
    put(&store, &space, b"canary", b"ok").await.unwrap();
    let keys = hostile_keys();
    for key in &keys {
        put(&store, &space, key, key).await.unwrap();
    }
    for key in &keys {
        let shown = key.escape_ascii();
        let read = get(&store, &space, key).await.unwrap();
        assert_eq!(read.as_deref(), Some(&key[..]), "{shown}");
    }
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let read = store.get_many(&space, &asked).await.unwrap();
    assert!(read.iter().all(Option::is_some));
    let deletes: Vec<_> = asked.iter().map(|key| Write::delete(key)).collect();
    let deleted = store.write_many(&space, &deletes).await.unwrap();
    assert_eq!(deleted, vec![true; keys.len()]);
    let canary = get(&store, &space, b"canary").await.unwrap();
    assert_eq!(canary.as_deref(), Some(&b"ok"[..]));
    let reply = raw(&server.address(), "mg canary v").await;
    assert_eq!(reply, "VA 2\r\nok");
}

#[tokio::test]
async fn errors_show_a_short_key_and_no_value() {
    let store = Memcached::connect(super::small()).await.unwrap();
    let key = [b"secret".repeat(40), b"\r\n".to_vec()].concat();
    let error = put(&store, &namespace(), &key, &vec![b'V'; 2 << 20]).await;
    let text = format!("{:?}", error.unwrap_err());
    assert!(text.len() < 300 && !text.contains("VVV"), "{text}");
    assert!(!text.contains(&"secret".repeat(10)), "{text}");
}

/// Namespaces are part of the name: long ones are hashed like long keys, and only absurd ones refused.
#[tokio::test]
async fn long_namespaces_work() {
    let store = Memcached::connect(large()).await.unwrap();
    for len in [150, 170, 200, 5000] {
        let prefix = format!("{:016x}{}", fastrand::u64(..), "p".repeat(len));
        let space = larder::Namespace::new(&prefix, "memcached", 1);
        put(&store, &space, b"k", b"v").await.unwrap();
        let read = get(&store, &space, b"k").await.unwrap();
        assert_eq!(read.as_deref(), Some(&b"v"[..]), "{len}");
        store.clear(&space).await.unwrap();
        assert_eq!(get(&store, &space, b"k").await.unwrap(), None, "{len}");
    }
    let absurd = larder::Namespace::new(&"p".repeat(70_000), "memcached", 1);
    let refused = put(&store, &absurd, b"k", b"v").await.unwrap_err();
    assert_eq!(refused.kind(), larder::ErrorKind::InvalidKey);
}
