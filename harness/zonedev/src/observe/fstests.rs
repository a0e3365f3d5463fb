//! What fstests' `check` says -> results of tests.
//!
//! It prints a line a test: its name, how long it took last time, and how it ended. Any text gives
//! results: a run that reached no test is one that is missing.

use proto::ProgramOutput;
use proto::text::steers;

use crate::record::{TestResult, TestStatus};

/// Lines of the difference kept with a failure.
const LINES: usize = 20;

/// Reads the results of `check`.
pub fn fstests(output: &ProgramOutput) -> Vec<TestResult> {
    let mut out: Vec<TestResult> = Vec::new();
    for line in output.text.lines().take(100_000) {
        let line: String = line
            .chars()
            .take(300)
            .filter(|c| !steers(*c) || *c == '\t')
            .collect();
        let (name, rest) = match line.split_once(char::is_whitespace) {
            Some((name, rest)) => (name, rest.trim()),
            None => (line.as_str(), ""),
        };
        if is_test(name) {
            let (status, message) = ending(rest);
            out.push(TestResult {
                name: name.to_owned(),
                status,
                message,
            });
        } else if line.starts_with([' ', '\t'])
            && let Some(last) = out.last_mut()
            && last.status == TestStatus::Fail
            && last.message.lines().count() < LINES
        {
            // The difference to what was expected, indented.
            last.message.push('\n');
            last.message.push_str(line.trim_end());
        }
    }
    if out.is_empty() {
        let last = output.text.lines().rev().find(|l| !l.trim().is_empty());
        let last: String = last
            .unwrap_or_default()
            .chars()
            .filter(|c| !steers(*c))
            .take(300)
            .collect();
        out.push(TestResult {
            name: "check".to_owned(),
            status: TestStatus::Missing,
            message: format!("check ended with {}: {last}", output.code),
        });
    }
    out
}

/// `generic/413`.
fn is_test(word: &str) -> bool {
    word.split_once('/').is_some_and(|(group, number)| {
        !group.is_empty()
            && group
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && number.len() >= 3
            && number.chars().all(|c| c.is_ascii_digit())
    })
}

/// `5s ...  3s`, `[not run] why`, `[expunged]`, `- output mismatch (see …)`, `[failed, exit status 1]…`
fn ending(rest: &str) -> (TestStatus, String) {
    let after = rest
        .split_once("...")
        .map_or(rest, |(_, after)| after)
        .trim();
    for (word, status) in [
        ("[not run]", TestStatus::Skip),
        ("[expunged]", TestStatus::Skip),
        ("[failed", TestStatus::Fail),
        ("_check_", TestStatus::Fail),
        ("- output mismatch", TestStatus::Fail),
    ] {
        if let Some(at) = rest.find(word) {
            let said = rest[at..].strip_prefix("[not run]").unwrap_or(&rest[at..]);
            return (status, said.trim().to_owned());
        }
    }
    let took = after.rsplit(' ').next().unwrap_or_default();
    let seconds = took.strip_suffix('s').unwrap_or_default();
    if !seconds.is_empty() && seconds.chars().all(|c| c.is_ascii_digit()) {
        return (TestStatus::Pass, String::new());
    }
    (TestStatus::Missing, after.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form of fstests' check, written after its source.
    const CHECK: &str = "\
FSTYP         -- ext4
PLATFORM      -- Linux/x86_64 guest 6.12.117
MKFS_OPTIONS  -- /dev/pmem1
MOUNT_OPTIONS -- -o dax /dev/pmem1 /scratch

generic/413 5s ...  3s
generic/344        7s
ext4/031       [not run] mount /dev/pmem1 with -o dax failed
generic/462 - output mismatch (see /fstests/results//generic/462.out.bad)
    --- tests/generic/462.out
    +++ results
    @@ -1,2 +1,3 @@
generic/470       [failed, exit status 1]- output mismatch
generic/503 _check_dmesg: something found in dmesg (see /x)
generic/605 2s ...
Ran: generic/413 generic/344
Failures: generic/462
";

    #[test]
    fn each_test_is_a_result() {
        let output = ProgramOutput {
            text: CHECK.to_owned(),
            code: 1,
            cut: false,
        };
        let shown: Vec<_> = fstests(&output)
            .into_iter()
            .map(|r| format!("{} {:?} {}", r.name, r.status, r.message.lines().count()))
            .collect();
        assert_eq!(
            shown,
            [
                "generic/413 Pass 0",
                "generic/344 Pass 0",
                "ext4/031 Skip 1",
                "generic/462 Fail 4",
                "generic/470 Fail 1",
                "generic/503 Fail 1",
                "generic/605 Missing 0",
            ]
        );
    }

    #[test]
    fn a_check_that_reached_no_test_is_missing() {
        let output = ProgramOutput {
            text: "./check: line 1: awk: command not found\n".to_owned(),
            code: 127,
            cut: false,
        };
        let results = fstests(&output);
        assert_eq!(results[0].status, TestStatus::Missing);
        assert!(results[0].message.contains("awk"), "{}", results[0].message);
    }
}
