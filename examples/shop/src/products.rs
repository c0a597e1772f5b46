//! Products: rows kept by id and shared by every page that shows them, and what a sale changes.

use axum::extract::{Path, Query, State};
use axum::response::{Html, Response};
use larder::RememberError;

use crate::changes::{self, Visited};
use crate::db::{Product, ProductId, Purchase};
use crate::error::{AppError, or_default};
use crate::pages::{self, escape};
use crate::{JITTER, Paging, Shop, TTL, rankings};

const PER_PAGE: u32 = 20;
/// The key of what was sold last, for the overview.
pub(crate) const LATEST_SALE: &str = "latest-sale";

pub(crate) async fn list(
    Visited(shop): Visited,
    Query(paging): Query<Paging>,
) -> Result<Html<String>, AppError> {
    let page = paging.number();
    let database = shop.database.clone();
    // Only which products are on the page is kept for the page. So a sale has one entry to remove, the product's,
    // however many pages show it.
    let ids: Option<Vec<ProductId>> = shop
        .pages
        .remember(format!("products:page:{page}"), move || async move {
            let skip = u64::from(page - 1) * u64::from(PER_PAGE);
            let ids = database.product_ids(skip, PER_PAGE).await?;
            Ok::<_, AppError>((!ids.is_empty()).then_some(ids))
        })
        .ttl(TTL)
        .jitter(JITTER)
        .cache_none(false)
        .await
        .map_err(RememberError::into_user)?;
    let products = by_ids(&shop, &ids.ok_or(AppError::NotFound)?).await?;
    let items = products.iter().flatten().map(|product| {
        let price = price(product);
        format!("{} {price}, {} left", link(product), product.stock)
    });
    let body = pages::list("ul", items) + &pages::next_link("/products", page);
    Ok(pages::page("Products", &body))
}

pub(crate) async fn show(
    Visited(shop): Visited,
    Path(id): Path<ProductId>,
) -> Result<Html<String>, AppError> {
    let product = by_ids(&shop, &[id]).await?.pop().flatten();
    let product = product.ok_or(AppError::NotFound)?;
    let views = or_default(rankings::count_view(&shop, id).await);
    let (price, stock, sold, id) = (price(&product), product.stock, product.sold, id.0);
    let body = format!(
        "<p>{price}, {stock} left, {sold} sold, seen {views} times</p>\n\
         <form method=\"post\" action=\"/products/{id}/buy\"><button>Buy</button></form>"
    );
    Ok(pages::page(&product.name, &body))
}

pub(crate) async fn buy(
    State(shop): State<Shop>,
    Path(id): Path<ProductId>,
) -> Result<Response, AppError> {
    let product = match shop.database.buy(id).await? {
        Purchase::Bought(product) => product,
        Purchase::SoldOut => return Err(AppError::SoldOut),
        Purchase::NoSuchProduct => return Err(AppError::NotFound),
    };
    // It is sold whatever the cache says: an error page would have it bought twice.
    or_default(after_sale(&shop, &product).await);
    let change = shop.products.causal();
    Ok(changes::see_other(&format!("/products/{}", id.0), change))
}

/// Brings the cache up to date after a sale.
async fn after_sale(shop: &Shop, product: &Product) -> Result<(), larder::Error> {
    // Removed, not replaced: of two sales at once, the earlier one could write last and leave a wrong stock.
    shop.products.delete(product.id).await?;
    rankings::count_sale(shop, product).await?;
    shop.counts.set(LATEST_SALE, &product.name).await
}

/// Returns one product per id, in the same order, with at most one query.
pub(crate) async fn by_ids(
    shop: &Shop,
    ids: &[ProductId],
) -> Result<Vec<Option<Product>>, AppError> {
    let database = shop.database.clone();
    shop.products
        .remember_many(ids, move |missing| async move {
            let products = database.products(missing).await?;
            Ok::<_, AppError>(products.into_iter().map(|product| (product.id, product)))
        })
        .ttl(TTL)
        .jitter(JITTER)
        .await
        .map_err(RememberError::into_user)
}

/// Returns a link to a product.
pub(crate) fn link(product: &Product) -> String {
    let name = escape(&product.name);
    format!("<a href=\"/products/{}\">{name}</a>", product.id.0)
}

fn price(product: &Product) -> String {
    let (whole, cents) = (product.price_cents / 100, product.price_cents % 100);
    format!("{whole}.{cents:02}")
}
