//! What a Redis server has been asked, as it counts itself.

use xtask::servers::private::RedisServer;

#[derive(Clone, Copy)]
pub struct Traffic {
    /// Reads of sockets: the round trips, as long as each caller waits for the answer.
    pub requests: u64,
    /// Those that scripts call count, too.
    pub commands: u64,
    pub bytes: u64,
}

impl Traffic {
    /// Counts while something is done, without what the counting itself asks.
    pub fn of(server: &RedisServer, work: impl FnOnce()) -> Self {
        let first = Self::now(server);
        let before = Self::now(server);
        work();
        Self::now(server).minus(before).minus(before.minus(first))
    }

    pub fn now(server: &RedisServer) -> Self {
        let info = server.call(&["INFO", "stats"]).expect("the server answers").text();
        let field = |name: &str| -> u64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|digits| digits.trim().parse().ok()).expect("a number")
        };
        Self {
            requests: field("total_reads_processed"),
            commands: field("total_commands_processed"),
            bytes: field("total_net_input_bytes") + field("total_net_output_bytes"),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            commands: self.commands.saturating_sub(other.commands),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
