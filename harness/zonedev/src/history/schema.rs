//! The tables, and how an older file becomes one of today.

use std::time::Duration;

use camino::Utf8Path;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::HistoryError;

/// What says that a SQLite file is ours: `zdev`.
const APPLICATION: i64 = 0x7a64_6576;

/// Bytes of the header of a SQLite file.
const HEADER: u64 = 100;

/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each makes the next version; the number of steps done is the file's version. A step that was
/// released is never changed.
pub(super) const STEPS: &[&str] = &["
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        -- What stays when the run is gone on with: name, start and planned cells.
        identity TEXT NOT NULL UNIQUE,
        -- Of all that was imported.
        digest TEXT NOT NULL,
        name TEXT NOT NULL,
        started TEXT NOT NULL,
        zonedev TEXT NOT NULL,
        accel TEXT NOT NULL,
        qemu TEXT NOT NULL,
        took_ms INTEGER NOT NULL,
        exit_code INTEGER NOT NULL,
        pages_read INTEGER NOT NULL,
        pages_predicted INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX run_started ON run (started, id);

    CREATE TABLE kernel (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        side INTEGER NOT NULL,
        name TEXT NOT NULL,
        contract TEXT NOT NULL,
        build_key TEXT NOT NULL,
        -- Its provenance, as a JSON object.
        says TEXT NOT NULL,
        PRIMARY KEY (run, side)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE test (
        id INTEGER PRIMARY KEY,
        suite TEXT NOT NULL,
        fixture TEXT NOT NULL,
        name TEXT NOT NULL,
        UNIQUE (suite, fixture, name)
    ) STRICT;

    CREATE TABLE words (
        id INTEGER PRIMARY KEY,
        text TEXT NOT NULL UNIQUE
    ) STRICT;

    CREATE TABLE cell (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        test INTEGER NOT NULL REFERENCES test,
        side INTEGER NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('pass', 'fail', 'skip', 'error', 'unfinished')),
        reason INTEGER REFERENCES words,
        took_ms INTEGER,
        -- How often it ran, and how often it did not pass.
        tries INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        PRIMARY KEY (run, test, side)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX cell_test ON cell (test);
    CREATE INDEX cell_not_green ON cell (test) WHERE verdict != 'pass' OR failed > 0;

    CREATE TABLE pair (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        test INTEGER NOT NULL REFERENCES test,
        -- Of the kernel that is compared with the baseline, side 0.
        side INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        PRIMARY KEY (run, test, side)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pair_regressed ON pair (test) WHERE verdict = 'regressed';

    CREATE TABLE difference (
        run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        test INTEGER NOT NULL REFERENCES test,
        side INTEGER NOT NULL,
        n INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        kind TEXT NOT NULL,
        at TEXT,
        pages_least INTEGER,
        pages_most INTEGER,
        words INTEGER NOT NULL REFERENCES words,
        PRIMARY KEY (run, test, side, n)
    ) STRICT, WITHOUT ROWID;
"];

/// Opens the file; where there is none, one is made if `create`.
pub(super) fn open(path: &Utf8Path, create: bool) -> Result<Connection, HistoryError> {
    if !create && !path.exists() {
        return Err(HistoryError::None(path.to_owned()));
    }
    if create && let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    // SQLite takes a file that is shorter than its header for an empty database, and writes over it.
    if fs_err::metadata(path).is_ok_and(|m| (1..HEADER).contains(&m.len())) {
        return Err(HistoryError::NotOurs(path.to_owned()));
    }
    let mut db = Connection::open(path)?;
    db.busy_timeout(PATIENCE)?;
    prepare(&mut db, path, STEPS)?;
    Ok(db)
}

/// Looks whose file it is, and does the steps that are missing.
pub(super) fn prepare(
    db: &mut Connection,
    path: &Utf8Path,
    steps: &[&str],
) -> Result<(), HistoryError> {
    let version = |db: &Connection| -> Result<i64, HistoryError> {
        let ours = db.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
        let ours = ours.map_err(|e| no_database(e, path))?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
        let new = ours == 0 && version == 0 && tables == 0;
        let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
        match (ours == APPLICATION || new, version) {
            (false, _) => Err(HistoryError::NotOurs(path.to_owned())),
            (true, found) if found > known => Err(HistoryError::Newer {
                path: path.to_owned(),
                found,
                known,
            }),
            (true, found) => Ok(found),
        }
    };
    // A question waits for no writer. What another one commits meanwhile is seen whole or not at all.
    let look = db.transaction().map_err(|e| no_database(e, path))?;
    let found = version(&look)?;
    drop(look);
    if found < i64::try_from(steps.len()).unwrap_or(i64::MAX) {
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another one may have done it while we waited.
        let done = usize::try_from(version(&change)?).unwrap_or(usize::MAX);
        for step in steps.iter().skip(done) {
            change.execute_batch(step)?;
        }
        change.pragma_update(None, "application_id", APPLICATION)?;
        change.pragma_update(None, "user_version", steps.len() as i64)?;
        change.commit()?;
    }
    db.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

fn no_database(e: rusqlite::Error, path: &Utf8Path) -> HistoryError {
    match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => HistoryError::NotOurs(path.to_owned()),
        _ => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;

    fn file(dir: &tempfile::TempDir) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(dir.path().join("h.sqlite")).unwrap()
    }

    #[test]
    fn an_older_file_takes_the_steps_that_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        let steps = ["CREATE TABLE a (x)", "ALTER TABLE a ADD y DEFAULT 7"];
        let mut db = Connection::open(&path).unwrap();
        prepare(&mut db, &path, &steps[..1]).unwrap();
        db.execute("INSERT INTO a VALUES (1)", []).unwrap();
        for _ in 0..2 {
            prepare(&mut db, &path, &steps).unwrap();
        }
        let y: i64 = db.query_row("SELECT y FROM a", [], |r| r.get(0)).unwrap();
        assert_eq!(y, 7);
        let older = prepare(&mut db, &path, &steps[..1]);
        assert!(
            matches!(
                older,
                Err(HistoryError::Newer {
                    found: 2,
                    known: 1,
                    ..
                })
            ),
            "{older:?}"
        );
    }

    #[test]
    fn other_files_are_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        let missing = open(&path, false);
        assert!(matches!(missing, Err(HistoryError::None(_))), "{missing:?}");
        assert!(!path.exists());
        for contents in [
            &b"not a database, but a text that is long enough for a header"[..],
            b"x",
        ] {
            fs_err::write(&path, contents).unwrap();
            let told = open(&path, true);
            assert!(matches!(told, Err(HistoryError::NotOurs(_))), "{told:?}");
            assert_eq!(fs_err::read(&path).unwrap(), contents);
        }
        fs_err::remove_file(&path).unwrap();
        let theirs = Connection::open(&path).unwrap();
        theirs.execute("CREATE TABLE theirs (x)", []).unwrap();
        drop(theirs);
        let told = open(&path, true);
        assert!(matches!(told, Err(HistoryError::NotOurs(_))), "{told:?}");
    }
}
