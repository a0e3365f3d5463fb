//! Recorded guests: what `examples/pages.rs --record` wrote.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]
#![allow(clippy::unwrap_used, reason = "tests")]

use guestmem::{KernelInfo, PagesReading, SparseImage};
use std::collections::HashMap;
use std::path::PathBuf;

/// A recorded guest.
pub struct Recorded {
    pub symbols: HashMap<String, u64>,
    pub btf: Vec<u8>,
    pub memory: SparseImage,
}

/// The guest recorded under `tests/recorded/name`.
pub fn recorded(name: &str) -> Recorded {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(name);
    let file = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let unpack = |name: &str| zstd::decode_all(&file(name)[..]).unwrap();
    Recorded {
        symbols: serde_json::from_slice(&file("symbols.json")).unwrap(),
        btf: unpack("btf.zst"),
        memory: SparseImage::decode(&unpack("memory.zst")).unwrap(),
    }
}

impl Recorded {
    pub fn kernel(&self) -> KernelInfo {
        KernelInfo::from_parts(self.symbols.clone(), self.btf.clone(), None).unwrap()
    }
}

/// What must hold of every reading, however corrupt the guest: regions ascend, and the runs of
/// each cover its pages after the metadata exactly.
pub fn check_shape(reading: &PagesReading) {
    let mut free = 0;
    for r in &reading.regions {
        assert!(r.start_pfn >= free, "regions overlap at {:#x}", r.start_pfn);
        free = r.start_pfn + r.pages;
        let mut next = r.start_pfn + r.metadata_pages;
        for run in &r.runs {
            assert_eq!(run.pfn, next);
            assert!(run.pages > 0);
            next += run.pages;
        }
        assert_eq!(next, free);
        for pair in r.runs.windows(2) {
            let next = pair[0].index.map(|first| first.wrapping_add(pair[0].pages));
            let goes_on = pair[1].index == next && pair[0].state == pair[1].state;
            assert!(!goes_on, "runs could be joined: {pair:?}");
        }
    }
}
