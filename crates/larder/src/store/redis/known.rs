//! Scripts about an entry whose registers are guessed.
//!
//! Who writes names the registers that he expects to the script; see [`crate::store::known`]. A script that needs others does
//! nothing and asks for them.

use redis::Value;

use super::Inner;
use super::place::Place;
use crate::error::Result;
use crate::redis_conn::Call;
use crate::store::{Register, conflict};

/// How often a script is told the registers that it asks for: each time somebody else has replaced the entry.
pub(super) const MAX_ATTEMPTS: usize = 64;

impl Inner {
    /// Runs a script about an entry; `make` is given the registers that the entry is believed to depend on, and once
    /// more those that the script asks for. Cost: one round trip, if the guess is right or there is no such entry.
    ///
    /// # Errors
    /// `Conflict`: others kept replacing the entry by one with other tags.
    pub(super) async fn on_entry(
        &self,
        place: &Place<'_>,
        make: impl Fn(&[Register]) -> Result<Call>,
    ) -> Result<Value> {
        let known = self.known.registers(&place.entry);
        let mut call = make(known.as_deref().unwrap_or_default())?;
        self.pass();
        for _ in 0..MAX_ATTEMPTS {
            let reply = self.link.one(&call).await?;
            let Some(registers) = asked_for(&reply) else {
                return Ok(reply);
            };
            self.known.learn(&place.entry, &registers);
            call = make(&registers)?;
        }
        Err(conflict("redis", place.key()))
    }
}

/// Returns the registers that a script asks for.
pub(super) fn asked_for(reply: &Value) -> Option<Vec<Register>> {
    let Value::Array(words) = reply else {
        return None;
    };
    let [Value::BulkString(word), Value::Array(names)] = words.as_slice() else {
        return None;
    };
    let name = |value: &Value| match value {
        Value::BulkString(name) => Register::from_bytes(name),
        _ => None,
    };
    (word == b"registers").then(|| names.iter().filter_map(name).collect())
}
