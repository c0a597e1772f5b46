//! Compression of encoded values.
//!
//! Applied above a threshold and kept only when the result is smaller. Decompression is bounded:
//! the header states the plain size, which must be within the limit and within 200 times the
//! stored size, and the output must have exactly that size.

#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io::Read as _;

use crate::error::{Error, ErrorKind, Result};

/// The largest value after decompression: 64 MiB.
pub(crate) const MAX_PLAIN_BYTES: usize = 64 << 20;

/// The largest ratio of plain to stored size; a value that shrinks further is stored as it is.
const MAX_RATIO: usize = 200;

/// How encoded values are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Stored as encoded.
    None,
    /// LZ4: about 4 GB/s to read. The default.
    #[default]
    Lz4,
    /// Zstandard level 1: smaller, slower. Needs the feature `zstd`.
    Zstd,
    /// Gzip level 6: for readers in other languages. Needs the feature `gzip`.
    Gzip,
}

impl Compression {
    /// Returns the compression of this name: `none`, `lz4`, `zstd` or `gzip`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            "gzip" => Self::Gzip,
            _ => return None,
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::Gzip => 3,
        }
    }

    pub(crate) const fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            1 => Self::Lz4,
            2 => Self::Zstd,
            3 => Self::Gzip,
            _ => return None,
        })
    }
}

/// Compresses `plain`; `None` when that does not make it smaller or would exceed the ratio limit.
///
/// # Errors
/// `Unsupported`: the compression is not built in.
pub(crate) fn compress(compression: Compression, plain: &[u8]) -> Result<Option<Vec<u8>>> {
    let packed = match compression {
        Compression::None => return Ok(None),
        Compression::Lz4 => lz4_compress(plain)?,
        Compression::Zstd => zstd_compress(plain)?,
        Compression::Gzip => gzip_compress(plain)?,
    };
    let useful = packed.len() < plain.len() && plain.len() / MAX_RATIO <= packed.len();
    Ok(useful.then_some(packed))
}

/// Restores exactly `plain_len` bytes.
///
/// # Errors
/// `Corrupted`: the stated size is over the limits, or the bytes do not give it.
/// `Unsupported`: the compression is not built in.
pub(crate) fn decompress(
    compression: Compression,
    packed: &[u8],
    plain_len: usize,
) -> Result<Vec<u8>> {
    if plain_len > MAX_PLAIN_BYTES || plain_len / MAX_RATIO > packed.len() {
        return Err(Error::new(
            ErrorKind::Corrupted,
            format!("a plain size of {plain_len} bytes is over the limits"),
        ));
    }
    let plain = match compression {
        Compression::None => packed.to_vec(),
        Compression::Lz4 => lz4_decompress(packed, plain_len)?,
        Compression::Zstd => zstd_decompress(packed, plain_len)?,
        Compression::Gzip => gzip_decompress(packed, plain_len)?,
    };
    if plain.len() == plain_len {
        Ok(plain)
    } else {
        Err(damaged("the decompressed size differs from the stated one"))
    }
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Corrupted, "the value does not decompress").caused_by(cause)
}

#[cfg(feature = "lz4")]
fn lz4_compress(plain: &[u8]) -> Result<Vec<u8>> {
    Ok(lz4_flex::block::compress(plain))
}

#[cfg(feature = "lz4")]
fn lz4_decompress(packed: &[u8], plain_len: usize) -> Result<Vec<u8>> {
    lz4_flex::block::decompress(packed, plain_len).map_err(damaged)
}

#[cfg(not(feature = "lz4"))]
fn lz4_compress(_: &[u8]) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `lz4`"))
}

#[cfg(not(feature = "lz4"))]
fn lz4_decompress(_: &[u8], _: usize) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `lz4`"))
}

#[cfg(feature = "zstd")]
mod zstd_context {
    //! One compressor and decompressor per thread: creating them costs several times their work.

    use std::cell::RefCell;

    use zstd::bulk::{Compressor, Decompressor};

    const LEVEL: i32 = 1;

    thread_local! {
        static PACK: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
        static UNPACK: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }

    pub(super) fn compress(plain: &[u8]) -> std::io::Result<Vec<u8>> {
        PACK.with_borrow_mut(|slot| match slot {
            Some(context) => context.compress(plain),
            None => slot.insert(Compressor::new(LEVEL)?).compress(plain),
        })
    }

    pub(super) fn decompress(packed: &[u8], plain_len: usize) -> std::io::Result<Vec<u8>> {
        UNPACK.with_borrow_mut(|slot| match slot {
            Some(context) => context.decompress(packed, plain_len),
            None => slot
                .insert(Decompressor::new()?)
                .decompress(packed, plain_len),
        })
    }
}

#[cfg(feature = "zstd")]
fn zstd_compress(plain: &[u8]) -> Result<Vec<u8>> {
    zstd_context::compress(plain).map_err(pack_failed)
}

#[cfg(feature = "zstd")]
fn zstd_decompress(packed: &[u8], plain_len: usize) -> Result<Vec<u8>> {
    zstd_context::decompress(packed, plain_len).map_err(damaged)
}

#[cfg(not(feature = "zstd"))]
fn zstd_compress(_: &[u8]) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `zstd`"))
}

#[cfg(not(feature = "zstd"))]
fn zstd_decompress(_: &[u8], _: usize) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `zstd`"))
}

#[cfg(feature = "gzip")]
fn gzip_compress(plain: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(plain.len() / 2);
    flate2::read::GzEncoder::new(plain, flate2::Compression::default())
        .read_to_end(&mut packed)
        .map_err(pack_failed)?;
    Ok(packed)
}

#[cfg(feature = "gzip")]
fn gzip_decompress(packed: &[u8], plain_len: usize) -> Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(plain_len);
    flate2::read::GzDecoder::new(packed)
        .take(plain_len as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(damaged)?;
    Ok(plain)
}

#[cfg(not(feature = "gzip"))]
fn gzip_compress(_: &[u8]) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `gzip`"))
}

#[cfg(not(feature = "gzip"))]
fn gzip_decompress(_: &[u8], _: usize) -> Result<Vec<u8>> {
    Err(Error::unsupported("built without the feature `gzip`"))
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn pack_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Codec, "the value cannot be compressed").caused_by(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Compression; 3] = [Compression::Lz4, Compression::Zstd, Compression::Gzip];

    #[test]
    fn compressible_text_round_trips_and_random_bytes_are_left_alone() {
        let text = "a larder keeps food; ".repeat(40).into_bytes();
        let noise: Vec<u8> = (0..2000).map(|_| fastrand::u8(..)).collect();
        for compression in ALL {
            let packed = compress(compression, &text).unwrap().unwrap();
            assert!(packed.len() < text.len());
            assert_eq!(decompress(compression, &packed, text.len()).unwrap(), text);
            assert!(decompress(compression, &packed, text.len() - 1).is_err());
            assert!(decompress(compression, &packed, text.len() + 1).is_err());
            assert_eq!(compress(compression, &noise).unwrap(), None);
        }
    }

    #[test]
    fn a_bomb_is_neither_written_nor_read() {
        let zeros = vec![0; 4 << 20];
        for compression in ALL {
            if let Some(packed) = compress(compression, &zeros).unwrap() {
                assert!(decompress(compression, &packed, zeros.len()).is_ok());
            }
            assert!(decompress(compression, &[0; 16], MAX_PLAIN_BYTES).is_err());
            assert!(decompress(compression, &[0; 16], usize::MAX).is_err());
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 1..300), len in 0usize..60_000) {
            for compression in ALL {
                let _ = decompress(compression, &bytes, len);
            }
        }
    }
}
