//! Kernel logs of a pair: reports on one side only, and kinds of lines on one side only.
//!
//! A kind of line is its normalised text (numbers, addresses and hexadecimal words put aside). Of
//! kinds that stand on one side only, these are noise and not told:
//! - what only measures or names the machine and the build (`noise.toml`);
//! - lines of a kernel report, which is told by its title;
//! - lines of our own (`zonedev: …`) and of the firmware before the kernel's first line.

use std::collections::{BTreeMap, BTreeSet};

use super::cell::step_words;
use super::noise::is_noise;
use crate::record::{CellRecord, Difference, normalise};

/// Kinds of lines told of one pair and direction; a kernel of another era has hundreds.
const MAX_LINES: usize = 12;

/// Differences of the kernel logs: reports, then kinds of lines.
pub(crate) fn log_differences(base: &CellRecord, other: &CellRecord, out: &mut Vec<Difference>) {
    let (in_base, in_other) = (reports(base), reports(other));
    for (title, (n, at)) in &in_other {
        let before = in_base.get(title).map_or(0, |r| r.0);
        if *n > before {
            let how = if before == 0 {
                ""
            } else {
                " more often than on the baseline"
            };
            out.push(report(0, at, format!("{title}{how}")));
        }
    }
    for (title, (n, at)) in &in_base {
        if *n > in_other.get(title).map_or(0, |r| r.0) {
            out.push(report(1, at, format!("the baseline has {title}")));
        }
    }
    let (lines_base, lines_other) = (kinds(base), kinds(other));
    line_differences(&lines_other, &lines_base, "a new kind of log line", out);
    line_differences(
        &lines_base,
        &lines_other,
        "a kind of log line only of the baseline",
        out,
    );
}

fn report(rank: u8, at: &str, text: String) -> Difference {
    Difference {
        rank,
        kind: "log".into(),
        at: Some(at.to_owned()),
        pages: None,
        text,
    }
}

/// Reports by title: how many, and where the first came.
fn reports(cell: &CellRecord) -> BTreeMap<&str, (usize, String)> {
    let mut out = BTreeMap::new();
    for splat in &cell.splats {
        out.entry(splat.title.as_str())
            .or_insert_with(|| (0, step_words(cell, splat.step)))
            .0 += 1;
    }
    out
}

/// Kinds of lines outside of reports, noise left out.
pub(crate) fn kinds(cell: &CellRecord) -> BTreeSet<String> {
    let first = cell
        .log
        .iter()
        .position(|l| l.time_us.is_some())
        .unwrap_or(0);
    let mut in_report = vec![false; cell.log.len()];
    for splat in &cell.splats {
        for line in splat.own_lines().take_while(|l| *l < cell.log.len()) {
            in_report[line] = true;
        }
    }
    cell.log
        .iter()
        .zip(&in_report)
        .skip(first)
        .filter(|(_, reported)| !**reported)
        .map(|(line, _)| normalise(&line.text))
        .filter(|text| !is_left_out(text))
        .collect()
}

/// Lines without words, our own, and what says nothing about the kernel.
fn is_left_out(normalised: &str) -> bool {
    let has_words = normalised.bytes().filter(u8::is_ascii_alphabetic).count() > 2;
    !has_words || normalised.starts_with("zonedev: ") || is_noise(normalised)
}

fn line_differences(
    here: &BTreeSet<String>,
    there: &BTreeSet<String>,
    what: &str,
    out: &mut Vec<Difference>,
) {
    let only: Vec<&String> = here.difference(there).collect();
    let line = |text: String| Difference {
        rank: 8,
        kind: "log-line".into(),
        at: None,
        pages: None,
        text,
    };
    out.extend(
        only.iter()
            .take(MAX_LINES)
            .map(|l| line(format!("{what}: {l}"))),
    );
    if only.len() > MAX_LINES {
        out.push(line(format!(
            "{what}: {} further ones",
            only.len() - MAX_LINES
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::{cell, log, splat};

    #[test]
    fn kinds_leave_out_firmware_reports_marks_and_noise() {
        let mut c = cell("boot", 0, "5.10");
        c.log = vec![
            log("SeaBIOS (version 1.16)", None),
            log("Linux version 5.10.262 (z@z)", None),
            log("zonedev: step 0", Some(0)),
            log(
                "tsc: Refined TSC clocksource calibration: 2445.434 MHz",
                Some(0),
            ),
            log("APIC timer disabled due to verification failure", Some(0)),
            log("WARNING: CPU: 0 PID: 1 at a+0x1/0x2", Some(0)),
            log("nd_pmem namespace0.0: 12 odd", Some(0)),
            log("nd_pmem namespace0.0: 13 odd", Some(0)),
        ];
        c.log[0].time_us = None;
        let splat = splat("WARNING", "WARNING in a", (5, 6), Some(0));
        c.splats = vec![splat];
        assert_eq!(
            kinds(&c).into_iter().collect::<Vec<_>>(),
            ["nd_pmem namespace0.N: N odd"]
        );
    }
}
