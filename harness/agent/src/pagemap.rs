//! /proc/PID/pagemap, as runs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use proto::{PagemapRun, PagemapState};

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FRAME: u64 = (1 << 55) - 1;
/// A swap entry's type is its low MAX_SWAPFILES_SHIFT bits (fs/proc/task_mmu.c).
const SWAP_TYPE_BITS: u32 = 5;

/// The raw entries of `pages` 4K pages from `address` on of process `pid`
/// (`self` or a number).
pub(crate) fn entries(pid: &str, address: u64, pages: u64) -> io::Result<Vec<u64>> {
    let file = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut bytes = vec![0; pages as usize * 8];
    file.read_exact_at(&mut bytes, address / 4096 * 8)?;
    Ok(bytes
        .chunks_exact(8)
        .map(|c| {
            let mut word = [0; 8];
            word.copy_from_slice(c);
            u64::from_le_bytes(word)
        })
        .collect())
}

/// Whether a page is there.
pub(crate) fn present(entry: u64) -> bool {
    entry & PRESENT != 0
}

/// The frame of a page that is there.
pub(crate) fn frame(entry: u64) -> u64 {
    entry & FRAME
}

/// Runs of equal or consecutive entries, without gaps.
pub(crate) fn runs(entries: &[u64]) -> Vec<PagemapRun> {
    let mut out: Vec<PagemapRun> = Vec::new();
    for (page, &entry) in entries.iter().enumerate() {
        let state = state(entry);
        if let Some(last) = out.last_mut()
            && follows(last, state)
        {
            last.pages += 1;
            continue;
        }
        out.push(PagemapRun {
            page: page as u64,
            pages: 1,
            state,
        });
    }
    out
}

fn state(entry: u64) -> PagemapState {
    if entry & PRESENT != 0 {
        PagemapState::Present { pfn: entry & FRAME }
    } else if entry & SWAPPED != 0 {
        PagemapState::SwapPfn {
            kind: (entry & ((1 << SWAP_TYPE_BITS) - 1)) as u8,
            pfn: (entry & FRAME) >> SWAP_TYPE_BITS,
        }
    } else {
        PagemapState::None {}
    }
}

fn follows(run: &PagemapRun, next: PagemapState) -> bool {
    match (run.state, next) {
        (PagemapState::None {}, PagemapState::None {}) => true,
        (PagemapState::Present { pfn }, PagemapState::Present { pfn: n }) => pfn + run.pages == n,
        (PagemapState::SwapPfn { kind, pfn }, PagemapState::SwapPfn { kind: k, pfn: n }) => {
            kind == k && pfn + run.pages == n
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_what_follows_on() {
        let private = |pfn: u64| SWAPPED | pfn << 5 | 30;
        let entries = [
            0,
            0,
            PRESENT | 7,
            PRESENT | 8,
            PRESENT | 8,
            private(9),
            private(10),
            private(12),
        ];
        let got: Vec<_> = runs(&entries).iter().map(|r| (r.page, r.pages)).collect();
        assert_eq!(got, [(0, 2), (2, 2), (4, 1), (5, 2), (7, 1)]);
        assert_eq!(
            runs(&entries)[3].state,
            PagemapState::SwapPfn { kind: 30, pfn: 9 }
        );
    }
}
