//! Processes that the kernel kills when this program dies, however it dies.
//!
//! A test that is killed runs no `Drop`, so its servers would live on. The kernel can be told to kill them (the parent
//! death signal, `man 2 prctl`), which `setpriv` does and then becomes the program. The signal comes when the *thread*
//! that started the process ends, and threads of test runners and of blocking pools end early: one thread that never
//! ends starts them all.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::find_binary;

/// The program that asks the kernel; part of util-linux, which every Debian has.
const SETPRIV: &str = "setpriv";

/// A command to run, and where its process is wanted.
type Order = (Command, Sender<io::Result<Child>>);

static KEEPER: LazyLock<Sender<Order>> = LazyLock::new(|| {
    let (sender, orders) = channel::<Order>();
    thread::spawn(move || {
        for (mut command, answer) in orders {
            // Whoever asked waits for the answer, so it has a receiver.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

/// Returns a command that runs `binary` so that it dies with the thread that spawns it.
///
/// Where there is no `setpriv` the program is run as it is, and outlives a parent that is killed.
pub(super) fn bound(binary: &Path) -> Command {
    let Some(setpriv) = find_binary(SETPRIV) else {
        return Command::new(binary);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]).arg(binary);
    command
}

/// Spawns a command on the thread that lives as long as this program.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let (sender, answer) = channel();
    let sent = KEEPER.send((command, sender)).map_err(io::Error::other);
    sent.and_then(|()| answer.recv().map_err(io::Error::other)?)
}
