//! Free ports of the loopback interface that stay free for a while.
//!
//! Ports the kernel hands out by itself are no good: a server that is killed and started again on its port may find it
//! taken by some outgoing connection. These come from below that range, at random, so that programs which choose at the
//! same time rarely choose the same.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Result, bail};

/// The ports to choose from: above those of well-known services, below those of outgoing connections (32768 and up).
const RANGE: Range<u16> = 12_000..32_000;

/// How many are tried before giving up.
const TRIES: u32 = 200;

/// Returns a port that nobody uses at this moment.
pub(super) fn free_port() -> Result<u16> {
    let random = RandomState::new();
    for attempt in 0..TRIES {
        let number = random.hash_one(attempt) % u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(number)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port among {TRIES} of {RANGE:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let first = free_port().unwrap();
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let second = free_port().unwrap();
        assert!(RANGE.contains(&first) && RANGE.contains(&second));
        assert_ne!(first, second);
    }
}
