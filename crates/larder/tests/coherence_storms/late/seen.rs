//! The commands that a server has executed for its clients, as `MONITOR` tells them.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::thread::JoinHandle;

use xtask::servers::private::RedisServer;

/// The last command that is listened to.
const END: &str = "the end";

/// Listens to a server.
pub(super) struct Watcher(JoinHandle<Vec<Seen>>);

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) words: Vec<Vec<u8>>,
}

impl Watcher {
    pub(super) fn start(server: &RedisServer) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut answer = String::new();
        lines.read_line(&mut answer).unwrap();
        assert_eq!(answer, "+OK\r\n");
        let listen = move || {
            let mut seen = Vec::new();
            for line in lines.lines().map_while(Result::ok) {
                let Some(command) = Seen::parse(&line) else {
                    continue;
                };
                if command
                    .words
                    .last()
                    .is_some_and(|word| word == END.as_bytes())
                {
                    break;
                }
                seen.push(command);
            }
            seen
        };
        Self(std::thread::spawn(listen))
    }

    pub(super) fn stop(self, server: &RedisServer) -> Vec<Seen> {
        server.call(&["ECHO", END]).unwrap();
        self.0.join().unwrap()
    }
}

impl Seen {
    /// Takes a line apart: `+1700000000.000000 [0 127.0.0.1:5000] "GET" "key"`; `None`: it is no command of a client.
    fn parse(line: &str) -> Option<Self> {
        let (head, rest) = line.split_once("] ")?;
        if head.ends_with(" lua") {
            return None;
        }
        let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
        let mut bytes = rest.bytes();
        while let Some(byte) = bytes.next() {
            match (&mut word, byte) {
                (None, b'"') => word = Some(Vec::new()),
                (None, _) => {}
                (Some(_), b'"') => words.extend(word.take()),
                (Some(word), b'\\') => word.push(escaped(&mut bytes)?),
                (Some(word), byte) => word.push(byte),
            }
        }
        Some(Self { words })
    }

    fn name(&self) -> String {
        let name = self.words.first().map_or(&b""[..], |word| word);
        String::from_utf8_lossy(name).to_ascii_uppercase()
    }

    /// Returns whether it stores something that no other command stores: all that do have numbers of their own.
    pub(super) fn writes(&self) -> bool {
        matches!(self.name().as_str(), "EVAL" | "EVALSHA" | "SET")
    }

    /// Returns whether it may make a register: its key, as the script has it, is one of its words.
    pub(super) fn captures(&self) -> bool {
        let is_register = |word: &Vec<u8>| word.windows(3).any(|part| part == b"}r:");
        self.name().starts_with("EVAL") && self.words.iter().any(is_register)
    }
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    Some(match bytes.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'x' => {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            u8::from_str_radix(digits, 16).ok()?
        }
        other => other,
    })
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self
            .words
            .iter()
            .map(|word| word.escape_ascii().to_string());
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}
