//! Writes the file: the page first, so that it is read while the cells' data come in.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use askama::Template;
use serde::Serialize;
use thiserror::Error;

use super::cells::Cells;
use super::detail::{Detail, Facts, Judged, detail};
use super::differences::{Block, blocks, log_lines};
use super::failures::{Failure, failures};
use super::log::Kinds;
use super::matrix::{Group, Known, cases, matrix};
use super::nights::{Nights, nights};
use super::overview::{
    KnownGroup, Overview, Skipped, known as known_groups, overview, skips, unfinished, unrecorded,
};
use super::pack::{inline, pack, policy_hash};
use super::rerun::{Command, Request, commands, whole};
use crate::history::HistoryPage;
use crate::record::{Begun, CellId, RunRecord};

/// One script, in the order in which its parts need each other.
const SCRIPT: &str = concat!(
    "'use strict';\n",
    include_str!("script/dom.js"),
    include_str!("script/data.js"),
    include_str!("script/matrix.js"),
    include_str!("script/timeline.js"),
    include_str!("script/picture.js"),
    include_str!("script/log.js"),
    include_str!("script/cell.js"),
    include_str!("script/route.js"),
);

const STYLE: &str = concat!(
    include_str!("style/base.css"),
    include_str!("style/overview.css"),
    include_str!("style/cell.css"),
);

/// Kinds of log lines that are told.
const MAX_LOG_LINES: usize = 80;
/// Cells named that did not finish.
const MAX_UNFINISHED: usize = 400;

/// Why no report was written.
#[derive(Debug, Error)]
pub enum HtmlError {
    /// The file can't be written.
    #[error("write the report: {0}")]
    Io(#[from] io::Error),
    /// The page can't be made.
    #[error("make the report: {0}")]
    Template(#[from] askama::Error),
}

/// What the template shows. Every string passes [`super::Shown`] on its way.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    policy: String,
    style: &'static str,
    run: &'a RunRecord,
    typed: &'a str,
    overview: Overview,
    again: Option<Command>,
    directory: &'a str,
    failures: Vec<Failure>,
    blocks: Vec<Block>,
    baseline: &'a str,
    groups: Vec<Group>,
    rows: usize,
    skips: Vec<Skipped>,
    known: Vec<KnownGroup>,
    unfinished: Vec<super::differences::Cell>,
    more_unfinished: usize,
    unrecorded: usize,
    log_lines: Vec<(usize, String)>,
    more_log_lines: usize,
    nights: Option<Nights>,
}

/// What the script must know before it opens a cell.
#[derive(Serialize)]
struct Index<'a> {
    run: &'a str,
    kernels: Vec<&'a str>,
    accel: &'a str,
}

/// The data of one case on every kernel: neighbours compress each other.
#[derive(Serialize)]
struct Case<'a> {
    case: String,
    suite: &'a str,
    fixture: &'a str,
    cells: Vec<Detail>,
}

/// Packed data of one case, and what the page tells of its cells.
struct Packed {
    case: String,
    data: String,
    facts: Vec<(CellId, Facts)>,
}

/// Writes a run as one HTML file. `typed` is what finds the run again on a command line, `begun`
/// what it began with, where that is known, `history` what earlier runs came to.
///
/// # Errors
/// Where the file can't be written.
pub fn html(
    run: &RunRecord,
    typed: &str,
    begun: Option<&Begun>,
    history: Option<&HistoryPage>,
    cells: &dyn Cells,
    out: &mut dyn Write,
) -> Result<(), HtmlError> {
    let mut known = Known {
        verdicts: run.cells.iter().map(|(id, v)| (id, v)).collect(),
        pairs: run.pairs.iter().map(|p| (&p.other, p)).collect(),
        facts: HashMap::new(),
    };
    let cases = cases(run);
    let mut rows = Vec::new();
    for ((suite, fixture), of_group) in &cases {
        for (case, ids) in of_group {
            rows.push((
                *suite,
                *fixture,
                *case,
                ids.iter().flatten().copied().collect(),
            ));
        }
    }
    let request = Request { run, typed, begun };
    let packed = all_packed(&request, &rows, &known, cells)?;
    for one in &packed {
        known.facts.extend(one.facts.iter().cloned());
    }
    let all_unfinished = unfinished(run);
    let all_log_lines = log_lines(run);
    let page = Page {
        policy: format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
            policy_hash(SCRIPT),
            policy_hash(STYLE)
        ),
        style: STYLE,
        overview: overview(run, &known),
        again: begun.map(whole),
        directory: begun.map_or("", |b| &b.directory),
        failures: failures(run),
        blocks: blocks(run),
        baseline: run.kernels.first().map_or("the baseline", |k| &k.name),
        groups: matrix(run, &cases, &known),
        rows: rows.len(),
        skips: skips(run),
        known: known_groups(run),
        more_unfinished: all_unfinished.len().saturating_sub(MAX_UNFINISHED),
        unfinished: all_unfinished.into_iter().take(MAX_UNFINISHED).collect(),
        unrecorded: unrecorded(run, &known),
        more_log_lines: all_log_lines.len().saturating_sub(MAX_LOG_LINES),
        log_lines: all_log_lines.into_iter().take(MAX_LOG_LINES).collect(),
        nights: nights(run, history),
        run,
        typed,
    };
    page.write_into(out)?;
    let index = Index {
        run: &run.id,
        kernels: run.kernels.iter().map(|k| k.name.as_str()).collect(),
        accel: &run.accel,
    };
    writeln!(
        out,
        "\n<script type=\"application/json\" id=\"index\">{}</script>",
        inline(&index)?
    )?;
    // Names of cases stand in JSON, not in attributes: one rule of escaping for all data.
    let names: BTreeMap<&str, usize> = packed
        .iter()
        .enumerate()
        .map(|(n, p)| (&*p.case, n))
        .collect();
    writeln!(
        out,
        "<script type=\"application/json\" id=\"cases\">{}</script>",
        inline(&names)?
    )?;
    // Before the data: the page can be used while they come in.
    writeln!(out, "<script>{SCRIPT}</script>")?;
    for (n, one) in packed.iter().enumerate() {
        writeln!(
            out,
            "<script type=\"application/octet-stream\" id=\"case-{n}\">{}</script>",
            one.data
        )?;
    }
    write!(out, "</body>\n</html>\n")?;
    Ok(out.flush()?)
}

/// Suite, fixture, case, and its cells.
type Row<'a> = (&'a str, &'a str, &'a str, Vec<&'a CellId>);

/// Packs every case, on as many threads as the host has processors.
fn all_packed(
    request: &Request<'_>,
    rows: &[Row<'_>],
    known: &Known<'_>,
    cells: &dyn Cells,
) -> Result<Vec<Packed>, io::Error> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, io::Result<Packed>)>> = Mutex::new(Vec::with_capacity(rows.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(rows.len()) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = rows.get(n) else { break };
                    let one = packed(request, row, known, cells);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((n, one));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, one)| one).collect()
}

fn packed(
    request: &Request<'_>,
    (suite, fixture, case, ids): &Row<'_>,
    known: &Known<'_>,
    cells: &dyn Cells,
) -> io::Result<Packed> {
    let mut kinds = Kinds::default();
    let (mut details, mut facts) = (Vec::new(), Vec::new());
    for id in ids {
        let record = match request.run.unfinished.contains(id) {
            true => Err("the run ended before this cell did".to_owned()),
            false => cells.record(id),
        };
        let verdict = known.verdicts.get(*id).copied();
        let judged = Judged {
            verdict,
            pair: known.pairs.get(*id).copied(),
            again: commands(request, id, record.as_ref().ok(), verdict),
        };
        let (detail, of_it) = detail(
            id,
            record.as_ref().map_err(Clone::clone),
            judged,
            &mut kinds,
            cells,
        );
        details.push(detail);
        facts.push(((*id).clone(), of_it));
    }
    let case = format!("{suite}/{fixture}/{case}");
    let data = pack(&Case {
        case: case.clone(),
        suite,
        fixture,
        cells: details,
    })?;
    Ok(Packed { case, data, facts })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
