//! The attribute macros of Larder. Applications use them through the crate `larder`, whose feature `macros` re-exports
//! them; the guide is `docs/macro.md`.
//!
//! Files by subject: `options` (what stands in the attribute), `template` and `length` (what stands in its strings),
//! `function` (what the attribute stands on), `expand` and `companions` (what comes out).

mod companions;
mod expand;
mod function;
mod length;
mod options;
mod template;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;

use crate::expand::Expansion;
use crate::function::Function;
use crate::options::Options;

/// Keeps what an `async fn` returns in a cache: the body runs when the value is not there, once however many ask.
///
/// ```
/// # #[derive(Clone, serde::Serialize, serde::Deserialize)] struct User { active: bool }
/// # #[derive(Clone)] struct Users { cache: larder::Cache }
/// # impl Users {
/// #[larder::cache(on = self.cache, key = "user:{id}", ttl = "1h", tags = ["users", "user:{id}"])]
/// async fn user(&self, id: i64) -> Result<User, larder::Error> {
///     Ok(User { active: id > 0 }) // the slow query
/// }
/// # }
/// ```
///
/// | argument | meaning | default |
/// |---|---|---|
/// | `on = self.cache` | the cache: any expression of the function's arguments | `larder::default_cache()` |
/// | `key = "user:{id}"` | a template: `{id}`, `{user.id}`, `{self.tenant}`, `{T::TABLE}`, or `{}` for the arguments in order; each `Display` | name and arguments |
/// | `name = "user"` | the name in the default key | module path and function name |
/// | `ttl = "1h30m"` | how long a value lives; seconds as a number, or `"forever"` | the cache's default |
/// | `tags = ["users", "user:{id}"]`, `tag = ".."` | what the value depends on, templates | none |
/// | `stale = "1d"` | how long after its end a value is served when the function fails | not at all |
/// | `refresh = 0.8` | from which part of its life on a value is loaded anew in the background | never |
/// | `if = \|user\| user.active` | whether a value is stored; a function of `&T`, for `Result<T, E>` as well | always |
/// | `schema = 2` | the schema version, see `Cache::schema` | the cache's |
/// | `associated` | the function is in an `impl`; needed if neither `self` nor `Self` stands in it | |
/// | `crate = ::my::larder` | where the crate is | `::larder` |
///
/// Beside the function there are then `user_uncached`, its body, and for methods `user_key` and `user_invalidate`, for
/// free functions `user::key`, `user::invalidate` and `user::uncached`. All take the same arguments.
///
/// What it demands of types, and what it does when the cache fails, is in `docs/macro.md`.
#[proc_macro_attribute]
pub fn cache(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), &item.into())
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

fn expand(arguments: Tokens, item: &Tokens) -> syn::Result<Tokens> {
    let options: Options = syn::parse2(arguments)?;
    let function = Function::parse(item, &options)?;
    Expansion::new(&options, &function)?.write()
}
