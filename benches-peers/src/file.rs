//! The file store through `Cache`, against plain files in hashed directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use larder::Cache;
use larder::store::File;
use tokio::runtime::Runtime;

use crate::measure::{self, Peer, nanos_per_op, rounds, target};
use crate::workload::{keys, noise};

const COUNT: usize = 5_000;
const ROUNDS: usize = 7;
const HOUR: Duration = Duration::from_secs(3600);

/// One plain file per key in 256 directories, as a store without Larder would do it.
struct Plain(PathBuf);

impl Plain {
    fn new(root: &Path) -> Self {
        for index in 0..256 {
            fs::create_dir_all(root.join(format!("{index:02x}"))).expect("the directory is created");
        }
        Self(root.to_owned())
    }

    fn path(&self, key: usize) -> PathBuf {
        self.0.join(format!("{:02x}/{key:032x}", key % 256))
    }

    fn set_new(&self, key: usize, value: &[u8]) {
        let path = self.path(key);
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, value).expect("it is written");
        fs::rename(&temporary, &path).expect("it is renamed");
    }

    fn get(&self, key: usize) -> Vec<u8> {
        fs::read(self.path(key)).expect("it is there")
    }

    fn empty(&self) {
        (0..COUNT).for_each(|key| drop(fs::remove_file(self.path(key))));
    }
}

pub fn run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = Runtime::new().expect("a runtime");
    let plain = Plain::new(&dir.path().join("plain"));
    let store = File::builder(dir.path().join("store")).depth(1).build().expect("the store opens");
    let cache = Cache::builder(store).build().expect("the options are valid");
    let (keys, value) = (keys(COUNT), noise());
    let set_all = || {
        runtime.block_on(async {
            for key in &keys {
                cache.set(key, &value).ttl(HOUR).await.expect("it is written");
            }
        });
    };
    let delete_all = || runtime.block_on(async { cache.delete_many(&keys).await.expect("they are deleted") });
    set_all();
    let mut sets: Vec<Peer<'_>> = vec![
        ("plain write + rename to a new name (limit)", Box::new(|| {
            plain.empty();
            nanos_per_op(COUNT, || (0..COUNT).for_each(|key| plain.set_new(key, &value))) / 1e3
        })),
        ("larder set, new key", Box::new(|| {
            delete_all();
            nanos_per_op(COUNT, set_all) / 1e3
        })),
        ("larder set, present key", Box::new(|| nanos_per_op(COUNT, set_all) / 1e3)),
    ];
    let rows = rounds(ROUNDS, &mut sets);
    measure::print("set, 1000 B", "us", &rows);
    target("set new, ratio", rows[1].median() / rows[0].median(), 1.5, true);
    target("set present, ratio", rows[2].median() / rows[0].median(), 1.5, true);
    drop(sets);
    let mut gets: Vec<Peer<'_>> = vec![
        ("plain open + read + close (limit)", Box::new(|| {
            nanos_per_op(COUNT, || (0..COUNT).for_each(|key| drop(plain.get(key)))) / 1e3
        })),
        ("larder get::<Bytes>", Box::new(|| {
            nanos_per_op(COUNT, || {
                runtime.block_on(async {
                    for key in &keys {
                        cache.get::<Bytes>(key).await.expect("it is read").expect("it is there");
                    }
                });
            }) / 1e3
        })),
    ];
    let rows = rounds(ROUNDS, &mut gets);
    measure::print("get hit, 1000 B", "us", &rows);
    target("get, ratio", rows[1].median() / rows[0].median(), 1.5, true);
}
