//! Whole-process time of `larder cache get` on the embedded store. Needs the release program's path in `LARDER_BIN`.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::{self, Peer, rounds, target};

const RUNS: usize = 40;

fn time(program: &str, dir: &std::path::Path, arguments: &[&str]) -> f64 {
    let start = Instant::now();
    for _ in 0..RUNS {
        let status = Command::new(program).args(arguments).env("LARDER_DIR", dir).stdout(Stdio::null()).status();
        assert!(status.expect("the program starts").success(), "the program fails");
    }
    start.elapsed().as_secs_f64() * 1e3 / RUNS as f64
}

pub fn run() {
    let Ok(program) = std::env::var("LARDER_BIN") else {
        println!("  skipped: LARDER_BIN is not set (`cargo xtask bench` sets it)");
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    time(&program, dir.path(), &["cache", "set", "key", "value"]);
    let mut peers: Vec<Peer<'_>> = vec![
        ("/bin/true", Box::new(|| time("/bin/true", dir.path(), &[]))),
        ("larder cache get", Box::new(|| time(&program, dir.path(), &["cache", "get", "key"]))),
        ("larder cache set", Box::new(|| time(&program, dir.path(), &["cache", "set", "key", "value"]))),
    ];
    let rows = rounds(5, &mut peers);
    measure::print("whole process", "ms", &rows);
    target("cache get, ms", rows[1].median(), 15.0, true);
}
