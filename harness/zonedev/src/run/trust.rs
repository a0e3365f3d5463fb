//! What was read of a guest's pages, before anything is done with it: the guest may have made its
//! memory say anything. What its agent says is bounded where it comes in ([`proto::bounded`]).

use guestmem::PagesReading;
use proto::text::excerpt;

/// Characters of a name.
const MAX_NAME: usize = 256;
/// Characters of a message for people.
const MAX_MESSAGE: usize = 4096;

/// Runs of pages that a cell keeps of all its checkpoints. A fixture has 200,000 pages or so, and
/// where each of them is in a state of its own, that is what is wrong.
pub(super) const MAX_RUNS: usize = 1 << 17;

/// A reading with names that can be shown, of at most `left` runs; what is left out is no page that
/// was read.
pub(super) fn reading(mut pages: PagesReading, left: &mut usize) -> PagesReading {
    let mut out = 0u64;
    for region in &mut pages.regions {
        region.owner = region.owner.as_ref().map(|owner| excerpt(owner, MAX_NAME));
        let runs = region.runs.split_off((*left).min(region.runs.len()));
        *left -= region.runs.len();
        out = out.saturating_add(runs.len() as u64);
    }
    for problem in &mut pages.problems {
        problem.what = excerpt(&problem.what, MAX_MESSAGE);
    }
    if out > 0 {
        pages.problems.push(guestmem::Problem {
            kind: guestmem::ProblemKind::Limit,
            pfn: None,
            pages: 0,
            what: format!("{out} runs of pages are more than a cell keeps, and left out"),
        });
    }
    pages
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
