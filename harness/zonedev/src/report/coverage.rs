//! What runs reached: cases by suite and kernel, and what was skipped, as Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::record::{CellVerdict, RunRecord};

/// What one suite came to on one kernel.
#[derive(Default)]
struct Reached<'a> {
    cases: BTreeSet<&'a str>,
    cells: usize,
    /// Cells by the reason for which they did not run.
    skipped: BTreeMap<&'a str, usize>,
}

/// Two tables: cases and cells that ran by suite and kernel, and skipped cells by reason. A cell
/// that failed has run; one that the host failed has not, and is left out.
pub fn coverage(records: &[RunRecord]) -> String {
    let mut kernels: Vec<&str> = Vec::new();
    let mut by: BTreeMap<&str, BTreeMap<&str, Reached<'_>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for record in records {
        for kernel in &record.kernels {
            if !kernels.contains(&kernel.name.as_str()) {
                kernels.push(&kernel.name);
            }
        }
        for (id, verdict) in &record.cells {
            // A cell of several runs, or of a kernel that is there twice, counts once.
            if !seen.insert((&id.kernel, id.case_path())) {
                continue;
            }
            let reached = by
                .entry(&id.suite)
                .or_default()
                .entry(&id.kernel)
                .or_default();
            match verdict {
                CellVerdict::Pass {} | CellVerdict::Fail { .. } => {
                    reached.cases.insert(&id.case);
                    reached.cells += 1;
                }
                CellVerdict::Skip { reason } => {
                    *reached.skipped.entry(reason).or_default() += 1;
                }
                CellVerdict::Error { .. } => {}
            }
        }
    }
    let mut out = String::new();
    let mut row = |first: &str, cells: &mut dyn Iterator<Item = String>| {
        let _ = write!(out, "| {first} |");
        for cell in cells {
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    };
    row("suite", &mut kernels.iter().map(|k| (*k).to_owned()));
    row("---", &mut kernels.iter().map(|_| "---:".to_owned()));
    for (suite, of) in &by {
        row(
            suite,
            &mut kernels.iter().map(|k| match of.get(k) {
                Some(r) => {
                    let skipped: usize = r.skipped.values().sum();
                    let run = format!("{} ({})", r.cases.len(), r.cells);
                    match skipped {
                        0 => run,
                        n => format!("{run}, {n} skipped"),
                    }
                }
                None => "-".to_owned(),
            }),
        );
    }
    let skipped: Vec<_> = by
        .iter()
        .flat_map(|(suite, of)| of.iter().map(move |(kernel, r)| (suite, kernel, r)))
        .flat_map(|(s, k, r)| r.skipped.iter().map(move |(why, n)| (s, k, why, n)))
        .collect();
    if !skipped.is_empty() {
        out += "\n| suite | kernel | cells skipped | why |\n| --- | --- | ---: | --- |\n";
        for (suite, kernel, why, n) in skipped {
            let why = super::text::escape(why).replace('|', "\\|");
            let _ = writeln!(out, "| {suite} | {kernel} | {n} | {why} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CellId, KernelRecord, testing};

    fn record(cells: &[(&str, &str, CellVerdict)]) -> RunRecord {
        RunRecord {
            kernels: ["5.10", "7.3"]
                .map(|name| KernelRecord {
                    name: name.into(),
                    contract: name.into(),
                    provenance: BTreeMap::new(),
                    build_key: String::new(),
                })
                .to_vec(),
            cells: cells
                .iter()
                .map(|(kernel, path, verdict)| {
                    let mut parts = path.split('/').map(str::to_owned);
                    let mut part = || parts.next().unwrap();
                    let id = CellId {
                        suite: part(),
                        fixture: part(),
                        case: part(),
                        side: 0,
                        kernel: (*kernel).into(),
                    };
                    (id, verdict.clone())
                })
                .collect(),
            ..testing::run()
        }
    }

    #[test]
    fn cases_and_cells_are_counted_once_and_skips_by_reason() {
        let pass = CellVerdict::Pass {};
        let skip = CellVerdict::Skip {
            reason: "xfs refuses reflink | dax".into(),
        };
        let first = record(&[
            ("5.10", "fsdax/ext4/map", pass.clone()),
            ("5.10", "fsdax/xfs/map", pass.clone()),
            ("5.10", "fsdax/reflink/map", skip),
        ]);
        let again = record(&[
            ("5.10", "fsdax/xfs/map", pass.clone()),
            ("7.3", "devdax/2m/map", pass),
        ]);
        insta::assert_snapshot!(coverage(&[first, again]), @r"
        | suite | 5.10 | 7.3 |
        | --- | ---: | ---: |
        | devdax | - | 1 (1) |
        | fsdax | 1 (2), 1 skipped | - |

        | suite | kernel | cells skipped | why |
        | --- | --- | ---: | --- |
        | fsdax | 5.10 | 1 | xfs refuses reflink \| dax |
        ");
    }
}
