//! The file of one register. Little endian.
//!
//! ```text
//!  0 magic "LRDG"    4 layout (1)      5 zero u24       8 hard number u64   16 soft number u64
//! 24 keep until ms u64 (2^64-1: for good)              32 namespace digest, 16 bytes
//! 48 crc32c u32 of what precedes and of the name       52 name, up to the end of the file
//! ```

use super::name::Digest;
use crate::store::Register;
use crate::tag::Nonces;

const MAGIC: [u8; 4] = *b"LRDG";
const LAYOUT: u8 = 1;
const CRC_AT: usize = 48;
const FIXED_BYTES: usize = 52;

/// What a register holds, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) nonces: Nonces,
    pub(super) until_ms: u64,
}

impl Kept {
    /// Returns the whole file.
    pub(super) fn encode(&self, namespace: Digest, register: &Register) -> Vec<u8> {
        let name = register.as_bytes();
        let mut file = Vec::with_capacity(FIXED_BYTES + name.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&[LAYOUT, 0, 0, 0]);
        file.extend_from_slice(&self.nonces.hard.to_le_bytes());
        file.extend_from_slice(&self.nonces.soft.to_le_bytes());
        file.extend_from_slice(&self.until_ms.to_le_bytes());
        file.extend_from_slice(&namespace.0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&file), name);
        file.extend_from_slice(&crc.to_le_bytes());
        file.extend_from_slice(name);
        file
    }

    /// Decodes and verifies a file of this namespace; `None` if it is not whole.
    pub(super) fn decode(file: &[u8], namespace: Digest) -> Option<(Register, Self)> {
        let (fixed, name) = file.split_first_chunk::<FIXED_BYTES>()?;
        if !fixed.starts_with(&MAGIC) || fixed[4] != LAYOUT || fixed[32..48] != namespace.0 {
            return None;
        }
        let stored = u32::from_le_bytes(fixed[CRC_AT..].try_into().ok()?);
        if crc32c::crc32c_append(crc32c::crc32c(&fixed[..CRC_AT]), name) != stored {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(fixed[at..at + 8].try_into().ok()?));
        let nonces = Nonces {
            hard: number(8)?,
            soft: number(16)?,
        };
        let until_ms = number(24)?;
        Some((Register::from_bytes(name)?, Self { nonces, until_ms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_reads_back_and_every_flipped_bit_is_noticed() {
        let namespace = Digest::of(b"namespace");
        let register = Register::exact("user:1").unwrap();
        let kept = Kept {
            nonces: Nonces::fresh(),
            until_ms: 7,
        };
        let file = kept.encode(namespace, &register);
        assert_eq!(Kept::decode(&file, namespace), Some((register, kept)));
        assert_eq!(Kept::decode(&file, Digest::of(b"another")), None);
        for bit in 0..file.len() * 8 {
            let mut altered = file.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            // Three bytes are reserved, yet covered.
            assert_eq!(Kept::decode(&altered, namespace), None, "bit {bit}");
        }
        for len in 0..file.len() {
            assert_eq!(Kept::decode(&file[..len], namespace), None, "cut at {len}");
        }
    }
}
