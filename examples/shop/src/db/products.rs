//! The table of products.

use larder::KeyRef;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};

use super::Database;
use crate::error::AppError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProductId(pub(crate) u32);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: ProductId,
    pub(crate) name: String,
    pub(crate) price_cents: u32,
    pub(crate) stock: u32,
    pub(crate) sold: u32,
}

/// What became of an attempt to buy.
#[derive(Debug)]
pub(crate) enum Purchase {
    /// It was bought; the product as it is now.
    Bought(Product),
    SoldOut,
    NoSuchProduct,
}

impl From<ProductId> for KeyRef<'_> {
    fn from(id: ProductId) -> Self {
        format!("product:{}", id.0).into()
    }
}

/// So that `remember_many` takes a list of ids and hands its loader the ids that are missing.
impl<'a> From<&'a ProductId> for KeyRef<'a> {
    fn from(id: &'a ProductId) -> Self {
        (*id).into()
    }
}

impl Database {
    /// Returns the ids of `count` products after the first `skip`, by id.
    pub(crate) async fn product_ids(
        &self,
        skip: u64,
        count: u32,
    ) -> Result<Vec<ProductId>, AppError> {
        self.query(move |connection| {
            connection
                .prepare_cached("SELECT id FROM products ORDER BY id LIMIT ? OFFSET ?")?
                .query_map((count, skip as i64), |row| Ok(ProductId(row.get(0)?)))?
                .collect()
        })
        .await
    }

    /// Returns those of the products that are there, with one query however many are asked for.
    pub(crate) async fn products(&self, ids: Vec<ProductId>) -> Result<Vec<Product>, AppError> {
        self.query(move |connection| {
            let ids: Vec<u32> = ids.into_iter().map(|id| id.0).collect();
            let ids = serde_json::json!(ids).to_string();
            connection
                .prepare_cached(
                    "SELECT id, name, price_cents, stock, sold FROM products
                     WHERE id IN (SELECT value FROM json_each(?))",
                )?
                .query_map([ids], product)?
                .collect()
        })
        .await
    }

    /// Returns the products that sold best, best first.
    pub(crate) async fn best_sellers(&self, count: u32) -> Result<Vec<Product>, AppError> {
        self.query(move |connection| {
            connection
                .prepare_cached(
                    "SELECT id, name, price_cents, stock, sold FROM products
                     WHERE sold > 0 ORDER BY sold DESC LIMIT ?",
                )?
                .query_map([count], product)?
                .collect()
        })
        .await
    }

    /// Takes one from the stock.
    pub(crate) async fn buy(&self, id: ProductId) -> Result<Purchase, AppError> {
        self.query(move |connection| {
            let bought = connection
                .prepare_cached(
                    "UPDATE products SET stock = stock - 1, sold = sold + 1 WHERE id = ? AND stock > 0
                     RETURNING id, name, price_cents, stock, sold",
                )?
                .query_row([id.0], product)
                .optional()?;
            Ok(match bought {
                Some(product) => Purchase::Bought(product),
                None if exists(connection, id)? => Purchase::SoldOut,
                None => Purchase::NoSuchProduct,
            })
        })
        .await
    }
}

fn exists(connection: &Connection, id: ProductId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM products WHERE id = ?")?
        .exists([id.0])
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: ProductId(row.get(0)?),
        name: row.get(1)?,
        price_cents: row.get(2)?,
        stock: row.get(3)?,
        sold: row.get(4)?,
    })
}
