//! What stands beside a cached function: its key, and removing what it has stored.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};

use crate::expand::{Expansion, allowed, lent};

impl Expansion<'_> {
    /// Writes `user_key` and `user_invalidate` for methods, a type `user` with `key`, `invalidate` and `uncached` for
    /// free functions: types and functions have names of their own, and unlike a module the type sees what is around it.
    pub(crate) fn companions(&self) -> TokenStream {
        let name = self.function.name();
        if self.function.is_associated {
            let key = self.key_companion(self.function.beside("key"));
            let invalidate = self.invalidate_companion(self.function.beside("invalidate"));
            return quote! { #key #invalidate };
        }
        let place = |name: &str| format_ident!("{name}", span = self.function.name().span());
        let key = self.key_companion(place("key"));
        let invalidate = self.invalidate_companion(place("invalidate"));
        let uncached = self.uncached_companion(place("uncached"));
        let visibility = &self.function.item.vis;
        let doc =
            format!("The key of [`{name}`](fn@{name}), removing what it has stored, and its body.");
        quote! {
            #[doc = #doc]
            #[allow(non_camel_case_types, dead_code, missing_debug_implementations, reason = "it has the name of the function")]
            #visibility enum #name {}

            impl #name {
                #key
                #invalidate
                #uncached
            }
        }
    }

    fn key_companion(&self, ident: Ident) -> TokenStream {
        let root = self.root();
        let key = match &self.key {
            Some(filled) => {
                let text = self.text(filled);
                quote!(#root::Key::from(#text))
            }
            None => {
                let key = self.default_key();
                quote!(#key.unwrap_or_else(|_| #root::Key::from("")))
            }
        };
        let empty = match &self.key {
            Some(_) => "",
            None => " Empty, which every operation refuses, if an argument cannot be serialized.",
        };
        let doc = format!(
            "Returns the key of `{}` with these arguments.{empty}",
            self.function.name()
        );
        let mut signature = self.signature();
        signature.ident = ident;
        signature.asyncness = None;
        signature.output = syn::parse_quote!(-> #root::Key);
        self.companion(&doc, &signature, &key)
    }

    fn invalidate_companion(&self, ident: Ident) -> TokenStream {
        let (root, support) = (self.root(), &self.support);
        let name = self.function.name().to_string();
        let handle = match &self.options.on {
            Some(on) => lent(on),
            None => quote!(#support::default_handle(#name)?),
        };
        let key = match &self.key {
            Some(filled) => self.text(filled),
            None => {
                let key = self.default_key();
                quote!(#key?)
            }
        };
        let body = quote_spanned! {Span::mixed_site()=>
            let cache: &#root::Cache = #handle;
            cache.delete(#key).await
        };
        let doc = format!(
            "Removes what `{name}` has stored for these arguments; returns whether there was something.\n\n\
             # Errors\nAs `larder::Cache::delete`."
        );
        let mut signature = self.signature();
        signature.ident = ident;
        signature.output = syn::parse_quote!(-> #root::Result<bool>);
        self.companion(&doc, &signature, &body)
    }

    fn uncached_companion(&self, ident: Ident) -> TokenStream {
        let call = self.call_uncached(&TokenStream::new(), |param| param.ident.to_token_stream());
        let doc = format!("`{}` itself, without its cache.", self.function.name());
        let mut signature = self.signature();
        signature.ident = ident;
        self.companion(&doc, &signature, &quote!(#call.await))
    }

    fn companion(&self, doc: &str, signature: &syn::Signature, body: &TokenStream) -> TokenStream {
        let (allowed, visibility) = (allowed(), &self.function.item.vis);
        quote! {
            #[doc = #doc]
            #[allow(dead_code, unused_variables, clippy::unused_self, clippy::unused_async, reason = "it may not be used")]
            #allowed
            #visibility #signature { #body }
        }
    }
}
