//! A guest's memory: page tables made of an input, and recorded guests that an input changes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use guestmem::{
    KernelInfo, Levels, MemError, Memory, PagesReading, SparseImage, Target, Translation, Virt,
};
use zonedev::record::CheckpointRecord;

use crate::records::CONTRACTS;
use crate::{Input, assert_shown};

/// Where the tables are: so many pages from here on.
const TABLES: u64 = 0x1000;
const COUNT: u64 = 8;
/// Bytes of memory behind them, all of one page.
const DATA: u64 = 0x10_0000;

/// Counts what is read.
struct Counted<'a> {
    inner: &'a dyn Memory,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Counted<'a> {
    fn new(inner: &'a dyn Memory) -> Self {
        Counted {
            inner,
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Memory for Counted<'_> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.inner.read(gpa, buf)
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.inner.ranges()
    }
}

/// Entries of page tables, then addresses to look up.
pub(crate) fn pagetable(data: &[u8]) {
    let mut input = Input::new(data);
    let mut ram = vec![0u8; (COUNT * 4096) as usize];
    for _ in 0..input.byte() {
        let table = u64::from(input.byte()) % COUNT;
        let index = u64::from(input.half()) % 512;
        // Mostly an entry that leads to another table or to the data, with any flags.
        let entry = match input.byte() {
            0 => input.word(),
            to => {
                let to = u64::from(to) % (COUNT + 2);
                let gpa = if to < COUNT {
                    TABLES + to * 4096
                } else {
                    DATA + (to - COUNT) * 4096
                };
                gpa | u64::from(input.half() & 0xfff) | 1
            }
        };
        let at = (table * 4096 + index * 8) as usize;
        ram[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    }
    let Ok(image) = SparseImage::new(vec![(TABLES, ram), (DATA, vec![7; 0x4000])]) else {
        return;
    };
    let mut vas = Vec::new();
    while !input.is_empty() && vas.len() < 64 {
        // Canonical more often than not.
        let word = input.word();
        vas.push(if word & 3 == 0 {
            word
        } else {
            word.cast_signed()
                .wrapping_shl(17)
                .wrapping_shr(17)
                .cast_unsigned()
        });
    }
    for levels in [Levels::Four, Levels::Five] {
        let counted = Counted::new(&image);
        let virt = Virt::new(&counted, TABLES, levels);
        for va in &vas {
            walk(&virt, &counted, *va);
        }
    }
}

fn walk(virt: &Virt, counted: &Counted, va: u64) {
    let before = counted.reads.load(Ordering::Relaxed);
    let found = virt.translate(va);
    assert!(counted.reads.load(Ordering::Relaxed) - before <= 5);
    if let Ok(Translation { gpa, left }) = found {
        assert!((1..=1 << 30).contains(&left));
        // To the end of a page of this size, in both address spaces.
        let end = |at: u64| at.wrapping_add(left);
        assert!(end(va) % 4096 == 0 && end(gpa) % 4096 == 0 && gpa % 4096 == va % 4096);
    }
    let len = (va >> 7) as usize % 20_000;
    let mut spans = Vec::new();
    let before = counted.reads.load(Ordering::Relaxed);
    let whole = virt.spans(va, len, &mut spans);
    assert!(counted.reads.load(Ordering::Relaxed) - before <= 5 * (len as u64 / 4096 + 2));
    let bytes: usize = spans.iter().map(|s| s.1).sum();
    assert!(if whole.is_ok() {
        bytes == len
    } else {
        bytes < len
    });
    if let (true, Ok(spans_of_it)) = (len > 0, &whole.map(|()| &spans)) {
        assert_eq!(spans_of_it[0].0, virt.translate(va).map_or(0, |t| t.gpa));
    }
    let mut buf = vec![0; len];
    if virt.read(va, &mut buf).is_ok()
        && let Ok(word) = virt.uint(va, len.min(8))
    {
        let mut first = [0; 8];
        let n = len.min(8);
        first[..n].copy_from_slice(&buf[..n]);
        assert_eq!(word, u64::from_le_bytes(first));
    }
    if let Ok(text) = virt.string(va, len) {
        // Each byte may have become a replacement character.
        assert!(text.len() <= len * 3 && !text.contains('\0'));
    }
}

/// A recorded guest with the target that reads it.
struct Guest {
    kernel: KernelInfo,
    memory: SparseImage,
    target: Target,
    reading: PagesReading,
}

static GUESTS: LazyLock<Vec<Guest>> = LazyLock::new(|| ["5.10", "6.12", "7.3"].map(guest).into());

/// The guest recorded in guestmem's tests.
fn guest(name: &str) -> Guest {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../guestmem/tests/recorded");
    let file = |part: &str| std::fs::read(format!("{dir}/{name}/{part}")).unwrap_or_default();
    let unpack = |part: &str| zstd::decode_all(&file(part)[..]).unwrap_or_default();
    let symbols = serde_json::from_slice(&file("symbols.json")).unwrap_or_default();
    let kernel = KernelInfo::from_parts(symbols, unpack("btf.zst"), None);
    let memory = SparseImage::decode(&unpack("memory.zst"));
    let (Ok(kernel), Ok(memory)) = (kernel, memory) else {
        panic!("the recorded guest {name} can't be read");
    };
    match Target::attach(&memory, &kernel) {
        Ok(target) => Guest {
            reading: target.read_pages(&memory),
            kernel,
            memory,
            target,
        },
        Err(e) => panic!("attach to the recorded guest {name}: {e}"),
    }
}

/// A guest with some words changed.
struct Changed<'a> {
    inner: &'a dyn Memory,
    words: BTreeMap<u64, u64>,
}

impl Memory for Changed<'_> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemError> {
        self.inner.read(gpa, buf)?;
        let end = gpa + buf.len() as u64;
        for (&at, word) in self.words.range(gpa.saturating_sub(7)..end) {
            for (at, byte) in (at..).zip(word.to_le_bytes()) {
                if (gpa..end).contains(&at) {
                    buf[(at - gpa) as usize] = byte;
                }
            }
        }
        Ok(())
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.inner.ranges()
    }
}

/// Changes to a recorded guest: which guest, whether before or after attaching, then places and
/// words.
pub(crate) fn pages(data: &[u8]) {
    let mut input = Input::new(data);
    let guest = input.pick(&GUESTS);
    let contract = input.pick(&CONTRACTS);
    let attach = input.byte().is_multiple_of(2);
    let virt = guest.target.virt(&guest.memory);
    let mut words = BTreeMap::new();
    while !input.is_empty() && words.len() < 200 {
        let Some(gpa) = place(&mut input, guest, &virt) else {
            continue;
        };
        let word = match input.byte() % 6 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (input.byte() % 64),
            3 => input.word(),
            4 => input.some(),
            // A word from elsewhere in the guest.
            _ => at(guest, input.half(), input.half()).map_or(0, |(_, word)| word),
        };
        words.insert(gpa, word);
    }
    let changed = Changed {
        inner: &guest.memory,
        words,
    };
    let counted = Counted::new(&changed);
    let reading = if attach {
        match Target::attach(&counted, &guest.kernel) {
            Ok(target) => target.read_pages(&counted),
            Err(e) => return assert!(e.to_string().len() < 4096, "{e}"),
        }
    } else {
        guest.target.read_pages(&counted)
    };
    // 2 GiB of struct pages, and what leads there.
    assert!(counted.bytes.into_inner() <= 4 << 30);
    shape(&reading);
    let checkpoint = CheckpointRecord {
        name: "c".into(),
        step: 0,
        pages: reading,
        claims: proto::Checkpoint::default(),
        rereads: 0,
        first: None,
        read_us: 0,
    };
    crate::records::judged(&checkpoint, contract);
}

/// A place to change: any word that the recording has, or one of a pgmap or of a struct page.
fn place(input: &mut Input, guest: &Guest, virt: &Virt) -> Option<u64> {
    let regions = &guest.reading.regions;
    let kind = input.byte() % 3;
    if kind == 0 || regions.is_empty() {
        return at(guest, input.half(), input.half()).map(|(gpa, _)| gpa);
    }
    let region = input.pick(regions);
    let va = if kind == 1 {
        region.pgmap.address + u64::from(input.byte() % 64) * 8
    } else {
        let page = region.start_pfn + input.some() % region.pages;
        0xffff_ea00_0000_0000 + page * 64 + u64::from(input.byte() % 8) * 8
    };
    Some(virt.translate(va).ok()?.gpa)
}

/// Where a word of the recording is, and the word.
fn at(guest: &Guest, part: u16, word: u16) -> Option<(u64, u64)> {
    let parts = guest.memory.parts();
    let (gpa, bytes) = &parts[usize::from(part) % parts.len()];
    let at = usize::from(word) % (bytes.len() / 8) * 8;
    let found = bytes.get(at..)?.first_chunk::<8>()?;
    Some((gpa + at as u64, u64::from_le_bytes(*found)))
}

/// What holds of every reading: regions ascend, and the runs of each cover its pages after the
/// metadata, each longer than it could be joined with the next.
fn shape(reading: &PagesReading) {
    assert!(reading.problems.len() <= 257);
    for problem in &reading.problems {
        assert_shown(&problem.what);
        assert!(problem.what.len() <= 500);
    }
    let mut free = 0;
    for region in &reading.regions {
        assert!(region.start_pfn >= free);
        free = region.start_pfn + region.pages;
        if let Some(owner) = &region.owner {
            assert_shown(owner);
            assert!(!owner.is_empty() && owner.len() <= 1000);
        }
        let mut next = region.start_pfn + region.metadata_pages;
        for run in &region.runs {
            assert!(run.pfn == next && run.pages > 0);
            next += run.pages;
        }
        assert_eq!(next, free);
        for pair in region.runs.windows(2) {
            let next = pair[0].index.map(|first| first.wrapping_add(pair[0].pages));
            let joined = pair[1].index == next && pair[0].state == pair[1].state;
            assert!(!joined, "runs could be joined: {pair:?}");
        }
    }
}
