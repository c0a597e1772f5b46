//! Mistakes in a template.

use larder::cache;

#[cache(key = "user:{idd}")]
async fn misspelt(id: u8, name: &str) -> u8 {
    id
}

#[cache(key = "user:{id:?}")]
async fn format(id: u8) -> u8 {
    id
}

#[cache(key = "user:{id + 1}")]
async fn computed(id: u8) -> u8 {
    id
}

#[cache(key = "user:{}:{}")]
async fn too_many(id: u8, #[skip] name: String) -> u8 {
    id
}

#[cache(key = "user:{id")]
async fn open(id: u8) -> u8 {
    id
}

#[cache(key = "user:id}")]
async fn closed(id: u8) -> u8 {
    id
}

#[cache(key = "")]
async fn empty() -> u8 {
    1
}

#[cache(key = "user:{self.id}")]
async fn no_receiver() -> u8 {
    1
}

#[cache(key = "user", tag = "user:{name}")]
async fn in_a_tag(id: u8) -> u8 {
    id
}

fn main() {}
