//! Templates of keys and tags: `user:{id}`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, LitStr, Member};

use crate::function::Function;

/// A template, read but not yet held against a function.
pub(crate) struct Template {
    literal: LitStr,
    pieces: Vec<Piece>,
}

enum Piece {
    Text(String),
    /// `{}`: the next argument.
    Next,
    /// `{id}`, `{user.id}`, `{T::TABLE}`.
    Named(Expr),
}

/// A template with the expressions that stand in its places.
pub(crate) struct Filled {
    /// The text with `{}` in place of each, as `format!` takes it.
    pub(crate) format: String,
    pub(crate) values: Vec<TokenStream>,
    /// The text itself, if it has no places.
    pub(crate) fixed: Option<String>,
    /// Where it was written.
    pub(crate) span: Span,
}

impl Parse for Template {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let literal: LitStr = input.parse()?;
        let pieces = pieces(&literal)?;
        if pieces.is_empty() {
            return Err(syn::Error::new(
                literal.span(),
                "an empty template is refused",
            ));
        }
        Ok(Self { literal, pieces })
    }
}

fn pieces(literal: &LitStr) -> syn::Result<Vec<Piece>> {
    let text = literal.value();
    let wrong = |problem: &str| Err(syn::Error::new(literal.span(), problem));
    let mut pieces = Vec::new();
    let mut fixed = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        fixed.push_str(&rest[..at]);
        let sign = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(sign) {
            fixed.push_str(sign);
            rest = after;
            continue;
        }
        if sign == "}" {
            return wrong("a `}` that closes nothing; write `}}` for the sign itself");
        }
        let Some(end) = rest.find('}') else {
            return wrong("a `{` that is not closed; write `{{` for the sign itself");
        };
        if !fixed.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut fixed)));
        }
        pieces.push(place(literal, rest[..end].trim())?);
        rest = &rest[end + 1..];
    }
    fixed.push_str(rest);
    if !fixed.is_empty() {
        pieces.push(Piece::Text(fixed));
    }
    Ok(pieces)
}

fn place(literal: &LitStr, inside: &str) -> syn::Result<Piece> {
    if inside.is_empty() {
        return Ok(Piece::Next);
    }
    let wrong = |problem: String| Err(syn::Error::new(literal.span(), problem));
    if let Some((name, _)) = inside.replace("::", "").split_once(':') {
        return wrong(format!(
            "`{{{inside}}}` has a format, and places take none: write `{{{}}}`; values are shown by `Display`",
            name.trim()
        ));
    }
    let parsed = inside
        .parse::<TokenStream>()
        .map_err(syn::Error::from)
        .and_then(|tokens| syn::parse2::<Expr>(placed(tokens, literal.span())));
    match parsed {
        Ok(expr) if is_simple(&expr) => Ok(Piece::Named(expr)),
        _ => wrong(format!(
            "`{{{inside}}}` is too much for a place: it takes an argument, `{{id}}`, its field, `{{user.id}}`, or a constant, `{{T::TABLE}}`"
        )),
    }
}

/// Gives what stood in a string the place of the string, and its view of names.
fn placed(tokens: TokenStream, span: Span) -> TokenStream {
    let token = |token: TokenTree| match token {
        TokenTree::Ident(name) => TokenTree::Ident(ident(&name.to_string(), span)),
        mut other => {
            other.set_span(span);
            other
        }
    };
    tokens.into_iter().map(token).collect()
}

/// Returns the name as an argument has it: a keyword is one in its raw form only, `r#type`.
fn ident(name: &str, span: Span) -> Ident {
    let is_usable = syn::parse_str::<Ident>(name).is_ok();
    let is_path = ["self", "Self", "super", "crate", "_"].contains(&name);
    if is_usable || is_path {
        return Ident::new(name, span);
    }
    Ident::new_raw(name, span)
}

fn is_simple(expr: &Expr) -> bool {
    match expr {
        Expr::Path(path) => path.attrs.is_empty(),
        Expr::Field(field) => is_simple(&field.base),
        _ => false,
    }
}

impl Template {
    /// Puts a function's arguments in the places.
    pub(crate) fn fill(&self, function: &Function) -> syn::Result<Filled> {
        let mut keyed = function.keyed();
        let (mut format, mut values) = (String::new(), Vec::new());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    format.push_str(&text.replace('{', "{{").replace('}', "}}"));
                    continue;
                }
                Piece::Next => {
                    let next = keyed.next().ok_or_else(|| {
                        self.wrong(
                            "there are more `{}` than arguments, without `self` and skipped ones",
                        )
                    })?;
                    values.push(next.ident.to_token_stream());
                }
                Piece::Named(expr) => values.push(self.resolve(expr, function)?),
            }
            format.push_str("{}");
        }
        let fixed = match self.pieces.as_slice() {
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        };
        Ok(Filled {
            format,
            values,
            fixed,
            span: self.literal.span(),
        })
    }

    /// Returns the expression with the names that the function itself uses.
    fn resolve(&self, expr: &Expr, function: &Function) -> syn::Result<TokenStream> {
        match expr {
            Expr::Field(field) => {
                let base = self.resolve(&field.base, function)?;
                let member: &Member = &field.member;
                Ok(quote::quote!(#base.#member))
            }
            Expr::Path(path) => match path.path.get_ident() {
                Some(name) => self.named(name, function),
                None => Ok(path.to_token_stream()),
            },
            _ => Err(self.wrong("a place takes an argument, its field or a constant")),
        }
    }

    fn named(&self, name: &Ident, function: &Function) -> syn::Result<TokenStream> {
        if name == "self" {
            let receiver = function.receiver.as_ref();
            return receiver
                .map(|receiver| receiver.self_token.to_token_stream())
                .ok_or_else(|| self.wrong("the function has no `self`"));
        }
        if function.is_const_parameter(name) {
            return Ok(name.to_token_stream());
        }
        let named = |param: &&crate::function::Param| param.is_named && param.ident == *name;
        match function.params.iter().find(named) {
            Some(param) => Ok(param.ident.to_token_stream()),
            None => Err(self.wrong(&format!(
                "`{name}` is no argument of `{}`; {}",
                function.name(),
                function.known()
            ))),
        }
    }

    /// Refuses what cannot be a tag, so that it is not found out at the first call.
    pub(crate) fn check_tag(&self) -> syn::Result<()> {
        let is_bad = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['*', '?', '[', ']']));
        if self.pieces.iter().any(is_bad) {
            return Err(self.wrong(
                "a tag must not hold `*`, `?`, `[` or `]`: these are for patterns of tags",
            ));
        }
        Ok(())
    }

    fn wrong(&self, problem: &str) -> syn::Error {
        syn::Error::new(self.literal.span(), problem)
    }
}
