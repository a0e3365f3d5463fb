//! Which broken kernels were found out, and by what.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;

use super::text::{count, duration};
use crate::record::{CellId, CellVerdict, FailureKind, PairRecord, PairVerdict};
use crate::spec::Mutant;

/// A cell that failed by the kernel, or differs from the unbroken kernel's.
#[derive(Clone, Debug)]
pub struct FailedCell {
    /// Which.
    pub id: CellId,
    /// What sorts of failure these are, worst first; none where it passes and differs.
    pub kinds: Vec<FailureKind>,
    /// Where in its case: checkpoints, operations' words, programs' tests.
    pub places: BTreeSet<String>,
}

impl FailedCell {
    /// Of a pair whose cells pass both and differ.
    pub fn differing(pair: &PairRecord) -> Option<FailedCell> {
        let places = pair.differences.iter().filter_map(|d| d.at.as_ref());
        (pair.verdict == PairVerdict::Regressed).then(|| FailedCell {
            id: pair.other.clone(),
            kinds: Vec::new(),
            places: places.map(|at| at.trim_matches('"').to_owned()).collect(),
        })
    }

    /// In words.
    fn kind_words(&self) -> String {
        if self.kinds.is_empty() {
            return "differs".into();
        }
        let words: Vec<&str> = self.kinds.iter().map(|k| k.word()).collect();
        words.join(", ")
    }

    /// Of a cell whose verdict it is, where it failed.
    pub fn of(id: &CellId, verdict: &CellVerdict) -> Option<FailedCell> {
        let CellVerdict::Fail {
            reasons,
            violations,
            kinds,
        } = verdict
        else {
            return None;
        };
        let checkpoints = violations.iter().map(|v| v.checkpoint.clone());
        Some(FailedCell {
            id: id.clone(),
            kinds: kinds.clone(),
            places: checkpoints
                .chain(reasons.iter().filter_map(|r| place(r).map(str::to_owned)))
                .collect(),
        })
    }
}

/// Where a reason of a verdict says that it went wrong.
fn place(reason: &str) -> Option<&str> {
    if let Some(quoted) = reason.strip_prefix("at \"") {
        return quoted.split_once('"').map(|(name, _)| name);
    }
    if let Some(test) = reason.strip_prefix("test ") {
        return test.split(' ').next();
    }
    let mut words = reason.split(' ');
    while let Some(word) = words.next() {
        if word == "step" && words.next()?.parse::<usize>().is_ok() {
            return words.next().map(|w| w.trim_end_matches(':'));
        }
    }
    None
}

/// What came of one mutant.
#[derive(Clone, Debug)]
pub struct MutantRow {
    /// Which.
    pub mutant: Mutant,
    /// The cells that failed, or differ.
    pub failed: Vec<FailedCell>,
    /// Cells that ran.
    pub cells: usize,
    /// Milliseconds that the build took, unless it was there.
    pub built_ms: u64,
    /// Milliseconds that the cases took; `None` where there was no run.
    pub ran_ms: Option<u64>,
    /// Milliseconds from the run's start to the end of the first cell that failed.
    pub found_ms: Option<u64>,
    /// How its build or its matrix ended.
    pub exit: Option<i32>,
    /// What it said.
    pub log: Utf8PathBuf,
}

impl MutantRow {
    /// Whether any cell failed by the kernel, or differs.
    pub fn is_found(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The cell that fails as is expected.
    fn expected(&self) -> Option<&FailedCell> {
        let finding = &self.mutant.finding;
        self.failed.iter().find(|cell| {
            cell.id.case_path().contains(&finding.case)
                && match finding.kind {
                    Some(kind) => cell.kinds.contains(&kind),
                    None => cell.kinds.is_empty(),
                }
                && (finding.at.as_ref()).is_none_or(|at| cell.places.contains(at))
        })
    }

    /// Whether it went as its entry says: found so, or known to be missed.
    pub fn is_as_expected(&self) -> bool {
        match self.mutant.missed {
            Some(_) => self.ran_ms.is_some() && !self.is_found(),
            None => self.expected().is_some(),
        }
    }

    /// In one line, without its name.
    pub fn words(&self) -> String {
        let Some(ran) = self.ran_ms else {
            let exit = self
                .exit
                .map_or("a signal".to_owned(), |c| format!("exit {c}"));
            return format!("NOT RUN ({exit}; {})", self.log);
        };
        let Some(first) = self.failed.first() else {
            let why = match &self.mutant.missed {
                Some(why) => format!("missed, as is known: {why}"),
                None => "MISSED".to_owned(),
            };
            return format!("{why}: {} in {}", count(self.cells, "cell"), duration(ran));
        };
        let (by, how) = match self.expected() {
            Some(cell) => {
                let finding = &self.mutant.finding;
                let at = finding.at.iter().map(|at| format!(" at \"{at}\""));
                let kind = finding.kind.map_or("differs", FailureKind::word);
                (cell, format!("{kind}{}", at.collect::<String>()))
            }
            None => {
                let places: Vec<&str> = first.places.iter().map(String::as_str).collect();
                let (kinds, places) = (first.kind_words(), places.join(", "));
                (first, format!("{kinds} at {places}; NOT AS EXPECTED"))
            }
        };
        let after = self.found_ms.map(|ms| format!(" after {}", duration(ms)));
        format!(
            "found{} by {} ({how}): {} of {} in {}",
            after.unwrap_or_default(),
            by.id.case_path(),
            self.failed.len(),
            count(self.cells, "cell"),
            duration(ran)
        )
    }
}

/// A table in Markdown, and the sum of it.
pub fn mutants_table(rows: &[MutantRow]) -> String {
    let cell = |text: &str| super::escape(text).replace('|', "\\|");
    let mut out = String::from("| kernel | mutant | breaks | | build |\n|---|---|---|---|---|\n");
    for row in rows {
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            cell(&row.mutant.kernel),
            cell(&row.mutant.name),
            cell(&row.mutant.breaks),
            cell(&row.words()),
            duration(row.built_ms),
        ));
    }
    let found = rows.iter().filter(|r| r.is_found()).count();
    out.push_str(&format!(
        "\n{found} of {} found\n",
        count(rows.len(), "mutant")
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Violation;
    use crate::spec::Finding;

    fn row(at: Option<&str>) -> MutantRow {
        let verdict = CellVerdict::Fail {
            reasons: vec![
                "WARNING in try_grab_page at step 3 pin (mm/gup.c:7)".into(),
                "step 6 truncate did not end: in dax_layout".into(),
            ],
            violations: vec![Violation {
                checkpoint: "after".into(),
                region: "namespace0.0 FS_DAX".into(),
                pfn: None,
                offset: None,
                pages: 8,
                ranges: 1,
                what: "refcount".into(),
                expected: "1".into(),
                found: "2".into(),
                because: "idle 1".into(),
            }],
            kinds: vec![FailureKind::KernelHung, FailureKind::ContractBroken],
        };
        let id = crate::record::testing::cell("truncate-pinned", 0, "6.12").id;
        MutantRow {
            mutant: Mutant {
                name: "m".into(),
                kernel: "6.12".into(),
                patch: "m.patch".into(),
                breaks: "a | b".into(),
                suites: vec![],
                filters: vec![],
                finding: Finding {
                    kind: Some(FailureKind::ContractBroken),
                    case: "truncate".into(),
                    at: at.map(str::to_owned),
                },
                missed: None,
            },
            failed: FailedCell::of(&id, &verdict).into_iter().collect(),
            cells: 3,
            built_ms: 61_000,
            ran_ms: Some(9_000),
            found_ms: Some(4_500),
            exit: Some(1),
            log: "m.log".into(),
        }
    }

    #[test]
    fn it_is_found_where_it_is_expected_and_not_elsewhere() {
        for at in [None, Some("after"), Some("pin"), Some("truncate")] {
            assert!(row(at).is_as_expected(), "{at:?}");
        }
        for at in ["trunc", "before", "6"] {
            let row = row(Some(at));
            assert!(row.is_found() && !row.is_as_expected(), "{at}");
            assert!(row.words().contains("NOT AS EXPECTED"), "{}", row.words());
        }
    }

    #[test]
    fn one_that_only_differs_is_found_where_that_is_expected() {
        let mut row = row(None);
        row.mutant.finding.kind = None;
        assert!(!row.is_as_expected(), "it fails");
        row.failed[0].kinds.clear();
        assert!(row.is_as_expected());
        assert!(row.words().contains("(differs)"), "{}", row.words());
        row.mutant.finding.kind = Some(FailureKind::ContractBroken);
        assert!(!row.is_as_expected());
    }

    #[test]
    fn one_that_is_listed_as_missed_must_be() {
        let mut found = row(None);
        found.mutant.missed = Some("nobody looks".into());
        assert!(!found.is_as_expected());
        found.failed.clear();
        assert!(found.is_as_expected());
        found.mutant.missed = None;
        assert!(!found.is_as_expected());
    }

    #[test]
    fn places_are_taken_from_reasons() {
        assert_eq!(place("at \"a \\ b\": no page"), Some("a \\ b"));
        assert_eq!(place("test hmm.x failed: no"), Some("hmm.x"));
        assert_eq!(
            place("the guest died at step 2 touch: panic"),
            Some("touch")
        );
        assert_eq!(
            place("2 of 9 steps did not run, the first: step 7 wait"),
            Some("wait")
        );
        assert_eq!(place("a step too far"), None);
        assert_eq!(place("after the case: nr_x is +1 pages off"), None);
    }

    #[test]
    fn the_table_says_by_what_and_when() {
        let table = mutants_table(&[row(Some("after"))]);
        assert!(
            table.contains("found after 4.5 s by fsdax/fsdax-ext4/truncate-pinned (contract broken at \"after\"): 1 of 3 cells in 9.0 s"),
            "{table}"
        );
        assert!(table.contains("a \\| b"), "{table}");
        assert!(table.contains("1 of 1 mutant found"), "{table}");
    }
}
