//! Hidden tasks for the tests of this crate: a real server, small enough to need no package, and a program that has
//! one started the way `test` does and can be interrupted. Both end by themselves when whoever started them is gone: a
//! test that is killed cannot stop them any more.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::servers::{self, Group, Launch, Lifetime, Started};

/// The server of this rehearsal.
const SERVER: Group = Group {
    name: "rehearsal",
    programs: &[],
    start: start_listener,
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

/// Starts this program once more: `env` merely runs it, for its path is known only at run time.
fn start_listener(dir: &Path) -> Result<Started> {
    let program = env::current_exe().context("this program has no path")?;
    let launch = Launch {
        name: "rehearsal".to_owned(),
        binary: "env",
        args: Box::new(move |place| {
            let port = place.port.to_string();
            Ok(vec![
                program.display().to_string(),
                "__listen".to_owned(),
                port,
            ])
        }),
        is_ready: |_| true,
        ready_within: Duration::from_secs(10),
        lifetime: Lifetime::Own,
    };
    Ok(Started {
        processes: vec![launch.start(dir)?],
        exports: Vec::new(),
    })
}
