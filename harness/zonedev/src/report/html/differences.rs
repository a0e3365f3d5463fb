//! What differs from the baseline, the same difference of several cases told once, worst first.

use std::collections::BTreeMap;

use super::escape;
use crate::record::{CellId, Difference, PairRecord, PairVerdict, RunRecord};
use crate::report::sections::pages_words;

/// Cells named of one reason or difference.
pub(super) const MAX_CELLS: usize = 24;
/// Differences told of one verdict that nobody needs to act on.
const MAX_CALM: usize = 60;
/// Differences of one verdict that are not folded away.
const MAX_SHOWN: usize = 8;
/// Differences told of one verdict.
const MAX_GROUPS: usize = 1000;
/// Places named of one difference.
const MAX_PLACES: usize = 3;

/// A cell that can be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) href: String,
    pub(super) name: String,
    pub(super) kernel: String,
}

impl Cell {
    pub(super) fn of(id: &CellId, place: Option<(&str, &str)>) -> Cell {
        Cell {
            href: escape::link(id, place),
            name: id.case_path(),
            kernel: id.kernel.clone(),
        }
    }
}

/// Pairs of one verdict.
#[derive(Debug)]
pub(super) struct Block {
    /// A short name for the page's own links.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What the verdict means.
    pub(super) means: &'static str,
    /// How many cells.
    pub(super) pairs: usize,
    /// Whether somebody should look.
    pub(super) open: bool,
    pub(super) groups: Vec<Group>,
    /// Those behind them, folded away.
    pub(super) rest: Vec<Group>,
    /// Differences that are not told here; the cells tell them.
    pub(super) more: usize,
}

/// One difference.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) text: String,
    pub(super) places: String,
    pub(super) first: String,
    pub(super) count: usize,
    pub(super) cells: Vec<Cell>,
    pub(super) more: usize,
}

/// The blocks that have anything to tell, worst first.
pub(super) fn blocks(run: &RunRecord) -> Vec<Block> {
    let of = |verdict, id, title, means| {
        let pairs: Vec<&PairRecord> = run.pairs.iter().filter(|p| p.verdict == verdict).collect();
        block(
            &pairs,
            id,
            title,
            means,
            matches!(verdict, PairVerdict::Regressed | PairVerdict::Fixed),
        )
    };
    let mut blocks: Vec<Block> = [
        of(
            PairVerdict::Regressed,
            "regressed",
            "Regressed",
            "It differs and nobody accepted that, or it fails where the baseline passes.",
        ),
        of(
            PairVerdict::Fixed,
            "fixed",
            "Fixed",
            "The baseline fails and this kernel passes.",
        ),
        of(
            PairVerdict::ChangedAsAccepted,
            "changed",
            "Changed as accepted",
            "It differs exactly as the accepted snapshots say.",
        ),
        of(
            PairVerdict::Incomparable,
            "incomparable",
            "Not compared",
            "One side was skipped or could not be judged: no word about a change.",
        ),
        of(
            PairVerdict::Same,
            "same",
            "Same",
            "No difference but lines of the log; cells that fail on both sides count here too.",
        ),
    ]
    .into_iter()
    .filter(|b| b.pairs > 0)
    .collect();
    // What is worst, even where nothing is bad.
    if let Some(first) = blocks.first_mut() {
        first.open = true;
    }
    blocks
}

/// A difference, its least and most pages, its places and its cells.
type Found<'a> = (
    &'a Difference,
    Option<(u64, u64)>,
    Vec<&'a str>,
    Vec<&'a CellId>,
);

fn block(
    pairs: &[&PairRecord],
    id: &'static str,
    title: &'static str,
    means: &'static str,
    open: bool,
) -> Block {
    let mut found: BTreeMap<(u8, &str, &str), Found<'_>> = BTreeMap::new();
    for pair in pairs {
        for d in pair.differences.iter().filter(|d| d.kind != "log-line") {
            let group = found.entry((d.rank, &d.kind, &d.text));
            let (_, pages, places, ids) =
                group.or_insert_with(|| (d, None, Vec::new(), Vec::new()));
            *pages = match (*pages, d.pages) {
                (Some((a, b)), Some((c, e))) => Some((a.min(c), b.max(e))),
                (a, b) => a.or(b),
            };
            if let Some(at) = d.at.as_deref()
                && !places.contains(&at)
            {
                places.push(at);
            }
            if ids.last() != Some(&&pair.other) {
                ids.push(&pair.other);
            }
        }
    }
    let mut found: Vec<Found<'_>> = found.into_values().collect();
    // Of one rank, what most cells have.
    found.sort_by_key(|(d, _, _, ids)| (d.rank, std::cmp::Reverse(ids.len())));
    let most = if open { MAX_GROUPS } else { MAX_CALM };
    let more = found.len().saturating_sub(most);
    let mut groups: Vec<Group> = found.into_iter().take(most).map(group).collect();
    let rest = groups.split_off(groups.len().min(MAX_SHOWN));
    Block {
        id,
        title,
        means,
        pairs: pairs.len(),
        open,
        more,
        groups,
        rest,
    }
}

fn group((d, pages, places, ids): Found<'_>) -> Group {
    let place = d.at.as_deref().and_then(escape::place);
    let shown = places.iter().take(MAX_PLACES).copied().collect::<Vec<_>>();
    let places = match places.len().saturating_sub(MAX_PLACES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more places", shown.join(", ")),
    };
    Group {
        text: format!("{}{}", pages_words(pages), d.text),
        places,
        first: ids
            .first()
            .map(|id| escape::link(id, place))
            .unwrap_or_default(),
        count: ids.len(),
        more: ids.len().saturating_sub(MAX_CELLS),
        cells: ids
            .iter()
            .take(MAX_CELLS)
            .map(|id| Cell::of(id, None))
            .collect(),
    }
}

/// Kinds of lines in one side's log only, and in how many cells: no verdict depends on them.
pub(super) fn log_lines(run: &RunRecord) -> Vec<(usize, String)> {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    let all = run.pairs.iter().flat_map(|p| &p.differences);
    for d in all.filter(|d| d.kind == "log-line") {
        *lines.entry(&d.text).or_default() += 1;
    }
    let mut lines: Vec<_> = lines
        .into_iter()
        .map(|(text, n)| (n, text.to_owned()))
        .collect();
    lines.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    lines
}
