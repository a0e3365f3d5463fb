//! Tracks out of the tables, and which of them are worth a look.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Row, params_from_iter, types::Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::track::{KernelRef, Point, RunRef, Standing, State, Track};
use super::{Db, HistoryError};

/// A track and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The track.
    pub track: Track,
    /// Where it stands.
    pub standing: Standing,
    /// What of the kernel's provenance is another in the first red run than in the last green one:
    /// before and after, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<String, (String, String)>,
}

/// The runs that there are, oldest first.
///
/// # Errors
/// Where the file can't be read.
pub fn runs(db: &Db) -> Result<Vec<RunRef>, HistoryError> {
    let mut of = db
        .connection
        .prepare("SELECT id, started, name FROM run ORDER BY started, id")?;
    let rows = of.query_map([], |row| {
        Ok(RunRef {
            id: row.get(0)?,
            started: row.get(1)?,
            name: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Cases over the last `last` runs. With `case`, all whose `suite/fixture/case` it is a part of;
/// without, those that are not green or flake: the red ones first, longest red last.
///
/// # Errors
/// Where the file can't be read.
pub fn answer(db: &Db, case: Option<&str>, last: usize) -> Result<Vec<Answer>, HistoryError> {
    let tests = match case {
        Some(case) => named(db, case)?,
        None => not_green(db)?,
    };
    let mut out = Vec::new();
    for track in tracks(db, &tests, last)? {
        let Some(standing) = track.standing() else {
            continue;
        };
        let told = standing.red
            || standing.flaky.is_some()
            || !matches!(standing.now, State::Pass | State::Skip)
            // It ran once, and does no more.
            || (standing.now == State::Skip && standing.last_green.is_some());
        if case.is_none() && !told {
            continue;
        }
        let changed = match (&standing.last_green, &standing.red_since) {
            (Some(green), Some(red)) if green.build_key != red.build_key => {
                changed(db, &track.kernel, green, red)?
            }
            _ => BTreeMap::new(),
        };
        out.push(Answer {
            track,
            standing,
            changed,
        });
    }
    if case.is_none() {
        // What broke last is news.
        out.sort_by(|a, b| {
            let key = |x: &Answer| {
                let since = x.standing.red_since.as_ref().map(|p| p.run.clone());
                (x.standing.red, since)
            };
            key(b).cmp(&key(a))
        });
    }
    Ok(out)
}

fn ids(db: &Db, sql: &str, with: &[&str]) -> Result<Vec<i64>, HistoryError> {
    let mut of = db.connection.prepare(sql)?;
    let rows = of.query_map(params_from_iter(with), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn named(db: &Db, case: &str) -> Result<Vec<i64>, HistoryError> {
    let path = "suite || '/' || fixture || '/' || name";
    // The whole name wins over longer ones that contain it.
    let exact = ids(
        db,
        &format!("SELECT id FROM test WHERE {path} = ?1"),
        &[case],
    )?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    let part = format!("SELECT id FROM test WHERE instr({path}, ?1) > 0");
    ids(db, &part, &[case])
}

/// The tests of these cases.
pub(super) fn tests_of(db: &Db, cases: &BTreeSet<&String>) -> Result<Vec<i64>, HistoryError> {
    let sql = "SELECT id FROM test WHERE suite || '/' || fixture || '/' || name IN
        (SELECT value FROM json_each(?1))";
    ids(db, sql, &[&serde_json::to_string(cases)?])
}

/// Tests that were ever anything else than green, and those that were skipped on a kernel and ran on
/// it at another time.
fn not_green(db: &Db) -> Result<Vec<i64>, HistoryError> {
    ids(
        db,
        "SELECT test FROM cell WHERE (verdict != 'pass' OR failed > 0) AND verdict != 'skip'
         UNION SELECT test FROM cell WHERE verdict = 'pass' AND failed > 0
         UNION SELECT test FROM pair WHERE verdict = 'regressed'
         UNION SELECT test FROM (
            SELECT cell.test, max(verdict = 'pass') AS ran, max(verdict = 'skip') AS skipped
            FROM cell JOIN kernel USING (run, side)
            WHERE cell.test IN (SELECT test FROM cell WHERE verdict = 'skip')
            GROUP BY cell.test, kernel.name HAVING ran AND skipped)",
        &[],
    )
}

/// Their tracks over the last runs: those of the cells, and those of the pairs whose cells passed both
/// (where one failed, its own track tells it).
///
/// # Errors
/// Where the file can't be read.
pub fn tracks(db: &Db, tests: &[i64], last: usize) -> Result<Vec<Track>, HistoryError> {
    let mut out: BTreeMap<(String, String, String), Track> = BTreeMap::new();
    let mut add = |row: &Row<'_>| -> rusqlite::Result<()> {
        let (case, kernel, accel): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let word: String = row.get(6)?;
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let point = Point {
            run: RunRef {
                id: row.get(3)?,
                started: row.get(4)?,
                name: row.get(5)?,
            },
            state: State::of(&word),
            reason: row.get(7)?,
            took_ms: row.get::<_, Option<i64>>(8)?.map(number),
            tries: number(row.get(9)?),
            failed: number(row.get(10)?),
            build_key: row.get(11)?,
        };
        let key = (case.clone(), kernel.clone(), accel.clone());
        let track = out.entry(key).or_insert_with(|| Track {
            case,
            kernel,
            accel,
            points: Vec::new(),
        });
        track.add(point);
        Ok(())
    };
    let cells = "
        SELECT suite || '/' || fixture || '/' || test.name, kernel.name, run.accel, run.id,
            run.started, run.name, cell.verdict, words.text, cell.took_ms, cell.tries, cell.failed,
            kernel.build_key
        FROM cell JOIN run ON run.id = cell.run JOIN test ON test.id = cell.test
        JOIN kernel ON kernel.run = cell.run AND kernel.side = cell.side
        LEFT JOIN words ON words.id = cell.reason
        WHERE cell.run IN (SELECT id FROM run ORDER BY started DESC, id DESC LIMIT ?1)
            AND cell.test IN (SELECT value FROM json_each(?2))
        ORDER BY run.started, run.id, cell.side";
    let pairs = "
        SELECT suite || '/' || fixture || '/' || test.name, kernel.name || ' against ' || base.name,
            run.accel, run.id, run.started, run.name,
            CASE pair.verdict WHEN 'regressed' THEN 'fail' WHEN 'incomparable' THEN 'skip'
                ELSE 'pass' END,
            (SELECT text FROM difference JOIN words ON words.id = difference.words
                WHERE difference.run = pair.run AND difference.test = pair.test
                    AND difference.side = pair.side ORDER BY rank, n LIMIT 1),
            NULL, pair.verdict != 'incomparable', pair.verdict = 'regressed',
            base.build_key || '..' || kernel.build_key
        FROM pair JOIN run ON run.id = pair.run JOIN test ON test.id = pair.test
        JOIN kernel ON kernel.run = pair.run AND kernel.side = pair.side
        JOIN kernel AS base ON base.run = pair.run AND base.side = 0
        LEFT JOIN cell ON cell.run = pair.run AND cell.test = pair.test AND cell.side = pair.side
        WHERE pair.run IN (SELECT id FROM run ORDER BY started DESC, id DESC LIMIT ?1)
            AND pair.test IN (SELECT value FROM json_each(?2))
            AND cell.verdict IS NOT 'fail'
        ORDER BY run.started, run.id, pair.side";
    let tests = serde_json::to_string(tests)?;
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    for sql in [cells, pairs] {
        let mut of = db.connection.prepare(sql)?;
        let mut rows = of.query([Value::from(last), Value::from(tests.clone())])?;
        while let Some(row) = rows.next()? {
            add(row)?;
        }
    }
    Ok(out.into_values().collect())
}

/// A kernel of a run.
pub(super) fn kernel(db: &Db, run: i64, name: &str) -> Result<Option<KernelRef>, HistoryError> {
    let mut of = db.connection.prepare(
        "SELECT build_key, says FROM kernel WHERE run = ?1 AND name = ?2 ORDER BY side LIMIT 1",
    )?;
    let mut rows = of.query((run, name))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let says: String = row.get(1)?;
    Ok(Some(KernelRef {
        build_key: row.get(0)?,
        says: serde_json::from_str(&says)?,
    }))
}

/// What two builds say otherwise of themselves.
pub(super) fn otherwise(
    before: &KernelRef,
    after: &KernelRef,
) -> BTreeMap<String, (String, String)> {
    let keys = before.says.keys().chain(after.says.keys());
    let value = |k: &KernelRef, key: &str| k.says.get(key).cloned().unwrap_or_default();
    let mut out: BTreeMap<_, _> = keys
        .map(|key| (key.clone(), (value(before, key), value(after, key))))
        .filter(|(_, (a, b))| a != b)
        .collect();
    if before.build_key != after.build_key {
        out.insert(
            "build".to_owned(),
            (before.build_key.clone(), after.build_key.clone()),
        );
    }
    out
}

fn changed(
    db: &Db,
    kernel_name: &str,
    green: &Point,
    red: &Point,
) -> Result<BTreeMap<String, (String, String)>, HistoryError> {
    let mut out = BTreeMap::new();
    // Of a pair, either kernel may be another.
    for name in kernel_name.split(" against ") {
        let (before, after) = (
            kernel(db, green.run.id, name)?,
            kernel(db, red.run.id, name)?,
        );
        if let (Some(before), Some(after)) = (before, after) {
            for (key, values) in otherwise(&before, &after) {
                out.insert(format!("{name} {key}"), values);
            }
        }
    }
    Ok(out)
}
