//! Servers with a real process: they get ready, they stop, and nothing is left behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use xtask::servers::{Fleet, Group, Launch, Lifetime, Place, Program, Session, Started};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

const SHELL: &[Program] = &[Program {
    package: "dash",
    binary: "sh",
}];

/// A server that listens until it gets SIGTERM, and writes one file.
const SAMPLE: Group = Group {
    name: "sample",
    programs: &[],
    start: |dir| {
        let process = Launch {
            binary: XTASK,
            args: Box::new(|place| Ok(vec!["__listen".to_owned(), place.port.to_string()])),
            ..script("sample", |_| String::new())
        };
        let process = process.start(dir)?;
        let url = format!("tcp://127.0.0.1:{}/", process.place().port);
        Ok(Started {
            processes: vec![process],
            exports: vec![("LARDER_TEST_SAMPLE_URL".to_owned(), url)],
        })
    },
};

/// A server behind a shell that ignores SIGTERM: both must be killed. It ends by itself once its parent is gone.
const STUBBORN: Group = Group {
    name: "stubborn",
    programs: SHELL,
    start: |dir| {
        let stubborn = script("stubborn", |place| {
            format!(
                "trap '' TERM; {XTASK} __listen {} &
                while [ \"$(cut -d ' ' -f 4 /proc/$$/stat)\" = $PPID ]; do sleep 0.1; done",
                place.port
            )
        });
        alone(dir, stubborn)
    },
};

/// A server that never listens.
const SILENT: Group = Group {
    name: "silent",
    programs: SHELL,
    start: |dir| {
        let silent = Launch {
            ready_within: Duration::from_millis(300),
            ..script("silent", |_| "echo thinking; exec sleep 60".to_owned())
        };
        alone(dir, silent)
    },
};

/// Returns how to run a shell script as a server.
fn script(name: &str, script: fn(&Place) -> String) -> Launch {
    Launch {
        name: name.to_owned(),
        binary: "sh",
        args: Box::new(move |place| Ok(vec!["-c".to_owned(), script(place)])),
        is_ready: |_| true,
        ready_within: Duration::from_secs(20),
        lifetime: Lifetime::Own,
    }
}

/// Starts a group of one.
fn alone(dir: &Path, launch: Launch) -> anyhow::Result<Started> {
    Ok(Started {
        processes: vec![launch.start(dir)?],
        exports: Vec::new(),
    })
}

fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Requires that nobody listens and the directory is gone; a port may take a moment.
fn assert_gone(ports: &[u16], dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while ports.iter().any(|&port| accepts(port)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        !ports.iter().any(|&port| accepts(port)),
        "a server still listens on one of {ports:?}"
    );
    assert!(!dir.exists(), "{} is left behind", dir.display());
}

fn ports_and_dir(fleet: &Fleet) -> (Vec<u16>, PathBuf) {
    let ports = fleet
        .places()
        .into_iter()
        .map(|place: &Place| place.port)
        .collect();
    (ports, fleet.dir().to_path_buf())
}

#[test]
fn started_servers_accept_connections_and_are_gone_when_dropped() {
    let fleet = Fleet::start(&[
        SAMPLE,
        Group {
            name: "second",
            ..SAMPLE
        },
    ])
    .unwrap();
    let (ports, dir) = ports_and_dir(&fleet);
    assert_ne!(ports[0], ports[1]);
    assert!(ports.iter().all(|&port| accepts(port)));
    let url = format!("tcp://127.0.0.1:{}/", ports[0]);
    assert_eq!(
        fleet.exports()[0],
        ("LARDER_TEST_SAMPLE_URL".to_owned(), url)
    );
    assert!(
        fs::read_to_string(dir.join("sample").join("sample.log"))
            .unwrap()
            .contains("listening")
    );
    drop(fleet);
    assert_gone(&ports, &dir);
}

#[test]
fn panic_stops_the_servers() {
    let mut seen = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let fleet = Fleet::start(&[SAMPLE]).unwrap();
        seen = Some(ports_and_dir(&fleet));
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let (ports, dir) = seen.unwrap();
    assert_gone(&ports, &dir);
}

#[test]
fn server_that_ignores_the_signal_is_killed_with_its_children() {
    let fleet = Fleet::start(&[STUBBORN]).unwrap();
    let (ports, dir) = ports_and_dir(&fleet);
    let begun = Instant::now();
    drop(fleet);
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "it must have the grace period"
    );
    assert_gone(&ports, &dir);
}

#[test]
fn server_that_never_listens_is_an_error_with_its_log_and_stops_the_others() {
    let error = format!("{:#}", Fleet::start(&[SAMPLE, SILENT]).unwrap_err());
    assert!(error.contains("silent is not ready"), "{error}");
    assert!(error.contains("thinking"), "{error}");
}

#[test]
fn server_that_exits_at_once_is_an_error_with_its_log() {
    let quitter = Group {
        name: "quitter",
        start: |dir| {
            let quitter = script("quitter", |_| "echo no port; exit 3".to_owned());
            alone(dir, quitter)
        },
        ..SILENT
    };
    let error = format!("{:#}", Fleet::start(&[quitter]).unwrap_err());
    assert!(error.contains("quitter ended at once"), "{error}");
    assert!(error.contains("no port"), "{error}");
}

#[test]
fn server_that_exits_at_first_is_tried_again() {
    let hesitant = Group {
        name: "hesitant",
        start: |dir| {
            let hesitant = script("hesitant", |place| {
                let listen = format!("exec {XTASK} __listen {}", place.port);
                format!("if test -e ../tried; then {listen}; fi; touch ../tried; exit 1")
            });
            alone(dir, hesitant)
        },
        ..SILENT
    };
    let fleet = Fleet::start(&[hesitant]).unwrap();
    assert!(accepts(fleet.places()[0].port));
}

#[test]
fn session_outlives_the_fleet_and_stops_later() {
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("xtask").join("servers.toml");
    assert!(Session::load(&file).unwrap().is_none());
    let fleet = Fleet::start(&[SAMPLE]).unwrap();
    let (ports, dir) = ports_and_dir(&fleet);
    let exports = fleet.exports();
    drop(fleet.leave_running(&file).unwrap());
    assert!(accepts(ports[0]));

    let session = Session::load(&file).unwrap().unwrap();
    assert!(session.is_alive());
    assert_eq!(session.exports(), exports);
    assert!(
        session.status()[0].contains("alive"),
        "{:?}",
        session.status()
    );
    session.stop().unwrap();
    assert_gone(&ports, &dir);
    assert!(!file.exists());
}

#[test]
fn dead_servers_are_seen_and_cleaned_up() {
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("servers.toml");
    let short_lived = Group {
        name: "short-lived",
        start: |dir| {
            let short_lived = script("short-lived", |place| {
                format!("{XTASK} __listen {} & sleep 2; kill $!; wait", place.port)
            });
            alone(dir, short_lived)
        },
        ..SILENT
    };
    let fleet = Fleet::start(&[short_lived]).unwrap();
    let (ports, dir) = ports_and_dir(&fleet);
    drop(fleet.leave_running(&file).unwrap());
    let session = Session::load(&file).unwrap().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while session.is_alive() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        session.status()[0].contains("dead"),
        "{:?}",
        session.status()
    );
    session.stop().unwrap();
    assert_gone(&ports, &dir);
    assert!(!file.exists());
}

#[test]
fn state_file_cannot_make_stop_remove_another_directory() {
    let target = tempfile::tempdir().unwrap();
    let precious = target.path().join("precious");
    fs::create_dir(&precious).unwrap();
    let file = target.path().join("servers.toml");
    fs::write(&file, format!("dir = '{}'\n", precious.display())).unwrap();
    assert!(Session::load(&file).unwrap().unwrap().stop().is_err());
    assert!(precious.exists());
}

#[test]
fn interrupted_program_stops_its_servers() {
    let mut program = Command::new(XTASK)
        .arg("__hold")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (port, dir) = line.trim().split_once(' ').unwrap();
    let (port, dir) = (port.parse().unwrap(), PathBuf::from(dir));
    assert!(accepts(port));
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", program.id())])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(program.wait().unwrap().code(), Some(130));
    assert_gone(&[port], &dir);
}

#[test]
fn server_bound_to_a_program_dies_with_it_even_when_that_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut program = Command::new(XTASK)
        .arg("__hold_bound")
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line.trim().parse().unwrap();
    assert!(accepts(port));
    program.kill().unwrap();
    program.wait().unwrap();
    assert_gone(&[port], Path::new("/no/such/directory"));
}

#[test]
fn server_bound_to_a_program_outlives_the_thread_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let start = move || {
        let bound = Launch {
            binary: XTASK,
            args: Box::new(|place| Ok(vec!["__listen".to_owned(), place.port.to_string()])),
            lifetime: Lifetime::Program,
            ..script("bound", |_| String::new())
        };
        bound.start(&path).unwrap()
    };
    let process = thread::spawn(start).join().unwrap();
    thread::sleep(Duration::from_millis(100));
    let port = process.place().port;
    assert!(accepts(port));
    drop(process);
    assert!(!accepts(port));
}
