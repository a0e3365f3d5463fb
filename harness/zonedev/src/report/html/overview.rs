//! The run in a few words and numbers: what a reader sees first.

use std::collections::{BTreeMap, HashSet};

use super::differences::{Cell, MAX_CELLS};
use super::escape;
use super::matrix::Known;
use crate::record::{CellId, CellVerdict, PairVerdict, RunRecord};
use crate::report::sections::skips_by_reason;
use crate::report::text::{count, duration};

/// The verdict and what it stands on.
#[derive(Debug)]
pub(super) struct Overview {
    /// `good`, `bad` or `broken`: the class of the banner.
    pub(super) class: &'static str,
    pub(super) verdict: &'static str,
    /// A sentence behind it.
    pub(super) because: String,
    /// Cells by what became of them.
    pub(super) cells: Vec<Share>,
    pub(super) planned: usize,
    /// Pairs by their verdict.
    pub(super) pairs: Vec<Share>,
    pub(super) accel: String,
    pub(super) emulated: bool,
    pub(super) accel_reason: String,
    pub(super) pages: String,
    pub(super) pages_bad: bool,
    /// Passed without a page read.
    pub(super) unread: usize,
    pub(super) took: String,
    pub(super) phases: String,
    pub(super) kernels: Vec<Kernel>,
}

/// A part of a whole.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) n: usize,
    pub(super) word: &'static str,
    pub(super) class: &'static str,
    /// Where its part of a bar of 1000 begins, and how long it is.
    pub(super) x: usize,
    pub(super) width: usize,
}

/// A kernel and what became of its cells.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) name: String,
    pub(super) contract: String,
    pub(super) baseline: bool,
    /// The build in short words.
    pub(super) version: String,
    pub(super) provenance: Vec<(String, String)>,
    pub(super) build_key: String,
    pub(super) tally: String,
    pub(super) class: &'static str,
}

/// Gives the shares of a bar.
fn shares(of: &[(usize, &'static str, &'static str)]) -> Vec<Share> {
    let total = of.iter().map(|(n, ..)| *n).sum::<usize>().max(1);
    let mut x = 0;
    of.iter()
        .filter(|(n, ..)| *n > 0)
        .map(|&(n, word, class)| {
            // What is few must not vanish.
            let width = (n * 1000 / total).max(6).min(1000 - x.min(1000));
            let share = Share {
                n,
                word,
                class,
                x,
                width,
            };
            x += width;
            share
        })
        .collect()
}

/// How many cells passed, failed, were skipped, went wrong by harness or host.
#[derive(Clone, Copy, Default)]
struct Cells {
    passed: usize,
    failed: usize,
    skipped: usize,
    errors: usize,
    unfinished: usize,
}

impl Cells {
    fn of<'a>(verdicts: impl Iterator<Item = &'a CellVerdict>, unfinished: usize) -> Cells {
        let mut out = Cells {
            unfinished,
            ..Cells::default()
        };
        for verdict in verdicts {
            match verdict {
                CellVerdict::Pass {} => out.passed += 1,
                CellVerdict::Fail { .. } => out.failed += 1,
                CellVerdict::Skip { .. } => out.skipped += 1,
                CellVerdict::Error { .. } => out.errors += 1,
            }
        }
        out
    }

    fn parts(self) -> [(usize, &'static str, &'static str); 5] {
        [
            (self.failed, "failed", "fail"),
            (self.errors, "went wrong by harness or host", "error"),
            (self.unfinished, "did not finish", "unfinished"),
            (self.passed, "passed", "pass"),
            (self.skipped, "skipped", "skip"),
        ]
    }

    fn words(self) -> (String, &'static str) {
        let parts = self.parts();
        let told: Vec<String> = parts
            .iter()
            .filter(|(n, ..)| *n > 0)
            .map(|(n, word, _)| format!("{n} {word}"))
            .collect();
        let class = parts.iter().find(|(n, ..)| *n > 0).map_or("", |p| p.2);
        (told.join(", "), class)
    }
}

/// Sums a run up.
pub(super) fn overview(run: &RunRecord, known: &Known<'_>) -> Overview {
    let all = Cells::of(run.cells.iter().map(|(_, v)| v), run.unfinished.len());
    let pairs = |v: PairVerdict| run.pairs.iter().filter(|p| p.verdict == v).count();
    let regressed = pairs(PairVerdict::Regressed);
    let (verdict, class) = match run.exit_code {
        0 => ("Nothing regressed", "good"),
        1 => ("Regressed", "bad"),
        4 => ("Nothing was selected", "broken"),
        5 => ("A kernel or an image did not build", "broken"),
        _ => ("The harness or the host failed", "broken"),
    };
    // A green run of which nothing ran is none.
    let (verdict, class) = match (class, all.passed) {
        ("good", 0) => ("Nothing ran", "broken"),
        ("broken", _) if all.unfinished > 0 && all.errors == 0 => ("The run was cut off", "broken"),
        _ => (verdict, class),
    };
    let mut because = Vec::new();
    if all.failed > 0 {
        because.push(format!("{} failed", count(all.failed, "cell")));
    }
    if regressed > 0 {
        because.push(format!(
            "{} regressed against the baseline",
            count(regressed, "cell")
        ));
    }
    if !run.over_ceiling.is_empty() {
        because.push("more was skipped than may be".to_owned());
    }
    if all.errors > 0 {
        because.push(format!("{} could not be judged", count(all.errors, "cell")));
    }
    if all.unfinished > 0 {
        because.push(format!("{} did not finish", count(all.unfinished, "cell")));
    }
    if because.is_empty() {
        because.push(format!(
            "all {} that ran kept their contract",
            count(all.passed, "cell")
        ));
        let changed = pairs(PairVerdict::ChangedAsAccepted);
        if changed > 0 {
            because.push(format!(
                "and {changed} of them differ from the baseline, exactly as accepted"
            ));
        }
    }
    let (pages, pages_bad) = match (run.pages_read, run.pages_predicted) {
        (0, _) => ("No page was read.".to_owned(), true),
        (read, predicted) if read == predicted => (
            format!("{} read; each of them was predicted.", grouped(read)),
            false,
        ),
        (read, predicted) => (
            format!(
                "{} read, and only {} of them predicted.",
                grouped(read),
                grouped(predicted)
            ),
            true,
        ),
    };
    let unread = |(id, v): &&(CellId, CellVerdict)| {
        *v == (CellVerdict::Pass {}) && known.facts.get(id).is_some_and(|f| f.pages == 0)
    };
    let phases: Vec<String> = run
        .phases_ms
        .iter()
        .map(|(name, ms)| format!("{name} {}", duration(*ms)))
        .collect();
    Overview {
        class,
        verdict,
        because: because.join(", "),
        cells: shares(&all.parts()),
        planned: run.cells.len() + run.unfinished.len(),
        pairs: shares(&[
            (regressed, "regressed", "fail"),
            (pairs(PairVerdict::Fixed), "fixed", "fixed"),
            (
                pairs(PairVerdict::ChangedAsAccepted),
                "changed as accepted",
                "changed",
            ),
            (pairs(PairVerdict::Same), "the same", "pass"),
            (pairs(PairVerdict::Incomparable), "not compared", "skip"),
        ]),
        emulated: run.accel != "kvm",
        accel: run.accel.to_uppercase(),
        accel_reason: run.accel_reason.clone().unwrap_or_default(),
        pages,
        pages_bad,
        unread: run.cells.iter().filter(unread).count(),
        // A run that was cut off leaves no time.
        took: match run.took_ms {
            0 => "not known".to_owned(),
            ms => duration(ms),
        },
        phases: phases.join(", "),
        kernels: kernels(run),
    }
}

fn kernels(run: &RunRecord) -> Vec<Kernel> {
    run.kernels
        .iter()
        .enumerate()
        .map(|(side, k)| {
            let of_it = run.cells.iter().filter(|(id, _)| id.side == side);
            let unfinished = run.unfinished.iter().filter(|id| id.side == side).count();
            let (tally, class) = Cells::of(of_it.map(|(_, v)| v), unfinished).words();
            let says = |key: &str| k.provenance.get(key).cloned();
            let version = says("release").or_else(|| says("version"));
            Kernel {
                name: k.name.clone(),
                contract: k.contract.clone(),
                baseline: side == 0,
                version: version.unwrap_or_default(),
                provenance: k.provenance.clone().into_iter().collect(),
                build_key: k.build_key.clone(),
                tally,
                class,
            }
        })
        .collect()
}

/// A number with its thousands apart.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            // A narrow blank that no line breaks at.
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

/// What was left out for one reason.
#[derive(Debug)]
pub(super) struct Skipped {
    pub(super) reason: String,
    pub(super) count: u64,
    pub(super) places: String,
    pub(super) cells: Vec<Cell>,
    pub(super) more: usize,
}

/// Skips by reason, most first: cells that did not run, and tests that a program left out.
pub(super) fn skips(run: &RunRecord) -> Vec<Skipped> {
    let mut by: BTreeMap<&str, (u64, Vec<String>, Vec<&CellId>)> = skips_by_reason(run)
        .into_iter()
        .map(|(reason, (n, places))| (reason, (n, places, Vec::new())))
        .collect();
    for (id, verdict) in &run.cells {
        if let CellVerdict::Skip { reason } = verdict {
            by.entry(reason).or_default().2.push(id);
        }
    }
    let mut out: Vec<Skipped> = by
        .into_iter()
        .map(|(reason, (count, places, ids))| Skipped {
            reason: reason.to_owned(),
            count: count.max(ids.len() as u64),
            places: places.join(", "),
            more: ids.len().saturating_sub(MAX_CELLS),
            cells: ids
                .into_iter()
                .take(MAX_CELLS)
                .map(|id| Cell::of(id, None))
                .collect(),
        })
        .collect();
    out.sort_by_key(|s| std::cmp::Reverse(s.count));
    out
}

/// What is known to go wrong, by its reason.
#[derive(Debug)]
pub(super) struct KnownGroup {
    pub(super) reason: String,
    pub(super) whats: Vec<(String, Cell)>,
    pub(super) more: usize,
}

/// Known failures by reason.
pub(super) fn known(run: &RunRecord) -> Vec<KnownGroup> {
    let mut by: BTreeMap<&str, Vec<(String, &CellId)>> = BTreeMap::new();
    for one in &run.known {
        let what = one.known.what.to_string();
        by.entry(&one.known.reason)
            .or_default()
            .push((what, &one.cell));
    }
    by.into_iter()
        .map(|(reason, whats)| KnownGroup {
            reason: reason.to_owned(),
            more: whats.len().saturating_sub(MAX_CELLS),
            whats: whats
                .into_iter()
                .take(MAX_CELLS)
                .map(|(what, id)| {
                    let place = escape::place(&what);
                    let cell = Cell::of(id, place);
                    (what, cell)
                })
                .collect(),
        })
        .collect()
}

/// Cells of a run that was cut off.
pub(super) fn unfinished(run: &RunRecord) -> Vec<Cell> {
    run.unfinished.iter().map(|id| Cell::of(id, None)).collect()
}

/// Cells of the record whose own records can't be read, so that their details are missing.
pub(super) fn unrecorded(run: &RunRecord, known: &Known<'_>) -> usize {
    let unfinished: HashSet<&CellId> = run.unfinished.iter().collect();
    let recorded = |id: &CellId| known.facts.get(id).is_some_and(|f| f.recorded);
    run.cells
        .iter()
        .filter(|(id, _)| !unfinished.contains(id) && !recorded(id))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_filled_and_what_is_few_is_seen() {
        let bar = shares(&[
            (1, "failed", "fail"),
            (0, "x", "x"),
            (4999, "passed", "pass"),
        ]);
        assert_eq!(bar.len(), 2);
        assert_eq!((bar[0].x, bar[0].width), (0, 6));
        assert_eq!((bar[1].x, bar[1].width), (6, 994));
        assert_eq!(grouped(2_473_758_720), "2\u{202f}473\u{202f}758\u{202f}720");
        assert_eq!(grouped(12), "12");
    }
}
