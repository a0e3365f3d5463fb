//! The file, and runs that are put into it.

use std::collections::{BTreeMap, HashMap};

use camino::Utf8Path;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{HistoryError, schema};
use crate::record::{CellId, CellVerdict, PairRecord, PairVerdict, RunRecord};

/// The history.
#[derive(Debug)]
pub struct Db {
    pub(super) connection: Connection,
}

/// What came of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// The run was new.
    New,
    /// It was there, and as it is.
    Unchanged,
    /// It was there and has been gone on with, or was judged anew since.
    Updated,
}

impl Db {
    /// Opens the file.
    ///
    /// # Errors
    /// Where there is none and none is to be made (`create`), where it is something else, or one of
    /// a later version.
    pub fn open(path: &Utf8Path, create: bool) -> Result<Db, HistoryError> {
        Ok(Db {
            connection: schema::open(path, create)?,
        })
    }

    /// Puts a run in, or nothing of it. `took_ms` and `tries` (how often a cell ran, and how often it
    /// did not pass) are by cell, where they are known.
    ///
    /// # Errors
    /// Where the file can't be written, or the run's date is none.
    pub fn import(
        &mut self,
        run: &RunRecord,
        took_ms: &BTreeMap<CellId, u64>,
        tries: &BTreeMap<CellId, (u32, u32)>,
    ) -> Result<Import, HistoryError> {
        let started = started(run)?;
        let change = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (identity, digest) = (identity(run, &started), digest(run, took_ms, tries)?);
        let before: Option<(i64, String)> = change
            .query_row(
                "SELECT id, digest FROM run WHERE identity = ?1",
                [&identity],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let came = match before {
            Some((_, old)) if old == digest => return Ok(Import::Unchanged),
            Some((id, _)) => {
                change.execute("DELETE FROM run WHERE id = ?1", [id])?;
                Import::Updated
            }
            None => Import::New,
        };
        change.execute(
            "INSERT INTO run (identity, digest, name, started, zonedev, accel, qemu, took_ms, \
             exit_code, pages_read, pages_predicted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
             ?10, ?11)",
            params![
                identity,
                digest,
                run.id,
                started,
                run.zonedev,
                run.accel,
                run.qemu,
                int(run.took_ms),
                run.exit_code,
                int(run.pages_read),
                int(run.pages_predicted),
            ],
        )?;
        Into {
            id: change.last_insert_rowid(),
            change: &change,
            tests: HashMap::new(),
            words: HashMap::new(),
        }
        .all(run, took_ms, tries)?;
        change.commit()?;
        Ok(came)
    }
}

/// One run on its way in.
struct Into<'a> {
    id: i64,
    change: &'a Transaction<'a>,
    tests: HashMap<String, i64>,
    words: HashMap<String, i64>,
}

impl Into<'_> {
    fn all(
        &mut self,
        run: &RunRecord,
        took_ms: &BTreeMap<CellId, u64>,
        tries: &BTreeMap<CellId, (u32, u32)>,
    ) -> Result<(), HistoryError> {
        let mut kernel = self
            .change
            .prepare("INSERT INTO kernel VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for (side, k) in run.kernels.iter().enumerate() {
            let says = serde_json::to_string(&k.provenance)?;
            kernel.execute(params![
                self.id,
                side as i64,
                k.name,
                k.contract,
                k.build_key,
                says
            ])?;
        }
        let flaky: HashMap<&CellId, (u32, u32)> = run
            .flaky
            .iter()
            .map(|f| (&f.cell, (f.runs, f.failed)))
            .collect();
        let mut cell = self
            .change
            .prepare("INSERT OR REPLACE INTO cell VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        let unfinished = run.unfinished.iter().map(|id| (id, "unfinished", None));
        let ended = run.cells.iter().map(|(id, verdict)| {
            let (word, reason) = match verdict {
                CellVerdict::Pass {} => ("pass", None),
                CellVerdict::Fail { reasons, .. } => ("fail", reasons.first()),
                CellVerdict::Skip { reason } => ("skip", Some(reason)),
                CellVerdict::Error { reason, .. } => ("error", Some(reason)),
            };
            (id, word, reason.map(String::as_str))
        });
        for (id, word, reason) in unfinished.chain(ended) {
            let told = flaky.get(id).or_else(|| tries.get(id)).copied();
            let (of, failed) = told.unwrap_or(match word {
                "pass" => (1, 0),
                "fail" => (1, 1),
                _ => (0, 0),
            });
            let test = self.test(id)?;
            let reason = reason.map(|r| self.words(r)).transpose()?;
            let took = took_ms.get(id).copied().map(int);
            let side = id.side as i64;
            cell.execute(params![self.id, test, side, word, reason, took, of, failed])?;
        }
        self.pairs(&run.pairs)
    }

    fn pairs(&mut self, pairs: &[PairRecord]) -> Result<(), HistoryError> {
        let mut pair = self
            .change
            .prepare("INSERT OR REPLACE INTO pair VALUES (?1, ?2, ?3, ?4)")?;
        let mut difference = self.change.prepare(
            "INSERT OR REPLACE INTO difference VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        for p in pairs {
            let (test, side) = (self.test(&p.other)?, p.other.side as i64);
            pair.execute(params![self.id, test, side, verdict_word(p.verdict)])?;
            let told = p.differences.iter().filter(|d| d.kind != "log-line");
            for (n, d) in told.enumerate() {
                let words = self.words(&d.text)?;
                difference.execute(params![
                    self.id,
                    test,
                    side,
                    n as i64,
                    d.rank,
                    d.kind,
                    d.at,
                    d.pages.map(|p| int(p.0)),
                    d.pages.map(|p| int(p.1)),
                    words
                ])?;
            }
        }
        Ok(())
    }

    fn test(&mut self, id: &CellId) -> Result<i64, HistoryError> {
        let path = id.case_path();
        if let Some(known) = self.tests.get(&path) {
            return Ok(*known);
        }
        let names = params![id.suite, id.fixture, id.case];
        self.change.execute(
            "INSERT OR IGNORE INTO test (suite, fixture, name) VALUES (?1, ?2, ?3)",
            names,
        )?;
        let test = self.change.query_row(
            "SELECT id FROM test WHERE suite = ?1 AND fixture = ?2 AND name = ?3",
            names,
            |row| row.get(0),
        )?;
        self.tests.insert(path, test);
        Ok(test)
    }

    fn words(&mut self, text: &str) -> Result<i64, HistoryError> {
        if let Some(known) = self.words.get(text) {
            return Ok(*known);
        }
        self.change
            .execute("INSERT OR IGNORE INTO words (text) VALUES (?1)", [text])?;
        let id = self
            .change
            .query_row("SELECT id FROM words WHERE text = ?1", [text], |row| {
                row.get(0)
            })?;
        self.words.insert(text.to_owned(), id);
        Ok(id)
    }
}

pub(super) fn verdict_word(verdict: PairVerdict) -> &'static str {
    match verdict {
        PairVerdict::Same => "same",
        PairVerdict::ChangedAsAccepted => "changed-as-accepted",
        PairVerdict::Regressed => "regressed",
        PairVerdict::Fixed => "fixed",
        PairVerdict::Incomparable => "incomparable",
    }
}

/// SQLite's numbers have a sign.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The start in one notation, so that it sorts.
pub(super) fn started(run: &RunRecord) -> Result<String, HistoryError> {
    let time = humantime::parse_rfc3339_weak(&run.started).map_err(|_| HistoryError::Date {
        run: run.id.clone(),
        started: run.started.clone(),
    })?;
    Ok(humantime::format_rfc3339_seconds(time).to_string())
}

/// What stays of a run when it is gone on with: two shards of one night may begin within one second
/// under one name, and differ in what they planned.
pub(super) fn identity(run: &RunRecord, started: &str) -> String {
    let finished = run.cells.iter().map(|(id, _)| id);
    let mut planned: Vec<String> = finished
        .chain(&run.unfinished)
        .map(|id| format!("{} {}", id.side, id))
        .collect();
    planned.sort_unstable();
    planned.dedup();
    let cells = blake3::hash(planned.join("\n").as_bytes());
    format!("{started} {} {}", run.id, &cells.to_hex()[..16])
}

fn digest(
    run: &RunRecord,
    took_ms: &BTreeMap<CellId, u64>,
    tries: &BTreeMap<CellId, (u32, u32)>,
) -> Result<String, HistoryError> {
    let mut hash = blake3::Hasher::new();
    serde_json::to_writer(&mut hash, run)?;
    for (id, n) in took_ms {
        hash.update(format!("{} {id} {n}\n", id.side).as_bytes());
    }
    for (id, n) in tries {
        hash.update(format!("{} {id} {n:?}\n", id.side).as_bytes());
    }
    Ok(hash.finalize().to_hex().to_string())
}
