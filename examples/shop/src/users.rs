//! Users: a list kept as finished HTML, rows kept by id, and what to forget when one changes.

use std::time::Duration;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Response};
use larder::cache::{Causal, LoadContext};
use larder::{Cache, RememberError};
use serde::Deserialize;

use crate::changes::{self, Visited};
use crate::db::{User, UserId};
use crate::error::AppError;
use crate::pages::{self, escape};
use crate::{JITTER, Paging, Shop, TTL};

/// An entry has at most 24 tags, and a page has one for each user.
const PER_PAGE: u32 = 20;
/// How long it is remembered that there is no such user: long enough to spare the database from whoever tries ids one
/// after the other.
const MISSING_TTL: Duration = Duration::from_secs(60);
const MAX_NAME_CHARS: usize = 80;
/// The group of tags of all that shows users.
const PEOPLE: &str = "people";

pub(crate) async fn list(
    Visited(shop): Visited,
    Query(paging): Query<Paging>,
) -> Result<Html<String>, AppError> {
    let page = paging.number();
    let database = shop.database.clone();
    let list: Option<String> = shop
        .pages
        .remember_with(format!("users:page:{page}"), move |load| async move {
            let skip = u64::from(page - 1) * u64::from(PER_PAGE);
            let users = database.users(skip, PER_PAGE).await?;
            Ok::<_, AppError>((!users.is_empty()).then(|| user_list(&users, &load)))
        })
        .ttl(TTL)
        .jitter(JITTER)
        // Anybody can ask for page 4,000,000,000; what is not there shall not fill the cache.
        .cache_none(false)
        .await
        .map_err(RememberError::into_user)?;
    let list = list.ok_or(AppError::NotFound)?;
    let body = format!("{list}\n{}", pages::next_link("/users", page));
    Ok(pages::page("Users", &body))
}

pub(crate) async fn show(
    Visited(shop): Visited,
    Path(id): Path<UserId>,
) -> Result<Html<String>, AppError> {
    let database = shop.database.clone();
    // `None` is an answer too and is kept, but not for as long.
    let user: Option<User> = shop
        .users
        .remember_with(id, move |context| async move {
            let user = database.user(id).await?;
            if user.is_none() {
                context.ttl(MISSING_TTL);
            }
            Ok::<_, AppError>(user)
        })
        .ttl(TTL)
        .jitter(JITTER)
        .await
        .map_err(RememberError::into_user)?;
    let user = user.ok_or(AppError::NotFound)?;
    Ok(pages::page(&user.name, &details(&user)))
}

/// The form of a user's page.
#[derive(Debug, Deserialize)]
pub(crate) struct Rename {
    name: String,
}

pub(crate) async fn rename(
    State(shop): State<Shop>,
    Path(id): Path<UserId>,
    Form(form): Form<Rename>,
) -> Result<Response, AppError> {
    let name = form.name.trim();
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) {
        return Err(AppError::Invalid("a name has 1 to 80 characters"));
    }
    if !shop.database.rename_user(id, name.to_owned()).await? {
        return Err(AppError::NotFound);
    }
    // An error of the cache is told: the old name may still be shown, and renaming once more does no harm.
    let change = forget(&shop, id).await?;
    Ok(changes::see_other(&format!("/users/{}", id.0), change))
}

/// Forgets what shows users after many were changed behind the shop's back, by an import for example.
pub(crate) async fn imported(State(shop): State<Shop>) -> Result<Response, AppError> {
    shop.users.clear().await?;
    let change = shop.pages.invalidate_group(PEOPLE).await?.causal;
    Ok(changes::see_other("/users", change))
}

/// Names what is invalidated together. Groups of `[tags.groups]` in a configuration can be used by operators as well.
pub(crate) fn name_groups(pages: &Cache) -> Result<(), larder::Error> {
    pages.add_group(PEOPLE, ["user:*"])
}

/// Removes what shows a user from the caches: the row by its key, and by their tag the pages, whichever they are.
///
/// Always after the change of the database: what is loaded from then on is new, and a load that was under way is not
/// kept.
async fn forget(shop: &Shop, id: UserId) -> Result<Causal, larder::Error> {
    shop.users.delete(id).await?;
    Ok(shop.pages.invalidate_tags([tag(id)]).await?.causal)
}

/// Returns the tag of what shows a user.
fn tag(id: UserId) -> String {
    format!("user:{}", id.0)
}

/// Returns users as an HTML list. Whatever is loaded with it goes when one of them changes.
pub(crate) fn user_list(users: &[User], load: &LoadContext) -> String {
    for user in users {
        load.tag(tag(user.id));
    }
    let item = |user: &User| {
        let (name, email) = (escape(&user.name), escape(&user.email));
        format!("<a href=\"/users/{}\">{name}</a> ({email})", user.id.0)
    };
    pages::list("ul", users.iter().map(item))
}

fn details(user: &User) -> String {
    let (id, name, email) = (user.id.0, escape(&user.name), escape(&user.email));
    format!(
        "<p>{email}</p>\n<form method=\"post\" action=\"/users/{id}\">\
         <input name=\"name\" value=\"{name}\"> <button>Rename</button></form>"
    )
}
