//! A service whose queries are cached by an attribute: `cargo run -p example-macro`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder::{Cache, MemoryStore};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    id: u32,
    name: String,
    active: bool,
}

/// A slow database.
#[derive(Debug, Default)]
struct Database {
    users: Mutex<BTreeMap<u32, User>>,
}

impl Database {
    async fn query<T>(&self, what: &str, read: impl FnOnce(&mut BTreeMap<u32, User>) -> T) -> T {
        tokio::time::sleep(Duration::from_millis(20)).await;
        println!("  the database is asked: {what}");
        read(&mut self.users.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Cheap to clone, as loads need it.
#[derive(Debug, Clone)]
struct Users {
    database: Arc<Database>,
    cache: Cache,
}

impl Users {
    /// A missing user is a value, too: it is not asked for again.
    #[larder::cache(on = self.cache, key = "user:{id}", ttl = "1h", tags = ["user:{id}"])]
    async fn user(&self, id: u32) -> larder::Result<Option<User>> {
        let user = self
            .database
            .query("one user", |users| users.get(&id).cloned());
        Ok(user.await)
    }

    /// Without a key: this function and its arguments. A list that is empty is not kept.
    #[larder::cache(on = self.cache, ttl = 60, tag = "users", if = |names| !names.is_empty())]
    async fn names(&self, beginning: &str, limit: usize) -> Vec<String> {
        let select = |users: &mut BTreeMap<u32, User>| {
            let active = users.values().filter(|user| user.active);
            let names = active.map(|user| user.name.clone());
            names
                .filter(|name| name.starts_with(beginning))
                .take(limit)
                .collect()
        };
        self.database.query("names", select).await
    }

    /// First the change, then what depended on it goes.
    async fn save(&self, user: User) -> larder::Result<()> {
        let tags = [format!("user:{}", user.id), "users".to_owned()];
        let insert = |users: &mut BTreeMap<u32, User>| users.insert(user.id, user);
        self.database.query("a change", insert).await;
        self.cache.invalidate_tags(tags).await.map(drop)
    }
}

#[tokio::main]
async fn main() -> larder::Result<()> {
    let users = Users {
        database: Arc::default(),
        cache: Cache::builder(MemoryStore::new()).build()?,
    };
    let ann = User {
        id: 1,
        name: "Ann".into(),
        active: true,
    };
    users.save(ann.clone()).await?;
    for _ in 0..2 {
        println!("user 1: {:?}", users.user(1).await?);
        println!("names: {:?}", users.names("A", 10).await);
    }
    users
        .save(User {
            name: "Anna".into(),
            ..ann
        })
        .await?;
    println!("after the change: {:?}", users.names("A", 10).await);
    println!("its key: {}", users.names_key("A", 10));
    users.user_invalidate(1).await?;
    println!("without the cache: {:?}", users.user_uncached(1).await?);
    Ok(())
}
