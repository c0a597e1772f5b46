//! An alias that hides a `Result`.

use larder::cache;

type Answer = Result<u8, String>;

#[cache(key = "a")]
async fn alias() -> Answer {
    Ok(1)
}

fn main() {}
