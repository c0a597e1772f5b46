//! What the attribute stands on.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{FnArg, GenericParam, Item, ItemFn, Pat, PatIdent, ReturnType, Type};

use crate::options::Options;

/// A function that can be cached.
pub(crate) struct Function {
    pub(crate) item: ItemFn,
    pub(crate) receiver: Option<syn::Receiver>,
    pub(crate) params: Vec<Param>,
    pub(crate) returned: Type,
    /// Whether it stands in an `impl`.
    pub(crate) is_associated: bool,
}

/// An argument.
pub(crate) struct Param {
    /// What the cached function calls it: the user's own name, unless there is a pattern in its place.
    pub(crate) ident: Ident,
    pub(crate) is_named: bool,
    pub(crate) ty: Type,
    pub(crate) is_skipped: bool,
    /// Whether the attribute's `on` speaks of it, so that it is lent while the load has its own.
    pub(crate) is_in_on: bool,
    pub(crate) pass: Pass,
}

/// How an argument gets into the load, which holds no borrowed part.
pub(crate) enum Pass {
    /// As it is.
    Value,
    /// A reference to this: it is copied, and lent to the body.
    Copied(Box<Type>),
    /// A reference that does not end.
    Static,
}

impl Function {
    pub(crate) fn parse(tokens: &TokenStream, options: &Options) -> syn::Result<Self> {
        let mut item = parse_function(tokens)?;
        refuse_qualifiers(&item)?;
        let returned = returned(&item)?;
        let mentions_self = mentions(item.sig.to_token_stream(), "Self");
        let (mut receiver, mut params) = (None, Vec::new());
        for (index, input) in item.sig.inputs.iter_mut().enumerate() {
            match input {
                FnArg::Receiver(found) => receiver = Some(checked_receiver(found)?),
                FnArg::Typed(typed) => params.push(Param::new(typed, index, options)?),
            }
        }
        Ok(Self {
            is_associated: receiver.is_some()
                || mentions_self
                || options.is_associated
                || options.mentions_self_type(),
            item,
            receiver,
            params,
            returned,
        })
    }

    pub(crate) fn name(&self) -> &Ident {
        &self.item.sig.ident
    }

    /// Returns the arguments that a key may hold, in order.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| !param.is_skipped)
    }

    /// Returns the names a template may use, as a clause of a message.
    pub(crate) fn known(&self) -> String {
        let named = self.params.iter().filter(|param| param.is_named);
        let names: Vec<_> = named.map(|param| format!("`{}`", param.ident)).collect();
        if names.is_empty() {
            return "it has none with a name".to_owned();
        }
        format!("there are {}", names.join(", "))
    }

    pub(crate) fn is_const_parameter(&self, name: &Ident) -> bool {
        let mut consts = self.item.sig.generics.const_params();
        consts.any(|param| param.ident == *name)
    }

    /// Returns the type and constant parameters, which a call passes on.
    pub(crate) fn type_parameters(&self) -> Vec<&Ident> {
        let params = self.item.sig.generics.params.iter();
        let named = params.filter_map(|param| match param {
            GenericParam::Type(param) => Some(&param.ident),
            GenericParam::Const(param) => Some(&param.ident),
            GenericParam::Lifetime(_) => None,
        });
        named.collect()
    }

    /// Returns whether a default key could not tell the types of two calls apart.
    pub(crate) fn is_generic_over_types(&self) -> bool {
        let mut finder = Finder::default();
        self.params
            .iter()
            .for_each(|param| finder.visit_type(&param.ty));
        finder.impl_trait.is_some() || !self.type_parameters().is_empty()
    }

    /// Returns whether the type it returns is written as a `Result`.
    pub(crate) fn returns_result(&self) -> bool {
        let Type::Path(path) = &self.returned else {
            return false;
        };
        let last = path.path.segments.last();
        last.is_some_and(|segment| segment.ident == "Result")
    }
}

fn parse_function(tokens: &TokenStream) -> syn::Result<ItemFn> {
    syn::parse2::<ItemFn>(tokens.clone()).map_err(|error| {
        let wrong = |problem| syn::Error::new(tokens.span(), problem);
        if syn::parse2::<syn::TraitItemFn>(tokens.clone()).is_ok() {
            return wrong("`#[cache]` needs a function with a body, which stands in no trait");
        }
        match syn::parse2::<Item>(tokens.clone()) {
            Ok(Item::Fn(_)) | Err(_) => error,
            Ok(_) => wrong("`#[cache]` stands on an `async fn`"),
        }
    })
}

fn refuse_qualifiers(item: &ItemFn) -> syn::Result<()> {
    let signature = &item.sig;
    if signature.asyncness.is_none() {
        let problem = "`#[cache]` needs an `async fn`: a value may have to be fetched from a store, or waited for";
        return Err(syn::Error::new(signature.fn_token.span, problem));
    }
    let unsafety = signature.unsafety.map(|token| token.span);
    let abi = signature.abi.as_ref().map(|abi| abi.span());
    let variadic = signature.variadic.as_ref().map(|dots| dots.span());
    match unsafety.or(abi).or(variadic) {
        Some(span) => Err(syn::Error::new(span, "`#[cache]` needs a plain `async fn`")),
        None => Ok(()),
    }
}

fn returned(item: &ItemFn) -> syn::Result<Type> {
    let ReturnType::Type(_, returned) = &item.sig.output else {
        let problem = "the function returns nothing that could be cached";
        return Err(syn::Error::new(item.sig.ident.span(), problem));
    };
    let mut finder = Finder::default();
    finder.visit_type(returned);
    if let Some(span) = finder.impl_trait {
        let problem =
            "`#[cache]` needs to know the type that is stored: name it instead of `impl ..`";
        return Err(syn::Error::new(span, problem));
    }
    if let Some(span) = finder.borrowed {
        let problem =
            "a cached value holds no borrowed part: return it owned, such as `String` for `&str`";
        return Err(syn::Error::new(span, problem));
    }
    Ok((**returned).clone())
}

fn checked_receiver(receiver: &syn::Receiver) -> syn::Result<syn::Receiver> {
    let is_exclusive =
        matches!(&*receiver.ty, Type::Reference(reference) if reference.mutability.is_some());
    if is_exclusive {
        let problem = "a function that changes `self` cannot be cached: a hit would not change it; take `&self`";
        return Err(syn::Error::new(receiver.span(), problem));
    }
    Ok(receiver.clone())
}

impl Param {
    /// Takes `#[skip]` off the argument and looks at its pattern and type.
    fn new(typed: &mut syn::PatType, index: usize, options: &Options) -> syn::Result<Self> {
        let before = typed.attrs.len();
        typed
            .attrs
            .retain(|attribute| !attribute.path().is_ident("skip"));
        let (ident, is_named) = match &*typed.pat {
            Pat::Ident(PatIdent {
                by_ref: None,
                subpat: None,
                ident,
                ..
            }) => (ident.clone(), true),
            other => {
                let name = format!("argument_{index}");
                (
                    Ident::new(&name, Span::mixed_site().located_at(other.span())),
                    false,
                )
            }
        };
        let on = options.on.to_token_stream();
        Ok(Self {
            is_in_on: is_named && mentions(on, &ident),
            ident,
            is_named,
            ty: (*typed.ty).clone(),
            is_skipped: typed.attrs.len() < before,
            pass: Pass::of(&typed.ty)?,
        })
    }
}

impl Pass {
    fn of(ty: &Type) -> syn::Result<Self> {
        let wrong = |span, problem: &str| Err(syn::Error::new(span, problem));
        let reference = match ty {
            Type::Reference(reference) => reference,
            Type::Paren(inner) => return Self::of(&inner.elem),
            _ => {
                let mut finder = Finder::default();
                finder.visit_type(ty);
                return match finder.borrowed {
                    None => Ok(Self::Value),
                    Some(span) => wrong(span, BORROWED_PART),
                };
            }
        };
        if reference.mutability.is_some() {
            let problem =
                "a function that changes an argument cannot be cached: a hit would not change it";
            return wrong(reference.span(), problem);
        }
        let mut finder = Finder::default();
        finder.visit_type(&reference.elem);
        if let Some(span) = finder.borrowed {
            return wrong(span, BORROWED_PART);
        }
        let lifetime = reference.lifetime.as_ref();
        if lifetime.is_some_and(|lifetime| lifetime.ident == "static") {
            return Ok(Self::Static);
        }
        match finder.impl_trait {
            Some(span) => wrong(
                span,
                "`&impl ..` cannot be copied for the load: write a type parameter, `<T: .. + Clone>`",
            ),
            None => Ok(Self::Copied(reference.elem.clone())),
        }
    }
}

const BORROWED_PART: &str = "the load may outlive the call, and this argument is borrowed in part: take it owned, \
     such as `Option<String>` for `Option<&str>`, or by a plain reference, such as `&str`, which is copied";

/// Finds what cannot be kept in a type.
#[derive(Default)]
struct Finder {
    borrowed: Option<Span>,
    impl_trait: Option<Span>,
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        if reference.lifetime.is_none() {
            self.borrowed.get_or_insert(reference.and_token.span);
        }
        visit::visit_type_reference(self, reference);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        if lifetime.ident != "static" {
            self.borrowed.get_or_insert(lifetime.span());
        }
    }

    fn visit_type_impl_trait(&mut self, found: &'ast syn::TypeImplTrait) {
        self.impl_trait.get_or_insert(found.impl_token.span);
        visit::visit_type_impl_trait(self, found);
    }

    // What functions take and return is not held by them.
    fn visit_type_bare_fn(&mut self, _: &'ast syn::TypeBareFn) {}
    fn visit_parenthesized_generic_arguments(
        &mut self,
        _: &'ast syn::ParenthesizedGenericArguments,
    ) {
    }
}

/// Returns whether the name is among the tokens.
pub(crate) fn mentions<N: ?Sized>(tokens: TokenStream, name: &N) -> bool
where
    Ident: PartialEq<N>,
{
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}

impl Function {
    /// Returns the name of something beside the function.
    pub(crate) fn beside(&self, ending: &str) -> Ident {
        format_ident!("{}_{ending}", self.name(), span = self.name().span())
    }
}
