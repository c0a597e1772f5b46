//! Which directories are refused, and what keys and other users cannot do.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

use super::*;
use crate::store::file::name::is_level;

fn kind_of_open(dir: &Path) -> Option<ErrorKind> {
    File::open(dir).err().map(|error| error.kind())
}

#[test]
fn a_directory_with_foreign_files_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years").unwrap();
    assert_eq!(kind_of_open(dir.path()), Some(ErrorKind::InvalidConfig));
    assert_eq!(tree(dir.path()).len(), 1);
}

#[test]
fn a_directory_of_another_depth_is_refused() {
    let dir = TempDir::new().unwrap();
    let open = |depth| File::builder(dir.path()).depth(depth).build();
    set(&open(1).unwrap(), b"k", "v");
    let error = open(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.message().contains("depth(1)"));
    assert_eq!(open(5).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(get(&open(1).unwrap(), b"k").unwrap(), "v");
}

#[test]
fn a_directory_that_everybody_may_write_is_refused_unless_it_is_sticky() {
    let dir = TempDir::new().unwrap();
    for (mode, expected) in [
        (0o777, Some(ErrorKind::InvalidConfig)),
        (0o1777, None),
        (0o755, None),
    ] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(kind_of_open(dir.path()), expected, "{mode:o}");
    }
}

#[test]
fn our_own_link_to_a_directory_is_followed_and_a_dangling_one_is_not() {
    let dir = TempDir::new().unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("cache"), &link).unwrap();
    assert!(kind_of_open(&link).is_some());
    set(&open(&dir), b"k", "v");
    assert_eq!(get(&File::open(&link).unwrap(), b"k").unwrap(), "v");
}

/// Needs to be root to give files away; as any other user it tries root's own.
#[test]
fn what_belongs_to_another_user_is_refused() {
    let dir = TempDir::new().unwrap();
    let theirs = dir.path().join("theirs");
    let link = dir.path().join("link");
    fs::create_dir(&theirs).unwrap();
    symlink(&theirs, &link).unwrap();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        assert_eq!(
            kind_of_open(Path::new("/usr")),
            Some(ErrorKind::InvalidConfig)
        );
        return;
    }
    lchown(&link, Some(65534), None).unwrap();
    assert_eq!(kind_of_open(&link), Some(ErrorKind::InvalidConfig));
    lchown(&theirs, Some(65534), None).unwrap();
    assert_eq!(kind_of_open(&theirs), Some(ErrorKind::InvalidConfig));

    let store = open(&dir);
    set(&store, b"k", "v");
    lchown(path_of(&store, b"k"), Some(65534), None).unwrap();
    assert_eq!(get(&store, b"k"), None, "another user's file is no entry");
    fs::remove_dir(store.disk.layout.trash()).unwrap();
    fs::create_dir(store.disk.layout.trash()).unwrap();
    lchown(store.disk.layout.trash(), Some(65534), None).unwrap();
    assert_eq!(
        block_on(store.ping()).unwrap_err().kind(),
        ErrorKind::InvalidConfig
    );
}

#[test]
fn directories_and_files_are_for_their_user_only() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    set(&store, b"k", "v");
    set(&store, b"damaged", "v");
    fs::write(path_of(&store, b"damaged"), "junk").unwrap();
    assert_eq!(get(&store, b"damaged"), None);
    let paths = tree(dir.path());
    assert!(paths.len() > 10);
    for path in paths {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.mode() & 0o7777, expected, "{}", path.display());
    }
}

#[test]
fn hostile_keys_stay_inside_and_apart() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let long = "k".repeat(1024);
    let keys = [
        "../x",
        "/etc/passwd",
        "\0",
        "a\0b",
        "CON",
        "con",
        "..",
        ".",
        "*",
        "%00",
        "a/b",
        "tmp-0000000000000000",
        &long,
    ];
    for key in keys {
        set(&store, key.as_bytes(), key);
    }
    for key in keys {
        assert_eq!(get(&store, key.as_bytes()).unwrap(), key);
    }
    for path in tree(store.disk.layout.root()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let ours = [
            "larder-file.v1",
            "journals",
            "leases",
            "locks",
            "owners",
            "quarantine",
            "trash",
        ]
        .contains(&name)
            || name.starts_with("ns-")
            || is_level(name)
            || Digest::parse(name.as_bytes()).is_some();
        assert!(ours, "{name}");
    }
    assert_eq!(
        tree(dir.path())
            .iter()
            .filter(|path| path.parent() == Some(dir.path()))
            .count(),
        1
    );
    let page = block_on(store.scan(&space(), &Glob::all(), None, 100)).unwrap();
    let listed: BTreeSet<_> = page
        .keys
        .iter()
        .map(|scanned| scanned.key.as_bytes())
        .collect();
    assert_eq!(listed, keys.iter().map(|key| key.as_bytes()).collect());
    for key in [&b""[..], &[b'k'; 1025]] {
        let put = Write::put(key, sealed("v"), Expiry::Never);
        let error = block_on(store.write_many(&space(), &[put])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert_eq!(get(&store, key), None);
    }
}
