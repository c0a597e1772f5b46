//! Options of the store.

use std::sync::Arc;
use std::time::Duration;

use super::register::Registers;
use super::server::{Options, Server};
use super::{Inner, Memcached, NAME};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::known::Known;

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(60);
const DEFAULT_IN_FLIGHT: usize = 8192;
const MAX_CONNECTIONS: usize = 64;
const MAX_IN_FLIGHT: usize = 1 << 20;
/// Longer timeouts are mistakes in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Options of a [`Memcached`] store.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    options: Options,
    clock: Clock,
}

impl Builder {
    pub(super) fn new(address: String) -> Self {
        Self {
            options: Options {
                address,
                connect_timeout: DEFAULT_CONNECT_TIMEOUT,
                response_timeout: DEFAULT_RESPONSE_TIMEOUT,
                connections: 1,
                max_in_flight: DEFAULT_IN_FLIGHT,
                tcp_keepalive: Some(DEFAULT_KEEPALIVE),
            },
            clock: Clock::system(),
        }
    }

    /// How long connecting may take, the server's first answer included. 1 ms to 1 h, default 250 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long one round trip may take, time in the queue included. 1 ms to 1 h, default 500 ms.
    ///
    /// Two that take longer in a row, without a byte from the server, end the connection.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.options.response_timeout = timeout;
        self
    }

    /// How many connections to share, 1 to 64. Default 1, which serves hundreds of tasks; more help where large values
    /// hold up small ones. Each key keeps to one of them.
    pub fn connections(mut self, connections: usize) -> Self {
        self.options.connections = connections;
        self
    }

    /// How many commands may wait for replies on each connection, 1 to 1,048,576. Default 8192; a delete takes two.
    ///
    /// Further calls wait for room as long as the response timeout, then fail with `Overloaded`.
    pub fn max_in_flight(mut self, commands: usize) -> Self {
        self.options.max_in_flight = commands;
        self
    }

    /// The idle time before the system probes a connection, in whole seconds; `None`: never. Default 1 min.
    pub fn tcp_keepalive(mut self, idle: Option<Duration>) -> Self {
        self.options.tcp_keepalive = idle;
        self
    }

    /// The clock that expiry follows; default the system's. Timeouts always follow the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Connects and returns the store.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout`: the server cannot be reached. `InvalidConfig`: it runs without item versions (`-C`).
    /// `InvalidArgument`: an option is out of bounds.
    pub async fn connect(self) -> Result<Memcached> {
        let store = self.build_lazy()?;
        // In a box: callers' own futures stay small, and shallow for the compiler.
        let connected = Box::pin(store.send_ping()).await;
        connected.map_err(|error| error.store(NAME))?;
        Ok(store)
    }

    /// Returns the store, which connects on first use.
    ///
    /// # Errors
    /// `InvalidArgument`: an option is out of bounds.
    pub fn build_lazy(self) -> Result<Memcached> {
        let options = &self.options;
        let bounds = Duration::from_millis(1)..=MAX_TIMEOUT;
        let problem = if options.address.is_empty() {
            "a memcached store needs an address"
        } else if !bounds.contains(&options.connect_timeout)
            || !bounds.contains(&options.response_timeout)
        {
            "timeouts are 1 ms to 1 h"
        } else if !(1..=MAX_CONNECTIONS).contains(&options.connections) {
            "connections are 1 to 64"
        } else if !(1..=MAX_IN_FLIGHT).contains(&options.max_in_flight) {
            "commands in flight are 1 to 1,048,576"
        } else {
            return Ok(Memcached {
                inner: Arc::new(Inner {
                    server: Server::new(self.options),
                    registers: Registers::default(),
                    known: Known::default(),
                    clock: self.clock,
                    bells: Arc::default(),
                }),
            });
        };
        Err(Error::argument(problem).store(NAME))
    }
}
