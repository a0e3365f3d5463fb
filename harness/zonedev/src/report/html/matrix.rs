//! Cases down, kernels across: a word in each cell.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::detail::{Facts, pair_word, word};
use super::escape;
use crate::record::{CellId, CellVerdict, PairRecord, RunRecord};

/// Rows up to which all groups stand open.
const OPEN_ALL: usize = 60;

/// The cases of a suite on a fixture.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) suite: String,
    pub(super) fixture: String,
    /// By kernel what is in the column.
    pub(super) tallies: Vec<Tally>,
    pub(super) rows: Vec<Row>,
    pub(super) open: bool,
}

/// What a group has on one kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) words: String,
    /// The worst of it, as a class.
    pub(super) class: &'static str,
}

/// A case.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) title: String,
    pub(super) cells: Vec<Field>,
}

/// A case on a kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    /// Empty where the run has no such cell.
    pub(super) href: String,
    pub(super) word: &'static str,
    pub(super) class: &'static str,
    /// Against the baseline; empty where there is nothing to compare with.
    pub(super) pair: &'static str,
    /// Passed, and no page was read in it: its own programs judged.
    pub(super) unread: bool,
}

/// What is known of the cells, by their ids.
pub(super) struct Known<'a> {
    pub(super) verdicts: HashMap<&'a CellId, &'a CellVerdict>,
    pub(super) pairs: HashMap<&'a CellId, &'a PairRecord>,
    pub(super) facts: HashMap<CellId, Facts>,
}

/// `suite`, `fixture`, and the cells of each case by kernel.
pub(super) type Cases<'a> =
    BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, Vec<Option<&'a CellId>>>>;

/// Every cell of a run at its place, those that did not finish included.
pub(super) fn cases(run: &RunRecord) -> Cases<'_> {
    let sides = run.kernels.len();
    let mut out: Cases<'_> = BTreeMap::new();
    for id in run.cells.iter().map(|(id, _)| id).chain(&run.unfinished) {
        let group = out.entry((&id.suite, &id.fixture)).or_default();
        let row = group.entry(&id.case).or_insert_with(|| vec![None; sides]);
        if let Some(field) = row.get_mut(id.side) {
            *field = Some(id);
        }
    }
    out
}

/// The matrix; groups with something wrong stand open.
pub(super) fn matrix(run: &RunRecord, cases: &Cases<'_>, known: &Known<'_>) -> Vec<Group> {
    let unfinished: HashSet<&CellId> = run.unfinished.iter().collect();
    let rows: usize = cases.values().map(BTreeMap::len).sum();
    let mut out: Vec<Group> = cases
        .iter()
        .map(|((suite, fixture), cases)| {
            let rows_of: Vec<Row> = cases
                .iter()
                .map(|(case, ids)| row(case, ids, known, &unfinished))
                .collect();
            let tallies: Vec<Tally> = (0..run.kernels.len())
                .map(|side| tally(rows_of.iter().filter_map(|r| r.cells.get(side))))
                .collect();
            let bad = tallies.iter().any(|t| rank(t.class) < CALM);
            Group {
                suite: (*suite).to_owned(),
                fixture: (*fixture).to_owned(),
                open: rows <= OPEN_ALL || bad,
                tallies,
                rows: rows_of,
            }
        })
        .collect();
    // What has something wrong comes first; the suites that people write before those that a
    // run brings by itself.
    let severity = |g: &Group| g.tallies.iter().map(|t| rank(t.class)).min();
    out.sort_by_key(|g| {
        (
            severity(g).filter(|r| *r < CALM).is_none(),
            g.suite == "boot",
        )
    });
    out
}

/// Ranks from here on are no reason to look.
const CALM: usize = 4;

fn rank(class: &str) -> usize {
    [
        "fail",
        "error",
        "unfinished",
        "regressed",
        "fixed",
        "changed",
        "pass",
        "skip",
        "",
    ]
    .iter()
    .position(|c| *c == class)
    .unwrap_or(usize::MAX)
}

fn row(
    case: &str,
    ids: &[Option<&CellId>],
    known: &Known<'_>,
    unfinished: &HashSet<&CellId>,
) -> Row {
    let facts = |id: &CellId| known.facts.get(id);
    let title = ids
        .iter()
        .flatten()
        .find_map(|id| facts(id).map(|f| f.title.clone()));
    let cells = ids
        .iter()
        .map(|id| {
            let Some(id) = id else {
                return Field::default();
            };
            let verdict = known.verdicts.get(*id).copied();
            let verdict = verdict.filter(|_| !unfinished.contains(id));
            let class = word(verdict);
            Field {
                href: escape::link(id, None),
                word: match class {
                    "fail" => "FAIL",
                    "error" => "error",
                    "unfinished" => "not run",
                    other => other,
                },
                class,
                pair: known.pairs.get(*id).map_or("", |p| pair_word(p)),
                unread: class == "pass" && facts(id).is_some_and(|f| f.pages == 0),
            }
        })
        .collect();
    Row {
        case: case.to_owned(),
        title: title.unwrap_or_default(),
        cells,
    }
}

fn tally<'a>(fields: impl Iterator<Item = &'a Field>) -> Tally {
    let mut by: BTreeMap<usize, (&'static str, &'static str, usize)> = BTreeMap::new();
    for f in fields.filter(|f| !f.word.is_empty()) {
        // It keeps its contract and differs as nobody accepted: no green.
        let differs = f.class == "pass" && f.pair == "regressed";
        let (word, class) = if differs {
            ("regressed", "regressed")
        } else {
            (f.word, f.class)
        };
        by.entry(rank(class)).or_insert((word, class, 0)).2 += 1;
    }
    let words: Vec<String> = by
        .values()
        .map(|(word, _, n)| format!("{n} {word}"))
        .collect();
    Tally {
        words: words.join(", "),
        class: by.values().next().map_or("", |(_, class, _)| class),
    }
}
