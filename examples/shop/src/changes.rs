//! Who changes something sees it with his next request, whichever process answers that.
//!
//! Where several processes share a cache, the local copies of one may be older than what another has changed, by up to
//! `max_staleness`. So a change is answered with a cookie that stands for it, and the requests that bring it pass over
//! copies that are older. Everybody else reads copies.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use larder::cache::Causal;

use crate::Shop;

const NAME: &str = "changed";
/// Longer than any copy may be out of date.
const MAX_AGE_S: u32 = 60;

/// The shop as this visitor may see it: in pages at least as new as his last change.
#[derive(Debug)]
pub(crate) struct Visited(pub(crate) Shop);

impl FromRequestParts<Shop> for Visited {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Infallible> {
        let shop = match last_change(&parts.headers) {
            Some(change) => at_least(shop, change),
            None => shop.clone(),
        };
        Ok(Self(shop))
    }
}

/// Sends the visitor who made a change to a page of this shop.
pub(crate) fn see_other(path: &str, change: Causal) -> Response {
    let cookie = format!("{NAME}={change}; Path=/; Max-Age={MAX_AGE_S}; HttpOnly; SameSite=Lax");
    ([(SET_COOKIE, cookie)], Redirect::to(path)).into_response()
}

/// A token of one cache does for all of them: each takes it for news, and catches up with what it can know by then.
fn at_least(shop: &Shop, change: Causal) -> Shop {
    Shop {
        pages: shop.pages.at_least(change),
        users: shop.users.at_least(change),
        products: shop.products.at_least(change),
        counts: shop.counts.at_least(change),
        ..shop.clone()
    }
}

fn last_change(headers: &HeaderMap) -> Option<Causal> {
    let lines = headers.get_all(COOKIE).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split("; "))
        .filter_map(|cookie| cookie.strip_prefix(NAME)?.strip_prefix('='))
        .find_map(|token| token.parse().ok())
}
