//! What comes out: the function itself, which asks the cache, and its body under another name.
//!
//! ```text
//! async fn user(&self, id: i64) -> Result<User, E> {
//!     let found = async {
//!         let cache: &larder::Cache = &(self.cache);
//!         let key = KeyRef::from(format!("user:{}", id));
//!         lookup(cache, key, |key| {                      // runs unless the local tier has the value
//!             let (this, id) = (receiver(self), id);      // what the load may keep
//!             cache.remember(key, move || async move { this.user_uncached(id).await }).ttl(..)
//!         }).await
//!     }.await;
//!     found.map_err(into_user)
//! }
//! ```
//!
//! Names of its own are hygienic: they meet none of the user's. Bounds are demanded where the user wrote the type.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, FnArg, Path, Signature};

use crate::function::{Function, Param, Pass};
use crate::length::{Length, Life};
use crate::options::Options;
use crate::template::Filled;

/// A function about to be written.
pub(crate) struct Expansion<'a> {
    pub(crate) options: &'a Options,
    pub(crate) function: &'a Function,
    /// The module of what expansions call.
    pub(crate) support: TokenStream,
    pub(crate) key: Option<Filled>,
    pub(crate) tags: Vec<Filled>,
}

impl<'a> Expansion<'a> {
    pub(crate) fn new(options: &'a Options, function: &'a Function) -> syn::Result<Self> {
        let key = options.key.as_ref().map(|key| key.fill(function));
        let tags = options.tags.iter().map(|tag| tag.fill(function));
        let root = &options.root;
        if key.is_none() && function.is_generic_over_types() {
            let problem = "the default key holds no types, so calls with different ones would share a value: \
                write `key = \"..\"`, with a place such as `{T::TABLE}` if what is returned depends on them";
            return Err(syn::Error::new(function.name().span(), problem));
        }
        Ok(Self {
            options,
            function,
            support: quote!(#root::macros),
            key: key.transpose()?,
            tags: tags.collect::<syn::Result<_>>()?,
        })
    }

    pub(crate) fn write(&self) -> syn::Result<TokenStream> {
        let (cached, uncached, companions) = (self.cached(), self.uncached(), self.companions());
        Ok(quote! { #cached #uncached #companions })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.options.root
    }

    /// Returns a function of the module that expansions call, so that errors about it are shown at the span.
    fn support_at(&self, span: Span, name: &str) -> TokenStream {
        let name = Ident::new(name, span);
        let path = self.support.clone().into_iter().map(|mut token| {
            token.set_span(token.span().located_at(span));
            token
        });
        let path: TokenStream = path.collect();
        quote_spanned!(span=> #path::#name)
    }

    /// Writes the function with its body replaced.
    fn cached(&self) -> TokenStream {
        let attributes = self.function.item.attrs.iter().map(as_allowed);
        let visibility = &self.function.item.vis;
        let signature = self.signature();
        let guard = self.guard();
        let body = if self.function.returns_result() {
            self.result_body()
        } else {
            self.plain_body()
        };
        let allowed = allowed();
        quote! {
            #(#attributes)*
            #allowed
            #visibility #signature {
                #guard
                #body
            }
        }
    }

    /// Writes the user's function under its second name.
    fn uncached(&self) -> TokenStream {
        let kept = ["allow", "warn", "deny", "forbid", "expect", "cfg"];
        let is_kept =
            |attribute: &&Attribute| kept.iter().any(|name| attribute.path().is_ident(name));
        let attributes = self.function.item.attrs.iter().filter(is_kept);
        let visibility = &self.function.item.vis;
        let mut signature = self.function.item.sig.clone();
        signature.ident = self.function.beside("uncached");
        let body = &self.function.item.block.stmts;
        // The function may not use it but to name its cache.
        let used = self.function.params.iter().filter(|param| param.is_in_on);
        let used = used.map(|param| &param.ident);
        let doc = format!("`{}` itself, without its cache.", self.function.name());
        quote! {
            #(#attributes)*
            #[doc = #doc]
            #visibility #signature {
                #(let _ = &#used;)*
                #(#body)*
            }
        }
    }

    /// Returns the signature with a name in place of every pattern.
    pub(crate) fn signature(&self) -> Signature {
        let mut signature = self.function.item.sig.clone();
        let mut params = self.function.params.iter();
        for input in &mut signature.inputs {
            match input {
                FnArg::Receiver(receiver) if receiver.reference.is_none() => {
                    receiver.mutability = None;
                }
                FnArg::Receiver(_) => {}
                FnArg::Typed(typed) => {
                    if let Some(param) = params.next() {
                        *typed.pat = syn::Pat::Verbatim(param.ident.to_token_stream());
                    }
                }
            }
        }
        signature
    }

    /// Refuses an alias of `Result`, whose errors would be cached.
    fn guard(&self) -> TokenStream {
        if self.function.returns_result() {
            return TokenStream::new();
        }
        let (support, returned) = (&self.support, &self.function.returned);
        let name = self.function.name();
        let problem = format!(
            "`{name}` returns an alias of `Result`, so its errors would be cached: write `Result<..>`"
        );
        let is_open =
            self.function.is_associated || !self.function.item.sig.generics.params.is_empty();
        let check = quote_spanned! {returned.span()=>
            ::core::assert!(
                !{ #[allow(unused_imports)] use #support::Plain as _; #support::Returned::<#returned>::IS_RESULT },
                #problem
            )
        };
        if is_open {
            quote! { const { #check } }
        } else {
            quote! { const _: () = #check; }
        }
    }

    fn result_body(&self) -> TokenStream {
        let (support, root) = (&self.support, self.root());
        let handle = match &self.options.on {
            Some(on) => lent(on),
            None => {
                let name = self.function.name().to_string();
                quote!(#support::default_handle(#name)?)
            }
        };
        let lookup = self.lookup();
        let into_user = self.support_at(located(&self.function.returned), "into_user");
        quote_spanned! {Span::mixed_site()=>
            let found = async {
                let cache: &#root::Cache = #handle;
                #lookup
            };
            found.await.map_err(#into_user)
        }
    }

    fn plain_body(&self) -> TokenStream {
        let (support, root) = (&self.support, self.root());
        let uncached = self.call_uncached(&self.receiver_itself(), |param| {
            param.ident.to_token_stream()
        });
        let handle = match &self.options.on {
            Some(on) => {
                let on = lent(on);
                quote_spanned! {Span::mixed_site()=> let cache: &#root::Cache = #on; }
            }
            None => quote_spanned! {Span::mixed_site()=>
                let ::core::option::Option::Some(cache) = #root::default_cache() else {
                    return #uncached.await;
                };
            },
        };
        let name = self.function.name().to_string();
        let lookup = self.lookup();
        quote_spanned! {Span::mixed_site()=>
            #handle
            let found = async { #lookup };
            match found.await {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    #support::goes_uncached(cache, #name, &error);
                    #uncached.await
                }
            }
        }
    }

    /// Writes the way from `cache` to what was found or loaded.
    fn lookup(&self) -> TokenStream {
        let (key, claim) = (self.key(), self.claim());
        let schema = self.options.schema.map(
            |version| quote_spanned!(Span::mixed_site()=> let cache = &cache.schema(#version);),
        );
        let remember = self.remember();
        let lookup = self.support_at(located(&self.function.returned), "lookup");
        quote_spanned! {Span::mixed_site()=>
            #schema
            #claim
            let key = #key;
            #lookup(cache, key, |key| { #remember }).await
        }
    }

    /// Writes the check that no other function has the name in the default key.
    fn claim(&self) -> Option<TokenStream> {
        if self.key.is_some() {
            return None;
        }
        let (support, name) = (&self.support, self.default_name());
        let owner = if self.function.is_associated {
            quote!(Self)
        } else {
            quote!(())
        };
        Some(quote_spanned! {Span::mixed_site()=>
            static CLAIM: #support::Claim = #support::Claim::new(
                #name,
                ::core::concat!(::core::file!(), ":", ::core::line!()),
            );
            CLAIM.take::<#owner>()?;
        })
    }

    fn default_name(&self) -> TokenStream {
        match &self.options.name {
            Some(name) => name.to_token_stream(),
            None => {
                let name = self.function.name().unraw().to_string();
                quote!(::core::concat!(::core::module_path!(), "::", #name))
            }
        }
    }

    /// Writes the key as a `KeyRef`, with `?` if an argument may refuse to be part of it.
    fn key(&self) -> TokenStream {
        let root = self.root();
        let key = match &self.key {
            Some(filled) => self.text(filled),
            None => {
                let key = self.default_key();
                quote!(#key?)
            }
        };
        quote!(#root::KeyRef::from(#key))
    }

    /// Writes the default key, as a `larder::Result<Key>`.
    pub(crate) fn default_key(&self) -> TokenStream {
        let (support, name) = (&self.support, self.default_name());
        let arguments = self.function.keyed().map(|param| {
            let ident = &param.ident;
            let reference = match param.pass {
                Pass::Value => quote_spanned!(located(&param.ty)=> &#ident),
                Pass::Copied(_) | Pass::Static => quote!(#ident),
            };
            quote_spanned!(located(&param.ty)=> .and(#reference))
        });
        quote!(#support::Arguments::of(#name) #(#arguments)* .key())
    }

    /// Writes a filled template as a `&'static str` or a `String`.
    pub(crate) fn text(&self, filled: &Filled) -> TokenStream {
        if let Some(fixed) = &filled.fixed {
            return quote!(#fixed);
        }
        let format = &filled.format;
        let span = filled.span.resolved_at(Span::mixed_site());
        let part = self.support_at(span, "part");
        let values = filled.values.iter();
        let values = values.map(|value| quote_spanned!(span=> #part(&#value)));
        quote!(::std::format!(#format, #(#values),*))
    }

    /// Writes the one call of `remember`.
    fn remember(&self) -> TokenStream {
        let support = &self.support;
        let tags = self.tags.iter().map(|tag| {
            let text = self.text(tag);
            quote!(#support::tag(#text))
        });
        let tags = quote!([#(#tags),*]);
        let kept = self.kept();
        let load = self.load();
        let options = self.load_options();
        let (with_tags, dot_tags) = if self.tags.is_empty() {
            (TokenStream::new(), TokenStream::new())
        } else {
            (
                quote_spanned!(Span::mixed_site()=> let tags = #tags;),
                quote_spanned!(Span::mixed_site()=> .tags(tags)),
            )
        };
        quote_spanned! {Span::mixed_site()=>
            #with_tags
            #kept
            cache.#load #dot_tags #options
        }
    }

    /// Writes what the load may keep of the receiver and the arguments.
    fn kept(&self) -> TokenStream {
        let support = &self.support;
        let receiver = self.function.receiver.as_ref().map(|receiver| {
            let token = receiver.self_token;
            let itself = if matches!(&*receiver.ty, syn::Type::Reference(_)) {
                quote!(#token)
            } else {
                quote!(&#token)
            };
            let clone = quote_spanned!(located(&token)=> #support::receiver(#itself));
            quote_spanned!(Span::mixed_site()=> let this = #clone;)
        });
        let params = self.function.params.iter().map(|param| {
            let (ident, span) = (&param.ident, located(&param.ty));
            match &param.pass {
                Pass::Static => TokenStream::new(),
                Pass::Copied(_) => {
                    let owned = self.support_at(span, "owned");
                    quote_spanned!(span=> let #ident = #owned(#ident);)
                }
                Pass::Value if self.function.returns_result() && !param.is_in_on => {
                    TokenStream::new()
                }
                Pass::Value => {
                    let again = self.support_at(span, "again");
                    quote_spanned!(span=> let #ident = #again(&#ident);)
                }
            }
        });
        quote! { #receiver #(#params)* }
    }

    /// Writes the method of the cache with the loader: `remember(key, move || ..)`.
    fn load(&self) -> TokenStream {
        let support = &self.support;
        let this = quote_spanned!(Span::mixed_site()=> this);
        let call = self.call_uncached(&this, |param| {
            let ident = &param.ident;
            match &param.pass {
                Pass::Copied(referent) => quote!(#support::lent::<#referent>(&#ident)),
                Pass::Value | Pass::Static => quote!(#ident),
            }
        });
        let loaded = if self.function.returns_result() {
            quote!(#call.await)
        } else {
            quote!(#support::sure(#call.await))
        };
        match &self.options.condition {
            None => {
                quote_spanned!(Span::mixed_site()=> remember(key, move || async move { #loaded }))
            }
            Some(condition) => quote_spanned! {Span::mixed_site()=>
                remember_with(key, move |context| async move {
                    let loaded = #loaded;
                    if let ::core::result::Result::Ok(value) = &loaded {
                        #support::keep(&context, value, #condition);
                    }
                    loaded
                }).names_no_tags()
            },
        }
    }

    fn load_options(&self) -> TokenStream {
        let root = self.root();
        let ttl = self.options.ttl.map(|life| {
            let ttl = match life {
                Life::For(length) => duration(length),
                Life::Forever => quote!(#root::Ttl::Forever),
            };
            quote!(.ttl(#ttl))
        });
        let stale = self.options.stale.map(|length| {
            let length = duration(length);
            quote!(.stale_for(#length))
        });
        let refresh = self
            .options
            .refresh
            .map(|part| quote!(.refresh_after(#part)));
        quote!(#ttl #stale #refresh)
    }

    /// Returns the receiver as the cached function has it.
    fn receiver_itself(&self) -> TokenStream {
        let receiver = self.function.receiver.as_ref();
        receiver.map_or_else(TokenStream::new, |receiver| {
            receiver.self_token.to_token_stream()
        })
    }

    /// Writes a call of the body, with these arguments.
    pub(crate) fn call_uncached(
        &self,
        receiver: &TokenStream,
        argument: impl Fn(&Param) -> TokenStream,
    ) -> TokenStream {
        let name = self.function.beside("uncached");
        let arguments = self.function.params.iter().map(argument);
        let types = self.function.type_parameters();
        let turbofish = (!types.is_empty()).then(|| quote!(::<#(#types),*>));
        let path = match (&self.function.receiver, self.function.is_associated) {
            (Some(_), _) => quote!(#receiver.#name),
            (None, true) => quote!(Self::#name),
            (None, false) => quote!(#name),
        };
        quote!(#path #turbofish (#(#arguments),*))
    }
}

/// Writes a reference to the cache that the user names.
pub(crate) fn lent(on: &syn::Expr) -> TokenStream {
    quote_spanned!(located(on)=> &(#on))
}

fn duration(length: Length) -> TokenStream {
    let ms = length.0;
    quote!(::core::time::Duration::from_millis(#ms))
}

/// Returns the place of what the user wrote, for errors about it.
fn located(tokens: &impl syn::spanned::Spanned) -> Span {
    tokens.span().resolved_at(Span::mixed_site())
}

/// Returns an attribute of the function as its cached form has it: what is expected of the body may not come true there.
fn as_allowed(attribute: &Attribute) -> TokenStream {
    match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("expect") => {
            let lints = &list.tokens;
            quote!(#[allow(#lints)])
        }
        _ => attribute.to_token_stream(),
    }
}

/// Returns the lints that a copy of the user's signature may break.
pub(crate) fn allowed() -> TokenStream {
    quote! {
        #[allow(
            unused_parens,
            clippy::large_futures,
            clippy::needless_pass_by_value,
            clippy::ptr_arg,
            clippy::too_many_arguments,
            clippy::trivially_copy_pass_by_ref,
            reason = "the signature is that of the function under `#[cache]`"
        )]
    }
}
