//! Methods of a service that is cheap to clone.

use serde::{Deserialize, Serialize};

use super::{DbError, Runs, cache, is_send};
use larder::{Cache, Key};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    id: i64,
    name: String,
}

#[derive(Clone)]
struct Users {
    cache: Cache,
    runs: Runs,
    tenant: &'static str,
}

impl Users {
    fn new() -> Self {
        Self {
            cache: cache(),
            runs: Runs::default(),
            tenant: "acme",
        }
    }

    /// A row.
    #[larder::cache(on = self.cache, key = "user:{id}", ttl = "1h", tags = ["users", "user:{id}"])]
    async fn user(&self, id: i64) -> Result<User, DbError> {
        self.runs.count();
        if id < 0 {
            return Err(DbError::NoRow(id));
        }
        let name = format!("user {id}");
        Ok(User { id, name })
    }

    #[larder::cache(on = self.cache, key = "{self.tenant}:{name}:{}")]
    async fn by_name(&self, name: &str) -> Option<User> {
        self.runs.count();
        let name = (!name.is_empty()).then(|| name.to_owned())?;
        Some(User { id: 1, name })
    }

    #[larder::cache(on = self.cache)]
    async fn both(&self, id: i64, names: &[String]) -> Result<Vec<String>, DbError> {
        let user = self.user(id).await?;
        let mut all = names.to_vec();
        all.push(user.name);
        Ok(all)
    }

    #[larder::cache(on = cache, key = "made:{id}", associated)]
    async fn made(#[skip] cache: &Cache, id: i64) -> Result<i64, DbError> {
        assert!(!cache.has("other").await?);
        Ok(id)
    }

    #[larder::cache(on = self.cache, key = "owner:{id}")]
    async fn by_value(self, mut id: i64) -> Result<i64, DbError> {
        id += 1;
        self.runs.count();
        Ok(id)
    }

    #[larder::cache(on = self.cache, key = "arc:{id}")]
    async fn by_arc(self: std::sync::Arc<Self>, id: i64) -> i64 {
        self.runs.count();
        id
    }
}

#[tokio::test]
async fn the_body_runs_once_and_its_value_has_ttl_and_tags() {
    let users = Users::new();
    let first = is_send(users.user(1)).await.unwrap();
    assert_eq!(users.user(1).await.unwrap(), first);
    assert_eq!((users.runs.so_far(), first.name.as_str()), (1, "user 1"));
    assert_eq!(users.cache.get("user:1").await.unwrap(), Some(first));
    let tagged = users.cache.tag_keys("user:1", 10).await.unwrap();
    assert_eq!(tagged, [Key::from("user:1")]);
    let larder::TimeLeft::Remaining(left) = users.cache.ttl("user:1").await.unwrap() else {
        panic!("the value has no end");
    };
    assert!(left.as_secs() > 3000 && left.as_secs() <= 3600);
    users.user(2).await.unwrap();
    users.cache.invalidate_tags(["user:1"]).await.unwrap();
    users.user(1).await.unwrap();
    users.user(2).await.unwrap();
    assert_eq!(users.runs.so_far(), 3);
}

#[tokio::test]
async fn companions_have_the_arguments_of_the_method() {
    let users = Users::new();
    assert_eq!(users.user_key(7), Key::from("user:7"));
    assert!(!users.user_invalidate(7).await.unwrap());
    users.user(7).await.unwrap();
    assert!(users.user_invalidate(7).await.unwrap());
    users.user(7).await.unwrap();
    users.user_uncached(7).await.unwrap();
    assert_eq!(users.runs.so_far(), 3);
}

#[tokio::test]
async fn the_functions_own_error_comes_back_and_is_not_kept() {
    let users = Users::new();
    for runs in 1..=2 {
        let error = users.user(-5).await.unwrap_err();
        assert!(matches!(error, DbError::NoRow(-5)));
        assert_eq!(users.runs.so_far(), runs);
    }
}

#[tokio::test]
async fn borrowed_text_becomes_owned_and_none_is_kept() {
    let users = Users::new();
    for name in [
        String::from("Ann"),
        String::from("Ann"),
        String::new(),
        String::new(),
    ] {
        let found = is_send(users.by_name(&name)).await;
        assert_eq!(found.is_some(), !name.is_empty());
    }
    assert_eq!(users.runs.so_far(), 2);
    assert_eq!(users.by_name_key("Bob"), Key::from("acme:Bob:Bob"));
}

#[tokio::test]
async fn one_cached_method_may_call_another() {
    let users = Users::new();
    let names = ["Ann".to_owned(), "Bob".to_owned()];
    let all = users.both(3, &names).await.unwrap();
    assert_eq!(all, ["Ann", "Bob", "user 3"]);
    assert!(users.cache.has("user:3").await.unwrap());
    let key = r#"macros::methods::both(3,["Ann","Bob"])"#;
    assert_eq!(users.both_key(3, &names), Key::from(key));
    assert!(users.cache.has(key).await.unwrap());
}

#[tokio::test]
async fn a_function_of_an_impl_may_have_any_receiver_or_none() {
    let users = Users::new();
    assert_eq!(Users::made(&users.cache, 4).await.unwrap(), 4);
    assert!(Users::made_invalidate(&users.cache, 4).await.unwrap());
    for _ in 0..2 {
        assert_eq!(users.clone().by_value(1).await.unwrap(), 2);
        assert_eq!(std::sync::Arc::new(users.clone()).by_arc(5).await, 5);
    }
    assert_eq!(users.runs.so_far(), 2);
}
