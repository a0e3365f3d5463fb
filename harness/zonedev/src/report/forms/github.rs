//! GitHub's annotations, as workflow commands, and the summary of a job.

use super::escape::{command_data, command_property};
use super::findings::{Finding, Level, findings};
use super::recorded::Recorded;
use super::totals;
use crate::record::CellId;
use crate::report::escape;
use crate::report::markdown;

/// Bytes of one step's summary that GitHub takes.
pub const MAX_SUMMARY: usize = 1 << 20;
/// Annotations of one level that GitHub shows of one step.
const MAX_ANNOTATIONS: usize = 10;
/// Characters of one message. GitHub cuts it at 64 KiB.
const MAX_MESSAGE: usize = 4_000;
/// Cells named in one.
const MAX_CELLS: usize = 5;

/// What GitHub is told of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// Workflow commands, one a line.
    pub commands: String,
    /// Markdown for the job's summary.
    pub summary: String,
}

/// Writes the run in GitHub's words. `room`: bytes that are left in the step's summary. `file` gives the
/// file of a cell's case, relative to the repository, where there is one: an annotation points there if
/// not into the kernel's source.
pub fn github(of: &Recorded, room: usize, file: &dyn Fn(&CellId) -> Option<String>) -> Annotated {
    let found = findings(of);
    let mut commands = String::new();
    for (level, word) in [(Level::Error, "error"), (Level::Warning, "warning")] {
        let all: Vec<&Finding<'_>> = found.iter().filter(|f| f.level == level).collect();
        // The last place counts those that have none.
        let most = match all.len() {
            n if n > MAX_ANNOTATIONS => MAX_ANNOTATIONS - 1,
            n => n,
        };
        for finding in &all[..most] {
            commands += &annotation(of, finding, word, file);
        }
        if all.len() > most {
            let left = all.len() - most;
            let text = format!("{left} more, in the job's summary and in the report");
            commands += &command(word, &[("title", "zonedev")], &text);
        }
    }
    let title = format!("zonedev: {}", totals::headline(&of.run));
    commands += &command("notice", &[("title", &title)], &totals::line(&of.run));
    Annotated {
        commands,
        summary: markdown(of, room.min(MAX_SUMMARY)),
    }
}

fn annotation(
    of: &Recorded,
    finding: &Finding<'_>,
    word: &str,
    file: &dyn Fn(&CellId) -> Option<String>,
) -> String {
    let title = match finding.cells.as_slice() {
        [] => format!("zonedev: {}", finding.head),
        cells => format!("{}: {}", finding.head, of.cell(cells[0])),
    };
    let place = finding.place.map(|p| (p.file.clone(), Some(p.line)));
    let case = || Some((file(finding.cells.first()?)?, None));
    let mut properties = Vec::new();
    let (path, line);
    if let Some((at, number)) = place.or_else(case) {
        path = at;
        properties.push(("file", path.as_str()));
        if let Some(number) = number {
            line = number.to_string();
            properties.push(("line", line.as_str()));
        }
    }
    properties.push(("title", &title));
    let mut text = escape(&finding.text);
    if !finding.at.is_empty() {
        text += &format!("\n{}", escape(&finding.at));
    }
    if finding.cells.len() > 1 {
        text += &format!("\nin {}", escape(&finding.names(of, MAX_CELLS)));
    }
    command(word, &properties, &text)
}

/// `::error file=mm/gup.c,line=3::text`. The text's lines are ours; what is in them is escaped.
fn command(word: &str, properties: &[(&str, &str)], text: &str) -> String {
    let properties: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("{name}={}", command_property(value)))
        .collect();
    let text: String = text.chars().take(MAX_MESSAGE).collect();
    format!(
        "::{word} {}::{}\n",
        properties.join(","),
        command_data(&text)
    )
}
