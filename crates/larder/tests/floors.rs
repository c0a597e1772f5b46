//! Imports go down only: reads the sources and refuses an import from a higher floor, and a store named above its floor.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Floors, lowest first; a module may import from its own floor and from lower ones.
const FLOORS: &[&[&str]] = &[
    &[
        "error",
        "clock",
        "key",
        "lease",
        "tag",
        "glob",
        "ttl",
        "codec",
        "envelope",
        "breaker",
        "redis_conn",
    ],
    &["store"],
    &["lock"],
    &["cache"],
    &["config", "larder", "dashboard", "testing"],
];

/// Words that may not stand in the sources of a module: concrete stores and clients are named by stores and the edge only.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "cache",
        &[
            "rusqlite",
            "Sqlite",
            "store::Memory",
            "store::Null",
            "store::File",
            "redis",
            "Redis",
            "emcached",
            "Fallback",
            "axum",
            "toml::",
        ],
    ),
    (
        "lock",
        &[
            "rusqlite", "Sqlite", "redis", "Redis", "emcached", "Fallback", "axum",
        ],
    ),
    ("lease", &["rusqlite", "redis::", "axum"]),
    (
        "store",
        &["serde_json", "axum", "crate::cache", "crate::config"],
    ),
    ("codec", &["rusqlite", "axum", "redis::"]),
    ("envelope", &["rusqlite", "axum", "redis::"]),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the module of the crate root that a file belongs to.
fn module(root: &Path, path: &Path) -> String {
    let first = path
        .strip_prefix(root)
        .unwrap()
        .components()
        .next()
        .unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// Returns the code of a file: no comments, and nothing from its unit tests on.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = before_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn imported(code: &str) -> impl Iterator<Item = &str> {
    let end = |name: &str| {
        name.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(name.len())
    };
    code.match_indices("crate::").map(move |(at, found)| {
        let name = &code[at + found.len()..];
        &name[..end(name)]
    })
}

#[test]
fn every_import_goes_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for path in sources(&root) {
        let module = module(&root, &path);
        if module == "lib" {
            continue;
        }
        let own = floor(&module).unwrap_or_else(|| panic!("{module} stands on no floor"));
        for name in imported(&code(&path)) {
            let Some(other) = floor(name) else { continue };
            assert!(
                other <= own,
                "{} imports crate::{name} from above",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 100, "the imports were read");
}

#[test]
fn nobody_names_what_a_lower_floor_hides() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&root) {
        let module = module(&root, &path);
        let in_tests = path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        let forbidden = FORBIDDEN.iter().find(|(name, _)| *name == module);
        let Some((_, words)) = forbidden.filter(|_| !in_tests) else {
            continue;
        };
        let code = code(&path);
        for word in *words {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn files_are_of_one_idea() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&root) {
        let lines = code(&path).lines().count();
        assert!(lines <= 600, "{} has {lines} lines", path.display());
    }
}
