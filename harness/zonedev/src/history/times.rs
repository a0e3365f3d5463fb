//! How the time goes. What ran in emulation is never counted with what ran on KVM.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rates::median;
use super::{Db, HistoryError};

/// Runs before the last one that are needed for a comparison.
const FEWEST: usize = 3;
/// How many times the middle a case must have taken to be told as slower.
const FACTOR: f64 = 1.5;
/// Milliseconds by which it must be slower, too: what takes none varies by all of it.
const LEAST_MS: u64 = 500;

/// The time of suites, and what got slower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// By suite, kernel and accelerator.
    pub suites: Vec<SuiteTime>,
    /// Cases whose last run took more than ever before, by how much more than usual; the slowest
    /// first.
    pub slower: Vec<Slower>,
}

/// The cells of one suite on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteTime {
    /// The suite.
    pub suite: String,
    /// The kernel as it was typed.
    pub kernel: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// In how many runs it passed in part at least.
    pub runs: u64,
    /// Its cells' median, in milliseconds, over all of these runs.
    pub cell_ms: u64,
    /// The median of the runs' sums, in milliseconds.
    pub sum_ms: u64,
    /// The sum of the last run that has it.
    pub last_ms: u64,
}

/// A case that got slower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slower {
    /// `suite/fixture/case`.
    pub case: String,
    /// The kernel as it was typed.
    pub kernel: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// The last run's, in milliseconds.
    pub last_ms: u64,
    /// The median of those before it.
    pub median_ms: u64,
    /// The longest of those before it.
    pub longest_ms: u64,
}

/// Over the last `last` runs; of cases whose `suite/fixture/case` `case` is a part of, or of all. Only
/// what passed counts: a failure ends early or late.
///
/// # Errors
/// Where the file can't be read.
pub fn times(db: &Db, case: Option<&str>, last: usize) -> Result<Times, HistoryError> {
    let sql = "
        SELECT suite, fixture || '/' || test.name, kernel.name, run.accel, run.id, cell.took_ms
        FROM cell JOIN run ON run.id = cell.run JOIN test ON test.id = cell.test
        JOIN kernel ON kernel.run = cell.run AND kernel.side = cell.side
        WHERE cell.run IN (SELECT id FROM run ORDER BY started DESC, id DESC LIMIT ?1)
            AND verdict = 'pass' AND cell.took_ms IS NOT NULL
            AND instr(suite || '/' || fixture || '/' || test.name, ?2) > 0
        ORDER BY run.started, run.id";
    // By suite, kernel and accelerator: each case's times, and each run's sum, in the runs' order.
    type Group = (BTreeMap<String, Vec<(i64, u64)>>, Vec<(i64, u64)>);
    let mut groups: BTreeMap<(String, String, String), Group> = BTreeMap::new();
    let mut newest: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut of = db.connection.prepare(sql)?;
    let mut rows = of.query((i64::try_from(last).unwrap_or(i64::MAX), case.unwrap_or("")))?;
    while let Some(row) = rows.next()? {
        let (suite, case): (String, String) = (row.get(0)?, row.get(1)?);
        let (kernel, accel): (String, String) = (row.get(2)?, row.get(3)?);
        let run: i64 = row.get(4)?;
        let took = u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0);
        newest.insert((kernel.clone(), accel.clone()), run);
        let group = groups.entry((suite, kernel, accel)).or_default();
        group.0.entry(case).or_default().push((run, took));
        match group.1.last_mut() {
            Some((of, sum)) if *of == run => *sum += took,
            _ => group.1.push((run, took)),
        }
    }
    let mut out = Times {
        suites: Vec::new(),
        slower: Vec::new(),
    };
    for ((suite, kernel, accel), (cases, sums)) in groups {
        let newest = newest.get(&(kernel.clone(), accel.clone()));
        let mut all = Vec::new();
        for (case, times) in cases {
            all.extend(times.iter().map(|(_, ms)| *ms));
            let Some(((run, last_ms), before)) = times.split_last() else {
                continue;
            };
            let before: Vec<u64> = before.iter().map(|(_, ms)| *ms).collect();
            let (Some(median_ms), Some(&longest_ms)) = (median(&before), before.iter().max())
            else {
                continue;
            };
            let slow = *last_ms > longest_ms
                && *last_ms as f64 > median_ms as f64 * FACTOR
                && *last_ms > median_ms + LEAST_MS;
            if before.len() >= FEWEST && newest == Some(run) && slow {
                out.slower.push(Slower {
                    case: format!("{suite}/{case}"),
                    kernel: kernel.clone(),
                    accel: accel.clone(),
                    last_ms: *last_ms,
                    median_ms,
                    longest_ms,
                });
            }
        }
        let sums: Vec<u64> = sums.into_iter().map(|(_, sum)| sum).collect();
        out.suites.push(SuiteTime {
            suite,
            kernel,
            accel,
            runs: sums.len() as u64,
            cell_ms: median(&all).unwrap_or(0),
            sum_ms: median(&sums).unwrap_or(0),
            last_ms: sums.last().copied().unwrap_or(0),
        });
    }
    out.slower
        .sort_by_key(|s| std::cmp::Reverse(s.last_ms - s.median_ms));
    Ok(out)
}
