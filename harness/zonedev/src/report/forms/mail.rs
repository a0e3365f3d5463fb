//! Plain text for a reply on a mailing list.

use std::fmt::Write as _;

use proto::text::excerpt;

use super::findings::{Level, findings};
use super::recorded::Recorded;
use super::reproduce;
use super::totals;
use crate::record::{KernelRecord, PairVerdict};
use crate::report::text::{count, wrap};

/// Columns: quoted twice, it still fits into 80.
const WIDTH: usize = 72;
/// Findings told.
const MAX_FINDINGS: usize = 16;
/// Cells named with one of them.
const MAX_CELLS: usize = 3;
/// Characters of one of them.
const MAX_TEXT: usize = 600;

/// Writes the run, worst first. No line begins with what a mail program or git takes for its own,
/// since a guest's words are indented; only a word longer than a line makes one longer than 72
/// columns.
pub fn mail(of: &Recorded) -> String {
    let run = &of.run;
    let found = findings(of);
    let mut out = String::new();
    let what = match run.kernels.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.name.clone(),
        [base, others @ ..] => {
            let names: Vec<&str> = others.iter().map(|k| k.name.as_str()).collect();
            format!("{} against {}", names.join(", "), base.name)
        }
    };
    wrap(
        &mut out,
        "",
        &format!("zonedev ran {what}: {}.", totals::headline(run)),
        WIDTH,
    );
    out.push('\n');
    for (side, kernel) in run.kernels.iter().enumerate() {
        let role = if side == 0 && run.kernels.len() > 1 {
            ", the baseline"
        } else {
            ""
        };
        let words = format!("{}{role}: {}", kernel.name, says(kernel));
        wrap(&mut out, "  ", &words, WIDTH);
    }
    out.push('\n');
    wrap(&mut out, "", &format!("{}.", totals::line(run)), WIDTH);
    wrap(
        &mut out,
        "",
        &format!("On {}.", totals::machine(run)),
        WIDTH,
    );

    let mut head = None;
    for finding in found.iter().take(MAX_FINDINGS) {
        if head != Some(finding.head) {
            let _ = writeln!(out, "\n{}:", capital(finding.head));
            head = Some(finding.head);
        }
        let at = match finding.at.as_str() {
            "" => String::new(),
            at => format!(", {at}"),
        };
        out.push('\n');
        let text = excerpt(&finding.text, MAX_TEXT);
        wrap(&mut out, "  ", &format!("{text}{at}"), WIDTH);
        if !finding.cells.is_empty() {
            wrap(&mut out, "    in ", &finding.names(of, MAX_CELLS), WIDTH);
        }
    }
    if found.len() > MAX_FINDINGS {
        let rest = &found[MAX_FINDINGS..];
        let errors = rest.iter().filter(|f| f.level == Level::Error).count();
        let more = count(rest.len(), "finding");
        let _ = writeln!(out, "\n{more} more, {errors} of them errors.");
    }
    others(of, &mut out);
    let words = reproduce::words(run, &found);
    if !words.is_empty() {
        let _ = writeln!(out, "\nTo see it again:\n\n  {}", words.join(" \\\n      "));
        if let Some(id) = found.iter().find_map(|f| f.cells.first())
            && id.suite != "boot"
        {
            let _ = writeln!(
                out,
                "\nand, as a C program that needs nothing of zonedev:\n\n  zonedev c-program \\\n      -k {} \\\n      {}",
                super::escape::shell(&id.kernel),
                super::escape::shell(&id.case_path())
            );
        }
    }
    out
}

/// What is no finding and yet to be known.
fn others(of: &Recorded, out: &mut String) {
    let run = &of.run;
    let n = |v| run.pairs.iter().filter(|p| p.verdict == v).count();
    let mut lines = Vec::new();
    let fixed = n(PairVerdict::Fixed);
    if fixed > 0 {
        lines.push(format!(
            "{} that the baseline fails now pass.",
            count(fixed, "case")
        ));
    }
    let accepted = n(PairVerdict::ChangedAsAccepted);
    if accepted > 0 {
        lines.push(format!(
            "{} changed as it was accepted before.",
            count(accepted, "case")
        ));
    }
    if !run.known.is_empty() {
        let known = count(run.known.len(), "failure");
        lines.push(format!("{known} known of these kernels came as they do."));
    }
    let skips: u64 = run.skips.iter().map(|s| s.skips).sum();
    if skips > 0 {
        let mut reasons: Vec<&str> = run.skips.iter().map(|s| s.reason.as_str()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let shown = reasons
            .iter()
            .take(2)
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        let more = match reasons.len().saturating_sub(2) {
            0 => String::new(),
            more => format!("; and {}", count(more, "other reason")),
        };
        lines.push(format!(
            "{} skipped: {shown}{more}.",
            count(skips as usize, "test")
        ));
    }
    if !lines.is_empty() {
        out.push('\n');
    }
    for line in lines {
        wrap(out, "", &line, WIDTH);
    }
}

fn says(kernel: &KernelRecord) -> String {
    let of = [
        "release", "version", "replaces", "compiler", "patches", "dirty",
    ];
    let known = of.iter().filter_map(|key| {
        let value = kernel.provenance.get(*key)?;
        Some(match *key {
            "release" => value.clone(),
            key => format!("{key} {value}"),
        })
    });
    let known: Vec<String> = known.collect();
    match known.is_empty() {
        true => format!("build {}", kernel.build_key),
        false => known.join(", "),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
