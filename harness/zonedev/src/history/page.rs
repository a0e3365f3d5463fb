//! What the history says of one run's cells, as data for a page of its report.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask;
use super::rates::Rate;
use super::track::{RunRef, State};
use super::{Db, HistoryError, db};
use crate::record::RunRecord;

/// Runs shown, the one itself among them.
const MAX_RUNS: usize = 30;

/// The history of a run's cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryPage {
    /// The runs, oldest first: those under the same accelerator up to this one. No other's
    /// times or verdicts are among the points.
    pub runs: Vec<RunRef>,
    /// Which of them this one is; `None` where it was not imported.
    pub this: Option<usize>,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// The run's cells, and its pairs that ever regressed while both cells passed.
    pub cases: Vec<CaseHistory>,
}

/// One case on one kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseHistory {
    /// `suite/fixture/case`.
    pub case: String,
    /// The kernel as it was typed; of a pair `7.3 against 6.12`.
    pub kernel: String,
    /// What came of it in those of the runs that have it.
    pub points: Vec<PagePoint>,
    /// Whether it failed in the last run that passed or failed.
    pub red: bool,
    /// The first run that failed after the last one that passed, as an index into the runs.
    pub red_since: Option<usize>,
    /// The last run that passed.
    pub last_green: Option<usize>,
    /// How often it failed on builds on which it also passed.
    pub flaky: Option<Rate>,
    /// The middle of the times of runs that passed, in milliseconds.
    pub median_ms: Option<u64>,
}

/// What came of a case in one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagePoint {
    /// Index into the page's runs.
    pub run: usize,
    /// What it came to.
    pub state: State,
    /// Milliseconds.
    pub took_ms: Option<u64>,
    /// Key of the kernel's build, or of both of a pair.
    pub build_key: String,
}

/// The history of the cells of `run`, which need not be imported itself.
///
/// # Errors
/// Where the file can't be read, or the run's date is none.
pub fn page(db: &Db, run: &RunRecord) -> Result<HistoryPage, HistoryError> {
    let started = db::started(run)?;
    let identity = db::identity(run, &started);
    let mut of = db.connection.prepare(
        "SELECT id, started, name, identity = ?2 FROM run WHERE accel = ?1
            AND (started < ?3 OR identity = ?2)
         ORDER BY started DESC, id DESC LIMIT ?4",
    )?;
    let rows = of.query_map((&run.accel, &identity, &started, MAX_RUNS as i64), |row| {
        let run = RunRef {
            id: row.get(0)?,
            started: row.get(1)?,
            name: row.get(2)?,
        };
        Ok((run, row.get::<_, bool>(3)?))
    })?;
    let mut runs: Vec<(RunRef, bool)> = rows.collect::<Result<_, _>>()?;
    runs.reverse();
    let this = runs.iter().position(|(_, this)| *this);
    let runs: Vec<RunRef> = runs.into_iter().map(|(run, _)| run).collect();
    let index: BTreeMap<i64, usize> = runs.iter().enumerate().map(|(n, r)| (r.id, n)).collect();

    let cells = run.cells.iter().map(|(id, _)| id).chain(&run.unfinished);
    let wanted: BTreeSet<(String, String)> = cells
        .map(|id| (id.case_path(), id.kernel.clone()))
        .collect();
    let pairs: BTreeSet<(String, String)> = run
        .pairs
        .iter()
        .map(|p| {
            let kernels = format!("{} against {}", p.other.kernel, p.baseline.kernel);
            (p.other.case_path(), kernels)
        })
        .collect();
    let cases: BTreeSet<&String> = wanted.iter().map(|(case, _)| case).collect();
    let mut out = HistoryPage {
        runs,
        this,
        accel: run.accel.clone(),
        cases: Vec::new(),
    };
    // The runs of the other accelerator may lie between.
    let tests = ask::tests_of(db, &cases)?;
    for mut track in ask::tracks(db, &tests, usize::MAX)? {
        let key = (track.case.clone(), track.kernel.clone());
        let pair = pairs.contains(&key);
        if track.accel != run.accel || !(pair || wanted.contains(&key)) {
            continue;
        }
        track.points.retain(|p| index.contains_key(&p.run.id));
        let Some(standing) = track.standing() else {
            continue;
        };
        if pair && !track.points.iter().any(|p| p.state == State::Fail) {
            continue;
        }
        let at = |p: &Option<super::Point>| p.as_ref().and_then(|p| index.get(&p.run.id).copied());
        out.cases.push(CaseHistory {
            red: standing.red,
            red_since: at(&standing.red_since),
            last_green: at(&standing.last_green),
            flaky: standing.flaky,
            median_ms: standing.median_ms,
            points: track
                .points
                .iter()
                .map(|p| PagePoint {
                    run: index[&p.run.id],
                    state: p.state,
                    took_ms: p.took_ms,
                    build_key: p.build_key.clone(),
                })
                .collect(),
            case: track.case,
            kernel: track.kernel,
        });
    }
    Ok(out)
}
