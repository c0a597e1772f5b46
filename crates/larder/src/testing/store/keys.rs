//! Laws of keys and namespaces: any bytes, nothing mixed up, and `clear` empties exactly one namespace.

use super::StoreUnderTest;
use crate::error::Result;
use crate::glob::Glob;
use crate::key::MAX_KEY_BYTES;
use crate::store::Expiry;
use crate::testing::sealed;

/// Keys that text, file names, SQL, C strings or patterns might mix up.
pub(super) fn awkward_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        "a",
        "A",
        "ä",
        "a\u{308}",
        "é",
        "e\u{301}",
        " a",
        "a ",
        "a\n",
        "a\r\nget b",
        "..",
        ".",
        "/",
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "CON",
        "a:b",
        "a%3Ab",
        "%",
        "'",
        "\"",
        "''; DROP TABLE entries; --",
        "{a}",
        "{}",
        "*",
        "?",
        "[a]",
        "[!a]",
        "\\*",
        "null",
        "0",
        "-1",
    ]
    .map(|key| key.as_bytes().to_vec())
    .to_vec();
    let binary: [&[u8]; 10] = [
        b"\0",
        b"\0\0",
        b"a\0",
        b"a\0b",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\x01",
        b"\x80",
        b"\xc3\x28",
        b"\xed\xa0\x80",
    ];
    keys.extend(binary.map(<[u8]>::to_vec));
    keys.push(vec![b'k'; MAX_KEY_BYTES]);
    keys.push([vec![b'k'; MAX_KEY_BYTES - 1], vec![b'l']].concat());
    keys.push(vec![0xff; MAX_KEY_BYTES]);
    keys.extend((0..=255).map(|byte| vec![b'x', byte]));
    keys.sort_unstable();
    keys
}

/// Keys are any bytes from 1 to 1024, and no two of them share an entry.
pub async fn keys_may_hold_any_bytes(fixture: &StoreUnderTest) -> Result<()> {
    let space = fixture.space();
    let keys = awkward_keys();
    for key in &keys {
        space.put(key, &sealed(key), Expiry::Never).await?;
    }
    for key in &keys {
        let shown = key.escape_ascii();
        let entry = space.get(key).await?.expect("the key was stored");
        assert_eq!(
            crate::testing::body(&entry).as_deref(),
            Some(&key[..]),
            "{shown}"
        );
        assert!(space.delete(key).await?, "{shown}");
        assert_eq!(space.get(key).await?, None, "{shown}");
    }
    Ok(())
}

/// Listings return keys of any bytes as they are, and a pattern that quotes a key finds exactly it.
pub async fn keys_of_any_bytes_are_listed(fixture: &StoreUnderTest) -> Result<()> {
    if !fixture.capabilities().enumeration {
        return Ok(());
    }
    let space = fixture.space();
    let keys = awkward_keys();
    for key in &keys {
        space.put(key, &sealed(b"x"), Expiry::Never).await?;
    }
    assert_eq!(space.keys(&Glob::all(), 50).await?, keys);
    for key in keys.iter().filter(|key| key.len() < MAX_KEY_BYTES / 2) {
        let quoted: Vec<u8> = key.iter().flat_map(|byte| [b'\\', *byte]).collect();
        let exact = Glob::new(&quoted)?;
        assert_eq!(space.keys(&exact, 10).await?, [&key[..]]);
        let longer = Glob::new([&quoted[..], b"*"].concat())?;
        let expected: Vec<_> = keys
            .iter()
            .filter(|other| other.starts_with(key))
            .cloned()
            .collect();
        assert_eq!(
            space.keys(&longer, 10).await?,
            expected,
            "{}",
            key.escape_ascii()
        );
        assert_eq!(space.count(&longer).await?, expected.len() as u64);
    }
    Ok(())
}
