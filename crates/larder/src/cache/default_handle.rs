//! The cache of the process, for functions that name none.

use std::sync::OnceLock;

use super::Cache;
use crate::error::{Error, ErrorKind, Result};

static DEFAULT: OnceLock<Cache> = OnceLock::new();

/// Sets the cache that functions under `#[cache]` without `on` use. Once per process, at its start.
///
/// A library should not call this: the process belongs to the application.
///
/// ```
/// # fn main() -> larder::Result<()> {
/// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
/// larder::set_default_cache(cache)?;
/// assert!(larder::default_cache().is_some());
/// # Ok(()) }
/// ```
///
/// # Errors
/// `InvalidConfig`: it is set already; the first one stays.
pub fn set_default_cache(cache: Cache) -> Result<()> {
    let taken = |_unused| {
        let message = "the default cache of the process is set already; set it once, at the start";
        Error::new(ErrorKind::InvalidConfig, message)
    };
    DEFAULT.set(cache).map_err(taken)
}

/// Returns the cache that [`set_default_cache`] set, if it has been set.
#[must_use]
pub fn default_cache() -> Option<&'static Cache> {
    DEFAULT.get()
}
