//! Rankings: exact counters, and sorted sets that keep them in order.

use axum::body::Bytes;
use larder::cache::SortedSet;

use crate::db::{Product, ProductId};
use crate::error::{AppError, or_default};
use crate::{Shop, pages, products};

/// How many products are shown.
const SHOWN: u32 = 5;
/// How many products are ranked again after the cache was emptied.
const RANKED: u32 = 100;

/// Returns the ranking by sales.
pub(crate) fn best_sellers(shop: &Shop) -> SortedSet<'_> {
    shop.counts.sorted_set("best-sellers")
}

/// Returns the ranking by views.
pub(crate) fn most_viewed(shop: &Shop) -> SortedSet<'_> {
    shop.counts.sorted_set("most-viewed")
}

/// Ranks what the database knows was sold, if the cache has been emptied.
pub(crate) async fn fill_best_sellers(shop: &Shop) -> Result<(), AppError> {
    let ranking = best_sellers(shop);
    if ranking.is_empty().await? {
        for product in shop.database.best_sellers(RANKED).await? {
            rank(&ranking, product.id, product.sold).await?;
        }
    }
    Ok(())
}

/// Returns the first of a ranking as a list of links, each with its score.
pub(crate) async fn top(shop: &Shop, ranking: SortedSet<'_>) -> Result<String, AppError> {
    let best = or_default(ranking.top(SHOWN).await);
    let ranked = |(score, member): &(f64, Bytes)| Some((product_id(member)?, *score));
    let (ids, scores): (Vec<_>, Vec<_>) = best.iter().filter_map(ranked).unzip();
    let products = products::by_ids(shop, &ids).await?;
    let item = |(product, score): (&Option<Product>, f64)| {
        let link = products::link(product.as_ref()?);
        Some(format!("{link}: {score}"))
    };
    let items = products.iter().zip(scores).filter_map(item);
    Ok(pages::list("ol", items))
}

/// Counts a view; returns how many there were. The count is exact, however many look at once.
pub(crate) async fn count_view(shop: &Shop, id: ProductId) -> Result<u32, larder::Error> {
    let views = shop
        .counts
        .increment(format!("views:{}", id.0), 1)
        .await?
        .try_into()
        .unwrap_or(u32::MAX);
    rank(&most_viewed(shop), id, views).await?;
    Ok(views)
}

/// Counts a sale. The count itself is the database's.
pub(crate) async fn count_sale(shop: &Shop, product: &Product) -> Result<(), larder::Error> {
    rank(&best_sellers(shop), product.id, product.sold).await
}

/// Reads the member that [`rank`] wrote.
fn product_id(member: &[u8]) -> Option<ProductId> {
    let id = std::str::from_utf8(member).ok()?;
    id.parse().ok().map(ProductId)
}

/// Sets a product's score. Of two at once the smaller may win; the next one puts it right.
async fn rank(ranking: &SortedSet<'_>, id: ProductId, score: u32) -> Result<(), larder::Error> {
    ranking.add([(f64::from(score), id.0.to_string())]).await?;
    Ok(())
}
