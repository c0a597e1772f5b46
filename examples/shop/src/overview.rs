//! The first page: each part from the place that keeps it best.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::response::Html;
use larder::RememberError;

use crate::changes::Visited;
use crate::error::{AppError, or_default};
use crate::pages::{self, escape};
use crate::products::LATEST_SALE;
use crate::{JITTER, Shop, TTL, rankings, users, visitors};

/// The key of the part that shows users.
const NEWEST_USERS: &str = "overview:newest-users";

pub(crate) async fn show(
    Visited(shop): Visited,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
) -> Result<Html<String>, AppError> {
    let welcome = if or_default(visitors::is_new(&shop, peer.ip()).await) {
        "<p>Welcome!</p>\n"
    } else {
        ""
    };
    let body = format!(
        "{welcome}{}\n<h2>Best sellers</h2>\n{}\n<h2>Most viewed</h2>\n{}\n<h2>Newest users</h2>\n{}",
        latest_sale(&shop).await,
        rankings::top(&shop, rankings::best_sellers(&shop)).await?,
        rankings::top(&shop, rankings::most_viewed(&shop)).await?,
        newest_users(&shop).await?,
    );
    Ok(pages::page("Overview", &body))
}

/// Shows what the last sale left in the cache. There is nothing to load it from, so this is a plain read, and a shared
/// one: where the cache has a local tier, the text is not copied.
async fn latest_sale(shop: &Shop) -> String {
    let name: Option<Arc<String>> = or_default(shop.counts.get_shared(LATEST_SALE).await);
    name.map_or_else(String::new, |name| {
        format!("<p>Just sold: {}</p>", escape(&name))
    })
}

async fn newest_users(shop: &Shop) -> Result<String, AppError> {
    let database = shop.database.clone();
    shop.pages
        .remember_with(NEWEST_USERS, move |load| async move {
            let users = database.newest_users(5).await?;
            Ok::<_, AppError>(users::user_list(&users, &load))
        })
        .ttl(TTL)
        .jitter(JITTER)
        .await
        .map_err(RememberError::into_user)
}
