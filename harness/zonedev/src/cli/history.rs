//! `zonedev history`: runs of many nights, and what they say together.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::history::{self, Db, HistoryError, Import};
use crate::report::{self, escape};

use super::exit::{Exit, Failure};
use super::inspect;

/// `zonedev history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    pub(super) command: Option<HistoryCommand>,
    /// A part of SUITE/FIXTURE/CASE [default: those that are not green]
    pub(super) case: Option<String>,
    /// The history's file [default: target/history.sqlite]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) db: Option<Utf8PathBuf>,
    /// As JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Look at the last N runs
    #[arg(long, global = true, value_name = "N", default_value_t = 200)]
    pub(super) last: usize,
}

/// What else the history is asked.
#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// Put runs in; one that is there already changes nothing
    Import {
        /// Folders of runs, folders with several in them, or .tar, .tar.gz, .tar.zst, .zip of such
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
    /// What changed from one run to a later one: verdicts and differences, newly red first
    Diff {
        /// The earlier one: its name or the beginning of it, `latest`, `latest~1`
        old: String,
        /// The later one
        new: String,
    },
    /// How the time goes: medians of suites, and cases that got slower
    Times {
        /// A part of SUITE/FIXTURE/CASE [default: all]
        case: Option<String>,
    },
    /// The runs that there are
    Runs,
}

/// Where a project's history is, unless somebody says otherwise.
pub(super) fn default_db(project: &Utf8Path) -> Utf8PathBuf {
    project.join("target/history.sqlite")
}

pub(super) fn run(project: &Utf8Path, args: &HistoryArgs) -> Result<Exit, Failure> {
    let path = match &args.db {
        Some(path) => path.clone(),
        None => default_db(project),
    };
    if let Some(HistoryCommand::Import { runs }) = &args.command {
        return import(project, &path, runs);
    }
    let db = Db::open(&path, false).map_err(failure)?;
    let look = super::look(&std::io::stdout());
    match &args.command {
        Some(HistoryCommand::Diff { old, new }) => {
            let of = history::diff(&db, old, new).map_err(failure)?;
            show(args.json, &of, || report::history_diff(&of, &look))?;
        }
        Some(HistoryCommand::Times { case }) => {
            let of = history::times(&db, case.as_deref(), args.last).map_err(failure)?;
            show(args.json, &of, || report::history_times(&of, &look))?;
        }
        Some(HistoryCommand::Runs) => {
            let of = history::runs(&db).map_err(failure)?;
            show(args.json, &of, || report::history_runs(&of))?;
        }
        _ => {
            let of = history::answer(&db, args.case.as_deref(), args.last).map_err(failure)?;
            if let (Some(case), true) = (&args.case, of.is_empty()) {
                return Err(Failure::nothing_selected(
                    format!("no case of the history is called like `{}`", escape(case)),
                    "give a part of SUITE/FIXTURE/CASE",
                ));
            }
            let mut runs = history::runs(&db).map_err(failure)?;
            runs.drain(..runs.len().saturating_sub(args.last));
            show(args.json, &of, || report::history(&of, &runs, &look))?;
        }
    }
    Ok(Exit::Good)
}

fn show(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if json {
        let json = report::to_json(value)
            .map_err(|e| Failure::harness(format!("failed to write JSON: {e}")))?;
        out!("{json}");
    } else {
        out!("{}", text());
    }
    Ok(())
}

/// Imports what it can; a place that can't be read is told, and is an error in the end.
fn import(project: &Utf8Path, db: &Utf8Path, places: &[String]) -> Result<Exit, Failure> {
    let mut db = Db::open(db, true).map_err(failure)?;
    let (mut new, mut updated, mut unchanged, mut broken) = (0, 0, 0, 0);
    for place in places {
        let named = Utf8PathBuf::from(place);
        let path = match named.exists() {
            true => named,
            false => inspect::run_path(project, place),
        };
        let found = match history::find(&path) {
            Ok(found) => found,
            Err(e) => {
                errln!("zonedev: {}", escape(&format!("failed to {e}")));
                broken += 1;
                continue;
            }
        };
        if found.is_empty() {
            errln!("zonedev: {} holds no run", escape(path.as_str()));
            broken += 1;
        }
        for one in found {
            let came = one.run.and_then(|run| {
                let came = db.import(&run.record, &run.took_ms, &run.tries)?;
                Ok((run.record.id, came))
            });
            match came {
                Ok((id, came)) => {
                    let (n, word) = match came {
                        Import::New => (&mut new, "imported"),
                        Import::Updated => (&mut updated, "changed since, imported again"),
                        Import::Unchanged => (&mut unchanged, "already there"),
                    };
                    *n += 1;
                    outln!("{}: {word}", escape(&id));
                }
                // Of the history itself: the next run would fare no better.
                Err(e @ HistoryError::Sqlite(_)) => return Err(failure(e)),
                Err(e) => {
                    errln!(
                        "zonedev: {}",
                        escape(&format!("{} is left out: failed to {e}", one.place))
                    );
                    broken += 1;
                }
            }
        }
    }
    outln!("{new} new, {updated} changed, {unchanged} already there, {broken} left out");
    match broken {
        0 => Ok(Exit::Good),
        n => Err(Failure::request(
            format!("{n} of these could not be imported; the others are in the history"),
            "of a run that was cut off, `zonedev report RUN` writes the record that is missing",
        )),
    }
}

fn failure(e: HistoryError) -> Failure {
    let message = escape(&format!("failed to {e}"));
    match e {
        HistoryError::None(_) => {
            Failure::request(message, "`zonedev history import RUN...` begins one")
        }
        HistoryError::NotOurs(_) => Failure::request(message, "name another file with --db"),
        HistoryError::Newer { .. } => Failure::request(message, "use the zonedev that wrote it"),
        HistoryError::NoRun(_) | HistoryError::ManyRuns { .. } => {
            Failure::request(message, "see `zonedev history runs`")
        }
        _ => Failure::harness(message),
    }
}
