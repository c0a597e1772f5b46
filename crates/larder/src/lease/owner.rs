//! Who holds a lease or waits for one.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest host name that is shown, in bytes.
const MAX_HOST_BYTES: usize = 48;

/// An owner: `<host>/<process>/<instance>-<number>`, never the same twice.
///
/// The instance is a random number of the process, so that a name cannot be guessed and process numbers may repeat.
#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Owner(Box<str>);

impl Owner {
    /// Creates an owner of this process.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{}-{number:x}", process()).into())
    }

    /// Wraps the text of an owner that a store kept.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the random number of the owner's process, in hex; empty for a text of another form.
    #[must_use]
    pub fn instance(&self) -> &str {
        let instance = self
            .0
            .rsplit('/')
            .next()
            .and_then(|end| end.split_once('-'));
        instance.map_or("", |(instance, _)| instance)
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

fn process() -> &'static str {
    static PROCESS: OnceLock<String> = OnceLock::new();
    PROCESS.get_or_init(|| {
        // The keys come from the operating system; other generators are seeded with the time.
        let random = RandomState::new();
        let (high, low) = (random.hash_one(1), random.hash_one(2));
        format!("{}/{}/{high:016x}{low:016x}", host(), std::process::id())
    })
}

/// Returns the name of this host, without what could be mistaken for something else.
fn host() -> String {
    let name = rustix::system::uname();
    let shown = name.nodename().to_string_lossy();
    let mut host: String = shown
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        .take(MAX_HOST_BYTES)
        .collect();
    if host.is_empty() {
        host.push_str("host");
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_differ_and_share_their_instance() {
        let (a, b) = (Owner::new(), Owner::new());
        assert_ne!(a, b);
        assert_eq!(a.instance(), b.instance());
        assert_eq!(a.instance().len(), 32);
        assert!(a.as_str().contains(&format!("/{}/", std::process::id())));
        assert_eq!(Owner::from_text("by hand").instance(), "");
    }
}
