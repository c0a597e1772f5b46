//! A Memcached of a test's own, which it may kill, stop and start again; and raw talk with any.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use larder::Namespace;
use larder::store::Register;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::eventually;

/// A running server on a free port; it dies with the value.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    options: Vec<String>,
    process: Child,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub(super) async fn start(options: &[&str]) -> Self {
        // Taken and given back: nobody else is likely to get it in between.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let server = Self {
            port,
            process: spawn(port, &options),
            options,
        };
        server.answers().await;
        server
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it without a farewell.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, empty, on the same port.
    pub(super) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.options);
        self.answers().await;
    }

    /// Freezes it: its connections stay open and say nothing. A thread may run on for a moment after the signal.
    pub(super) async fn freeze(&self) {
        self.signal("-STOP");
        eventually("all threads stand still", || async { self.is_frozen() }).await;
    }

    fn is_frozen(&self) -> bool {
        let threads = format!("/proc/{}/task", self.process.id());
        let mut threads = std::fs::read_dir(threads).unwrap();
        threads.all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            stat.contains(") T ")
        })
    }

    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }

    async fn answers(&self) {
        let address = self.address();
        eventually("the server answers", || async {
            TcpStream::connect(&address).await.is_ok()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, options: &[String]) -> Child {
    Command::new("memcached")
        .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-p"])
        .arg(port.to_string())
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("memcached is installed")
}

/// Returns the name of an entry on the wire; short keys only.
pub(super) fn entry_name(space: &Namespace, key: &[u8]) -> String {
    name(b"e", space, key)
}

/// Returns the name of a space's fences on the wire.
pub(super) fn fences_name(space: &Namespace) -> String {
    name(b"f", space, b"")
}

/// Returns the name of a lock on the wire.
pub(super) fn lock_name(space: &Namespace, lock: &[u8]) -> String {
    name(b"l", space, lock)
}

/// Returns the name of a namespace's register on the wire.
pub(super) fn register_name(space: &Namespace) -> String {
    name(b"g", space, b"")
}

/// Returns the name of a register of a tag on the wire; short ones only.
pub(super) fn tag_register_name(space: &Namespace, register: &Register) -> String {
    name(b"r", space, register.as_bytes())
}

fn name(kind: &[u8], space: &Namespace, key: &[u8]) -> String {
    STANDARD.encode([kind, space.as_bytes(), b":", key].concat())
}

/// Sends a command by hand and returns all of its reply of one line, or of a value.
pub(super) async fn raw(address: &str, command: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let text = format!("{command}\r\nmn\r\n");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"MN\r\n") {
        assert_ne!(socket.read_buf(&mut reply).await.unwrap(), 0);
    }
    reply.truncate(reply.len() - b"MN\r\n".len());
    String::from_utf8_lossy(&reply).trim_end().to_owned()
}
