//! Keys, values and access patterns.

use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn key(index: usize) -> String {
    format!("user:{index:08}:prof")
}

pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(key).collect()
}

pub fn value() -> Bytes {
    Bytes::from(vec![b'v'; 100])
}

/// Indices below `count`, popular ones first, by a zipf distribution.
pub fn zipf(count: usize, exponent: f64, accesses: usize, seed: u64) -> Vec<usize> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let distribution = Zipf::new(count as f64, exponent).expect("the parameters are valid");
    (0..accesses).map(|_| distribution.sample(&mut rng) as usize - 1).collect()
}

/// A thousand bytes that do not compress, and that are below the size where compression is tried.
pub fn noise() -> Bytes {
    noise_of(1000)
}

/// That many bytes that do not compress.
pub fn noise_of(bytes: usize) -> Bytes {
    let mut rng = SmallRng::seed_from_u64(42);
    (0..bytes).map(|_| rand::Rng::random::<u8>(&mut rng)).collect::<Vec<u8>>().into()
}
