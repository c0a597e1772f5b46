//! A small blocking client of Redis, for the commands that form, watch and break servers.
//!
//! Speaks RESP2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>) and trusts the server: it is for
//! servers that were started here. One connection, one command at a time, every wait bounded.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long connecting, and each read and write, may take unless told otherwise.
const LIMIT: Duration = Duration::from_secs(5);

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nil,
    /// An integer.
    Integer(i64),
    /// A status or a string, which may be binary.
    Bytes(Vec<u8>),
    /// Several values.
    Array(Vec<Self>),
    /// What went wrong with the command, or with one command of a script.
    Error(String),
}

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Value {
    /// Returns the text of a string or a number; empty for all else.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Nil | Self::Array(_) | Self::Error(_) => String::new(),
        }
    }

    /// Returns the values of an array; none for all else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// Returns the value that follows `name` in a flat array of names and values, as `SENTINEL MASTER` replies.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let mut pairs = self.items().chunks_exact(2);
        let pair = pairs.find(|pair| pair[0].text() == name)?;
        Some(pair[1].text())
    }
}

impl Connection {
    /// Connects within 5 seconds; each reply may take as long.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::open_within(address, LIMIT)
    }

    /// Connects within `limit`; each reply may take as long.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub fn open_within(address: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a command and returns its reply.
    ///
    /// # Errors
    ///
    /// When the reply is an error, or does not come in time; the connection is useless after the latter.
    pub fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<Value> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            let argument = argument.as_ref();
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        let sent = self.stream.get_mut().write_all(&request);
        let reply = sent.context("cannot send").and_then(|()| self.value());
        let name = || {
            let words = command.iter().take(2).map(AsRef::as_ref);
            words
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join(" ")
        };
        match reply.with_context(|| format!("no reply to {}", name()))? {
            Value::Error(error) => bail!("{}: {error}", name()),
            value => Ok(value),
        }
    }

    fn value(&mut self) -> Result<Value> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            bail!("an empty line instead of a reply");
        };
        Ok(match kind {
            "+" => Value::Bytes(rest.as_bytes().to_vec()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(rest.parse()?),
            "$" => match usize::try_from(rest.parse::<i64>()?) {
                Ok(length) => Value::Bytes(self.bytes(length)?),
                Err(_) => Value::Nil,
            },
            "*" => match usize::try_from(rest.parse::<i64>()?) {
                Ok(length) => {
                    Value::Array((0..length).map(|_| self.value()).collect::<Result<_>>()?)
                }
                Err(_) => Value::Nil,
            },
            _ => bail!("{line:?} is no reply"),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers any command with `reply`.
    fn answering(reply: &'static str) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 14];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"*1\r\n$4\r\nPING\r\n");
            stream.write_all(reply.as_bytes()).unwrap();
        });
        Connection::open(address).unwrap()
    }

    #[test]
    fn replies_of_every_kind_are_understood() {
        let reply = "*5\r\n+OK\r\n:-3\r\n$-1\r\n$4\r\na\r\nb\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n";
        let value = answering(reply).call(&["PING"]).unwrap();
        let items = value.items();
        assert_eq!(items[0].text(), "OK");
        assert_eq!(items[1], Value::Integer(-3));
        assert_eq!(items[2], Value::Nil);
        assert_eq!(items[3], Value::Bytes(b"a\r\nb".to_vec()));
        assert_eq!(items[4].field("k").as_deref(), Some("v"));
    }

    #[test]
    fn errors_and_silence_are_errors() {
        let error = answering("-LOADING wait\r\n").call(&["PING"]).unwrap_err();
        assert!(error.to_string().contains("LOADING"), "{error}");
        assert!(answering("").call(&["PING"]).is_err());
        assert!(answering("$5\r\nab").call(&["PING"]).is_err());
    }
}
