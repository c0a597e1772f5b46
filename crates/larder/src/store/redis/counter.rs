//! Counters: one script adds, exactly, on the server.
//!
//! An integer that `set` wrote is sealed under a checksum that Lua does not know. The first addition to it reads it,
//! checks it, and leaves it in the counter's form; the following ones are one round trip.

use std::sync::Arc;

use super::Inner;
use super::read::array;
use super::scripts::INCREMENT;
use super::spaces::fresh;
use super::write::{letter, ttl_ms};
use crate::codec::format_integer;
use crate::envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Namespace;
use crate::store::{Expiry, MAX_CAS_ATTEMPTS, Register, conflict};

/// What the script says.
enum Outcome {
    Sum(i64),
    Overflow(String),
    /// An entry in another form.
    Entry,
}

impl Inner {
    pub(super) async fn increment(
        self: &Arc<Self>,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<i64> {
        self.ready().await?;
        for _ in 0..MAX_CAS_ATTEMPTS {
            match self.add(namespace, key, by, expiry).await? {
                Outcome::Sum(sum) => return Ok(sum),
                Outcome::Overflow(value) => {
                    let message = format!("{value} plus {by} is out of range");
                    return Err(Error::new(ErrorKind::Overflow, message));
                }
                Outcome::Entry => {
                    if let Some(sum) = self.convert(namespace, key, by).await? {
                        return Ok(sum);
                    }
                }
            }
        }
        Err(conflict("redis", key))
    }

    async fn add(
        &self,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
        expiry: Expiry,
    ) -> Result<Outcome> {
        let expiry = if expiry == Expiry::Keep {
            Expiry::Never
        } else {
            expiry
        };
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, key);
        let ttl = ttl_ms(expiry);
        let (template, _) = envelope::increment(None, by, self.clock.now_ms(), ttl)?;
        let scratch = place.scratch();
        let adding = |known: &[Register]| {
            let mut command = place.command(&INCREMENT, &scratch, known);
            command
                .arg(by)
                .arg(&fresh()[..])
                .arg(letter(expiry))
                .arg(ttl.unwrap_or(0));
            command.arg(&self.expires_at(ttl).unwrap_or(0).to_le_bytes()[..]);
            command
                .arg(&fastrand::u64(1..).to_le_bytes()[..])
                .arg(&template[..]);
            Ok(place.script(&INCREMENT, command))
        };
        let reply = self.on_entry(&place, adding).await?;
        let words = array(reply);
        let mut words = words.iter().map(crate::redis_conn::text);
        let told = (words.next().flatten(), words.next().flatten());
        match (told.0.as_deref(), told.1) {
            (Some("entry"), _) => Ok(Outcome::Entry),
            (Some("overflow"), Some(value)) => Ok(Outcome::Overflow(value)),
            (Some("sum"), Some(sum)) => sum.parse().ok().map(Outcome::Sum).ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// Adds to a sealed integer and leaves a counter; `None`: somebody changed it meanwhile.
    async fn convert(
        self: &Arc<Self>,
        namespace: &Namespace,
        key: &[u8],
        by: i64,
    ) -> Result<Option<i64>> {
        let Some(entry) = self.get_many(namespace, &[key]).await?.pop().flatten() else {
            return Ok(None);
        };
        let (sealed, sum) = envelope::increment(Some(&entry.value), by, self.clock.now_ms(), None)?;
        let space = self.spaces.of(namespace, &self.buckets);
        let place = self.place(&space, namespace, key);
        let text = format_integer(sum);
        let mut rest = vec![text.len() as u8];
        rest.extend_from_slice(&text);
        rest.extend_from_slice(&sealed);
        let (old, new) = (
            envelope::write_id(&entry.value),
            envelope::write_id(&sealed),
        );
        let replaced = self.replace_counter(&place, &rest, old, new).await?;
        Ok(replaced.then_some(sum))
    }
}

fn unexpected() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the script of counters answered something else",
    )
}
