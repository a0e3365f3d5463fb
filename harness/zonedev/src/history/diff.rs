//! What changed between two runs.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask::{self, otherwise};
use super::track::{RunRef, State};
use super::{Db, HistoryError};

/// One run against an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunDiff {
    /// The earlier one.
    pub old: RunRef,
    /// The later one.
    pub new: RunRef,
    /// Their accelerators, where they are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<(String, String)>,
    /// What the kernels that are named alike say otherwise of themselves, by kernel and key.
    pub kernels: BTreeMap<String, BTreeMap<String, (String, String)>>,
    /// Verdicts that changed: newly red first, then those of which nothing is known any more, then
    /// newly green.
    pub verdicts: Vec<VerdictChange>,
    /// Differences to the baseline that came or went, worst first.
    pub differences: Vec<DifferenceChange>,
    /// Cells that both have.
    pub both: u64,
    /// Cells that only the earlier one has.
    pub only_old: u64,
    /// Cells that only the later one has.
    pub only_new: u64,
    /// Cells that are red in both.
    pub still_red: u64,
}

/// A cell whose verdict changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictChange {
    /// `suite/fixture/case`.
    pub case: String,
    /// The kernel as it was typed; of a pair `7.3 against 6.12`.
    pub kernel: String,
    /// What it was.
    pub old: State,
    /// What it is.
    pub new: State,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A difference between a kernel and the baseline that one of the runs has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DifferenceChange {
    /// Whether it is the later run's.
    pub came: bool,
    /// 0 is worst.
    pub rank: u8,
    /// In words.
    pub text: String,
    /// Where: `suite/fixture/case on KERNEL`, and the place in it.
    pub cells: Vec<String>,
}

type Key = (String, String);

/// A cell's or a pair's state and reason in a run, by case and kernel.
fn states(db: &Db, run: &RunRef) -> Result<BTreeMap<Key, (State, Option<String>)>, HistoryError> {
    let mut out: BTreeMap<Key, (State, Option<String>)> = BTreeMap::new();
    let sql = "
        SELECT suite || '/' || fixture || '/' || test.name, kernel.name, verdict, words.text
        FROM cell JOIN test ON test.id = cell.test
        JOIN kernel USING (run, side) LEFT JOIN words ON words.id = cell.reason
        WHERE cell.run = ?1 ORDER BY side";
    let mut of = db.connection.prepare(sql)?;
    let mut rows = of.query([run.id])?;
    while let Some(row) = rows.next()? {
        let word: String = row.get(2)?;
        let state = State::of(&word);
        let now = (state, row.get(3)?);
        let key = (row.get(0)?, row.get(1)?);
        match out.get_mut(&key) {
            // Two kernels that are named alike: the worse counts.
            Some(before) if before.0.weight() >= state.weight() => {}
            Some(before) => *before = now,
            None => {
                out.insert(key, now);
            }
        }
    }
    Ok(out)
}

/// Differences of a run's pairs: where each is, by rank and words.
fn differences(
    db: &Db,
    run: &RunRef,
) -> Result<BTreeMap<(u8, String), BTreeSet<String>>, HistoryError> {
    let mut out: BTreeMap<(u8, String), BTreeSet<String>> = BTreeMap::new();
    let sql = "
        SELECT rank, words.text, suite || '/' || fixture || '/' || test.name || ' on '
            || kernel.name || coalesce(', at ' || at, '')
        FROM difference JOIN test ON test.id = difference.test
        JOIN kernel USING (run, side) JOIN words ON words.id = difference.words
        WHERE difference.run = ?1";
    let mut of = db.connection.prepare(sql)?;
    let mut rows = of.query([run.id])?;
    while let Some(row) = rows.next()? {
        let key = (row.get(0)?, row.get(1)?);
        out.entry(key).or_default().insert(row.get(2)?);
    }
    Ok(out)
}

/// Compares two runs of the history, by their names: a name, its unique beginning, `latest`, or
/// `latest~1` for the one before it.
///
/// # Errors
/// Where a name names none or several, or the file can't be read.
pub fn diff(db: &Db, old: &str, new: &str) -> Result<RunDiff, HistoryError> {
    let all = ask::runs(db)?;
    let (old, new) = (find(&all, old)?, find(&all, new)?);
    let accel = |run: &RunRef| -> Result<String, HistoryError> {
        let sql = "SELECT accel FROM run WHERE id = ?1";
        Ok(db.connection.query_row(sql, [run.id], |row| row.get(0))?)
    };
    let accels = (accel(&old)?, accel(&new)?);
    let mut kernels = BTreeMap::new();
    let mut of = db
        .connection
        .prepare("SELECT DISTINCT name FROM kernel WHERE run = ?1")?;
    let names: Vec<String> = of
        .query_map([new.id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for name in names {
        let (before, after) = (
            ask::kernel(db, old.id, &name)?,
            ask::kernel(db, new.id, &name)?,
        );
        if let (Some(before), Some(after)) = (before, after) {
            let changed = otherwise(&before, &after);
            if !changed.is_empty() {
                kernels.insert(name, changed);
            }
        }
    }
    let (before, mut after) = (states(db, &old)?, states(db, &new)?);
    let mut out = RunDiff {
        accel: (accels.0 != accels.1).then_some(accels),
        kernels,
        verdicts: Vec::new(),
        differences: changed_differences(db, &old, &new)?,
        both: 0,
        only_old: 0,
        only_new: 0,
        still_red: 0,
        old,
        new,
    };
    for ((case, kernel), (was, why)) in before {
        let key = (case, kernel);
        let Some((is, reason)) = after.remove(&key) else {
            out.only_old += 1;
            continue;
        };
        out.both += 1;
        out.still_red += u64::from(was == State::Fail && is == State::Fail);
        if was != is {
            out.verdicts.push(VerdictChange {
                case: key.0,
                kernel: key.1,
                old: was,
                new: is,
                reason: reason.or(why),
            });
        }
    }
    out.only_new = after.len() as u64;
    // Red first, green last; what is only skipped now is between.
    let order = |c: &VerdictChange| match c.new {
        State::Fail => 0,
        State::Error => 1,
        State::Unfinished => 2,
        State::Skip => 3,
        State::Pass => 4,
    };
    out.verdicts
        .sort_by(|a, b| (order(a), &a.case, &a.kernel).cmp(&(order(b), &b.case, &b.kernel)));
    Ok(out)
}

fn changed_differences(
    db: &Db,
    old: &RunRef,
    new: &RunRef,
) -> Result<Vec<DifferenceChange>, HistoryError> {
    let (before, after) = (differences(db, old)?, differences(db, new)?);
    // What one run did not compare at all tells nothing.
    let compared = |run: &RunRef| -> Result<BTreeSet<String>, HistoryError> {
        let sql = "
            SELECT suite || '/' || fixture || '/' || test.name || ' on ' || kernel.name
            FROM pair JOIN test ON test.id = pair.test JOIN kernel USING (run, side)
            WHERE run = ?1 AND verdict != 'incomparable'";
        let mut of = db.connection.prepare(sql)?;
        let rows = of.query_map([run.id], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let (in_old, in_new) = (compared(old)?, compared(new)?);
    let mut out = Vec::new();
    for (came, ours, theirs, other) in [
        (true, &after, &before, &in_old),
        (false, &before, &after, &in_new),
    ] {
        for ((rank, text), cells) in ours {
            let there = theirs.get(&(*rank, text.clone()));
            let cells: Vec<String> = cells
                .iter()
                .filter(|c| there.is_none_or(|t| !t.contains(*c)))
                .filter(|c| other.contains(c.split(", at ").next().unwrap_or(c)))
                .cloned()
                .collect();
            if !cells.is_empty() {
                out.push(DifferenceChange {
                    came,
                    rank: *rank,
                    text: text.clone(),
                    cells,
                });
            }
        }
    }
    out.sort_by(|a, b| (!a.came, a.rank, &a.text).cmp(&(!b.came, b.rank, &b.text)));
    Ok(out)
}

/// A run by what people call it.
fn find(all: &[RunRef], name: &str) -> Result<RunRef, HistoryError> {
    let none = || HistoryError::NoRun(name.to_owned());
    if let Some(back) = name.strip_prefix("latest") {
        let back = match back.strip_prefix('~') {
            Some(n) => n.parse::<usize>().map_err(|_| none())?,
            None if back.is_empty() => 0,
            None => return Err(none()),
        };
        let at = all.len().checked_sub(back + 1).ok_or_else(none)?;
        return Ok(all[at].clone());
    }
    let exact: Vec<&RunRef> = all.iter().filter(|r| r.name == name).collect();
    let like: Vec<&RunRef> = match exact.is_empty() {
        true => all
            .iter()
            .filter(|r| r.name.starts_with(name) || r.started.starts_with(name))
            .collect(),
        false => exact,
    };
    match like.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(none()),
        many => Err(HistoryError::ManyRuns {
            name: name.to_owned(),
            n: many.len(),
        }),
    }
}
