//! Types that lack what the attribute demands of them.

use larder::{Cache, cache};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct NotClone;

#[derive(Debug)]
struct NoError;

struct Nothing;

struct Users {
    cache: Cache,
}

impl Users {
    #[cache(on = self.cache, key = "a")]
    async fn receiver(&self) -> u8 {
        1
    }
}

#[cache(key = "a")]
async fn value() -> NotClone {
    NotClone
}

#[cache(key = "a")]
async fn value_in_a_result() -> Result<NotClone, larder::Error> {
    Ok(NotClone)
}

#[cache(key = "a")]
async fn error() -> Result<u8, NoError> {
    Err(NoError)
}

#[cache(key = "a")]
async fn argument_by_value(#[skip] nothing: Nothing) -> u8 {
    drop(nothing);
    1
}

#[cache(key = "a")]
async fn argument_by_reference(#[skip] nothing: &Nothing) -> Result<u8, larder::Error> {
    let _ = nothing;
    Ok(1)
}

#[cache(key = "a:{nothing}")]
async fn in_a_template(nothing: Nothing) -> Result<u8, larder::Error> {
    drop(nothing);
    Ok(1)
}

#[cache]
async fn in_the_default_key(nothing: Nothing) -> Result<u8, larder::Error> {
    drop(nothing);
    Ok(1)
}

#[cache(on = users, key = "a")]
async fn no_cache(users: u8) -> Result<u8, larder::Error> {
    Ok(users)
}

fn main() {}
