//! Causal tokens: a change made in one process, seen by a read in another.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cache, Inner};
use crate::error::Error;
use crate::tag::nonce;

/// How many tokens a process remembers.
pub(super) const SEEN_TOKENS: usize = 4096;

/// Stands for all changes that one process had made when it was created, so that another process can read what is at least
/// as new: see [`Cache::at_least`]. As text, 16 hexadecimal digits, it travels in a header or a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Causal(u64);

impl fmt::Display for Causal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Causal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_token = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_token
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten();
        id.map(Self)
            .ok_or_else(|| Error::argument("a causal token has 16 hexadecimal digits"))
    }
}

impl Serialize for Causal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Causal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Cache {
    /// Returns a token that stands for all changes made through this handle and its clones whose calls have returned.
    /// Cost: no round trip.
    #[must_use]
    pub fn causal(&self) -> Causal {
        self.inner.causal()
    }

    /// Returns a handle whose reads return what is at least as new as the changes that the token stands for.
    ///
    /// The shared store always is; a local copy may be older, and is passed over until this process knows what has changed
    /// up to the moment at which it met the token first. So a read through this handle costs a round trip more often
    /// for a tenth of a second, as a rule, and `max_staleness` at most. Loads are shared as ever.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// # let (here, there) = {
    /// #     let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// #     (cache.clone(), cache)
    /// # };
    /// here.set("user:1", "Ann").tags(["users"]).await?;
    /// let token = here.invalidate_tags(["users"]).await?.causal.to_string();
    /// // .. and in the process that gets this token with its next request:
    /// let user = there.at_least(token.parse()?).get::<String>("user:1").await?;
    /// assert_eq!(user, None);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn at_least(&self, token: Causal) -> Self {
        let met_ms = self.inner.met_at_ms(token);
        Self {
            at_least_ms: self.at_least_ms.max(met_ms),
            ..self.clone()
        }
    }
}

impl Inner {
    pub(super) fn causal(&self) -> Causal {
        let token = Causal(nonce());
        // What this process changes is in its own tier already.
        self.tokens.insert(token.0, 0);
        token
    }

    /// Returns when this process met the token first, in monotonic ms; 0: what it stands for is known.
    fn met_at_ms(&self, token: Causal) -> u64 {
        if let Some(met_ms) = self.tokens.get(&token.0) {
            return met_ms;
        }
        // Later than any poll that was sent in this very tick of the clock, before the token was met.
        let met_ms = self.clock.monotonic_ms() + 1;
        self.tokens.insert(token.0, met_ms);
        met_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_text() {
        let token = Causal(0x1f);
        assert_eq!(token.to_string().parse::<Causal>().unwrap(), token);
        let json = serde_json::to_string(&token).unwrap();
        assert_eq!(json, "\"000000000000001f\"");
        assert_eq!(serde_json::from_str::<Causal>(&json).unwrap(), token);
        for text in [
            "",
            "1f",
            "+00000000000001f",
            "00000000000000zz",
            "000000000000001f0",
        ] {
            assert!(text.parse::<Causal>().is_err(), "{text}");
        }
    }
}
