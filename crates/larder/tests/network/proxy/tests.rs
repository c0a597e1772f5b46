//! The proxy before a server that echoes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::Proxy;

/// How long nothing must come before it counts as never.
const NEVER: Duration = Duration::from_millis(200);

async fn proxy_before_echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Proxy::start(address).await.expect("a proxy")
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

async fn echo(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(NEVER, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn data_passes_both_ways_and_is_counted() {
    let proxy = proxy_before_echo().await;
    let large = vec![7; 1 << 20];
    let mut stream = connect(proxy.address()).await;
    assert_eq!(echo(&mut stream, b"hello").await.unwrap(), b"hello");
    let (mut from, mut to) = stream.split();
    let mut reply = vec![0; large.len()];
    let (sent, read) = tokio::join!(to.write_all(&large), from.read_exact(&mut reply));
    sent.and(read).unwrap();
    assert_eq!(reply, large);
    stream.shutdown().await.unwrap();
    assert_eq!(
        stream.read(&mut [0]).await.unwrap(),
        0,
        "the end passes, too"
    );
    assert_eq!(proxy.connections(), 1);
    assert_eq!(proxy.bytes_to_server(), 5 + (1 << 20));
    assert_eq!(proxy.bytes_to_client(), 5 + (1 << 20));
}

#[tokio::test]
async fn delay_shifts_data_without_thinning_it_out() {
    let proxy = proxy_before_echo().await;
    let delay = Duration::from_millis(100);
    let mut stream = connect(proxy.address()).await;
    proxy.delay(delay);
    let begun = Instant::now();
    for _ in 0..10 {
        stream.write_all(b"x").await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    stream.read_exact(&mut [0; 10]).await.unwrap();
    let taken = begun.elapsed();
    assert!(taken >= 2 * delay, "{taken:?}");
    assert!(taken < 5 * delay, "{taken:?}");
}

#[tokio::test]
async fn connection_is_cut_after_so_many_bytes_and_the_next_is_not() {
    let proxy = proxy_before_echo().await;
    for bytes in 0..=6 {
        let mut stream = connect(proxy.address()).await;
        echo(&mut stream, b"before").await.unwrap();
        proxy.cut_after(bytes);
        stream.write_all(b"reply!").await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply, b"reply!"[..bytes]);
    }
    let mut stream = connect(proxy.address()).await;
    assert_eq!(echo(&mut stream, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn one_byte_is_corrupted_once() {
    let proxy = proxy_before_echo().await;
    let mut stream = connect(proxy.address()).await;
    proxy.corrupt_at(4);
    assert_eq!(echo(&mut stream, b"abc").await.unwrap(), b"abc");
    assert_eq!(
        echo(&mut stream, b"abc").await.unwrap(),
        [b'a', !b'b', b'c']
    );
    assert_eq!(echo(&mut stream, b"abc").await.unwrap(), b"abc");
}

#[tokio::test]
async fn refusing_spares_the_connections_that_exist() {
    let proxy = proxy_before_echo().await;
    let mut stream = connect(proxy.address()).await;
    echo(&mut stream, b"up").await.unwrap();
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(echo(&mut stream, b"still").await.unwrap(), b"still");
    proxy.accept().await;
    let mut stream = connect(proxy.address()).await;
    assert_eq!(echo(&mut stream, b"again").await.unwrap(), b"again");
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn half_open_line_takes_all_and_answers_nothing() {
    let proxy = proxy_before_echo().await;
    let mut old = connect(proxy.address()).await;
    echo(&mut old, b"up").await.unwrap();
    proxy.half_open();
    let mut new = connect(proxy.address()).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(b"anybody?").await.unwrap();
        assert!(is_silent(stream).await);
    }
    assert_eq!(proxy.bytes_to_server(), 2);
    proxy.heal().await;
    assert!(echo(&mut old, b"lost").await.is_err());
    let mut stream = connect(proxy.address()).await;
    assert_eq!(echo(&mut stream, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn frozen_data_arrives_after_the_thaw() {
    let proxy = proxy_before_echo().await;
    let mut stream = connect(proxy.address()).await;
    proxy.freeze();
    stream.write_all(b"ice").await.unwrap();
    assert!(is_silent(&mut stream).await);
    proxy.thaw();
    let mut reply = [0; 3];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"ice");
}

#[tokio::test]
async fn cutting_closes_all_connections_and_spares_the_next() {
    let proxy = proxy_before_echo().await;
    let mut streams = [
        connect(proxy.address()).await,
        connect(proxy.address()).await,
    ];
    for stream in &mut streams {
        echo(stream, b"up").await.unwrap();
    }
    proxy.cut_now();
    for stream in &mut streams {
        assert!(echo(stream, b"down").await.is_err());
    }
    let mut stream = connect(proxy.address()).await;
    assert_eq!(echo(&mut stream, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn server_that_is_gone_ends_the_connection() {
    let vacant = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = vacant.local_addr().unwrap();
    drop(vacant);
    let proxy = Proxy::start(upstream).await.unwrap();
    let mut stream = connect(proxy.address()).await;
    assert!(echo(&mut stream, b"hello").await.is_err());
}
