//! The table of users.

use larder::KeyRef;
use rusqlite::{OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};

use super::Database;
use crate::error::AppError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserId(pub(crate) u32);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) name: String,
    pub(crate) email: String,
}

/// A key made from an id, and only here, cannot be misspelled elsewhere.
impl From<UserId> for KeyRef<'_> {
    fn from(id: UserId) -> Self {
        format!("user:{}", id.0).into()
    }
}

impl Database {
    /// Returns `count` users after the first `skip`, by id.
    pub(crate) async fn users(&self, skip: u64, count: u32) -> Result<Vec<User>, AppError> {
        self.query(move |connection| {
            connection
                .prepare_cached("SELECT id, name, email FROM users ORDER BY id LIMIT ? OFFSET ?")?
                .query_map((count, skip as i64), user)?
                .collect()
        })
        .await
    }

    /// Returns the users who came last, newest first.
    pub(crate) async fn newest_users(&self, count: u32) -> Result<Vec<User>, AppError> {
        self.query(move |connection| {
            connection
                .prepare_cached("SELECT id, name, email FROM users ORDER BY id DESC LIMIT ?")?
                .query_map([count], user)?
                .collect()
        })
        .await
    }

    pub(crate) async fn user(&self, id: UserId) -> Result<Option<User>, AppError> {
        self.query(move |connection| {
            connection
                .prepare_cached("SELECT id, name, email FROM users WHERE id = ?")?
                .query_row([id.0], user)
                .optional()
        })
        .await
    }

    /// Changes a user's name; returns whether there is such a user.
    pub(crate) async fn rename_user(&self, id: UserId, name: String) -> Result<bool, AppError> {
        self.query(move |connection| {
            let changed = connection
                .prepare_cached("UPDATE users SET name = ? WHERE id = ?")?
                .execute((name, id.0))?;
            Ok(changed > 0)
        })
        .await
    }
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: UserId(row.get(0)?),
        name: row.get(1)?,
        email: row.get(2)?,
    })
}
