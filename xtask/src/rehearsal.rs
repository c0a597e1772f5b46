//! Hidden tasks for the tests of this crate: a real server, small enough to need no package, and a program that has
//! one started the way `test` does and can be interrupted. Both end by themselves when whoever started them is gone: a
//! test that is killed cannot stop them any more.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::interrupt;
use crate::servers::{self, Group, Launch, Lifetime, Started};

/// The server of this rehearsal.
const SERVER: Group = Group {
    name: "rehearsal",
    programs: &[],
    start: start_listener,
};

/// How long a listener that shall be killed stays when it is not, without the one that started it.
const LINGER: Duration = Duration::from_secs(20);

/// Accepts connections on a port until it is told to end; a second argument makes it stay when its parent ends.
pub(crate) fn listen(args: &[String]) -> Result<ExitCode> {
    let port = args
        .first()
        .and_then(|port| port.parse::<u16>().ok())
        .context("a port, please")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("cannot listen")?;
    listener.set_nonblocking(true).context("cannot listen")?;
    println!("listening on {port}");
    let linger = args.get(1).map_or(Duration::ZERO, |_| LINGER);
    let (parent, begun) = (parent_id(), Instant::now());
    while parent_id() == parent || begun.elapsed() < linger {
        interrupt::check()?;
        // An accepted connection is closed at once: connecting is all that a probe does.
        drop(listener.accept());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a server that dies with this program however it ends, prints its port, and waits.
pub(crate) fn hold_bound(_args: &[String]) -> Result<ExitCode> {
    let dir = tempfile::tempdir().context("cannot create a temporary directory")?;
    let process = listener(Lifetime::Program)?.start(dir.path())?;
    println!("{}", process.place().port);
    wait()
}

/// Starts the server, prints where it is, and waits to be interrupted.
pub(crate) fn hold(_args: &[String]) -> Result<ExitCode> {
    let fleet = servers::provide(&[SERVER])?;
    for place in fleet.places() {
        println!("{} {}", place.port, fleet.dir().display());
    }
    wait()
}

/// Waits to be interrupted, or for the parent to end.
fn wait() -> Result<ExitCode> {
    let parent = parent_id();
    while parent_id() == parent {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(ExitCode::SUCCESS)
}

fn start_listener(dir: &Path) -> Result<Started> {
    Ok(Started {
        processes: vec![listener(Lifetime::Own)?.start(dir)?],
        exports: Vec::new(),
    })
}

/// Returns how to run this program once more: `env` merely runs it, for its path is known only at run time.
fn listener(lifetime: Lifetime) -> Result<Launch> {
    let program = env::current_exe().context("this program has no path")?;
    Ok(Launch {
        name: "rehearsal".to_owned(),
        binary: "env",
        args: Box::new(move |place| {
            let mut args = vec![program.display().to_string(), "__listen".to_owned()];
            args.push(place.port.to_string());
            if lifetime == Lifetime::Program {
                args.push("linger".to_owned());
            }
            Ok(args)
        }),
        is_ready: |_| true,
        ready_within: Duration::from_secs(10),
        lifetime,
    })
}
