//! The verdict on a run's records, by what the project has accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use camino::{Utf8Path, Utf8PathBuf};

use crate::plan::Plan;
use crate::record::{
    CeilingRecord, CellId, CellRecord, CellVerdict, FlakyRecord, KnownRecord, PairRecord,
    PairVerdict, RunFolder, SkipRecord,
};
use crate::spec::{Case, Ceilings, Contract, SpecError};
use crate::verdict;

use super::exit::{Exit, Failure};
use super::setup::OWN;

/// What the project has accepted of a run's cells: where their snapshots are, and how many may be
/// skipped.
pub(super) struct Accepted {
    /// The case's file by suite and case.
    cases: BTreeMap<(String, String), Utf8PathBuf>,
    /// By suite.
    ceilings: BTreeMap<String, Ceilings>,
    project: Utf8PathBuf,
}

impl Accepted {
    pub(super) fn of(plan: &Plan, project: &Utf8Path) -> Result<Self, SpecError> {
        let ids = plan.groups.iter().flat_map(|g| {
            let cells = g.cells.iter().map(|c| &c.id);
            cells.chain([&g.boot])
        });
        let suites: BTreeSet<&str> = ids.map(|id| id.suite.as_str()).collect();
        let mut ceilings = BTreeMap::new();
        for suite in suites {
            let dir = project.join("suites").join(suite);
            ceilings.insert(suite.to_owned(), Ceilings::load(&dir)?);
        }
        let cells = plan.groups.iter().flat_map(|g| &g.cells);
        // A teardown comes from its fixture, as the boot does.
        let cases = cells
            .filter(|c| c.id.suite != "boot")
            .map(|c| ((c.id.suite.clone(), c.id.case.clone()), c.case_path.clone()))
            .collect();
        Ok(Self {
            cases,
            ceilings,
            project: project.to_owned(),
        })
    }

    /// Of all cases; ceilings are not looked at.
    pub(super) fn of_cases(cases: &[Case], project: &Utf8Path) -> Self {
        let path = |c: &Case| ((c.suite.clone(), c.name.clone()), c.path.clone());
        Self {
            cases: cases.iter().map(path).collect(),
            ceilings: BTreeMap::new(),
            project: project.to_owned(),
        }
    }

    pub(super) fn dir(&self, id: &CellId) -> Utf8PathBuf {
        self.project
            .join("suites")
            .join(&id.suite)
            .join("snapshots")
    }

    /// The file that a cell comes from, relative to the project.
    pub(super) fn source(&self, id: &CellId) -> String {
        match self.cases.get(&(id.suite.clone(), id.case.clone())) {
            Some(path) => path.strip_prefix(&self.project).unwrap_or(path).to_string(),
            // The boot cells have no case file: their fixture is what they come from.
            None => format!("images/fixtures/{}.toml", id.fixture),
        }
    }
}

/// A run's cells and pairs, judged.
pub(super) struct Judged {
    pub(super) cells: Vec<(CellId, CellVerdict)>,
    pub(super) pairs: Vec<PairRecord>,
    pub(super) skips: Vec<SkipRecord>,
    pub(super) over_ceiling: Vec<CeilingRecord>,
    pub(super) known: Vec<KnownRecord>,
    pub(super) flaky: Vec<FlakyRecord>,
    pub(super) pages_read: u64,
    pub(super) pages_predicted: u64,
    pub(super) boots_kept: usize,
}

impl Judged {
    pub(super) fn exit(&self) -> Exit {
        let failed = self
            .cells
            .iter()
            .any(|(_, v)| matches!(v, CellVerdict::Fail { .. }));
        let regressed = self
            .pairs
            .iter()
            .any(|p| p.verdict == PairVerdict::Regressed);
        let error = self
            .cells
            .iter()
            .any(|(_, v)| matches!(v, CellVerdict::Error { .. }));
        if failed || regressed || !self.over_ceiling.is_empty() {
            Exit::Regressed
        } else if error {
            Exit::Harness
        } else {
            Exit::Good
        }
    }
}

/// Judges every cell, compares the pairs, and writes each cell's observation into the run's folder.
/// With `propose`, what nobody has accepted yet is laid beside the cases.
pub(super) fn judge(
    records: &[CellRecord],
    contracts: &[Contract],
    project: &Accepted,
    run: &Utf8Path,
    propose: bool,
) -> Result<Judged, Failure> {
    let folder = RunFolder::open(run);
    let mut out = Judged {
        cells: Vec::new(),
        pairs: Vec::new(),
        skips: Vec::new(),
        over_ceiling: Vec::new(),
        known: Vec::new(),
        flaky: Vec::new(),
        pages_read: 0,
        pages_predicted: 0,
        boots_kept: records.iter().filter(|r| r.booted_in.is_some()).count(),
    };
    let mut accepted = BTreeMap::new();
    let read = each(records, |record| {
        let judged = verdict::judge_cell(record, &contracts[record.id.side]);
        (judged, verdict::normalised(record))
    });
    for (record, (judged, text)) in records.iter().zip(read) {
        let verdict::JudgedCell {
            verdict,
            pages_read,
            pages_predicted,
            known,
        } = judged;
        out.pages_read += pages_read;
        out.pages_predicted += pages_predicted;
        out.known.extend(known.into_iter().map(|known| KnownRecord {
            cell: record.id.clone(),
            known,
        }));
        if let Some(repeats) = record.repeats.as_ref().filter(|r| r.tolerated)
            && let Some(first) = repeats.failed.first()
        {
            out.flaky.push(FlakyRecord {
                cell: record.id.clone(),
                runs: repeats.runs,
                failed: u32::try_from(repeats.failed.len()).unwrap_or(u32::MAX),
                reason: first.reason.clone(),
            });
        }
        let (id, contract) = (&record.id, &record.contract);
        let (dir, source) = (project.dir(id), project.source(id));
        let file = folder
            .cell_dir(id)?
            .join(format!("{}.snap", verdict::snapshot_name(id, contract)));
        fs_err::write(file, verdict::encode(&source, &record.title, None, &text))?;
        if let Some(old) = verdict::accepted(&dir, id, contract)? {
            accepted.insert(id.clone(), old);
        }
        // Only what keeps its contract can be accepted; in CI nobody would (insta does the same).
        let ours = id.suite != OWN && std::env::var_os("CI").is_none();
        if propose && ours && verdict == (CellVerdict::Pass {}) {
            verdict::propose(&dir, &source, id, contract, &text)?;
        }
        out.cells.push((id.clone(), verdict));
    }
    let mut others: BTreeMap<String, Vec<(&CellRecord, &CellVerdict)>> = BTreeMap::new();
    let all = || records.iter().zip(out.cells.iter().map(|(_, v)| v));
    for (record, verdict) in all().filter(|(r, _)| r.id.side != 0) {
        let case = others.entry(record.id.case_path()).or_default();
        case.push((record, verdict));
    }
    let mut pairs = Vec::new();
    for (base, verdict) in all().filter(|(r, _)| r.id.side == 0) {
        for other in others.get(&base.id.case_path()).into_iter().flatten() {
            pairs.push(((base, verdict), *other));
        }
    }
    out.pairs = each(&pairs, |((base, base_verdict), (other, other_verdict))| {
        let text = |of: &CellRecord| accepted.get(&of.id).map(String::as_str);
        let (base_text, other_text) = (text(base), text(other));
        verdict::pair(
            base,
            other,
            base_verdict,
            other_verdict,
            base_text,
            other_text,
        )
    });
    let judged: Vec<_> = records
        .iter()
        .zip(&out.cells)
        .map(|(record, (_, verdict))| (record, verdict))
        .collect();
    let (skips, over_ceiling) = (
        verdict::skips(&judged),
        verdict::over_ceiling(&judged, &project.ceilings),
    );
    (out.skips, out.over_ceiling) = (skips, over_ceiling);
    Ok(out)
}

/// Does the same with each of many, on all processors; the results are in the same order.
pub(super) fn each<T: Sync, R: Send>(of: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let take = || {
            let mut done = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = of.get(n) else { return done };
                done.push((n, work(one)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        let mut all = Vec::with_capacity(of.len());
        for worker in workers {
            match worker.join() {
                Ok(done) => all.extend(done),
                // What went wrong is told by whoever called us, as if it had happened there.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_do_stays_in_order() {
        let numbers: Vec<u64> = (0..1000).collect();
        let squares = each(&numbers, |n| n * n);
        assert!(
            squares
                .iter()
                .enumerate()
                .all(|(n, s)| *s == (n * n) as u64)
        );
        assert!(each(&[] as &[u64], |n| *n).is_empty());
    }
}
