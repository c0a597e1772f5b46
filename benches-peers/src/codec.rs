//! What decoding costs per codec: a struct of 12 fields with 3 nested ones, and the same through a cache on the memory store.

use std::hint::black_box;

use larder::{Cache, Codec, MemoryStore};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::measure::{self, Peer, nanos_per_op, rounds};

const OPS: usize = 100_000;
const ROUNDS: usize = 5;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Address {
    street: String,
    city: String,
    zip: String,
    country: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    age: u32,
    active: bool,
    score: f64,
    roles: Vec<String>,
    created_at: i64,
    updated_at: i64,
    home: Address,
    work: Address,
    billing: Address,
}

fn address(street: &str) -> Address {
    Address { street: street.into(), city: "Berlin".into(), zip: "10115".into(), country: "Germany".into() }
}

fn user() -> User {
    User {
        id: 123_456,
        name: "Ann Example".into(),
        email: "ann@example.com".into(),
        age: 41,
        active: true,
        score: 97.25,
        roles: vec!["admin".into(), "editor".into()],
        created_at: 1_700_000_000,
        updated_at: 1_760_000_000,
        home: address("Home Street 1"),
        work: address("Work Street 22"),
        billing: address("Billing Street 333"),
    }
}

pub fn run() {
    let user = user();
    let clone = nanos_per_op(OPS, || (0..OPS).for_each(|_| drop(black_box(user.clone()))));
    println!("  clone of the value: {clone:.0} ns (what a local hit through `get` pays; `get_shared` pays none)");
    let pack = rmp_serde::to_vec_named(&user).expect("it encodes");
    let json = serde_json::to_vec(&user).expect("it encodes");
    let post = postcard::to_stdvec(&user).expect("it encodes");
    println!("  bytes: messagepack {}, json {}, postcard {}", pack.len(), json.len(), post.len());
    let each = |run: &dyn Fn()| nanos_per_op(OPS, || (0..OPS).for_each(|_| run()));
    let mut bare: Vec<Peer<'_>> = vec![
        ("messagepack, named fields", Box::new(|| each(&|| drop(black_box(rmp_serde::from_slice::<User>(&pack)))))),
        ("json", Box::new(|| each(&|| drop(black_box(serde_json::from_slice::<User>(&json)))))),
        ("postcard", Box::new(|| each(&|| drop(black_box(postcard::from_bytes::<User>(&post)))))),
    ];
    measure::print("decode alone", "ns", &rounds(ROUNDS, &mut bare));
    let runtime = Runtime::new().expect("a runtime");
    let through = |codec: Codec| {
        let cache = Cache::builder(MemoryStore::new()).codec(codec).build().expect("the options are valid");
        runtime.block_on(async { cache.set("user", &user).await }).expect("it is written");
        cache
    };
    let caches = [Codec::MessagePack, Codec::Json, Codec::Postcard].map(through);
    let get = |cache: &Cache| {
        nanos_per_op(OPS, || {
            runtime.block_on(async {
                for _ in 0..OPS {
                    black_box(cache.get::<User>("user").await.expect("it is read"));
                }
            });
        })
    };
    let mut peers: Vec<Peer<'_>> = vec![
        ("messagepack, named fields", Box::new(|| get(&caches[0]))),
        ("json", Box::new(|| get(&caches[1]))),
        ("postcard", Box::new(|| get(&caches[2]))),
    ];
    measure::print("get through a cache on the memory store", "ns", &rounds(ROUNDS, &mut peers));
}
