//! What stands in the attribute.

use proc_macro2::Span;
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, Lit, LitInt, LitStr, Path, Token, bracketed};

use crate::function::mentions;
use crate::length::{Length, Life};
use crate::template::Template;

const NAMES: &str = "`on`, `key`, `name`, `ttl`, `tags`, `tag`, `stale`, `refresh`, `if`, `schema`, `associated`, `crate`";

/// The arguments of `#[cache(..)]`.
pub(crate) struct Options {
    pub(crate) on: Option<Expr>,
    pub(crate) key: Option<Template>,
    pub(crate) name: Option<LitStr>,
    pub(crate) ttl: Option<Life>,
    pub(crate) tags: Vec<Template>,
    pub(crate) stale: Option<Length>,
    pub(crate) refresh: Option<f64>,
    pub(crate) condition: Option<Expr>,
    pub(crate) schema: Option<u32>,
    /// The function is in an `impl`.
    pub(crate) is_associated: bool,
    /// Where the crate `larder` is.
    pub(crate) root: Path,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            on: None,
            key: None,
            name: None,
            ttl: None,
            tags: Vec::new(),
            stale: None,
            refresh: None,
            condition: None,
            schema: None,
            is_associated: false,
            root: syn::parse_quote!(::larder),
        }
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let argument = input.call(Ident::parse_any).map_err(|error| {
                syn::Error::new(
                    error.span(),
                    format!("expected an argument; there are {NAMES}"),
                )
            })?;
            if seen.contains(&argument) {
                let problem = format!("`{argument}` is given twice");
                return Err(syn::Error::new(argument.span(), problem));
            }
            options.argument(&argument, input)?;
            seen.push(argument);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        options.check()?;
        Ok(options)
    }
}

impl Options {
    fn argument(&mut self, argument: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        let name = argument.to_string();
        if name == "associated" {
            self.is_associated = true;
            return Ok(());
        }
        if !NAMES.contains(&format!("`{name}`")) {
            let problem = format!("there is no argument `{name}`; there are {NAMES}");
            return Err(syn::Error::new(argument.span(), problem));
        }
        input.parse::<Token![=]>()?;
        match name.as_str() {
            "on" => self.on = Some(input.parse()?),
            "key" => self.key = Some(input.parse()?),
            "name" => self.name = Some(named(input)?),
            "ttl" => self.ttl = Some(input.parse()?),
            "tag" => self.tags.push(input.parse()?),
            "tags" => self.tags.extend(list(input)?),
            "stale" => self.stale = Some(input.parse()?),
            "refresh" => self.refresh = Some(part(input)?),
            "if" => self.condition = Some(input.parse()?),
            "schema" => self.schema = Some(input.parse::<LitInt>()?.base10_parse()?),
            _ => self.root = input.call(Path::parse_mod_style)?,
        }
        Ok(())
    }

    fn check(&self) -> syn::Result<()> {
        if let (Some(_), Some(name)) = (&self.key, &self.name) {
            let problem =
                "`name` is part of the default key, and there is a `key`: leave one of them out";
            return Err(syn::Error::new(name.span(), problem));
        }
        self.tags.iter().try_for_each(Template::check_tag)
    }

    /// Returns whether the attribute speaks of `Self`, so that it stands in an `impl`.
    pub(crate) fn mentions_self_type(&self) -> bool {
        let expressions = self.on.iter().chain(&self.condition);
        let mut tokens = expressions.map(|expr| expr.to_token_stream());
        tokens.any(|tokens| mentions(tokens, "Self"))
    }
}

fn named(input: ParseStream<'_>) -> syn::Result<LitStr> {
    let name: LitStr = input.parse()?;
    if name.value().is_empty() || name.value().contains('(') {
        let problem = "a name is not empty and has no `(`, which begins the arguments in the key";
        return Err(syn::Error::new(name.span(), problem));
    }
    Ok(name)
}

fn list(input: ParseStream<'_>) -> syn::Result<Vec<Template>> {
    if !input.peek(syn::token::Bracket) {
        return Err(input
            .error("expected a list: `tags = [\"users\", \"user:{id}\"]`, or `tag = \"users\"`"));
    }
    let inside;
    bracketed!(inside in input);
    let tags = Punctuated::<Template, Token![,]>::parse_terminated(&inside)?;
    Ok(tags.into_iter().collect())
}

/// Reads a number between 0 and 1, without these.
fn part(input: ParseStream<'_>) -> syn::Result<f64> {
    let wrong = |span: Span| {
        let problem = "expected a part of the value's life between 0 and 1, such as 0.8";
        syn::Error::new(span, problem)
    };
    let lit: Lit = input.parse().map_err(|error| wrong(error.span()))?;
    let part: Option<f64> = match &lit {
        Lit::Float(number) => number.base10_parse().ok(),
        _ => None,
    };
    part.filter(|part| *part > 0.0 && *part < 1.0)
        .ok_or_else(|| wrong(lit.span()))
}
