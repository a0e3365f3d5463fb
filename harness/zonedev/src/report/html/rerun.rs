//! What to type to run just one cell again, and to look closer.

use serde::Serialize;

use crate::record::{Begun, CellId, CellRecord, CellVerdict, RunRecord};
use crate::report::text::quoted;

/// A command and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Command {
    /// What it does.
    pub(super) does: String,
    /// As a shell takes it.
    pub(super) line: String,
}

impl Command {
    fn new(does: &str, words: &[&str]) -> Command {
        let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
        Command {
            does: does.to_owned(),
            line: words.join(" "),
        }
    }
}

/// Options of the run that every one of its cells depends on, as they were typed.
fn options(begun: Option<&Begun>) -> Vec<&str> {
    const WITH_VALUE: [&str; 5] = ["--fstests", "--case", "--accel", "--isolation", "--seed"];
    let mut out = Vec::new();
    let mut words = begun.iter().flat_map(|b| &b.command).map(String::as_str);
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or(word);
        if !WITH_VALUE.contains(&name) {
            continue;
        }
        out.push(word);
        if name == word {
            out.extend(words.next());
        }
    }
    out
}

/// The whole run again.
pub(super) fn whole(begun: &Begun) -> Command {
    let mut words = vec!["zonedev"];
    words.extend(begun.command.iter().skip(1).map(String::as_str));
    Command::new("the whole run again", &words)
}

/// What was run, and how a command line names it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) run: &'a RunRecord,
    /// The run's name, or its folder.
    pub(super) typed: &'a str,
    pub(super) begun: Option<&'a Begun>,
}

/// The commands for one cell.
pub(super) fn commands(
    &Request { run, typed, begun }: &Request<'_>,
    id: &CellId,
    record: Option<&CellRecord>,
    verdict: Option<&CellVerdict>,
) -> Vec<Command> {
    let case = id.case_path();
    let baseline = run.kernels.first().map(|k| k.name.as_str());
    let mut again = vec!["zonedev", "matrix"];
    if let Some(baseline) = baseline.filter(|_| id.side != 0) {
        again.extend(["-k", baseline]);
    }
    again.extend(["-k", &id.kernel]);
    again.extend(options(begun));
    // A boot comes with any case of its fixture.
    let filter = match id.is_provisioning() {
        true => format!("/{}/", id.fixture),
        false => format!("={case}"),
    };
    again.extend(["-E", &filter]);
    let does = match (id.is_provisioning(), id.side) {
        (true, _) => "boot this fixture again, with its cases",
        (_, 0) => "run just this again",
        _ => "run just this again, with its baseline",
    };
    let mut out = vec![Command::new(does, &again)];
    let Some(record) = record else { return out };
    if !record.checkpoints.is_empty() || !record.splats.is_empty() {
        let words = ["zonedev", "inspect", typed, &case, "-k", &id.kernel];
        out.push(Command::new("its pages and reports in a terminal", &words));
    }
    let failed = matches!(verdict, Some(CellVerdict::Fail { .. }));
    let of_case = id.suite != "boot";
    if failed && of_case {
        let words = ["zonedev", "minimise", typed, &case, "-k", &id.kernel];
        out.push(Command::new(
            "the smallest case that still fails so",
            &words,
        ));
    }
    if of_case && !record.steps.is_empty() {
        let words = ["zonedev", "rerun", typed, &case, "-k", &id.kernel];
        let does = match failed {
            true => "a shell in its guest, where it went wrong",
            false => "a shell in its guest, at its end",
        };
        out.push(Command::new(does, &words));
        let words = ["zonedev", "c-program", "-k", &id.kernel, &case];
        out.push(Command::new("the case as a C program, for a mail", &words));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::{cell, run};

    #[test]
    fn a_cell_is_run_again_with_its_baseline_and_the_runs_options() {
        let mut run = run();
        run.kernels = ["6.12", "6.12+./my series.mbox"]
            .iter()
            .map(|name| crate::record::KernelRecord {
                name: (*name).into(),
                contract: "6.12".into(),
                provenance: Default::default(),
                build_key: String::new(),
            })
            .collect();
        let mut record = cell("pin", 1, "6.12+./my series.mbox");
        let id = record.id.clone();
        let begun = Begun {
            version: 1,
            id: run.id.clone(),
            zonedev: String::new(),
            started: String::new(),
            command: [
                "zonedev",
                "matrix",
                "--seed",
                "7",
                "--full",
                "--accel=tcg",
                "-s",
                "fsdax",
            ]
            .map(String::from)
            .to_vec(),
            directory: "/".into(),
            accel: "tcg".into(),
            accel_reason: None,
            qemu: String::new(),
            kernels: Vec::new(),
            cells: Vec::new(),
        };
        let lines = |record: Option<&CellRecord>| {
            let failed = CellVerdict::Fail {
                reasons: Vec::new(),
                violations: Vec::new(),
                kinds: Vec::new(),
            };
            let request = Request {
                run: &run,
                typed: "monday",
                begun: Some(&begun),
            };
            let all = commands(&request, &id, record, Some(&failed));
            all.into_iter().map(|c| c.line).collect::<Vec<_>>()
        };
        let again = "zonedev matrix -k 6.12 -k '6.12+./my series.mbox' --seed 7 --accel=tcg -E '=fsdax/fsdax-ext4/pin'";
        assert_eq!(lines(None), [again]);
        assert_eq!(
            lines(Some(&record))[1],
            "zonedev minimise monday fsdax/fsdax-ext4/pin -k '6.12+./my series.mbox'"
        );
        record.splats = vec![crate::record::testing::splat("WARNING", "x", (0, 0), None)];
        assert!(lines(Some(&record))[1].starts_with("zonedev inspect monday "));
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert!(whole(&begun).line.ends_with("--full --accel=tcg -s fsdax"));
    }
}
