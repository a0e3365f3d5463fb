//! What was skipped and why, and whether that is more than may be.

use std::collections::BTreeMap;

use crate::record::{CeilingRecord, CellRecord, CellVerdict, SkipRecord, TestStatus};
use crate::spec::Ceilings;

/// Counts the skips of a run, of cells and of single tests.
pub fn skips(cells: &[(&CellRecord, &CellVerdict)]) -> Vec<SkipRecord> {
    let mut counts: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for (cell, verdict) in cells {
        for reason in reasons(cell, verdict) {
            let key = (cell.id.suite.clone(), cell.contract.clone(), reason);
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|((suite, contract, reason), skips)| SkipRecord {
            suite,
            contract,
            reason,
            skips,
        })
        .collect()
}

/// Where a kernel skips more of a suite than the suite's ceiling.
pub fn over_ceiling(
    cells: &[(&CellRecord, &CellVerdict)],
    ceilings: &BTreeMap<String, Ceilings>,
) -> Vec<CeilingRecord> {
    // By side: two kernels of one contract have a ceiling each.
    let mut counts: BTreeMap<(String, usize), (u64, &CellRecord)> = BTreeMap::new();
    for (cell, verdict) in cells {
        let n = reasons(cell, verdict).len() as u64;
        let key = (cell.id.suite.clone(), cell.id.side);
        counts.entry(key).or_insert((0, cell)).0 += n;
    }
    counts
        .into_iter()
        .filter_map(|((suite, _), (skips, cell))| {
            let ceiling = ceilings.get(&suite).map_or(0, |c| c.of(&cell.contract));
            (skips > ceiling).then(|| CeilingRecord {
                suite,
                kernel: cell.id.kernel.clone(),
                contract: cell.contract.clone(),
                skips,
                ceiling,
            })
        })
        .collect()
}

fn reasons(cell: &CellRecord, verdict: &CellVerdict) -> Vec<String> {
    let mut out = Vec::new();
    if let CellVerdict::Skip { reason } = verdict {
        out.push(reason.clone());
    }
    let skipped = cell.results.iter().filter(|r| r.status == TestStatus::Skip);
    out.extend(skipped.map(|r| {
        let first = r.message.lines().next().unwrap_or_default().trim();
        match first {
            "" => "the test says no reason".to_owned(),
            reason => reason.to_owned(),
        }
    }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing;
    use crate::record::{End, TestResult};
    use crate::spec::SpecFile;

    fn cells() -> Vec<(CellRecord, CellVerdict)> {
        let skip = |name: &str, message: &str| TestResult {
            name: name.into(),
            status: TestStatus::Skip,
            message: message.into(),
        };
        let mut ran = testing::cell("a", 0, "5.10");
        ran.results = vec![
            skip("x", "no coherent device\nmore"),
            skip("y", "no coherent device"),
            skip("z", ""),
        ];
        let mut left_out = testing::cell("b", 0, "5.10");
        let reason = "this kernel's tree has no cow.c".to_owned();
        left_out.end = End::Skipped {
            reason: reason.clone(),
        };
        vec![
            (ran, CellVerdict::Pass {}),
            (left_out, CellVerdict::Skip { reason }),
        ]
    }

    #[test]
    fn skips_are_counted_by_reason() {
        let cells = cells();
        let cells: Vec<_> = cells.iter().map(|(c, v)| (c, v)).collect();
        let shown: Vec<_> = skips(&cells)
            .into_iter()
            .map(|s| format!("{} {}: {} {}", s.suite, s.contract, s.skips, s.reason))
            .collect();
        assert_eq!(
            shown,
            [
                "fsdax 5.10: 2 no coherent device",
                "fsdax 5.10: 1 the test says no reason",
                "fsdax 5.10: 1 this kernel's tree has no cow.c",
            ]
        );
    }

    #[test]
    fn more_than_the_ceiling_is_told() {
        let cells = cells();
        let cells: Vec<_> = cells.iter().map(|(c, v)| (c, v)).collect();
        let ceilings = |n: u64| {
            let text = format!("[[ceiling]]\ncontract = \"5.10\"\nskips = {n}\n");
            let file = SpecFile::from_text("suites/fsdax/skips.toml".into(), text);
            BTreeMap::from([("fsdax".to_owned(), Ceilings::parse(&file).unwrap())])
        };
        assert_eq!(over_ceiling(&cells, &ceilings(4)), []);
        let over = over_ceiling(&cells, &ceilings(3));
        assert_eq!((over[0].skips, over[0].ceiling), (4, 3));
        // No file, no skips.
        assert_eq!(over_ceiling(&cells, &BTreeMap::new())[0].ceiling, 0);
    }
}
