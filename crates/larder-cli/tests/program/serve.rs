//! serve: a real server, asked over plain sockets.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Home, Ran, ended, eventually, signal};

/// A running server; killed with the test if that does not stop it.
struct Server {
    child: Option<Child>,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Server {
    /// Starts a server on a free port and waits until it says where it listens.
    fn start(home: &Home, flags: &str) -> Self {
        let line = format!("--json serve --listen 127.0.0.1:0 {flags}");
        let mut child = home
            .command(line.split_whitespace())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("it says where it listens");
        let said: Value = serde_json::from_str(&line).expect("it says so in JSON");
        let url = said["listening"].as_str().expect("it has an address");
        let address = url.trim_start_matches("http://").to_owned();
        Self {
            child: Some(child),
            address,
        }
    }

    /// Makes one request and returns status and body.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        let host = &self.address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        );
        let sent = stream.write_all(request.as_bytes());
        sent.expect("the request is sent");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        read.expect("there is an answer");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("it has a status");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        (status, body.unwrap_or_default().to_owned())
    }

    fn stop(mut self, how: Signal) -> (Ran, Duration) {
        let child = self.child.take().expect("it runs");
        signal(&child, how);
        ended(child)
    }
}

const ENTRY: &str = "/api/v1/caches/default/entries/user%3A1";

#[test]
fn entries_are_stored_read_and_removed_over_http() {
    let home = Home::new();
    let server = Server::start(&home, "");
    assert_eq!(server.ask("GET", "/livez", "", "").0, 200);
    assert_eq!(server.ask("GET", ENTRY, "", "").0, 404);
    let put = server.ask("PUT", &format!("{ENTRY}?ttl=60"), "", "Ann");
    assert_eq!(put.0, 204, "{}", put.1);
    assert_eq!(server.ask("GET", ENTRY, "", ""), (200, "Ann".to_owned()));
    assert_eq!(home.run("cache get user:1").ok(), "Ann\n");
    home.run("cache set user:1 Bob").ok();
    assert_eq!(server.ask("GET", ENTRY, "", "").1, "Bob");
    assert_eq!(server.ask("DELETE", ENTRY, "", "").0, 204);
    assert_eq!(home.run("cache get user:1").code, 3);
    let (ran, took) = server.stop(Signal::TERM);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(ran.stderr.contains("listening on http://127.0.0.1:"));
}

#[test]
fn status_sees_what_a_server_did() {
    let home = Home::new();
    let server = Server::start(&home, "");
    for _ in 0..3 {
        assert_eq!(server.ask("PUT", ENTRY, "", "Ann").0, 204);
    }
    let sets = || home.run("cache stats --json").json()["total"]["sets"].clone();
    eventually("the server's figures", || sets() == 3);
    server.stop(Signal::INT).0.ok();
}

#[test]
fn a_silent_connection_does_not_hold_up_the_end() {
    let home = Home::new();
    let server = Server::start(&home, "");
    let mut silent = TcpStream::connect(&server.address).unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    thread::sleep(Duration::from_millis(100));
    let (ran, took) = server.stop(Signal::INT);
    assert_eq!(ran.code, 0);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn the_demo_warms_up_and_leaves_nothing_that_stays() {
    let home = Home::new();
    let server = Server::start(&home, "--demo");
    let figures = || {
        let status = home.run("cache status --json").json();
        let cache = status["caches"][0].clone();
        (
            cache["hits"].as_u64().unwrap_or(0),
            cache["misses"].as_u64().unwrap_or(0),
            cache["hit_ratio"].as_f64().unwrap_or(0.0),
        )
    };
    eventually("the first figures", || figures().0 > 0);
    let cold = figures().2;
    eventually("a warmer cache", || figures().2 > cold + 0.05);
    let start = Instant::now();
    let before = figures();
    thread::sleep(Duration::from_secs(2));
    let after = figures();
    let reads = (after.0 + after.1 - before.0 - before.1) as f64;
    let rate = reads / start.elapsed().as_secs_f64();
    assert!((50.0..700.0).contains(&rate), "{rate} reads a second");
    let keys = home.run("cache keys --json").json();
    for key in keys["keys"].as_array().unwrap() {
        assert!(key["key"].as_str().unwrap().starts_with("demo:"), "{key}");
        assert!(key["ttl_ms"].as_u64().unwrap() <= 60_000, "{key}");
    }
    let (ran, took) = server.stop(Signal::INT);
    assert_eq!(ran.code, 0);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(ran.stderr.contains("demo:"), "{ran:?}");
}

#[test]
fn the_demo_stays_off_stores_that_others_use() {
    let home = Home::new();
    let mut command = home.command(["serve", "--demo", "--listen", "127.0.0.1:0"]);
    let ran: Ran = command
        .env("CACHE_DRIVER", "redis")
        .output()
        .unwrap()
        .into();
    ran.exits(2);
    assert!(ran.stderr.contains("--demo"), "{ran:?}");
}

#[test]
fn other_machines_need_a_token() {
    let home = Home::new();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let ran = home.run(&format!("serve --listen {address}"));
        ran.exits(2);
        assert!(ran.stderr.contains("--token-file"), "{ran:?}");
    }
    assert_eq!(home.run("serve --listen nonsense").code, 2);
}

#[test]
fn a_token_is_demanded_once_there_is_one() {
    let home = Home::new();
    let file = home.path().join("token");
    fs::write(&file, "correct-horse-battery\n").unwrap();
    let server = Server::start(&home, "--token-file token");
    assert_eq!(server.ask("GET", ENTRY, "", "").0, 401);
    let wrong = "Authorization: Bearer wrong-horse-battery\r\n";
    assert_eq!(server.ask("GET", ENTRY, wrong, "").0, 401);
    let right = "Authorization: Bearer correct-horse-battery\r\n";
    assert_eq!(server.ask("GET", ENTRY, right, "").0, 404);
    server.stop(Signal::TERM).0.ok();
    fs::write(&file, "short\n").unwrap();
    assert_eq!(home.run("serve --token-file token").code, 2);
    assert_eq!(home.run("serve --token-file missing").code, 2);
}

#[test]
fn a_read_only_server_changes_nothing() {
    let home = Home::new();
    home.run("cache set user:1 Ann").ok();
    let server = Server::start(&home, "--read-only");
    assert_eq!(server.ask("GET", ENTRY, "", "").1, "Ann");
    assert_eq!(server.ask("PUT", ENTRY, "", "Bob").0, 403);
    assert_eq!(server.ask("DELETE", ENTRY, "", "").0, 403);
    server.stop(Signal::TERM).0.ok();
    assert_eq!(home.run("cache get user:1").ok(), "Ann\n");
}

#[test]
fn a_busy_port_is_named() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ran = home.run(&format!("serve --listen {address}"));
    ran.exits(1);
    assert!(ran.stderr.contains("in use"), "{ran:?}");
}
