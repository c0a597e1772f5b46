//! What only happens on a terminal: questions, and escaping.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{Home, Ran, ended, eventually};

/// Runs the program on a terminal, answers once a question was asked, and returns what the terminal showed.
fn on_a_terminal(
    home: &Home,
    words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    answer: &str,
) -> (Ran, String) {
    let mut talk = Talk::begin(home, words);
    if !answer.is_empty() {
        talk.answer(answer);
    }
    talk.end()
}

/// A run of the program on a terminal.
struct Talk {
    terminal: Terminal,
    shown: Shown,
    child: Child,
}

impl Talk {
    fn begin(home: &Home, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let terminal = Terminal::open();
        let mut command = home.command(words);
        command.stdin(terminal.end()).stdout(terminal.end());
        command.stderr(terminal.end());
        let child = command.spawn().expect("the program starts");
        // Only the program holds the other end now, so its end ends the terminal.
        drop(command);
        let shown = terminal.watch();
        Self {
            terminal,
            shown,
            child,
        }
    }

    fn is_asked(&self) {
        eventually("the question", || text(&self.shown).contains("[y/N]"));
    }

    fn answer(&mut self, answer: &str) {
        self.is_asked();
        self.terminal.type_in(answer);
    }

    fn end(self) -> (Ran, String) {
        let (ran, _) = ended(self.child);
        let shown = self.shown;
        eventually("the end of the output", || Arc::strong_count(&shown) == 1);
        (ran, text(&shown))
    }
}

type Shown = Arc<Mutex<Vec<u8>>>;

fn text(shown: &Shown) -> String {
    let bytes = shown.lock().expect("the watcher does not panic");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Our end of a terminal.
struct Terminal(File);

impl Terminal {
    fn open() -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal opens");
        grantpt(&terminal).expect("it is ours");
        unlockpt(&terminal).expect("it is unlocked");
        Self(terminal.into())
    }

    /// Returns the program's end.
    fn end(&self) -> Stdio {
        let name = ptsname(&self.0, Vec::new()).expect("it has a name");
        let path = name.to_str().expect("its name is text");
        let end = OpenOptions::new().read(true).write(true).open(path);
        end.expect("its other end opens").into()
    }

    /// Collects what is shown, until the program is gone.
    fn watch(&self) -> Shown {
        let shown = Shown::default();
        let mut terminal = self.0.try_clone().expect("it clones");
        let sink = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = terminal.read(&mut buffer) {
                let mut shown = sink.lock().expect("nobody panics with it");
                shown.extend_from_slice(&buffer[..read]);
            }
        });
        shown
    }

    fn type_in(&mut self, answer: &str) {
        let typed = self.0.write_all(answer.as_bytes());
        typed.expect("the terminal takes it");
    }
}

#[test]
fn a_removal_shows_what_goes_and_waits_for_a_yes() {
    let home = Home::new();
    for n in 1..=7 {
        home.run(&format!("cache set user:{n} v")).ok();
    }
    let (ran, shown) = on_a_terminal(&home, "cache clear".split(' '), "n\n");
    assert_eq!(ran.code, 2, "{shown}");
    for expected in [
        "7 entries of the cache default (store sqlite)",
        "user:1",
        "and 2 more",
        "nothing was removed",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
    assert_eq!(home.run("cache keys").ok().lines().count(), 7);
    let (ran, shown) = on_a_terminal(&home, "cache purge user:[1-3]".split(' '), "y\n");
    assert_eq!(ran.code, 0, "{shown}");
    assert_eq!(home.run("cache keys").ok().lines().count(), 4);
    let (ran, shown) = on_a_terminal(&home, "cache clear --no-input".split(' '), "");
    assert_eq!(ran.code, 2, "{shown}");
}

#[test]
fn a_lock_is_taken_from_whom_the_question_showed() {
    let home = Home::new();
    home.apply(async |larder| {
        let guard = larder.lock("report").acquire().await?;
        let words = ["lock", "release", "report"];
        let (ran, shown) = on_a_terminal(&home, words, "n\n");
        assert_eq!(ran.code, 2, "{shown}");
        let fence = format!("fence {}", guard.fence());
        for expected in [guard.owner().as_str(), &fence, "nothing was released"] {
            assert!(shown.contains(expected), "{shown}");
        }
        let mut talk = Talk::begin(&home, words);
        talk.is_asked();
        guard.release().await?;
        let next = larder.lock("report").acquire().await?;
        talk.answer("y\n");
        let (ran, shown) = talk.end();
        assert_eq!(ran.code, 2, "{shown}");
        assert!(shown.contains("another holder"), "{shown}");
        let (ran, shown) = on_a_terminal(&home, words, "y\n");
        assert_eq!(ran.code, 0, "{shown}");
        let lost = next.release().await.expect_err("it was taken");
        assert_eq!(lost.kind(), larder::ErrorKind::LockLost);
        Ok(())
    });
}

#[test]
fn control_characters_do_not_reach_a_terminal() {
    let home = Home::new();
    home.run_with(["cache", "set", "\x1b[2Jkey", "a\x1b[2Jb"])
        .ok();
    for line in ["cache keys", "cache keys --long"] {
        let (_, shown) = on_a_terminal(&home, line.split(' '), "");
        assert!(shown.contains("\\u{1b}[2Jkey"), "{shown:?}");
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
    let piped = home.run_with(["cache", "get", "\x1b[2Jkey"]).ok();
    assert_eq!(piped, "a\x1b[2Jb\n");
    home.run_with(["cache", "set", "k", "a\x1b[2Jb\tc"]).ok();
    let (_, shown) = on_a_terminal(&home, "cache get k".split(' '), "");
    assert!(shown.contains("a\\u{1b}[2Jb"), "{shown:?}");
}
