//! A small image of guest memory: only the pages that a reading needs.
//!
//! Made from a real guest by [`Recorder`](super::Recorder), and checked in for tests. The encoded
//! form stores each 64-byte block as its word-wise difference to the block before, which makes
//! arrays of struct pages (equal, or with pointers that count up) nearly vanish when the result is
//! then compressed.

use super::source::{MemError, Memory, for_each_piece, join_ranges};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"gm-img-1";
const WORDS: usize = 8;

/// Stretches of guest memory, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SparseImage {
    parts: Vec<(u64, Vec<u8>)>,
    ranges: Vec<Range<u64>>,
}

impl SparseImage {
    /// An image of the given stretches (guest physical address, bytes).
    ///
    /// # Errors
    /// If two overlap or one wraps around.
    pub fn new(mut parts: Vec<(u64, Vec<u8>)>) -> Result<SparseImage, MemError> {
        parts.retain(|p| !p.1.is_empty());
        parts.sort_by_key(|p| p.0);
        let end = |p: &(u64, Vec<u8>)| p.0.checked_add(p.1.len() as u64);
        let wraps = parts.iter().any(|p| end(p).is_none());
        let overlaps = |pair: &[(u64, Vec<u8>)]| matches!(pair, [a, b] if end(a) > Some(b.0));
        if wraps || parts.windows(2).any(overlaps) {
            return Err(bad("its stretches overlap"));
        }
        let ranges = join_ranges(parts.iter().map(|p| (p.0, p.1.len() as u64)));
        Ok(SparseImage { parts, ranges })
    }

    /// The stretches (guest physical address, bytes), ascending.
    pub fn parts(&self) -> &[(u64, Vec<u8>)] {
        &self.parts
    }

    /// The bytes to compress and to keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend((self.parts.len() as u64).to_le_bytes());
        for (gpa, bytes) in &self.parts {
            out.extend(gpa.to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
        }
        for (_, bytes) in &self.parts {
            let mut before = [0u64; WORDS];
            for block in bytes.chunks(WORDS * 8) {
                for (word, last) in block.chunks(8).zip(&mut before) {
                    let mut whole = [0; 8];
                    whole[..word.len()].copy_from_slice(word);
                    let now = u64::from_le_bytes(whole);
                    let difference = now.wrapping_sub(*last).to_le_bytes();
                    out.extend(&difference[..word.len()]);
                    *last = now;
                }
            }
        }
        out
    }

    /// The image that [`SparseImage::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes aren't such an image.
    pub fn decode(bytes: &[u8]) -> Result<SparseImage, MemError> {
        let mut rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| bad("it isn't a recorded image"))?;
        let count = take_u64(&mut rest)?;
        let mut heads = Vec::new();
        for _ in 0..count {
            heads.push((take_u64(&mut rest)?, take_u64(&mut rest)?));
        }
        let mut parts = Vec::with_capacity(heads.len());
        for (gpa, len) in heads {
            let len = usize::try_from(len).map_err(|_| bad("it is truncated"))?;
            let (body, tail) = rest
                .split_at_checked(len)
                .ok_or_else(|| bad("it is truncated"))?;
            rest = tail;
            let mut plain = Vec::with_capacity(len);
            let mut before = [0u64; WORDS];
            for block in body.chunks(WORDS * 8) {
                for (word, last) in block.chunks(8).zip(&mut before) {
                    let mut whole = [0; 8];
                    whole[..word.len()].copy_from_slice(word);
                    let now = last.wrapping_add(u64::from_le_bytes(whole));
                    plain.extend(&now.to_le_bytes()[..word.len()]);
                    *last = now;
                }
            }
            parts.push((gpa, plain));
        }
        SparseImage::new(parts)
    }
}

fn bad(reason: &str) -> MemError {
    MemError::Open {
        what: "a recorded memory image".to_owned(),
        reason: format!("{reason}; record it again"),
    }
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, MemError> {
    let (word, tail) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| bad("it is truncated"))?;
    *rest = tail;
    Ok(u64::from_le_bytes(*word))
}

impl Memory for SparseImage {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError> {
        for_each_piece(
            &self.parts,
            |p| (p.0, p.1.len() as u64),
            gpa,
            buf,
            |index, offset, piece| {
                let from = offset as usize;
                piece.copy_from_slice(&self.parts[index].1[from..from + piece.len()]);
                Ok(())
            },
        )
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encoding_loses_nothing(parts in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 0..5))
        {
            let parts = parts.into_iter().enumerate().map(|(i, p)| (i as u64 * 0x1000, p));
            let image = SparseImage::new(parts.collect()).unwrap();
            prop_assert_eq!(SparseImage::decode(&image.encode()).unwrap(), image);
        }

        #[test]
        fn junk_is_refused_quietly(mut junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SparseImage::decode(&junk);
            junk.splice(0..0, *MAGIC);
            let _ = SparseImage::decode(&junk);
        }
    }

    #[test]
    fn overlapping_parts_are_refused() {
        assert!(SparseImage::new(vec![(0, vec![1; 8]), (4, vec![1; 8])]).is_err());
        assert!(SparseImage::new(vec![(u64::MAX, vec![1; 8])]).is_err());
    }
}
