//! Tags on servers: what calls cost, what invalidation reaches, and what is left when registers or servers are lost.

mod invalidation;
mod loads;
mod losses;
mod names;
mod settling;
mod trips;
mod upkeep;

use larder::store::{
    Condition, Expiry, Invalidated, Invalidation, LoadBegun, LoadRequest, Register, Stamp, Write,
};
use larder::testing::{body, sealed, stamped};
use larder::{Namespace, RedisStore, Result, Store as _};

const LEASE_MS: u64 = 60_000;

/// A store and a namespace.
#[derive(Debug, Clone)]
struct Tagged {
    store: RedisStore,
    namespace: Namespace,
}

impl Tagged {
    fn new(store: RedisStore) -> Self {
        Self {
            store,
            namespace: Namespace::new("net", "{tags}", 1),
        }
    }

    async fn put(&self, key: &str, text: &str, registers: &[Register]) -> Result<()> {
        let seal = |stamps| Ok(stamped(&sealed(text.as_bytes()), stamps));
        let (key, expiry) = (key.as_bytes(), Expiry::After(3_600_000));
        self.store
            .put_stamped(
                &self.namespace,
                key,
                &larder::store::StampedPut {
                    registers,
                    expiry,
                    seal: &seal,
                },
            )
            .await
    }

    async fn set(&self, key: &str, text: &str) -> Result<bool> {
        let value = sealed(text.as_bytes());
        self.write(Write::put(key.as_bytes(), value, Expiry::Never))
            .await
    }

    async fn write(&self, write: Write<'_>) -> Result<bool> {
        let applied = self.store.write_many(&self.namespace, &[write]).await?;
        Ok(applied == [true])
    }

    async fn get(&self, key: &str) -> Result<Option<String>> {
        Ok(self.get_all(&[key.to_owned()]).await?.pop().flatten())
    }

    async fn get_all(&self, keys: &[String]) -> Result<Vec<Option<String>>> {
        let keys: Vec<_> = keys.iter().map(String::as_bytes).collect();
        let entries = self.store.get_many(&self.namespace, &keys).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let entries = entries.into_iter();
        Ok(entries
            .map(|entry| entry.map(|entry| text(&body(&entry.value).expect("an intact entry"))))
            .collect())
    }

    async fn invalidate(&self, registers: &[Register]) -> Result<Invalidated> {
        let how = Invalidation::Hard;
        self.store.invalidate(&self.namespace, registers, how).await
    }

    async fn begin(&self, key: &str, registers: &[Register], token: u64) -> Result<LoadBegun> {
        let load = LoadRequest {
            registers,
            token,
            lease_ms: LEASE_MS,
        };
        self.store
            .begin_load(&self.namespace, key.as_bytes(), &load)
            .await
    }

    /// Stores what was loaded under these stamps, if the load was not overtaken.
    async fn commit(&self, key: &str, text: &str, token: u64, stamps: &[Stamp]) -> Result<bool> {
        let value = stamped(&sealed(text.as_bytes()), stamps.to_vec());
        let put = Write::put(key.as_bytes(), value, Expiry::After(3_600_000));
        self.write(put.when(Condition::IfUnchanged(token))).await
    }
}

fn tag(name: &str) -> Register {
    Register::exact(name).unwrap()
}

fn token() -> u64 {
    fastrand::u64(1..)
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key:{n}")).collect()
}
