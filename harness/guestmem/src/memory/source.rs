//! What every source of guest memory offers.

use std::ops::Range;

/// Why guest memory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// No part of the source holds the address.
    #[error("find guest physical address {gpa:#x} (+{len}) in the memory source")]
    NotThere {
        /// Guest physical address asked for.
        gpa: u64,
        /// Bytes asked for.
        len: usize,
    },
    /// The host refused or failed.
    #[error("read {len} bytes at guest physical address {gpa:#x}: {source}")]
    Io {
        /// Guest physical address asked for.
        gpa: u64,
        /// Bytes asked for.
        len: usize,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The source itself could not be opened or understood.
    #[error("open {what}: {reason}")]
    Open {
        /// File or process.
        what: String,
        /// What was wrong, and what to do.
        reason: String,
    },
}

/// A paused guest's physical memory.
pub trait Memory: Sync {
    /// Fills `buf` with the bytes from guest physical address `gpa` on.
    ///
    /// # Errors
    /// If any byte of the range isn't there or can't be read; `buf` is then undefined.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError>;

    /// The guest physical ranges that can be read, ascending, not overlapping.
    fn ranges(&self) -> &[Range<u64>];

    /// Reads several `(gpa, bytes)` spans one after another into `buf`, whose length is their sum.
    ///
    /// # Errors
    /// As [`Memory::read`]; one span that fails fails all.
    fn read_spans(&self, spans: &[(u64, usize)], buf: &mut [u8]) -> Result<(), MemError> {
        let mut rest = buf;
        for &(gpa, len) in spans {
            let Some((part, tail)) = rest.split_at_mut_checked(len) else {
                return Err(MemError::NotThere { gpa, len });
            };
            self.read(gpa, part)?;
            rest = tail;
        }
        Ok(())
    }
}

/// The ranges of `parts` (start, length), sorted, neighbours joined.
pub(super) fn join_ranges(parts: impl Iterator<Item = (u64, u64)>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = parts
        .filter(|&(_, len)| len > 0)
        .map(|(start, len)| start..start.saturating_add(len))
        .collect();
    all.sort_by_key(|r| r.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for r in all {
        match joined.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => joined.push(r),
        }
    }
    joined
}

/// Splits a read at the borders of `parts`, sorted by start: calls `each(index, offset in the part,
/// piece of buf)` for every piece.
pub(super) fn for_each_piece<P>(
    parts: &[P],
    span: impl Fn(&P) -> (u64, u64),
    gpa: u64,
    buf: &mut [u8],
    mut each: impl FnMut(usize, u64, &mut [u8]) -> Result<(), MemError>,
) -> Result<(), MemError> {
    let whole = buf.len();
    let not_there = || MemError::NotThere { gpa, len: whole };
    let mut at = gpa;
    let mut rest = buf;
    while !rest.is_empty() {
        let index = parts.partition_point(|p| span(p).0 <= at);
        let index = index.checked_sub(1).ok_or_else(not_there)?;
        let part = parts.get(index).ok_or_else(not_there)?;
        let (start, len) = span(part);
        let offset = at - start;
        let left = len.checked_sub(offset).filter(|&n| n > 0);
        let left = usize::try_from(left.ok_or_else(not_there)?).unwrap_or(usize::MAX);
        let (piece, tail) = rest.split_at_mut(left.min(rest.len()));
        let step = piece.len() as u64;
        each(index, offset, piece)?;
        rest = tail;
        if !rest.is_empty() {
            at = at.checked_add(step).ok_or_else(not_there)?;
        }
    }
    Ok(())
}
