//! Corrupt guests: whatever stands in memory, a reading ends, in time, and keeps its shape.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Recorded, check_shape, recorded};
use guestmem::{MemError, Memory, ProblemKind, Target};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static GUESTS: LazyLock<Vec<Recorded>> =
    LazyLock::new(|| ["5.10", "6.12", "7.3"].map(recorded).into());

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
            for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
                let at = at + i as u64;
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

/// Where and what to write: an index that picks the stretch and one that picks the word in it, both
/// taken modulo what there is.
fn changes() -> impl Strategy<Value = Vec<(usize, usize, Option<u64>, usize)>> {
    let value = prop_oneof![
        Just(Some(0)),
        Just(Some(u64::MAX)),
        (0u64..64).prop_map(|bit| Some(1 << bit)),
        any::<u64>().prop_map(Some),
        any::<u32>().prop_map(|v| Some(0xffff_8880_0000_0000 | u64::from(v) & !7)),
        // A word from elsewhere in the guest: pointers that lead somewhere, but not there.
        Just(None),
        Just(None),
    ];
    proptest::collection::vec(
        (any::<usize>(), any::<usize>(), value, any::<usize>()),
        1..200,
    )
}

fn word_at(guest: &Recorded, part: usize, word: usize) -> (u64, u64) {
    let parts = guest.memory.parts();
    let (gpa, bytes) = &parts[part % parts.len()];
    let at = word % (bytes.len() / 8) * 8;
    let value = bytes[at..].first_chunk::<8>().unwrap();
    (gpa + at as u64, u64::from_le_bytes(*value))
}

fn read_in_time(mem: &Changed, guest: &Recorded) {
    let start = Instant::now();
    if let Ok(target) = Target::attach(mem, &guest.kernel()) {
        check_shape(&target.read_pages(mem));
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "took {took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// Changes anywhere; since stretches are picked evenly, most hit tables, lists and sections.
    #[test]
    fn changed_words_never_panic(era in 0usize..3, changes in changes()) {
        let guest = &GUESTS[era];
        let words = changes
            .iter()
            .map(|&(part, word, value, other)| {
                let value = value.unwrap_or_else(|| word_at(guest, other, word ^ other).1);
                (word_at(guest, part, word).0, value)
            })
            .collect();
        read_in_time(&Changed { inner: &guest.memory, words }, guest);
    }

    /// Changes that leave the way to the pages intact: only after attaching.
    #[test]
    fn words_changed_under_a_target_never_panic(era in 0usize..3, changes in changes()) {
        let guest = &GUESTS[era];
        let target = Target::attach(&guest.memory, &guest.kernel()).unwrap();
        let pages = target.read_pages(&guest.memory);
        let virt = target.virt(&guest.memory);
        let mut words = BTreeMap::new();
        for (i, &(part, word, value, other)) in changes.iter().enumerate() {
            let value = value.unwrap_or_else(|| word_at(guest, other, word ^ other).1);
            let region = &pages.regions[part % pages.regions.len()];
            // Half into the pgmap, half into page structs.
            let va = if i % 2 == 0 {
                region.pgmap.address + word as u64 % 64 * 8
            } else {
                0xffff_ea00_0000_0000 + (region.start_pfn + word as u64 % region.pages) * 64 + other as u64 % 8 * 8
            };
            if let Ok(t) = virt.translate(va) {
                words.insert(t.gpa, value);
            }
        }
        let mem = Changed { inner: &guest.memory, words };
        let start = Instant::now();
        check_shape(&target.read_pages(&mem));
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }
}

/// A pgmap that claims nearly all of the physical address space, and one whose ranges can't be
/// counted.
#[test]
fn claims_without_bound_end_at_a_bound() {
    for guest in GUESTS.iter() {
        let target = Target::attach(&guest.memory, &guest.kernel()).unwrap();
        let whole = target.read_pages(&guest.memory);
        let virt = target.virt(&guest.memory);
        let layout = &target.layouts().pgmap;
        let fsdax = &whole.regions[0];
        let gpa = |offset: usize| {
            virt.translate(fsdax.pgmap.address + offset as u64)
                .unwrap()
                .gpa
        };
        let change = |words: &[(u64, u64)]| {
            let words = words.iter().copied().collect();
            let mem = Changed {
                inner: &guest.memory,
                words,
            };
            let start = Instant::now();
            let reading = target.read_pages(&mem);
            assert!(start.elapsed() < Duration::from_secs(20));
            check_shape(&reading);
            reading
        };
        let [_, start, end] = layout.range;
        let huge = change(&[
            (gpa(layout.ranges + start), 0),
            (gpa(layout.ranges + end), (1 << 51) - 1),
        ]);
        assert!(
            huge.problems.iter().any(|p| p.kind == ProblemKind::Limit),
            "{:?}",
            huge.problems
        );
        assert!(huge.problems.iter().any(|p| p.kind == ProblemKind::Overlap));
        let countless = change(&[(gpa(layout.nr_range), u64::MAX)]);
        assert!(
            countless
                .problems
                .iter()
                .any(|p| p.kind == ProblemKind::Pgmap)
        );
        assert_eq!(countless.regions, whole.regions[1..]);
    }
}
