//! Mistakes in the attribute.

use larder::cache;

#[cache(keys = "user")]
async fn unknown() -> u8 {
    1
}

#[cache(key = "user", ttl = 5, key = "users")]
async fn twice() -> u8 {
    1
}

#[cache(key = "user", ttl = "1 hour")]
async fn no_length() -> u8 {
    1
}

#[cache(key = "user", stale = 0)]
async fn zero() -> u8 {
    1
}

#[cache(key = "user", ttl = 1.5)]
async fn fraction() -> u8 {
    1
}

#[cache(key = "user", refresh = 1.5)]
async fn beyond_the_end() -> u8 {
    1
}

#[cache(key = "user", tags = "users")]
async fn no_list() -> u8 {
    1
}

#[cache(key = "user", tag = "user:*")]
async fn pattern() -> u8 {
    1
}

#[cache(key = "user", name = "user")]
async fn both() -> u8 {
    1
}

#[cache("user:{id}")]
async fn no_name(id: u8) -> u8 {
    id
}

fn main() {}
