//! Markdown for an issue, a pull request or a job's summary (GitHub's flavour).

use std::fmt::Write as _;

use super::escape::code;
use super::findings::{Finding, Level, findings};
use super::recorded::Recorded;
use super::reproduce;
use super::totals;
use crate::record::{PairVerdict, RunRecord};
use crate::report::text::count;

/// Bytes of an issue's body that GitHub takes are 65,536; some are left for what is put around.
pub const ISSUE: usize = 60_000;
/// Cells named with one finding.
const MAX_CELLS: usize = 4;
/// Bytes kept for what follows the findings.
const FOOT: usize = 8 << 10;
/// Characters of one text.
const MAX_TEXT: usize = 2_000;

/// Writes the run in at most `most` bytes, worst first; what does not fit is counted.
pub fn markdown(of: &Recorded, most: usize) -> String {
    let run = &of.run;
    let found = findings(of);
    let mut out = head(run);
    let room = most.saturating_sub(FOOT);
    let (mut told, mut heading) = (0, None);
    for finding in &found {
        let mut block = String::new();
        if heading != Some(finding.head) {
            let same = found.iter().filter(|f| f.head == finding.head);
            let mark = match finding.level {
                Level::Error => "❌",
                Level::Warning => "⚠️",
            };
            let things = count(same.count(), "thing");
            let _ = writeln!(block, "\n### {mark} {}: {things}\n", finding.head);
        }
        entry(of, finding, &mut block);
        if out.len() + block.len() > room {
            break;
        }
        heading = Some(finding.head);
        out += &block;
        told += 1;
    }
    if told < found.len() {
        let _ = writeln!(
            out,
            "\n… and {} more.",
            count(found.len() - told, "finding")
        );
    }
    foot(of, &found, &mut out, most);
    out
}

fn head(run: &RunRecord) -> String {
    let mark = if totals::is_well(run) { "✅" } else { "❌" };
    let mut out = format!("## {mark} zonedev: {}\n\n", totals::headline(run));
    let _ = writeln!(out, "{}.\n", totals::line(run));
    for (side, kernel) in run.kernels.iter().enumerate() {
        let role = if side == 0 { " (baseline)" } else { "" };
        let says = kernel.provenance.iter().filter(|(key, _)| *key != "sha256");
        let says: Vec<String> = says.map(|(key, value)| format!("{key} {value}")).collect();
        let says = match says.join(", ") {
            says if says.is_empty() => String::new(),
            says => format!(": {}", cut(&says)),
        };
        let _ = writeln!(
            out,
            "- {}{role}, contract {}{says}",
            cut(&kernel.name),
            cut(&kernel.contract)
        );
    }
    let _ = writeln!(
        out,
        "\nRun {} of {}, zonedev {}, {}.",
        cut(&run.id),
        cut(&run.started),
        cut(&run.zonedev),
        cut(&totals::machine(run))
    );
    out
}

/// A code span of bounded length.
fn cut(text: &str) -> String {
    let end = text.char_indices().nth(MAX_TEXT).map(|(at, _)| at);
    match end {
        Some(at) => code(&format!("{}…", &text[..at])),
        None => code(text),
    }
}

fn entry(of: &Recorded, finding: &Finding<'_>, out: &mut String) {
    let at = match finding.at.as_str() {
        "" => String::new(),
        at => format!(" {}", cut(at)),
    };
    let _ = writeln!(out, "- {}{at}", cut(&finding.text));
    if let Some(place) = finding.place {
        let words = format!("{}:{}", place.file, place.line);
        let _ = writeln!(out, "  at {}", cut(&words));
    }
    if !finding.cells.is_empty() {
        let cells = finding.cells.iter().take(MAX_CELLS);
        let names: Vec<String> = cells.map(|id| cut(&of.cell(id))).collect();
        let more = match finding.cells.len().saturating_sub(MAX_CELLS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = writeln!(out, "  in {}{more}", names.join(", "));
    }
}

fn foot(of: &Recorded, found: &[Finding<'_>], out: &mut String, most: usize) {
    let run = &of.run;
    let mut add = |block: String| {
        if out.len() + block.len() <= most {
            out.push_str(&block);
        }
    };
    let words = reproduce::words(run, found);
    if !words.is_empty() {
        let command = words.join(" \\\n    ");
        // A fence longer than any within.
        let fence = "`".repeat(3.max(1 + longest_ticks(&command)));
        add(format!(
            "\n### To see it again\n\n{fence}sh\n{command}\n{fence}\n"
        ));
    }
    let mut list = String::new();
    for skip in &run.skips {
        let words = format!("{} on {}", skip.suite, skip.contract);
        let _ = writeln!(
            list,
            "- {} skipped: {} ({})",
            skip.skips,
            cut(&skip.reason),
            cut(&words)
        );
    }
    if !list.is_empty() {
        let total: u64 = run.skips.iter().map(|s| s.skips).sum();
        add(folded(
            &format!("{} skipped", count(total as usize, "test")),
            &list,
        ));
    }
    let mut known = String::new();
    for one in &run.known {
        let what = format!("{} ({})", one.known.what, of.cell(&one.cell));
        let _ = writeln!(known, "- {}: {}", cut(&what), cut(&one.known.reason));
    }
    if !known.is_empty() {
        let head = format!(
            "{}, known of these kernels",
            count(run.known.len(), "failure")
        );
        add(folded(&head, &known));
    }
    let n = |v| run.pairs.iter().filter(|p| p.verdict == v).count();
    let fixed = n(PairVerdict::Fixed);
    if fixed > 0 {
        add(format!("\n{} fixed.\n", count(fixed, "case")));
    }
}

/// A list under a heading that is opened by hand, cut where it is long.
fn folded(head: &str, list: &str) -> String {
    const MOST: usize = 3 << 10;
    let mut shown = String::new();
    let mut lines = list.lines();
    for line in lines.by_ref() {
        if shown.len() + line.len() > MOST {
            let left = 1 + lines.count();
            let _ = writeln!(shown, "- … and {left} more");
            break;
        }
        shown += line;
        shown.push('\n');
    }
    format!("\n<details><summary>{head}</summary>\n\n{shown}\n</details>\n")
}

fn longest_ticks(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or_default()
}
