//! Who owns a default key: no two functions of a process may share one, and the attribute cannot see the type whose
//! method it is on. So `Users::get` and `Orders::get` of one module look alike; the second to be called is refused.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::{Error, ErrorKind, Result};

/// The functions that have been called, by the names in their keys. Never more than the program has functions.
static CLAIMED: Mutex<BTreeMap<&'static str, &'static Claim>> = Mutex::new(BTreeMap::new());

/// A function's claim on the name in its default keys.
#[derive(Debug)]
pub struct Claim {
    name: &'static str,
    place: &'static str,
    /// The type whose method it is, once the name is this function's; `None`: another one has it.
    owner: OnceLock<Option<TypeId>>,
}

impl Claim {
    /// Names a function, and for people its place in the source.
    #[must_use]
    pub const fn new(name: &'static str, place: &'static str) -> Self {
        Self {
            name,
            place,
            owner: OnceLock::new(),
        }
    }

    /// Takes the name for this function, as a method of `T`. Costs a comparison after the first call.
    ///
    /// # Errors
    /// `InvalidKey`: another function, or the same one of another type, has it.
    pub fn take<T: ?Sized + 'static>(&'static self) -> Result<()> {
        let own = Some(TypeId::of::<T>());
        if *self.owner.get_or_init(|| self.register(own)) == own {
            return Ok(());
        }
        Err(self.refused())
    }

    fn register(&'static self, own: Option<TypeId>) -> Option<TypeId> {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *claimed.entry(self.name).or_insert(self);
        std::ptr::eq(first, self).then_some(own).flatten()
    }

    #[cold]
    fn refused(&self) -> Error {
        let claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        let first = claimed.get(self.name).map_or("", |claim| claim.place);
        let message = format!(
            "the function at {} would share its default keys, `{}(..)`, with that of another type, at {first}; \
             give one of them `name = \"..\"` or `key = \"..\"`",
            self.place, self.name
        );
        Error::new(ErrorKind::InvalidKey, message)
    }
}
