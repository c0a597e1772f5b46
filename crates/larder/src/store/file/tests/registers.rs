//! Registers on the disk.

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::store::file::register::Kept;
use crate::store::{LoadRequest, MIN_REGISTER_MS, REGISTER_GRACE_MS};

fn tag(name: &str) -> Register {
    Register::exact(name).unwrap()
}

fn register_path(store: &File, register: &Register) -> PathBuf {
    store.disk.layout.register_path(&register_address(register))
}

fn register_address(register: &Register) -> Address {
    Address::new(Digest::of(space().as_bytes()), register.as_bytes())
}

fn stamped(stamps: Vec<Stamp>) -> Bytes {
    let header = Header {
        stamps,
        ..Header::new(Encoding::Raw, 0, None)
    };
    envelope::seal(&header, b"value", 5).unwrap()
}

fn put(store: &File, key: &[u8], tags: &[Register], expiry: Expiry) {
    let seal = |stamps| Ok(stamped(stamps));
    block_on(store.put_stamped(
        &space(),
        key,
        &crate::store::StampedPut {
            registers: tags,
            expiry,
            seal: &seal,
        },
    ))
    .unwrap();
}

fn read(store: &File, key: &[u8]) -> Option<Entry> {
    block_on(store.get_many(&space(), &[key]))
        .unwrap()
        .remove(0)
}

fn capture(store: &File, register: &Register) -> Stamp {
    let captured = block_on(store.capture(&space(), b"k", std::slice::from_ref(register)));
    captured.unwrap().remove(0)
}

fn invalidate(store: &File, name: &str, how: Invalidation) -> bool {
    block_on(store.invalidate(&space(), &[tag(name)], how))
        .unwrap()
        .had[0]
}

fn registers(store: &File) -> usize {
    let all = block_on(store.scan_registers(&space(), &Glob::all(), None, 1000));
    all.unwrap().registers.len()
}

#[test]
fn handles_on_one_directory_see_each_others_registers() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (open(&dir), open(&dir));
    put(&a, b"hard", &[tag("hard")], Expiry::Never);
    put(&a, b"soft", &[tag("soft")], Expiry::Never);
    assert!(!read(&b, b"soft").unwrap().is_stale);
    assert!(invalidate(&b, "hard", Invalidation::Hard));
    assert!(invalidate(&b, "soft", Invalidation::Soft));
    assert!(read(&a, b"hard").is_none() && read(&a, b"soft").unwrap().is_stale);
    drop((a, b));
    let again = open(&dir);
    assert!(read(&again, b"hard").is_none() && read(&again, b"soft").unwrap().is_stale);
    assert!(!invalidate(&again, "hard", Invalidation::Hard));
    assert_eq!(temps(&again).len(), 0);
}

#[test]
fn clear_takes_registers_along() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let before = capture(&store, &tag("t"));
    block_on(store.clear(&space())).unwrap();
    assert!(!register_path(&store, &tag("t")).exists());
    assert!(!invalidate(&store, "t", Invalidation::Soft));
    assert_eq!(registers(&store), 0);
    assert_ne!(capture(&store, &tag("t")), before);
}

#[test]
fn registers_past_their_time_go_and_those_in_use_stay() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let builder = File::builder(dir.path()).clock(time.clock());
    let store = builder.build().unwrap();
    let day = 24 * 3600 * 1000;
    put(&store, b"brief", &[tag("brief")], Expiry::After(1));
    put(&store, b"day", &[tag("day")], Expiry::After(day));
    put(&store, b"good", &[tag("good")], Expiry::Never);
    put(&store, b"touched", &[tag("touched")], Expiry::After(1000));
    assert!(write(&store, Write::touch(b"touched", Expiry::After(day))));
    time.advance(Duration::from_millis(MIN_REGISTER_MS - 1));
    block_on(store.prune(100)).unwrap();
    assert_eq!(registers(&store), 4);
    time.advance(Duration::from_millis(day - MIN_REGISTER_MS));
    block_on(store.prune(100)).unwrap();
    assert_eq!(registers(&store), 3);
    assert!(read(&store, b"day").is_some() && read(&store, b"touched").is_some());
    time.advance(Duration::from_millis(3 * REGISTER_GRACE_MS));
    block_on(store.prune(100)).unwrap();
    assert_eq!(registers(&store), 1);
    assert!(read(&store, b"good").is_some());
}

#[test]
fn sweeps_remove_invalid_entries_and_empty_directories() {
    let dir = TempDir::new().unwrap();
    let time = ManualClock::new();
    let builder = File::builder(dir.path()).clock(time.clock());
    let store = builder.build().unwrap();
    for n in 0..20_u8 {
        put(
            &store,
            &[n],
            &[tag(["gone", "kept"][usize::from(n) % 2])],
            Expiry::Never,
        );
    }
    assert!(invalidate(&store, "gone", Invalidation::Hard));
    assert_eq!(block_on(store.count(&space(), &Glob::all())).unwrap(), 10);
    store.disk.sweep(&mut None, 1000).unwrap();
    assert_eq!(stats(&store).entries, Some(10));
    assert!(invalidate(&store, "kept", Invalidation::Hard));
    capture(&store, &tag("idle"));
    time.advance(Duration::from_millis(3 * MIN_REGISTER_MS));
    for _ in 0..3 {
        store.disk.sweep(&mut None, 1000).unwrap();
    }
    let namespace = Digest::of(space().as_bytes());
    assert!(!store.disk.layout.namespace_dir(namespace).exists());
}

#[test]
fn a_damaged_register_is_absent_and_replaced() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for junk in [&b""[..], b"junk", &[0; 300]] {
        put(&store, b"k", &[tag("t")], Expiry::Never);
        assert!(read(&store, b"k").is_some());
        fs::write(register_path(&store, &tag("t")), junk).unwrap();
        assert!(read(&store, b"k").is_none());
        assert_eq!(registers(&store), 0);
        assert!(!invalidate(&store, "t", Invalidation::Soft));
    }
    fs::write(register_path(&store, &tag("t")), b"junk").unwrap();
    assert!(!invalidate(&store, "t", Invalidation::Hard));
    assert!(!register_path(&store, &tag("t")).exists());
}

#[test]
fn entries_without_stamps_open_no_register() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    put(&store, b"k", &[], Expiry::Never);
    put(&store, b"tagged", &[tag("t")], Expiry::Never);
    let namespace = Digest::of(space().as_bytes());
    let registers = store.disk.layout.registers_dir(namespace);
    fs::remove_dir_all(&registers).unwrap();
    // To open anything below a file is an error.
    fs::write(&registers, b"").unwrap();
    assert!(read(&store, b"k").is_some());
    assert!(write(&store, Write::touch(b"k", Expiry::Never)));
    let page = block_on(store.scan(&space(), &Glob::new("k").unwrap(), None, 10));
    assert_eq!(page.unwrap().keys.len(), 1);
    assert!(block_on(store.get_many(&space(), &[b"tagged"])).is_err());
}

#[test]
fn those_who_capture_at_once_agree() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    let barrier = Barrier::new(2);
    let capture_all = |store: &File| {
        let one = |round: u32| {
            barrier.wait();
            capture(store, &tag(&format!("t{round}")))
        };
        (0..1000).map(one).collect::<Vec<_>>()
    };
    let [a, b] = std::thread::scope(|scope| {
        let threads = [0, 1].map(|n| {
            let (capture_all, store) = (&capture_all, &stores[n]);
            scope.spawn(move || capture_all(store))
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(a, b);
}

#[test]
fn a_register_that_was_removed_or_cleared_never_comes_back() {
    let dir = TempDir::new().unwrap();
    let stores = [open(&dir), open(&dir)];
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done() {
                invalidate(&stores[1], "t", Invalidation::Soft);
            }
        });
        scope.spawn(|| {
            // Each write keeps the register for longer, which replaces its file.
            for n in 1_u64.. {
                if is_done() {
                    break;
                }
                let expiry = Expiry::After(n * 10 * MIN_REGISTER_MS);
                put(&stores[1], b"other", &[tag("t")], expiry);
            }
        });
        for round in 0..1000 {
            let old = capture(&stores[0], &tag("t")).hard;
            if round % 2 == 0 {
                invalidate(&stores[0], "t", Invalidation::Hard);
            } else {
                block_on(stores[0].clear(&space())).unwrap();
            }
            for _ in 0..3 {
                assert_ne!(capture(&stores[0], &tag("t")).hard, old, "round {round}");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_clear_while_a_register_is_changed_wins() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (open(&dir), open(&dir));
    let namespace = Digest::of(space().as_bytes());
    // The first look is before the temporary file, the second one after it.
    for interrupted in [1, 2] {
        let old = capture(&a, &tag("t")).hard;
        let (looks, new) = (Cell::new(0), Cell::new(0));
        let change = |kept: Kept| {
            looks.set(looks.get() + 1);
            if looks.get() == interrupted {
                block_on(b.clear(&space())).unwrap();
                b.disk
                    .layout
                    .make_register_dir(&register_address(&tag("t")))
                    .unwrap();
                let fresh = b.disk.create(namespace, &tag("t"), u64::MAX).unwrap();
                new.set(fresh.hard);
            }
            Some(kept)
        };
        let changed = a.disk.change(namespace, &tag("t"), Effort::BRIEF, change);
        assert!(
            matches!(changed, Ok(true) | Err(Fault::Vanished)),
            "{changed:?}"
        );
        let present = capture(&b, &tag("t")).hard;
        assert_ne!(present, old);
        assert_eq!(present, new.get());
    }
}

#[test]
fn nobody_removes_or_creates_a_register_while_it_is_changed() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (open(&dir), open(&dir));
    let namespace = Digest::of(space().as_bytes());
    let address = register_address(&tag("t"));
    let _changing = a
        .disk
        .locks
        .register(&a.disk.layout, address.stripe(), Effort::BRIEF);
    let tags = [tag("t")];
    let captured = b.disk.capture(namespace, &tags, Effort::BRIEF);
    assert!(matches!(captured, Err(Fault::Busy)), "{captured:?}");
    for how in [Invalidation::Hard, Invalidation::Soft] {
        let invalidated = b.disk.invalidate(namespace, &tags, how, Effort::BRIEF);
        assert!(matches!(invalidated, Err(Fault::Busy)), "{invalidated:?}");
    }
}

/// Not a test by itself: the process that the next one kills.
#[test]
fn loads_until_it_is_killed() {
    let Some(dir) = std::env::var_os("LARDER_TEST_FILE_REGISTERS") else {
        return;
    };
    let store = File::open(dir).unwrap();
    for n in 1_u64.. {
        let registers = [tag(&format!("t{}", n % 5)), tag("all")];
        let load = LoadRequest {
            registers: &registers,
            token: n,
            lease_ms: 5,
        };
        let key = [(n % 3) as u8];
        let begun = block_on(store.begin_load(&space(), &key, &load)).unwrap();
        let put = Write::put(&key, stamped(begun.stamps), Expiry::Never);
        write(&store, put.when(Condition::IfUnchanged(n)));
        invalidate(&store, &format!("t{}", n % 7), Invalidation::Hard);
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_wrong() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut worked = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--exact")
            .arg("store::file::tests::registers::loads_until_it_is_killed")
            .env("LARDER_TEST_FILE_REGISTERS", store.disk.layout.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        worked += usize::from(register_path(&store, &tag("t3")).exists());
        invalidate(&store, "all", Invalidation::Hard);
        invalidate(&store, "t3", Invalidation::Hard);
        for key in 0..3_u8 {
            assert!(read(&store, &[key]).is_none());
            put(&store, &[key], &[tag("all"), tag("t1")], Expiry::Never);
            assert!(read(&store, &[key]).is_some());
        }
        assert!(invalidate(&store, "t1", Invalidation::Hard));
        assert!(read(&store, &[0]).is_none());
    }
    assert!(worked > 0, "every process was killed before it began");
    assert_eq!(stats(&store).quarantined, 0);
}
