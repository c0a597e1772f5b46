//! The program as users call it, with a `cargo` that prints what it is told to.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// A workspace whose `cargo` is a shell script.
struct Stage {
    dir: TempDir,
}

impl Stage {
    /// Makes a workspace in which `cargo` runs `script` with its arguments.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let script = format!("#!/bin/sh\necho \"$*\" >> \"${{0%/*}}/calls\"\n{script}\n");
        // Written by another process: while this one has the file open for writing, a test on another thread may
        // fork, and the file could not be run until that child is done.
        let mut write = Command::new("sh");
        write.args([
            "-c",
            "printf %s \"$1\" > cargo && chmod +x cargo",
            "sh",
            &script,
        ]);
        let written = write.current_dir(dir.path()).status().expect("a shell");
        assert!(written.success());
        Self { dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(XTASK);
        command
            .args(args)
            .env("CARGO", self.path().join("cargo"))
            .env("CARGO_MANIFEST_DIR", self.path().join("xtask"))
            // What happens around the servers is the matter here; starting them each time would take minutes.
            .env("LARDER_TEST_SERVERS", "none");
        command
            .env_remove("LARDER_TEST_STRICT")
            .env_remove("CARGO_TARGET_DIR");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path().join("calls")).unwrap_or_default()
    }
}

/// A `cargo` with nextest: 5 tests passed, then what the doctests print.
fn with_nextest(summary: &str, code: i32, doctests: &str) -> String {
    format!(
        "case \"$1 $2\" in
        'nextest --version') echo cargo-nextest 0.9.143 ;;
        'nextest run') echo '     Summary [   0.1s] {summary}' >&2; exit {code} ;;
        'nextest list') echo 'larder slow_one'; echo 'larder::soak long' ;;
        'test --doc') {doctests} ;;
        esac"
    )
}

const DOCTESTS: &str =
    "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn last_line(output: &Output) -> String {
    text(output).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn tests_and_doctests_add_up_in_the_last_line() {
    let stage = Stage::new(&with_nextest(
        "5 tests run: 5 passed, 0 skipped",
        0,
        DOCTESTS,
    ));
    let output = stage.run(&["test"]);
    assert_eq!(last_line(&output), "7 passed, 0 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stage
            .calls()
            .contains("nextest run --workspace --all-features"),
        "{}",
        stage.calls()
    );
    assert!(
        stage
            .calls()
            .contains("test --doc --workspace --all-features"),
        "{}",
        stage.calls()
    );
}

#[test]
fn failures_and_broken_stages_fail() {
    let stage = Stage::new(&with_nextest(
        "5 tests run: 4 passed, 1 failed, 0 skipped",
        100,
        "exit 101",
    ));
    let output = stage.run(&["test"]);
    assert_eq!(last_line(&output), "4 passed, 2 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn ignored_test_fails_but_the_soak_tests_do_not_count() {
    let stage = Stage::new(&with_nextest(
        "5 tests run: 5 passed, 2 skipped",
        0,
        DOCTESTS,
    ));
    let output = stage.run(&["test"]);
    assert_eq!(last_line(&output), "7 passed, 0 failed, 1 skipped");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn no_test_at_all_fails() {
    let stage = Stage::new(&with_nextest("0 tests run: 0 passed, 0 skipped", 4, "true"));
    let output = stage.run(&["test", "no_such_test"]);
    assert_eq!(last_line(&output), "0 passed, 0 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stage
            .calls()
            .contains("--ignore-default-filter no_such_test"),
        "{}",
        stage.calls()
    );
}

#[test]
fn without_nextest_cargo_test_runs_everything_strictly() {
    let script = "[ \"$1\" = nextest ] && exit 101
        [ \"$LARDER_TEST_STRICT\" = 1 ] || exit 1
        echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out'";
    let stage = Stage::new(script);
    let output = stage.run(&["test", "some"]);
    assert_eq!(last_line(&output), "6 passed, 0 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stage
            .calls()
            .contains("--lib --bins --tests --examples --no-fail-fast -- some"),
        "{}",
        stage.calls()
    );
}

#[test]
fn fast_leaves_out_doctests_and_is_not_strict() {
    let script = with_nextest("5 tests run: 5 passed, 0 skipped", 0, "exit 1");
    let stage = Stage::new(&format!(
        "[ -z \"$LARDER_TEST_STRICT\" ] || exit 1\n{script}"
    ));
    let output = stage.run(&["test", "--fast"]);
    assert_eq!(last_line(&output), "5 passed, 0 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn interrupted_tests_are_ended_with_all_they_started() {
    let stage = Stage::new(
        "[ \"$2\" = --version ] && exit; sleep 60 & echo $! > \"${0%/*}/sleeper\"; wait",
    );
    let mut program = stage
        .command(&["test"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sleeper = stage.path().join("sleeper");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string(&sleeper).is_ok_and(|pid| pid.ends_with('\n'))
        && Instant::now() < deadline
    {
        thread::sleep(Duration::from_millis(20));
    }
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -INT {}", program.id())])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(program.wait().unwrap().code(), Some(130));
    let pid = fs::read_to_string(&sleeper).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "the sleeper still runs: {stat}"
    );
}

#[test]
fn ci_ends_at_the_first_failing_step() {
    let stage = Stage::new("[ \"$1\" = clippy ] && exit 101; exit 0");
    let output = stage.run(&["ci"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("==> fmt: ok"), "{}", text(&output));
    assert!(
        last_line(&output).contains("FAILED at step `clippy, all features`"),
        "{}",
        text(&output)
    );
    assert!(!stage.calls().contains("doc"), "{}", stage.calls());
}

#[test]
fn ci_that_reaches_the_tests_ends_with_their_summary() {
    let stage = Stage::new(&with_nextest(
        "5 tests run: 5 passed, 0 skipped",
        0,
        DOCTESTS,
    ));
    let output = stage.run(&["ci"]);
    assert_eq!(last_line(&output), "7 passed, 0 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stage
            .calls()
            .contains("clippy -p larder --no-default-features --all-targets -- -D warnings")
    );
}

#[test]
fn full_ci_checks_each_feature_alone() {
    let stage = Stage::new(&with_nextest(
        "5 tests run: 5 passed, 0 skipped",
        0,
        DOCTESTS,
    ));
    let write = |path: &str, text: &str| {
        let path = stage.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "crates/larder/Cargo.toml",
        "[features]\ndefault = ['file']\nfile = []\nzstd = []\n",
    );
    write("xtask/mutants.toml", "");
    let output = stage.run(&["ci", "--full"]);
    assert_eq!(last_line(&output), "7 passed, 0 failed, 0 skipped");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for feature in ["file", "zstd"] {
        let call =
            format!("clippy -p larder --no-default-features --all-targets --features {feature} --");
        assert!(stage.calls().contains(&call), "{}", stage.calls());
    }
    assert!(!stage.calls().contains("--features default"));
}

#[test]
fn missing_soaks_and_benches_are_an_error() {
    let stage = Stage::new("exit 0");
    assert_eq!(stage.run(&["soak"]).status.code(), Some(1));
    assert_eq!(stage.run(&["bench"]).status.code(), Some(1));
    assert_eq!(stage.calls(), "");
}

#[test]
fn wrong_calls_exit_with_2_and_help_lists_the_tasks() {
    let stage = Stage::new("exit 0");
    for args in [
        &["unknown"][..],
        &["servers"],
        &["servers", "sideways"],
        &["ci", "--all"],
        &["test", "--fats"],
    ] {
        assert_eq!(stage.run(args).status.code(), Some(2), "{args:?}");
    }
    for args in [&[][..], &["--help"]] {
        let output = stage.run(args);
        assert_eq!(output.status.code(), Some(0));
        for task in ["test", "servers", "ci", "mutants", "bench", "soak"] {
            assert!(
                text(&output)
                    .lines()
                    .any(|line| line.trim_start().starts_with(task)),
                "{task}"
            );
        }
    }
}
