//! Groups: named sets of tags that are invalidated together.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::{Cache, InvalidateTags};
use crate::error::{Error, Result};
use crate::tag::Selector;

/// The groups of a cache by name.
#[derive(Debug, Default)]
pub(super) struct Groups(RwLock<BTreeMap<String, Vec<String>>>);

impl Groups {
    /// Creates groups.
    ///
    /// # Errors
    /// `InvalidArgument`: a group has no name or no tags, or one of these is none.
    pub(super) fn new(groups: BTreeMap<String, Vec<String>>) -> Result<Self> {
        for (name, tags) in &groups {
            check(name, tags)?;
        }
        Ok(Self(RwLock::new(groups)))
    }

    fn add(&self, name: String, tags: Vec<String>) {
        let mut groups = self.0.write().unwrap_or_else(PoisonError::into_inner);
        groups.insert(name, tags);
    }

    fn all(&self) -> BTreeMap<String, Vec<String>> {
        let groups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        groups.clone()
    }

    fn tags(&self, name: &str) -> Result<Vec<String>> {
        let groups = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tags) = groups.get(name) {
            return Ok(tags.clone());
        }
        let known: Vec<_> = groups.keys().map(String::as_str).collect();
        let known = match known.as_slice() {
            [] => "there is none at all".to_owned(),
            known => format!("there are {}", known.join(", ")),
        };
        let message = format!("there is no group of tags named {name:?}; {known}");
        Err(Error::argument(message))
    }
}

fn check(name: &str, tags: &[String]) -> Result<()> {
    if name.is_empty() {
        return Err(Error::argument("a group of tags needs a name"));
    }
    if tags.is_empty() {
        let message = format!("the group {name:?} has no tags");
        return Err(Error::argument(message));
    }
    tags.iter()
        .try_for_each(|tag| Selector::parse(tag).map(drop))
}

impl Cache {
    /// Invalidates all tags of a group, as [`Cache::invalidate_tags`] does. Await the builder.
    ///
    /// Groups come from `[tags.groups]` of the configuration and from [`Cache::add_group`].
    ///
    /// # Errors
    /// `InvalidArgument`: there is no such group; the message names those there are. As [`Cache::invalidate_tags`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::builder(larder::MemoryStore::new()).build()?;
    /// cache.add_group("products", ["product_data", "product_images"])?;
    /// cache.set("product:1", "Jam").tags(["product_data"]).await?;
    /// cache.invalidate_group("products").await?;
    /// assert!(!cache.has("product:1").await?);
    /// # Ok(()) }
    /// ```
    pub fn invalidate_group(&self, name: &str) -> InvalidateTags<'_> {
        InvalidateTags::of(self, self.group_tags(name))
    }

    /// Names a set of tags and subtrees, for this handle and its clones; a group of this name is replaced.
    ///
    /// # Errors
    /// `InvalidArgument`: no name, no tags, or one that is none.
    pub fn add_group(
        &self,
        name: impl Into<String>,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<()> {
        let name = name.into();
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        check(&name, &tags)?;
        self.inner.groups.add(name, tags);
        Ok(())
    }

    /// Returns all groups of tags by name.
    #[must_use]
    pub fn tag_groups(&self) -> BTreeMap<String, Vec<String>> {
        self.inner.groups.all()
    }

    /// Returns the tags of a group.
    ///
    /// # Errors
    /// `InvalidArgument`: there is no such group; the message names those there are.
    pub fn group_tags(&self, name: &str) -> Result<Vec<String>> {
        self.inner.groups.tags(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::Memory;

    #[tokio::test]
    async fn a_group_is_all_its_tags_and_subtrees() -> Result<()> {
        let groups = BTreeMap::from([("users".to_owned(), vec!["user_data".to_owned()])]);
        let cache = Cache::builder(Memory::new()).tag_groups(groups).build()?;
        cache.add_group("all", ["user_data", "session:*"])?;
        cache.set("a", "1").tags(["user_data"]).await?;
        cache.set("b", "2").tags(["session:9"]).await?;
        cache.set("c", "3").tags(["other"]).await?;
        let outcome = cache.clone().invalidate_group("all").with_keys(9).await?;
        let keys = outcome.tags.iter().map(|tag| tag.keys.clone().unwrap());
        assert_eq!(
            keys.collect::<Vec<_>>(),
            [vec!["a".into()], vec!["b".into()]]
        );
        assert_eq!(cache.count("*").await?, 1);
        let names: Vec<_> = cache.tag_groups().into_keys().collect();
        assert_eq!(names, ["all", "users"]);
        cache.add_group("all", ["other"])?;
        cache.invalidate_group("all").await?;
        assert_eq!(cache.count("*").await?, 0);
        Ok(())
    }

    #[tokio::test]
    async fn an_unknown_group_is_refused_with_the_names_of_the_others() -> Result<()> {
        let cache = Cache::builder(Memory::new()).build()?;
        let error = cache.invalidate_group("x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("none at all"), "{error}");
        cache.add_group("users", ["user_data"])?;
        cache.add_group("api", ["api_routes"])?;
        let error = cache.invalidate_group("x").await.unwrap_err();
        assert!(error.message().contains("api, users"), "{error}");
        for tags in [&[][..], &["a["], &[""]] {
            let refused = cache.add_group("bad", tags.iter().copied()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        }
        assert!(cache.add_group("", ["a"]).is_err());
        let bad = BTreeMap::from([("bad".to_owned(), Vec::new())]);
        assert!(
            Cache::builder(Memory::new())
                .tag_groups(bad)
                .build()
                .is_err()
        );
        Ok(())
    }
}
