//! Laws of listings by tag: complete over pages of any size, of what is valid only.

use bytes::Bytes;

use super::StoreUnderTest;
use super::space::Space;
use super::tag_space::{subtree, tag, token};
use crate::error::{ErrorKind, Result};
use crate::glob::Glob;
use crate::store::{Expiry, Register};
use crate::testing::sealed;

/// Listings of laws end within so many pages, else the cursor runs in circles.
const MAX_PAGES: usize = 10_000;

/// Lists registers to the end, each once.
async fn registers(space: &Space, pattern: &Glob, limit: usize) -> Result<Vec<Register>> {
    let mut met = Vec::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let page = space
            .store
            .scan_registers(&space.namespace, pattern, cursor.as_ref(), limit)
            .await?;
        assert!(page.registers.len() <= limit, "a page keeps its limit");
        met.extend(page.registers);
        cursor = page.next;
        if cursor.is_none() {
            met.sort_unstable();
            met.dedup();
            return Ok(met);
        }
    }
    panic!("the listing does not end");
}

/// Lists keys that carry a register to the end, each once.
async fn keys(space: &Space, register: &Register, limit: usize) -> Result<Vec<Vec<u8>>> {
    let mut met = Vec::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let page = space
            .store
            .scan_by_register(&space.namespace, register, cursor.as_ref(), limit)
            .await?;
        assert!(page.keys.len() <= limit, "a page keeps its limit");
        met.extend(page.keys.iter().map(|met| met.key.as_bytes().to_vec()));
        cursor = page.next;
        if cursor.is_none() {
            met.sort_unstable();
            met.dedup();
            return Ok(met);
        }
    }
    panic!("the listing does not end");
}

fn listing_space(fixture: &StoreUnderTest) -> Option<Space> {
    fixture.capabilities().tag_listing.then(|| fixture.space())
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("key-{n:04}").into()).collect()
}

/// Registers in use are listed, over pages of any size, by pattern, and those of other namespaces are not.
pub async fn registers_are_listed(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = listing_space(fixture) else {
        return Ok(());
    };
    assert_eq!(registers(&space, &Glob::all(), 10).await?, []);
    let mut all: Vec<_> = (0..40).map(|n| tag(&format!("user:{n}"))).collect();
    all.extend([
        subtree("user"),
        tag("a\0\n{b}"),
        tag("user"),
        subtree("a:{b}"),
    ]);
    all.sort_unstable();
    for (n, register) in all.iter().enumerate() {
        let key = [b'k', n as u8];
        let one = std::slice::from_ref(register);
        space.put_tagged(&key, b"v", one).await?;
    }
    fixture.space().capture(b"k", &[tag("other")]).await?;
    space.capture(b"k", &[Register::any()]).await?;
    for limit in [1, 3, 44, 1000] {
        assert_eq!(registers(&space, &Glob::all(), limit).await?, all);
    }
    for pattern in ["=user:*", "=*", "/*", "=user:?", "=user", "none", "=a*"] {
        let glob = Glob::new(pattern)?;
        let mut expected = all.clone();
        expected.retain(|register| glob.matches(register.as_bytes()));
        assert_eq!(registers(&space, &glob, 7).await?, expected, "{pattern}");
    }
    Ok(())
}

/// A register that was invalidated is not listed until it is there again.
pub async fn invalidated_registers_are_not_listed(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = listing_space(fixture) else {
        return Ok(());
    };
    let (a, b) = (tag("a"), subtree("b"));
    let both = [a.clone(), b.clone()];
    space.capture(b"k", &both).await?;
    space.soften(&both).await?;
    let mut sorted = both.to_vec();
    sorted.sort_unstable();
    assert_eq!(registers(&space, &Glob::all(), 10).await?, sorted);
    space.invalidate(std::slice::from_ref(&a)).await?;
    assert_eq!(registers(&space, &Glob::all(), 10).await?, [b]);
    space.capture(b"k", &both).await?;
    assert_eq!(registers(&space, &Glob::all(), 10).await?, sorted);
    space.clear().await?;
    assert_eq!(registers(&space, &Glob::all(), 10).await?, []);
    Ok(())
}

/// Keys are listed by each register that their entries carry, over pages of any size.
pub async fn keys_are_listed_by_register(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = listing_space(fixture) else {
        return Ok(());
    };
    let (a, b, ab) = (tag("a"), tag("b"), subtree("a"));
    let all = numbered(60);
    let sets = [
        vec![],
        vec![a.clone()],
        vec![b.clone(), a.clone()],
        vec![ab.clone()],
    ];
    for (n, key) in all.iter().enumerate() {
        space.put_tagged(key, b"v", &sets[n % 4]).await?;
    }
    for (register, wanted) in [(&a, &[1, 2][..]), (&b, &[2]), (&ab, &[3]), (&tag("c"), &[])] {
        let carries = |(n, _): &(usize, &Vec<u8>)| wanted.contains(&(n % 4));
        let expected: Vec<_> = all.iter().enumerate().filter(carries).collect();
        let expected: Vec<_> = expected.into_iter().map(|(_, key)| key.clone()).collect();
        for limit in [1, 4, 1000] {
            assert_eq!(
                keys(&space, register, limit).await?,
                expected,
                "{register:?}"
            );
        }
    }
    assert_eq!(keys(&fixture.space(), &a, 10).await?, [b""; 0]);
    Ok(())
}

/// Keys whose entries are invalid, replaced, deleted or only being loaded are not listed by register.
pub async fn only_valid_entries_are_listed_by_register(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = listing_space(fixture) else {
        return Ok(());
    };
    let (a, b) = (tag("a"), tag("b"));
    let both = [a.clone(), b.clone()];
    space.put_tagged(b"lives", b"v", &both[..1]).await?;
    space
        .put_tagged(b"stale", b"v", &[a.clone(), tag("c")])
        .await?;
    space.soften(&[tag("c")]).await?;
    space.put_tagged(b"invalid", b"v", &both).await?;
    space.put_tagged(b"replaced", b"v", &both[..1]).await?;
    space.put(b"replaced", &sealed(b"w"), Expiry::Never).await?;
    space.put_tagged(b"deleted", b"v", &both[..1]).await?;
    space.delete(b"deleted").await?;
    space.begun(b"loading", &both[..1], token()).await?;
    space
        .put_tagged_for(b"expired", b"v", &both[..1], super::SOON)
        .await?;
    space.invalidate(&both[1..]).await?;
    fixture.outlive().await;
    assert_eq!(keys(&space, &a, 2).await?, [&b"lives"[..], b"stale"]);
    assert_eq!(keys(&space, &b, 2).await?, [b""; 0]);
    space.put_tagged(b"again", b"v", &both).await?;
    assert_eq!(keys(&space, &b, 2).await?, [b"again"]);
    Ok(())
}

/// A key listed by register comes with the size and the expiry of its entry.
pub async fn keys_listed_by_register_tell_size_and_expiry(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = listing_space(fixture) else {
        return Ok(());
    };
    let registers = [tag("a")];
    let expiry = Expiry::After(3_600_000);
    space
        .put_tagged_for(b"k", &[1; 1000], &registers, expiry)
        .await?;
    let mut cursor = None;
    // A page may be empty and yet not the last.
    for _ in 0..MAX_PAGES {
        let page = space
            .store
            .scan_by_register(&space.namespace, &registers[0], cursor.as_ref(), 10)
            .await?;
        if let [met] = page.keys.as_slice() {
            let entry = space.entry(b"k").await?.expect("it is valid");
            assert_eq!(met.bytes, entry.value.len() as u64);
            assert_eq!(met.expires_at_ms, entry.expires_at_ms);
            return Ok(());
        }
        cursor = page.next;
        assert!(cursor.is_some(), "it is not listed");
    }
    panic!("the listing does not end");
}

/// A cursor that the store did not give is an error or harmless for listings of registers, and by register.
pub async fn foreign_cursors_of_tags_are_harmless(fixture: &StoreUnderTest) -> Result<()> {
    let Some(space) = listing_space(fixture) else {
        return Ok(());
    };
    let (other, registers) = (fixture.space(), [tag("a")]);
    for space in [&space, &other] {
        let key = if space.namespace == other.namespace {
            b"other"
        } else {
            b"mine!"
        };
        space.put_tagged(key, b"v", &registers).await?;
    }
    let mut cursors: Vec<Vec<u8>> = vec![Vec::new(), b"=a".to_vec(), vec![b'9'; 4096]];
    cursors.extend([b"7".to_vec(), b"1000000".to_vec()]);
    cursors.extend((1..24).flat_map(|len| [vec![0xff; len], vec![0; len]]));
    for cursor in cursors {
        let shown = cursor.escape_ascii().to_string();
        let cursor = Bytes::from(cursor);
        let (store, namespace) = (&space.store, &space.namespace);
        let found = store
            .scan_registers(namespace, &Glob::all(), Some(&cursor), 10)
            .await;
        match found {
            Ok(page) => assert!(page.registers.iter().all(|met| *met == registers[0])),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{shown}"),
        }
        let found = store
            .scan_by_register(namespace, &registers[0], Some(&cursor), 10)
            .await;
        match found {
            Ok(page) => assert!(page.keys.iter().all(|met| met.key.as_bytes() == b"mine!")),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{shown}"),
        }
    }
    Ok(())
}
