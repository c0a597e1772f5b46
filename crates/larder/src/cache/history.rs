//! When tags were invalidated lately: for whoever asks why a read missed, since registers hold no times.
//!
//! Best effort. An invalidation leaves a note in this process and goes on; the flusher tells the store what is new, once a
//! second. There, names share a bounded number of places by their hash, so that an application that invalidates a name of
//! its own for each row fills no store with notes. What is lost costs an answer, and nothing depends on it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Inner;
use crate::clock::duration_ms;
use crate::codec::{Codec, Encoding};
use crate::envelope::{self, Envelope, Header};
use crate::error::Result;
use crate::key::{Key, Namespace};
use crate::store::{Entry, Expiry, Invalidation, Register, Write};
use crate::tag::Selector;

/// So many names are remembered in this process; the newest stay.
const MAX_NAMES: usize = 1000;
/// How many of the oldest go at a time.
const FORGOTTEN: usize = MAX_NAMES / 10;
/// So many notes are told to the store in one flush, the newest first; the others stay here.
const MAX_TOLD: usize = 100;
/// In so many places of the store the notes of a cache are kept.
const PLACES: u32 = 4096;
/// How long the store keeps a note.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// That something was invalidated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The tag, the subtree with its `:*`, or another pattern.
    name: String,
    is_soft: bool,
    at_ms: u64,
}

#[derive(Debug)]
struct Kept {
    at_ms: u64,
    /// The store knows it, or need not.
    is_told: bool,
}

/// The notes of one cache.
#[derive(Debug)]
pub(super) struct History {
    namespace: Namespace,
    /// What tells this cache from others of the prefix.
    scope: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    notes: HashMap<(String, Invalidation), Kept>,
    has_news: bool,
}

impl History {
    pub(super) fn new(prefix: &str, name: &str, version: u32) -> Self {
        Self {
            namespace: Namespace::invalidations(prefix),
            scope: format!("{name}:v{version}"),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was invalidated.
    pub(super) fn note(&self, names: &[String], how: Invalidation, at_ms: u64) {
        let mut state = self.lock();
        for name in names {
            // Who asks elsewhere knows names of registers, which patterns are not.
            let is_told = matches!(Selector::parse(name), Ok(Selector::Pattern(_)));
            state.has_news |= !is_told;
            let kept = Kept { at_ms, is_told };
            state.notes.insert((name.clone(), how), kept);
        }
        state.forget_oldest();
    }

    /// Returns when this process invalidated a register last, by its own name or by a pattern.
    fn latest_here(&self, register: &Register, how: Invalidation) -> Option<u64> {
        let own_name = name_of(register);
        let means = |name: &str| {
            name == own_name || Selector::parse(name).is_ok_and(|selector| selector.means(register))
        };
        let state = self.lock();
        let notes = state
            .notes
            .iter()
            .filter(|((_, its_own), _)| *its_own == how);
        let notes = notes.filter(|((name, _), _)| means(name));
        notes.map(|(_, kept)| kept.at_ms).max()
    }

    /// Returns the place of the notes of a name in the store.
    fn place(&self, name: &str, is_soft: bool) -> Key {
        let hash = crc32c::crc32c_append(crc32c::crc32c(&[u8::from(is_soft)]), name.as_bytes());
        Key::join([self.scope.as_str(), &(hash % PLACES).to_string()])
    }
}

impl State {
    fn forget_oldest(&mut self) {
        if self.notes.len() <= MAX_NAMES {
            return;
        }
        let mut times: Vec<u64> = self.notes.values().map(|kept| kept.at_ms).collect();
        let over = self.notes.len() - MAX_NAMES + FORGOTTEN;
        let (_, limit, _) = times.select_nth_unstable(over);
        let limit = *limit;
        self.notes.retain(|_, kept| kept.at_ms >= limit);
        // Of one moment may be more than there is room for.
        let mut kept = 0;
        self.notes.retain(|_, _| {
            kept += 1;
            kept <= MAX_NAMES
        });
    }

    /// Returns what the store is to be told, which then counts as told.
    fn take_news(&mut self) -> Vec<Note> {
        if !std::mem::take(&mut self.has_news) {
            return Vec::new();
        }
        let mut news = Vec::new();
        for ((name, how), kept) in &mut self.notes {
            if !std::mem::replace(&mut kept.is_told, true) {
                news.push(Note {
                    name: name.clone(),
                    is_soft: *how == Invalidation::Soft,
                    at_ms: kept.at_ms,
                });
            }
        }
        news.sort_unstable_by_key(|note| std::cmp::Reverse(note.at_ms));
        news.truncate(MAX_TOLD);
        news
    }
}

impl Inner {
    /// Tells the store what was invalidated since the last time. Cost: one round trip, if there is anything new.
    ///
    /// # Errors
    /// The store's; the notes stay in this process.
    pub(super) async fn tell_invalidations(&self) -> Result<()> {
        if !self.capabilities.shared {
            return Ok(());
        }
        let history = &self.history;
        let news = history.lock().take_news();
        let mut told = Vec::with_capacity(news.len());
        for note in &news {
            let place = history.place(&note.name, note.is_soft);
            told.push((place, sealed(note)?));
        }
        if told.is_empty() {
            return Ok(());
        }
        let writes = told.iter().map(|(place, entry)| {
            Write::put(
                place.as_bytes(),
                entry.clone(),
                Expiry::After(duration_ms(KEPT)),
            )
        });
        let writes: Vec<_> = writes.collect();
        let written = self.store.write_many(&history.namespace, &writes).await;
        written.map(drop)
    }

    /// Returns when each of these was invalidated last, as far as this process or the store knows. Cost: one round trip.
    pub(super) async fn invalidated_at(
        &self,
        registers: &[(Register, Invalidation)],
    ) -> Vec<Option<u64>> {
        let history = &self.history;
        let names: Vec<_> = registers
            .iter()
            .map(|(name, how)| (name_of(name), *how == Invalidation::Soft))
            .collect();
        let places = names
            .iter()
            .map(|(name, is_soft)| history.place(name, *is_soft));
        let places: Vec<_> = places.collect();
        let asked: Vec<&[u8]> = places.iter().map(Key::as_bytes).collect();
        let told = match self.store.get_many(&history.namespace, &asked).await {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(cache = %self.name, %error, "nobody else is asked when tags were invalidated");
                vec![None; asked.len()]
            }
        };
        let pairs = registers.iter().zip(&names).zip(told);
        let latest = pairs.map(|(((register, how), (name, is_soft)), entry)| {
            let note = entry.as_ref().and_then(opened);
            let note = note.filter(|note| note.name == *name && note.is_soft == *is_soft);
            let here = history.latest_here(register, *how);
            here.max(note.map(|note| note.at_ms))
        });
        latest.collect()
    }
}

/// Returns what invalidates a register, as it is written: `users`, `user:1:*`.
pub(super) fn name_of(register: &Register) -> String {
    let path = register.path();
    let path = String::from_utf8_lossy(&path);
    match register.kind() {
        Register::SUBTREE => format!("{path}:*"),
        _ => path.into_owned(),
    }
}

fn sealed(note: &Note) -> Result<Bytes> {
    let body = Codec::Json.encode(note)?;
    let encoding = Encoding::Codec(Codec::Json);
    let header = Header::new(encoding, note.at_ms, Some(duration_ms(KEPT)));
    envelope::seal(&header, &body, body.len())
}

fn opened(entry: &Entry) -> Option<Note> {
    Envelope::open(&entry.value).ok()?.decode().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Register {
        Register::exact(name).unwrap()
    }

    fn history() -> History {
        History::new("app", "main", 1)
    }

    #[test]
    fn the_newest_names_are_remembered() {
        let history = history();
        for n in 0..10 * MAX_NAMES as u64 {
            history.note(&[format!("t{n}")], Invalidation::Hard, n);
            assert!(history.lock().notes.len() <= MAX_NAMES);
        }
        let newest = 10 * MAX_NAMES as u64 - 1;
        let when = |n: u64| history.latest_here(&tag(&format!("t{n}")), Invalidation::Hard);
        assert_eq!(when(newest), Some(newest));
        assert_eq!(when(newest - 800), Some(newest - 800));
        assert_eq!(when(0), None);
        let at_once: Vec<_> = (0..3 * MAX_NAMES).map(|n| format!("u{n}")).collect();
        history.note(&at_once, Invalidation::Hard, newest + 1);
        assert!(history.lock().notes.len() <= MAX_NAMES);
    }

    #[test]
    fn soft_and_hard_subtrees_and_patterns_are_told_apart() {
        let history = history();
        let note = |name: &str, how, at_ms| history.note(&[name.to_owned()], how, at_ms);
        note("user:1", Invalidation::Hard, 5);
        note("user:1", Invalidation::Soft, 9);
        note("user:*", Invalidation::Hard, 6);
        note("po?t", Invalidation::Hard, 7);
        let hard = |register: &Register| history.latest_here(register, Invalidation::Hard);
        assert_eq!(hard(&tag("user:1")), Some(5));
        let soft = history.latest_here(&tag("user:1"), Invalidation::Soft);
        assert_eq!(soft, Some(9));
        assert_eq!(hard(&Register::new(Register::SUBTREE, b"user")), Some(6));
        assert_eq!(hard(&tag("post")), Some(7));
        assert_eq!(hard(&tag("user")), None);
    }

    #[test]
    fn news_are_told_once_and_patterns_never() {
        let history = history();
        let names = ["a", "b:*", "c*"].map(str::to_owned);
        history.note(&names, Invalidation::Hard, 1);
        let mut told: Vec<_> = history.lock().take_news();
        told.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let told: Vec<_> = told.iter().map(|note| note.name.as_str()).collect();
        assert_eq!(told, ["a", "b:*"]);
        assert_eq!(history.lock().take_news(), []);
        history.note(&names[..1], Invalidation::Hard, 2);
        assert_eq!(history.lock().take_news().len(), 1);
        let many: Vec<_> = (0..2 * MAX_TOLD).map(|n| format!("t{n}")).collect();
        history.note(&many, Invalidation::Hard, 3);
        assert_eq!(history.lock().take_news().len(), MAX_TOLD);
    }
}
