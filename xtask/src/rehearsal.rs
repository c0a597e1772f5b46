//! Hidden tasks for the tests of this crate: a real server, small enough to need no package, and a program that has
//! one started the way `test` does and can be interrupted. Both end by themselves when whoever started them is gone: a
//! test that is killed cannot stop them any more.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::servers::{self, Place, Server};

/// The server of this rehearsal: `env` merely runs this program, whose path is known only at run time.
const SERVER: Server = Server {
    name: "rehearsal",
    package: "coreutils",
    binary: "env",
    args: listen_args,
    exports: |_| Vec::new(),
    ready_within: Duration::from_secs(10),
};

/// Accepts connections on a port until it is told to end.
pub(crate) fn listen(args: &[String]) -> Result<ExitCode> {
    let port = args
        .first()
        .and_then(|port| port.parse::<u16>().ok())
        .context("a port, please")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("cannot listen")?;
    listener.set_nonblocking(true).context("cannot listen")?;
    println!("listening on {port}");
    let parent = parent_id();
    while parent_id() == parent {
        interrupt::check()?;
        // An accepted connection is closed at once: connecting is all that a probe does.
        drop(listener.accept());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the server, prints where it is, and waits to be interrupted.
pub(crate) fn hold(_args: &[String]) -> Result<ExitCode> {
    let fleet = servers::provide(&[SERVER])?;
    for place in fleet.places() {
        println!("{} {}", place.port, fleet.dir().display());
    }
    let parent = parent_id();
    while parent_id() == parent {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(ExitCode::SUCCESS)
}

fn listen_args(place: &Place) -> Vec<String> {
    let program = env::current_exe().unwrap_or_default();
    vec![
        program.display().to_string(),
        "__listen".to_owned(),
        place.port.to_string(),
    ]
}
