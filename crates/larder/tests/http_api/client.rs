//! A server on a free port, and an HTTP/1.1 client that sends exactly what it is told.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use larder::Larder;
use larder::dashboard::Dashboard;
use serde_json::Value;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A dashboard being served from an embedded directory of its own.
pub(crate) struct Server {
    pub(crate) larder: Larder,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

/// Serves the defaults.
pub(crate) async fn serve() -> Server {
    serve_as(|dashboard| dashboard).await
}

/// Serves what `configure` makes of the defaults.
pub(crate) async fn serve_as(configure: impl FnOnce(Dashboard) -> Dashboard) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let larder = Larder::embedded(dir.path()).await.unwrap();
    listen(larder, dir, configure).await
}

/// Serves what a configuration file says.
pub(crate) async fn serve_file(toml: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("larder.toml");
    std::fs::write(&file, toml).unwrap();
    let larder = Larder::open(file).await.unwrap();
    listen(larder, dir, |dashboard| dashboard).await
}

async fn listen(
    larder: Larder,
    dir: tempfile::TempDir,
    configure: impl FnOnce(Dashboard) -> Dashboard,
) -> Server {
    let router = configure(Dashboard::new(larder.clone())).router();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server {
        larder,
        dir,
        address,
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is a well-formed problem of this status and type; returns its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        let seen = (self.status, problem["type"].as_str().unwrap());
        assert_eq!(seen, (status, kind), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// Sends a request with a right `Host` and no other headers.
    pub(crate) async fn send(&self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send_with(method, target, &[], body).await
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.send("GET", target, "").await
    }

    pub(crate) async fn post_json(&self, target: &str, body: &Value) -> Reply {
        self.send("POST", target, body.to_string()).await
    }

    /// Sends a request with these headers; `Host` is added unless given.
    pub(crate) async fn send_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Reply {
        let body = body.as_ref();
        let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "PUT" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send_raw([head.as_bytes(), body].concat()).await
    }

    /// Sends bytes and reads the one reply.
    pub(crate) async fn send_raw(&self, request: Vec<u8>) -> Reply {
        let address = self.address;
        let is_head = request.starts_with(b"HEAD ");
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&request).unwrap();
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).unwrap();
            parse(&reply, is_head)
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }
}

fn parse(reply: &[u8], is_head: bool) -> Reply {
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&reply[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let split = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let reply = Reply {
        status: status.parse().unwrap(),
        headers: lines.map(split).collect(),
        body: reply[end + 4..].to_vec(),
    };
    let announced = reply.header("content-length").map(str::parse::<usize>);
    if let Some(Ok(announced)) = announced
        && !is_head
    {
        assert_eq!(reply.body.len(), announced, "the reply was cut");
    }
    reply
}
