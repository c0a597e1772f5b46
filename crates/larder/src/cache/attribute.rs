//! What the functions that `#[cache]` writes call. Not for use by hand: it may change in any version.
//!
//! The traits say in the compiler's errors what the attribute demands of types; each holds for every type that has
//! what it names.

use std::borrow::{Borrow, Cow};
use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, IntoFuture as _};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use super::arguments::Arguments;
pub use super::claim::Claim;
use super::loader::LoadContext;
use super::ready::MaybeReady;
use super::remember::{Remember, RememberError};
use super::stats::Counter;
use super::{Cache, default_cache};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRef;

/// A value that can be kept.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be cached by `#[cache]`",
    label = "a cached value must be owned, `Clone`, `Serialize`, `DeserializeOwned`, `Send` and `Sync`",
    note = "for a type of your own: `#[derive(Clone, serde::Serialize, serde::Deserialize)]`; for a reference: return an owned value, such as `String` for `&str`"
)]
pub trait Value: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

/// The error type of a function that returns a `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a function under `#[cache]`",
    label = "a failure of the cache must become this type",
    note = "write `impl From<larder::Error> for {Self}`; it must be `Display`, `Send`, `Sync` and hold no borrowed part, too"
)]
pub trait LoadError: From<Error> + Display + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<E: From<Error> + Display + Send + Sync + 'static> LoadError for E {}

/// What a method is called on.
#[diagnostic::on_unimplemented(
    message = "methods of `{Self}` cannot be under `#[cache]`",
    label = "the load may outlive the call, so the receiver is cloned: it must be `Clone`, `Send`, `Sync` and hold no borrowed part",
    note = "derive `Clone` and keep what is large behind an `Arc`, or put `#[cache]` on a free function"
)]
pub trait Receiver: Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Receiver for T {}

/// What an argument `&T` refers to.
#[diagnostic::on_unimplemented(
    message = "`&{Self}` cannot be an argument of a function under `#[cache]`",
    label = "the load may outlive the call, so it gets a copy: this must be `Clone`, `str` or a slice, `Send` and `Sync`",
    note = "take an `Arc` by value instead"
)]
pub trait Referent: ToOwned<Owned: Send + Sync + 'static> {}

#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Send + Sync + 'static> + ?Sized> Referent for T {}

/// An argument by value that is needed twice: all those of a function that returns no `Result`, and what `on` names.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument by value of this function under `#[cache]`",
    label = "the load gets a copy of it: this must be `Clone`, `Send` and `Sync`",
    note = "a function that returns no `Result` runs uncached when the cache fails, and needs its arguments again; put it behind an `Arc`"
)]
pub trait Twice: Clone + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Twice for T {}

/// A value in a template of a key or tag.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in a template of `#[cache]`",
    label = "what a template names must be `Display`",
    note = "name a field, as in `{{user.id}}`, or write no `key`: the default key needs `serde::Serialize` instead"
)]
pub trait Part: Display {}

#[diagnostic::do_not_recommend]
impl<T: Display> Part for T {}

/// An argument that is part of the default key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of the default key of `#[cache]`",
    label = "what is part of the default key must be `serde::Serialize`",
    note = "derive `Serialize`, leave the argument out with `#[skip]`, or write a template: `key = \"user:{{id}}\"`"
)]
pub trait Argument: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Argument for T {}

/// Clones the receiver.
pub fn receiver<T: Receiver>(receiver: &T) -> T {
    receiver.clone()
}

/// Copies what an argument refers to.
pub fn owned<T: Referent + ?Sized>(argument: &T) -> T::Owned {
    argument.to_owned()
}

/// Lends a copy the way the argument was.
pub fn lent<T: ToOwned + ?Sized>(owned: &T::Owned) -> &T {
    owned.borrow()
}

/// Clones an argument by value.
pub fn again<T: Twice>(argument: &T) -> T {
    argument.clone()
}

/// Returns what a template shows of a value.
pub fn part<T: Part>(value: &T) -> &dyn Display {
    value
}

/// Turns the value of a function that returns no `Result` into that of a load.
///
/// # Errors
/// None.
pub fn sure<V>(value: V) -> Result<V, Infallible> {
    Ok(value)
}

/// Turns a text into a tag; one without places is not copied.
pub fn tag(text: impl Into<Cow<'static, str>>) -> Cow<'static, str> {
    text.into()
}

/// Returns whether the condition lets the value be stored; if not, the load is told so.
pub fn keep<V>(context: &LoadContext, value: &V, condition: impl FnOnce(&V) -> bool) {
    if !condition(value) {
        context.skip();
    }
}

/// Looks a value up in the local tier, before anything is copied for its load, then asks `remember`.
pub fn lookup<'a, F, Fut, V, E>(
    cache: &'a Cache,
    key: KeyRef<'a>,
    remember: impl FnOnce(KeyRef<'a>) -> Remember<'a, F>,
) -> MaybeReady<'a, Result<V, RememberError<E>>>
where
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    V: Value,
    E: Send + Sync + 'static,
{
    match cache.inner.quick_hit::<V>(key.as_bytes(), cache.view()) {
        Some(value) => MaybeReady::ready(Ok(V::clone(&value))),
        None => remember(key).into_future(),
    }
}

/// Returns the function's own error type.
pub fn into_user<E: LoadError>(error: RememberError<E>) -> E {
    error.into_user()
}

/// Counts that a function which returns no `Result` runs uncached.
#[cold]
pub fn goes_uncached<E: Display>(cache: &Cache, function: &str, error: &E) {
    cache.inner.counters.count(Counter::Uncached);
    tracing::debug!(cache = %cache.inner.name, function, %error, "a function runs uncached");
}

/// Returns the error of a function that names no cache when the process has none.
#[cold]
pub fn no_default_cache(function: &str) -> Error {
    let message = format!(
        "`{function}` uses the default cache of the process and there is none; \
         call `larder::set_default_cache(cache)` at the start, or write `#[cache(on = ..)]`"
    );
    Error::new(ErrorKind::InvalidConfig, message)
}

/// Returns the default cache.
///
/// # Errors
/// `InvalidConfig`: there is none.
pub fn default_handle(function: &str) -> Result<&'static Cache> {
    default_cache().ok_or_else(|| no_default_cache(function))
}

/// Tells results from other types, so that an alias of `Result` is not cached with its errors.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<T>);

impl<T, E> Returned<std::result::Result<T, E>> {
    /// Whether it is a `Result`.
    pub const IS_RESULT: bool = true;
}

/// Any other type.
pub trait Plain {
    /// Whether it is a `Result`.
    const IS_RESULT: bool = false;
}

impl<T> Plain for Returned<T> {}
