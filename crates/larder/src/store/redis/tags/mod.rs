//! Tags: registers beside the entries that depend on them, and loads under way.
//!
//! A register is in each bucket of its own, made when something there needs it; so whatever is about an entry is in
//! the entry's slot. See `lua/frame.lua` for the rule of validity on the server, and `read` for that of this process.

mod begin;
mod capture;
mod invalidate;
mod listing;
mod tidy;

use redis::Value;

pub(super) use self::capture::Target;

use super::place::Place;
use super::read::{array, numbers};
use super::spaces::{fresh, stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Register, Stamp};
use crate::tag::Nonces;

/// Returns what a register would hold if it was made now: numbers that no other register ever had.
fn fresh_numbers() -> [u8; 16] {
    let mut numbers = [0; 16];
    numbers[..8].copy_from_slice(&fresh());
    numbers[8..].copy_from_slice(&fresh());
    numbers
}

/// Reads what a script says of captured registers: the register of the namespace, and their numbers, same order.
fn captured(
    place: &Place<'_>,
    names: &[Register],
    life: &Value,
    values: Value,
) -> Result<Vec<Nonces>> {
    if let Some(life) = stamp(life) {
        place.register.learn(life);
    }
    let held = array(values).into_iter().map(|value| match value {
        Value::BulkString(bytes) => numbers(&bytes),
        _ => None,
    });
    let held: Option<Vec<_>> = held.collect();
    held.filter(|held| held.len() == names.len())
        .ok_or_else(unexpected)
}

fn stamps(names: &[Register], held: &[Nonces]) -> Vec<Stamp> {
    let pairs = names.iter().zip(held);
    pairs.map(|(name, nonces)| nonces.stamp(name)).collect()
}

fn unexpected() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a script of tags answered something else",
    )
}
