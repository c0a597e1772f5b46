//! Made-up load: a shop whose few popular products are read most, from a source that takes some milliseconds.
//!
//! It goes through the calls that an application makes, on the default cache, so that the figures start cold and
//! warm up. Every key begins with `demo:` and lives a minute at most.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use larder::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

const PRODUCTS: usize = 2000;
const READERS: usize = 4;
/// Each reader reads this often: 320 reads a second together.
const READ_EVERY: Duration = Duration::from_micros(12_500);
/// Sales, price changes and the like.
const SELL_EVERY: Duration = Duration::from_millis(200);
/// The longest that anything made up lives.
const TTL: Duration = Duration::from_secs(60);
/// The part of the TTL that chance takes away, so that not everything expires at once.
const JITTER: f64 = 0.5;

/// The running tasks.
#[derive(Debug)]
pub(super) struct Demo {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Product {
    id: usize,
    name: String,
    price_cents: u64,
    description: String,
}

impl Demo {
    /// Starts the load on the running runtime.
    pub(super) fn start(cache: &Cache) -> Self {
        let (stop, stopped) = watch::channel(false);
        let popularity = Arc::new(Popularity::new(PRODUCTS));
        let mut tasks = JoinSet::new();
        for _ in 0..READERS {
            let (cache, popularity) = (cache.clone(), Arc::clone(&popularity));
            tasks.spawn(until(stopped.clone(), async move {
                read(&cache, &popularity).await;
            }));
        }
        let cache = cache.clone();
        tasks.spawn(until(stopped, async move {
            sell(&cache, &popularity).await;
        }));
        Self { stop, tasks }
    }

    /// Ends the load and waits for its tasks.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        // An error means that the sender is gone, which also ends the demo.
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = work => {}
    }
}

/// Reads products, popular ones more often.
async fn read(cache: &Cache, popularity: &Popularity) {
    let mut ticks = interval(READ_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let id = popularity.pick();
        let product = cache
            .remember(product_key(id), move || source(id))
            .ttl(TTL)
            .jitter(JITTER)
            .await;
        report(product);
    }
}

/// Sells products: counts, ranks, changes prices, takes products out.
async fn sell(cache: &Cache, popularity: &Popularity) {
    let mut ticks = interval(SELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sold = vec![0_u32; PRODUCTS];
    loop {
        ticks.tick().await;
        let id = popularity.pick();
        sold[id] += 1;
        report(cache.increment("demo:sales", 1).ttl(TTL).await);
        let best = cache.sorted_set("demo:best-sellers");
        let member = [(f64::from(sold[id]), format!("product-{id}"))];
        report(best.add(member).ttl(TTL).await);
        match fastrand::u8(..10) {
            0 => report(cache.set(product_key(id), &product(id)).ttl(TTL).await),
            1 => report(cache.delete(product_key(id)).await),
            _ => {}
        }
    }
}

/// A failing store must not end the demo: it recovers, and then the figures show it.
fn report<T, E: std::fmt::Display>(result: Result<T, E>) {
    if let Err(error) = result {
        tracing::debug!(%error, "the demo met an error");
    }
}

/// Stands for a database.
async fn source(id: usize) -> Result<Product, Infallible> {
    sleep(Duration::from_micros(fastrand::u64(2000..5000))).await;
    Ok(product(id))
}

fn product(id: usize) -> Product {
    Product {
        id,
        name: format!("Product {id}"),
        price_cents: fastrand::u64(100..100_000),
        description: "Made up to show the cache at work. ".repeat(1 + id % 8),
    }
}

fn product_key(id: usize) -> String {
    format!("demo:product:{id}")
}

/// Zipf's law: the n-th product is asked for 1/n as often as the first.
#[derive(Debug)]
struct Popularity {
    /// The sum of the weights up to each product.
    sums: Vec<f64>,
}

impl Popularity {
    fn new(products: usize) -> Self {
        let mut sum = 0.0;
        let weight = |rank: usize| {
            sum += 1.0 / (rank + 1) as f64;
            sum
        };
        Self {
            sums: (0..products).map(weight).collect(),
        }
    }

    fn pick(&self) -> usize {
        let total = self.sums.last().copied().unwrap_or_default();
        let point = fastrand::f64() * total;
        self.sums
            .partition_point(|sum| *sum <= point)
            .min(self.sums.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_product_is_twice_as_popular_as_the_second() {
        let popularity = Popularity::new(10);
        let mut picked = [0_u32; 10];
        for _ in 0..100_000 {
            picked[popularity.pick()] += 1;
        }
        let ratio = f64::from(picked[0]) / f64::from(picked[1]);
        assert!((1.8..2.2).contains(&ratio), "{ratio}");
        assert!(picked[9] > 0);
    }
}
