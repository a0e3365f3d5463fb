//! Records which pages a reading touches, so that a small image of them can be kept.

use super::source::{MemError, Memory};
use super::sparse::SparseImage;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE: u64 = 4096;

/// Passes reads on to another source and remembers their pages.
pub struct Recorder<'a> {
    inner: &'a dyn Memory,
    pages: Mutex<BTreeSet<u64>>,
}

impl<'a> Recorder<'a> {
    /// A recorder in front of `inner`.
    pub fn new(inner: &'a dyn Memory) -> Recorder<'a> {
        Recorder {
            inner,
            pages: Mutex::default(),
        }
    }

    /// An image of every page read so far, with its present content.
    ///
    /// # Errors
    /// If a page can't be read again.
    pub fn to_image(&self) -> Result<SparseImage, MemError> {
        let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
        for &page in self.pages().iter() {
            let mut bytes = vec![0; PAGE as usize];
            self.inner.read(page * PAGE, &mut bytes)?;
            match parts.last_mut() {
                Some((gpa, all)) if *gpa + all.len() as u64 == page * PAGE => all.extend(bytes),
                _ => parts.push((page * PAGE, bytes)),
            }
        }
        SparseImage::new(parts)
    }

    fn pages(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory for Recorder<'_> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError> {
        self.inner.read(gpa, buf)?;
        if !buf.is_empty() {
            self.pages()
                .extend(gpa / PAGE..=(gpa + buf.len() as u64 - 1) / PAGE);
        }
        Ok(())
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.inner.ranges()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_and_no_more_is_in_the_image() {
        let all = SparseImage::new(vec![(0, vec![3; 5 * 4096])]).unwrap();
        let recorder = Recorder::new(&all);
        let mut buf = [0; 16];
        recorder.read(0x0ff8, &mut buf).unwrap();
        recorder.read(0x4000, &mut buf).unwrap();
        let image = recorder.to_image().unwrap();
        assert_eq!(image.ranges(), [0..0x2000, 0x4000..0x5000]);
    }
}
