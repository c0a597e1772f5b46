//! Functions that cannot be cached.

use larder::cache;

#[cache(key = "a")]
fn not_async() -> u8 {
    1
}

#[cache(key = "a")]
struct NoFunction;

#[cache(key = "a")]
async fn nothing() {}

#[cache(key = "a")]
async fn unnamed() -> impl Into<u8> {
    1
}

#[cache(key = "a")]
async fn borrowed(name: &str) -> Option<&str> {
    Some(name)
}

#[cache(key = "a")]
async fn borrowed_part(name: Option<&str>) -> u8 {
    1
}

#[cache(key = "a")]
async fn cow(name: std::borrow::Cow<'_, str>) -> u8 {
    1
}

#[cache(key = "a")]
async fn exclusive(names: &mut Vec<String>) -> u8 {
    1
}

#[cache(key = "a")]
async fn referenced(name: &impl ToString) -> u8 {
    1
}

#[cache]
async fn generic<T: ToString>(name: T) -> u8 {
    1
}

#[cache]
async fn also_generic(name: impl ToString) -> u8 {
    1
}

struct Users;

impl Users {
    #[cache(key = "a")]
    async fn changes(&mut self) -> u8 {
        1
    }
}

trait Named {
    #[cache(key = "a")]
    async fn name(&self) -> u8;
}

fn main() {}
