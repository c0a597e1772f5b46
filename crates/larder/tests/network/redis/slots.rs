//! Which keys the store's commands use, as the servers of a cluster see them: all of a command, and everything about
//! one of the user's keys, in one slot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use larder::store::{Condition, Expiry, Invalidation, LoadRequest, Register, SortedSetOp, Write};
use larder::testing::{sealed, sealed_integer, stamped};
use larder::{Glob, Namespace, RedisStore, Store as _};
use xtask::servers::private::RedisCluster;

use super::rig::{now, urls};
use crate::has_servers;

/// What users may call their keys to disturb the slots.
const KEYS: [&str; 9] = [
    "plain",
    "{other}",
    "{}",
    "}{",
    "{",
    "}",
    "a{b}c{d}",
    "{0}e:x:y:v1:z",
    "e:{\r\n}\0 ",
];

/// Returns the slot by the words of the specification, one bit at a time.
fn slot(key: &[u8]) -> u16 {
    let open = key.iter().position(|&byte| byte == b'{');
    let tag = open.and_then(|open| {
        let close = key[open + 1..].iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &key[open + 1..open + 1 + close])
    });
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    });
    crc % 16384
}

/// Notes every command that a server executes, from now until the server is gone.
pub(super) fn monitor(server: SocketAddr, lines: mpsc::Sender<(SocketAddr, String)>) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "+OK");
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if lines.send((server, line)).is_err() {
                return;
            }
        }
    });
}

/// Takes `+time [0 client] "word" "word"` apart: whether it is from a script, and the words.
pub(super) fn parse(line: &str) -> Option<(bool, Vec<Vec<u8>>)> {
    let (head, rest) = line.split_once("] ")?;
    let mut words = Vec::new();
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut word = Vec::new();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => word.push(match bytes.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next()?, bytes.next()?];
                        let digits = std::str::from_utf8(&digits).ok()?.to_owned();
                        u8::from_str_radix(&digits, 16).ok()?
                    }
                    other => other,
                }),
                other => word.push(other),
            }
        }
        words.push(word);
    }
    Some((head.ends_with("lua"), words))
}

/// Returns the keys of a command, by the place where Redis documents them; `None`: it has none.
fn keys_of(words: &[Vec<u8>]) -> Option<&[Vec<u8>]> {
    let name = String::from_utf8_lossy(&words[0]).to_uppercase();
    match name.as_str() {
        "MGET" | "DEL" | "UNLINK" | "EXISTS" => Some(&words[1..]),
        "EVALSHA" | "EVAL" => {
            let count: usize = String::from_utf8_lossy(&words[2]).parse().unwrap();
            Some(&words[3..3 + count])
        }
        "GET" | "GETDEL" | "SET" | "GETRANGE" | "SETRANGE" | "STRLEN" | "PTTL" | "PEXPIRE"
        | "PERSIST" | "INCRBY" | "TYPE" | "XADD" | "XRANGE" | "XREVRANGE" => Some(&words[1..2]),
        _ if name.starts_with('Z') => Some(&words[1..2]),
        "PING" | "SCAN" | "INFO" | "TIME" | "CLUSTER" | "SCRIPT" | "HELLO" | "CLIENT" | "ROLE"
        | "CONFIG" | "REPLCONF" | "ASKING" | "MONITOR" | "KEYS" | "COMMAND" => None,
        _ => panic!("the keys of {name} are not known here"),
    }
}

/// Does everything that the store can, to every key.
async fn use_everything(store: &RedisStore, namespace: &Namespace) {
    let mut journal = store.journal(namespace).unwrap();
    for read in journal.poll().await {
        read.unwrap();
    }
    for key in KEYS.map(str::as_bytes) {
        let put = |value| Write::put(key, value, Expiry::After(60_000));
        let writes = [
            vec![put(sealed(b"first"))],
            vec![put(sealed(b"second"))],
            vec![put(sealed(b"third")).when(Condition::IfPresent)],
            vec![Write::touch(key, Expiry::Never), Write::delete(key)],
            vec![put(sealed(b"fourth")).when(Condition::IfAbsent)],
            vec![put(sealed_integer(41))],
        ];
        for writes in &writes {
            store.write_many(namespace, writes).await.unwrap();
            store.get_many(namespace, &[key]).await.unwrap();
        }
        for sum in [42, 43] {
            let counted = store.increment(namespace, key, 1, Expiry::Never).await;
            assert_eq!(counted.unwrap(), sum);
        }
        let none = store.write_many(namespace, &[Write::delete(key)]).await;
        assert_eq!(none.unwrap(), [true]);
        let ops = [
            SortedSetOp::Add {
                members: vec![(1.0, "a".into()), (2.0, "b".into()), (3.0, "c".into())],
                expiry: Expiry::After(60_000),
            },
            SortedSetOp::Remove(vec!["a".into()]),
            SortedSetOp::RemoveByScore { min: 3.0, max: 3.0 },
            SortedSetOp::Range {
                start: 0,
                stop: -1,
                descending: true,
            },
            SortedSetOp::RangeByScore { min: 0.0, max: 9.0 },
            SortedSetOp::Len,
            SortedSetOp::Score("b".into()),
        ];
        for op in &ops {
            store.sorted_set(namespace, key, op).await.unwrap();
        }
        let set = store.get_many(namespace, &[key]).await.unwrap();
        assert!(set[0].is_some(), "the sorted set as an entry");
    }
    use_tags(store, namespace).await;
    let all = KEYS.map(str::as_bytes);
    assert!(
        store
            .get_many(namespace, &all)
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
    let writes = all.map(|key| Write::put(key, sealed(key), Expiry::Never));
    store.write_many(namespace, &writes).await.unwrap();
    let count = store.count(namespace, &Glob::all()).await.unwrap();
    assert_eq!(count, KEYS.len() as u64);
    store.prune(1000).await.unwrap();
}

/// Does everything that is about tags, to every key, and leaves entries without them behind.
async fn use_tags(store: &RedisStore, namespace: &Namespace) {
    let registers = KEYS.map(|name| Register::exact(name).unwrap());
    let seal = |stamps| Ok(stamped(&sealed(b"tagged"), stamps));
    for (token, key) in (1..).zip(KEYS.map(str::as_bytes)) {
        let expiry = Expiry::After(60_000);
        let captured = store.capture(namespace, key, &registers).await.unwrap();
        for _ in 0..2 {
            let put = larder::store::StampedPut {
                registers: &registers,
                expiry,
                seal: &seal,
            };
            let put = store.put_stamped(namespace, key, &put);
            put.await.unwrap();
            store.get_many(namespace, &[key]).await.unwrap();
        }
        let writes = [Write::touch(key, Expiry::Never), Write::delete(key)];
        store.write_many(namespace, &writes).await.unwrap();
        let load = LoadRequest {
            registers: &registers,
            token,
            lease_ms: 1000,
        };
        let begun = store.begin_load(namespace, key, &load).await.unwrap();
        assert!(begun.is_granted && begun.stamps == captured);
        let commit = Write::put(key, seal(begun.stamps).unwrap(), expiry);
        let commit = commit.when(Condition::IfUnchanged(token));
        assert_eq!(
            store.write_many(namespace, &[commit]).await.unwrap(),
            [true]
        );
    }
    let listed = store.scan_by_register(namespace, &registers[0], None, 1000);
    assert_eq!(listed.await.unwrap().keys.len(), KEYS.len());
    let all = Glob::all();
    let listed = store.scan_registers(namespace, &all, None, 1000);
    assert_eq!(listed.await.unwrap().registers.len(), registers.len());
    for how in [Invalidation::Soft, Invalidation::Hard] {
        let told = store.invalidate(namespace, &registers, how).await.unwrap();
        assert_eq!(told.had, [true; KEYS.len()]);
    }
    let plain = KEYS.map(|key| Write::put(key.as_bytes(), sealed(b"plain"), Expiry::Never));
    store.write_many(namespace, &plain).await.unwrap();
}

/// Asks the servers for the slot of every key, and whether what belongs together is together.
fn check_names(cluster: &RedisCluster, namespaces: &[Namespace]) {
    let nodes = cluster.nodes()[..3].iter();
    let names = nodes.flat_map(|node| {
        let mut connection = node.connect().unwrap();
        connection.call(&["KEYS", "*"]).unwrap().items().to_vec()
    });
    let mut slots: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    let mut connection = cluster.nodes()[0].connect().unwrap();
    for name in names {
        let xtask::servers::resp::Value::Bytes(name) = name else {
            panic!("{name:?} is no key");
        };
        let asked = connection
            .call(&[b"CLUSTER", &b"KEYSLOT"[..], &name])
            .unwrap()
            .text();
        assert_eq!(asked, slot(&name).to_string(), "this test knows slots");
        let user = name.iter().position(|&byte| byte == b':').unwrap();
        slots
            .entry(name[user..].to_vec())
            .or_default()
            .insert(asked);
    }
    assert!(
        slots.len() > namespaces.len() * KEYS.len(),
        "{}",
        slots.len()
    );
    for (user, slots) in slots {
        // A register has no user's key, and is in every bucket.
        let is_of_tag = user.windows(2).any(|pair| pair == b":=");
        let is_entry = !is_of_tag && KEYS.iter().any(|key| user.ends_with(key.as_bytes()));
        let is_register = namespaces
            .iter()
            .any(|namespace| user.ends_with(namespace.as_bytes()));
        assert!(
            is_register || !is_entry || slots.len() == 1,
            "{}",
            user.escape_ascii()
        );
    }
}

/// Checks the keys of every command noted, and returns how many there are.
fn check_commands(lines: &mpsc::Receiver<(SocketAddr, String)>) -> u32 {
    let (mut commands, mut script_slots) = (0, BTreeMap::new());
    while let Ok((server, line)) = lines.recv_timeout(Duration::from_millis(200)) {
        let Some((in_script, words)) = parse(&line) else {
            panic!("{line:?} is no line of a monitor");
        };
        let Some(keys) = keys_of(&words) else {
            continue;
        };
        let slots: BTreeSet<u16> = keys.iter().map(|key| slot(key)).collect();
        assert_eq!(slots.len(), 1, "{line}");
        if in_script {
            assert_eq!(script_slots.get(&server), Some(&slots), "{line}");
        } else {
            script_slots.insert(server, slots);
        }
        commands += 1;
    }
    commands
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_has_its_keys_in_one_slot_whatever_users_call_theirs() {
    if !has_servers() {
        return;
    }
    let cluster = now(RedisCluster::start).unwrap();
    let store = RedisStore::cluster(urls(&cluster)).connect().await.unwrap();
    let (sender, lines) = mpsc::channel();
    for master in &cluster.nodes()[..3] {
        now(|| monitor(master.address(), sender.clone()));
    }
    drop(sender);
    // Names of caches may hold braces, too.
    let namespaces = ["net{x}", "{}", "}{"].map(|prefix| Namespace::new(prefix, "{c}", 1));
    for namespace in &namespaces {
        use_everything(&store, namespace).await;
    }

    now(|| check_names(&cluster, &namespaces));
    for namespace in &namespaces {
        store.clear(namespace).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;

    let commands = now(|| check_commands(&lines));
    println!("{commands} commands");
    assert!(commands > 1000, "{commands}");
}
