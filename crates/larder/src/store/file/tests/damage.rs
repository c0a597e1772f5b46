//! Files that are cut, altered, or not what they should be.

use std::os::unix::fs::symlink;

use super::*;
use crate::store::file::quarantine::MAX_KEPT;
use crate::store::file::record::Head;

#[test]
fn an_entry_survives_its_handle_and_the_file_is_as_documented() {
    let dir = TempDir::new().unwrap();
    set(&open(&dir), b"k", "v");
    let store = open(&dir);
    assert_eq!(get(&store, b"k").unwrap(), "v");
    let bytes = fs::read(path_of(&store, b"k")).unwrap();
    let head = Head::parse(&bytes, bytes.len() as u64).unwrap();
    assert_eq!((head.key, head.expires_at_ms), (&b"k"[..], None));
}

#[test]
fn a_file_cut_at_any_byte_is_a_miss_and_moved_aside() {
    damage_each_byte(|whole, at| whole[..at].to_vec());
}

#[test]
fn a_file_altered_at_any_byte_is_a_miss_and_moved_aside() {
    damage_each_byte(|whole, at| {
        let mut altered = whole.to_vec();
        altered[at] ^= 1 << (at % 8);
        altered
    });
}

#[test]
fn a_file_with_bytes_after_its_end_is_a_miss() {
    damage_each_byte(|whole, _| [whole, b"x"].concat());
}

fn damage_each_byte(damage: impl Fn(&[u8], usize) -> Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    set(&store, b"key", "value");
    let path = path_of(&store, b"key");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        fs::write(&path, damage(&whole, at)).unwrap();
        assert_eq!(get(&store, b"key"), None, "byte {at}");
        assert!(!path.exists(), "byte {at}");
        fs::write(&path, &whole).unwrap();
        assert_eq!(get(&store, b"key").unwrap(), "value");
    }
    assert_eq!(stats(&store).quarantined, whole.len() as u64);
    let kept = fs::read_dir(store.disk.layout.quarantine()).unwrap();
    assert_eq!(kept.count(), whole.len().min(MAX_KEPT));
}

#[test]
fn a_damaged_entry_counts_as_absent_for_writers() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for change in [Change::Delete, Change::Touch] {
        set(&store, b"k", "v");
        fs::write(path_of(&store, b"k"), b"junk").unwrap();
        let mut attempt = Write::delete(b"k");
        attempt.change = change;
        assert!(!write(&store, attempt));
    }
    set(&store, b"k", "v");
    fs::write(path_of(&store, b"k"), b"junk").unwrap();
    let add = Write::put(b"k", sealed("new"), Expiry::Never).when(Condition::IfAbsent);
    assert!(write(&store, add));
    assert_eq!(get(&store, b"k").unwrap(), "new");
    assert_eq!(stats(&store).quarantined, 3);
}

#[test]
fn what_is_no_file_in_the_place_of_an_entry_is_a_miss() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    set(&store, b"other", "secret");
    let path = path_of(&store, b"k");
    fs::create_dir_all(&path).unwrap();
    assert_eq!(get(&store, b"k"), None);
    symlink(path_of(&store, b"other"), &path).unwrap();
    assert_eq!(get(&store, b"k"), None);
    assert_eq!(stats(&store).quarantined, 2);
    assert_eq!(get(&store, b"other").unwrap(), "secret");
}

#[test]
fn the_file_of_another_key_is_a_miss() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    set(&store, b"a", "of a");
    set(&store, b"b", "of b");
    fs::copy(path_of(&store, b"a"), path_of(&store, b"b")).unwrap();
    assert_eq!(get(&store, b"b"), None);
    let listed = block_on(store.count(&space(), &Glob::all())).unwrap();
    assert_eq!((listed, stats(&store).quarantined), (1, 0));
}
