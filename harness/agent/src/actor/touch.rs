//! Loads and stores to every 4K page of a range, and what can be seen of them
//! without looking at a count: faults taken, and neighbours that appeared.

use std::ops::Range;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use proto::{Fact, Size, StepResult};

use super::maps::Mapping;
use super::{access, files};
use crate::pagemap;
use crate::wire::{Context, ExpectedRun, Reply, TAIL, failed, io_errno, placed};

/// 4K pages under one PMD.
const PMD_PAGES: u64 = 512;

/// What to do with each page.
#[derive(Clone, Copy)]
pub(super) enum Access<'a> {
    /// Load its first word.
    Load,
    /// Store these of its words, of a generation.
    Store(u64, [bool; 2]),
    /// Load it and compare.
    Check(&'a [ExpectedRun]),
}

/// Touches each page of `range`. Pages that raise a signal are told by none
/// of the facts; the others are done all the same.
pub(super) fn touch(
    name: &str,
    m: &Mapping,
    range: Range<u64>,
    access: Access<'_>,
    context: &Context,
) -> Result<Reply, StepResult> {
    let write = matches!(access, Access::Store(..));
    warm_up()?;
    let mut facts = Vec::new();
    let mut signal = None;
    let mut wrong = None;
    for stretch in stretches(m, &range) {
        let around = around(m, stretch.start);
        let mut from = stretch.start;
        while from < stretch.end {
            let before = entries(m, &around)?;
            let faults = faults()?;
            let mut raised: Option<Signal> = None;
            let mut to = from;
            while to < stretch.end && raised.is_none() {
                match one(m, to, access) {
                    Ok(None) => to += 1,
                    Ok(Some(bad)) => {
                        wrong.get_or_insert(bad);
                        to += 1;
                    }
                    Err(s) => raised = Some(s),
                }
            }
            let faults = self::faults()? - faults;
            if to > from {
                let after = entries(m, &around)?;
                facts.push(Fact::Touched {
                    map: name.to_owned(),
                    page: from,
                    pages: to - from,
                    write,
                    faults: faults - u64::from(raised.is_some()).min(faults),
                    neighbours: neighbours(&around, &(from..to), &before, &after),
                });
            }
            if raised.is_some() {
                signal = signal.or(raised);
                to += 1;
            }
            from = to;
        }
    }
    if write && !context.has_blocks {
        let told = blocks(m, context, &mut facts);
        // Who raised a signal may have no file system left to ask.
        if signal.is_none() {
            told?;
        }
    }
    let result = match (signal, wrong) {
        (Some(s), _) => StepResult::Signal {
            signal: s.as_str().to_owned(),
        },
        (None, Some(bad)) => bad,
        (None, None) => StepResult::Ok {},
    };
    let mut reply = Reply::from(result);
    reply.facts = facts;
    Ok(reply)
}

/// Runs a call that makes the kernel fault pages in by itself (GUP), and tells
/// what that did, as if the range had been touched.
pub(super) fn during<T>(
    name: &str,
    m: &Mapping,
    range: Range<u64>,
    write: bool,
    context: &Context,
    call: impl FnOnce() -> T,
) -> Result<(T, Vec<Fact>), StepResult> {
    let mut before = Vec::new();
    for stretch in stretches(m, &range) {
        before.push((entries(m, &around(m, stretch.start))?, stretch));
    }
    let taken = faults()?;
    let value = call();
    let taken = faults()? - taken;
    let fresh = before.iter().filter(|(b, s)| absent(m, s, b)).count() as u64;
    let mut facts = Vec::new();
    for (before, stretch) in before {
        let around = around(m, stretch.start);
        let after = entries(m, &around)?;
        // Where the call failed early, it did not get to the later pages.
        let reached = stretch
            .clone()
            .take_while(|p| pagemap::present(after[(p - around.start) as usize]))
            .count() as u64;
        if reached == 0 {
            continue;
        }
        let done = stretch.start..stretch.start + reached;
        facts.push(Fact::Touched {
            map: name.to_owned(),
            page: done.start,
            pages: reached,
            write,
            faults: if absent(m, &stretch, &before) {
                taken / fresh.max(1)
            } else {
                0
            },
            neighbours: neighbours(&around, &done, &before, &after),
        });
    }
    if write {
        blocks(m, context, &mut facts)?;
    }
    Ok((value, facts))
}

/// What a mapping that is populated from the start has: nothing was there before, and making it
/// took so many faults.
pub(super) fn populated(
    name: &str,
    m: &Mapping,
    write: bool,
    taken: u64,
) -> Result<Vec<Fact>, StepResult> {
    let mut facts = Vec::new();
    let all = stretches(m, &(0..m.pages));
    for stretch in &all {
        let after = entries(m, stretch)?;
        let reached = after.iter().take_while(|e| pagemap::present(**e)).count() as u64;
        if reached > 0 {
            facts.push(Fact::Touched {
                map: name.to_owned(),
                page: stretch.start,
                pages: reached,
                write,
                faults: taken / all.len() as u64,
                neighbours: None,
            });
        }
    }
    Ok(facts)
}

/// A store may have filled holes: tells where the file's blocks are now, ahead
/// of what was touched.
fn blocks(m: &Mapping, context: &Context, facts: &mut Vec<Fact>) -> Result<(), StepResult> {
    if let (Some(file), proto::Backing::File { file: name, .. }, true) =
        (&m.file, &m.backing, m.is_shared())
    {
        facts.insert(0, files::extents(name, file, context)?);
    }
    Ok(())
}

/// `Some` with what is wrong, where the word is not the expected one.
fn one(m: &Mapping, page: u64, access: Access<'_>) -> Result<Option<StepResult>, Signal> {
    let address = m.address + page * Size::PAGE;
    let index = m.first_page() + page;
    match access {
        Access::Load => access::load(address).map(|_| None),
        Access::Store(generation, which) => {
            for (at, word) in placed(generation, index, which) {
                access::store(address + at, word)?;
            }
            Ok(None)
        }
        Access::Check(runs) => {
            let found = [access::load(address)?, access::load(address + TAIL)?];
            Ok(ExpectedRun::wrong(runs, page, found))
        }
    }
}

/// `range` cut where a 2M stretch of the file or device ends.
fn stretches(m: &Mapping, range: &Range<u64>) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    let mut from = range.start;
    while from < range.end {
        let to = around(m, from).end.min(range.end);
        out.push(from..to);
        from = to;
    }
    out
}

/// The pages of the mapping in the 2M stretch of the file or device that `page` lies in.
fn around(m: &Mapping, page: u64) -> Range<u64> {
    let first = m.first_page();
    let start = (first + page) / PMD_PAGES * PMD_PAGES;
    start.saturating_sub(first)..(start + PMD_PAGES - first).min(m.pages)
}

fn entries(m: &Mapping, range: &Range<u64>) -> Result<Vec<u64>, StepResult> {
    pagemap::entries(
        "self",
        m.address + range.start * Size::PAGE,
        range.end - range.start,
    )
    .map_err(|e| io_errno("read pagemap", &e))
}

/// Whether a page of `range` was not there.
fn absent(m: &Mapping, range: &Range<u64>, before: &[u64]) -> bool {
    let start = around(m, range.start).start;
    range
        .clone()
        .any(|p| !pagemap::present(before[(p - start) as usize]))
}

/// Whether untouched pages became present, or another page than they were (the zero page of a
/// hole); `None` where nothing could be seen of that.
fn neighbours(
    around: &Range<u64>,
    touched: &Range<u64>,
    before: &[u64],
    after: &[u64],
) -> Option<bool> {
    let mut some = None;
    for page in around.clone().filter(|p| !touched.contains(p)) {
        let i = (page - around.start) as usize;
        let (was, is) = (pagemap::present(before[i]), pagemap::present(after[i]));
        if was && is && pagemap::frame(before[i]) == pagemap::frame(after[i]) {
            continue;
        }
        some = Some(some.unwrap_or(false) || is);
    }
    some
}

/// Takes the faults of our own code and stack now, which a fork leaves to be
/// faulted in again, so that the loop counts only those of the mapping.
fn warm_up() -> Result<(), StepResult> {
    let mut word = 0u64;
    let at = (&raw mut word) as u64;
    let _ = access::load(at);
    let _ = access::store(at, 1);
    faults().map(drop)
}

/// Minor and major faults of this process so far.
pub(super) fn faults() -> Result<u64, StepResult> {
    let usage =
        getrusage(UsageWho::RUSAGE_SELF).map_err(|e| failed(format!("count page faults: {e}")))?;
    Ok((usage.minor_page_faults() + usage.major_page_faults()) as u64)
}
