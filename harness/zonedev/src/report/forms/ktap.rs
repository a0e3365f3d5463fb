//! KTAP, as the kernel's own tools write and read it (Documentation/dev-tools/ktap.rst).

use std::fmt::Write as _;

use proto::text::escape;

use super::escape::ktap as name;
use super::outcomes::{self, Outcome, Suite, Test};
use super::recorded::Recorded;
use super::totals;

/// Writes the run: a level of suites, and their tests below. What did not finish or went wrong by
/// the harness is `not ok`, since KTAP has no other word for it.
pub fn ktap(of: &Recorded) -> String {
    let run = &of.run;
    let suites = outcomes::suites(of);
    let mut out = String::from("KTAP version 1\n");
    let _ = writeln!(out, "1..{}", suites.len());
    told(
        &mut out,
        "",
        &format!("zonedev {}, run {}", run.zonedev, run.id),
    );
    told(&mut out, "", &totals::machine(run));
    for kernel in &run.kernels {
        let words = format!("kernel {}, build {}", kernel.name, kernel.build_key);
        told(&mut out, "", &words);
    }
    told(
        &mut out,
        "",
        &format!("{}: {}", totals::headline(run), totals::line(run)),
    );
    for (n, suite) in suites.iter().enumerate() {
        one(&mut out, n + 1, suite);
    }
    out
}

fn one(out: &mut String, number: usize, suite: &Suite<'_>) {
    let title = name(&suite.name);
    let _ = writeln!(
        out,
        "  KTAP version 1\n  # Subtest: {title}\n  1..{}",
        suite.tests.len()
    );
    for (n, test) in suite.tests.iter().enumerate() {
        result(out, n + 1, test);
    }
    let bad = |t: &Test<'_>| matches!(t.outcome, Outcome::Fail { .. } | Outcome::Error { .. });
    let skipped = |t: &Test<'_>| matches!(t.outcome, Outcome::Skip { .. });
    let word = if suite.tests.iter().any(bad) {
        "not ok"
    } else {
        "ok"
    };
    let skip = match suite.tests.iter().all(skipped) {
        true => " # SKIP all of it",
        false => "",
    };
    let _ = writeln!(out, "{word} {number} {title}{skip}");
}

fn result(out: &mut String, number: usize, test: &Test<'_>) {
    let indent = "  ";
    let title = name(&test.name);
    let reasons = match &test.outcome {
        Outcome::Pass | Outcome::Skip { .. } => Vec::new(),
        Outcome::Fail { kind, reasons } => {
            let mut lines = vec![kind.clone()];
            lines.extend(reasons.iter().cloned());
            lines
        }
        Outcome::Error { kind, reason } => vec![(*kind).to_owned(), reason.clone()],
    };
    for line in reasons.iter().chain(&test.notes) {
        told(out, indent, line);
    }
    for run in test.failed_runs {
        let seed = run.seed.map(|s| format!(" (seed {s})")).unwrap_or_default();
        told(
            out,
            indent,
            &format!("run {}{seed}: {}", run.run, run.reason),
        );
    }
    for line in test.trouble.lines() {
        told(out, indent, line);
    }
    let _ = match &test.outcome {
        Outcome::Pass => writeln!(out, "{indent}ok {number} {title}"),
        Outcome::Skip { reason } => {
            writeln!(out, "{indent}ok {number} {title} # SKIP {}", name(reason))
        }
        Outcome::Fail { .. } | Outcome::Error { .. } => {
            writeln!(out, "{indent}not ok {number} {title}")
        }
    };
}

/// A line of words for people. What follows `# ` directly may be a directive (`Subtest:`): the blanks
/// keep it from being one.
fn told(out: &mut String, indent: &str, text: &str) {
    let _ = writeln!(out, "{indent}#   {}", name(&escape(text)));
}
