//! JUnit's XML, as Jenkins, GitLab and nextest's readers have it.

use std::time::Duration;

use chrono::DateTime;
use quick_junit::{
    NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestRerun, TestSuite,
};
use thiserror::Error;

use super::escape::{xml, xml_lines};
use super::outcomes::{self, Outcome, Test};
use super::recorded::Recorded;
use super::totals;
use crate::record::FailedRun;

/// Why there is no XML.
#[derive(Debug, Error)]
#[error("write JUnit's XML: {0}")]
pub struct JunitError(#[from] SerializeError);

/// Writes the run. A cell that passed when it was tried again has its failures as `flakyFailure`,
/// one that failed has its other failed runs as `rerunFailure`, as nextest does; a cell that did not
/// finish is an error.
///
/// # Errors
/// Where the writer of XML refuses.
pub fn junit(of: &Recorded) -> Result<String, JunitError> {
    let run = &of.run;
    let mut report = Report::new(xml(&format!("zonedev {}", run.id)));
    let started = DateTime::parse_from_rfc3339(&run.started).ok();
    report.timestamp = started;
    report.set_time(Duration::from_millis(run.took_ms));
    for suite in outcomes::suites(of) {
        let mut out = TestSuite::new(xml(&suite.name));
        out.timestamp = started;
        let known: Vec<u64> = suite.tests.iter().filter_map(|t| t.took_ms).collect();
        if !known.is_empty() {
            out.set_time(Duration::from_millis(known.iter().sum()));
        }
        for (name, value) in properties(of) {
            out.add_property((xml(&name), xml(&value)));
        }
        for test in &suite.tests {
            out.add_test_case(case(&suite.name, test));
        }
        report.add_test_suite(out);
    }
    Ok(report.to_string()?)
}

/// How and on what it ran, told with each suite since readers show no other place.
fn properties(of: &Recorded) -> Vec<(String, String)> {
    let run = &of.run;
    let mut out = vec![
        ("zonedev".to_owned(), run.zonedev.clone()),
        ("run".to_owned(), run.id.clone()),
        ("verdict".to_owned(), totals::headline(run).to_owned()),
        ("machine".to_owned(), totals::machine(run)),
        ("totals".to_owned(), totals::line(run)),
    ];
    for (side, kernel) in run.kernels.iter().enumerate() {
        let role = if side == 0 { "baseline" } else { "kernel" };
        let value = format!("{} (build {})", kernel.name, kernel.build_key);
        out.push((format!("{role} {side}"), value));
    }
    out
}

fn case(suite: &str, test: &Test<'_>) -> TestCase {
    let mut status = match &test.outcome {
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Skip { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(xml(reason));
            status
        }
        Outcome::Fail { kind, reasons } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let first = reasons.first().map_or(kind.as_str(), String::as_str);
            let mut all: Vec<String> = reasons.iter().map(|r| xml(r)).collect();
            all.extend(test.trouble.lines().map(xml));
            status.set_type(xml(kind)).set_message(xml(first));
            status.set_description(all.join("\n"));
            status
        }
        Outcome::Error { kind, reason } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type(*kind).set_message(xml(reason));
            status.set_description(xml_lines(test.trouble));
            status
        }
    };
    // The first run that failed is the failure itself.
    let skip = usize::from(!matches!(test.outcome, Outcome::Pass));
    for run in test.failed_runs.iter().skip(skip) {
        status.add_rerun(rerun(run));
    }
    let mut out = TestCase::new(xml(&test.name), status);
    // Readers take what is before the last dot for a package: 6.1 and 6.12 would be one.
    out.set_classname(xml(suite).replace('.', "_"));
    if let Some(ms) = test.took_ms {
        out.set_time(Duration::from_millis(ms));
    }
    if !test.notes.is_empty() {
        let notes: Vec<String> = test.notes.iter().map(|n| xml(n)).collect();
        out.set_system_out(notes.join("\n"));
    }
    out
}

fn rerun(run: &FailedRun) -> TestRerun {
    let mut out = TestRerun::new(NonSuccessKind::Failure);
    let seed = run.seed.map(|s| format!(", seed {s}")).unwrap_or_default();
    let mut words = vec![xml(&run.reason)];
    words.extend(run.others.iter().map(|o| xml(o)));
    out.set_type(format!("run {}{seed}", run.run));
    out.set_message(xml(&run.reason));
    out.set_description(words.join("\n"));
    out
}
