//! A program's output and exit code -> results of tests.

use camino::Utf8Path;
use proto::ProgramOutput;

use super::ktap;
use crate::record::{TestResult, TestStatus};

/// Exit codes of a test that was skipped: of kselftest (KSFT_SKIP) and of automake, which ndctl's use.
const SKIPPED: [i32; 2] = [4, 77];
/// Lines of output kept with a failure.
const LINES: usize = 12;

/// The name of a program's only test: of the program, without a directory.
pub fn program_name(argv: &[String]) -> String {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    Utf8Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_owned()
}

/// Reads the results of a program that speaks TAP or KTAP; one that doesn't has one, its exit code.
/// An exit code that says more than the results do is a result too.
pub fn program(name: &str, output: &ProgramOutput) -> Vec<TestResult> {
    let mut results = ktap(&output.text);
    let skipped = SKIPPED.contains(&output.code);
    let told = match output.code {
        0 => !results.is_empty(),
        _ if skipped => !results.is_empty(),
        _ => results
            .iter()
            .any(|r| matches!(r.status, TestStatus::Fail | TestStatus::Missing)),
    };
    if told {
        return results;
    }
    let (status, message) = match output.code {
        0 => (TestStatus::Pass, String::new()),
        _ if skipped => (TestStatus::Skip, last_lines(&output.text, 1)),
        code => {
            let how = match code {
                129..=192 => format!("died of signal {}", code - 128),
                code => format!("exit code {code}"),
            };
            (
                TestStatus::Fail,
                format!("{how}\n{}", last_lines(&output.text, LINES)),
            )
        }
    };
    results.push(TestResult {
        name: name.to_owned(),
        status,
        message,
    });
    results
}

/// The last lines that say something, escaped; a shell's trace of its own words does not.
fn last_lines(text: &str, most: usize) -> String {
    let says = |l: &&str| !l.trim().is_empty() && !l.starts_with('+');
    let lines: Vec<&str> = text.lines().filter(says).collect();
    let last = &lines[lines.len().saturating_sub(most)..];
    let visible = |line: &&str| proto::text::excerpt(line.trim(), 300);
    last.iter().map(visible).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, code: i32) -> Vec<(String, TestStatus, String)> {
        let output = ProgramOutput {
            text: text.to_owned(),
            code,
            cut: false,
        };
        program("p", &output)
            .into_iter()
            .map(|r| (r.name, r.status, r.message))
            .collect()
    }

    #[test]
    fn an_exit_code_is_a_result_where_nothing_else_is() {
        let one = |status, message: &str| [("p".to_owned(), status, message.to_owned())];
        assert_eq!(read("some words\n", 0), one(TestStatus::Pass, ""));
        assert_eq!(
            read(
                "kernel 6.12: missing trace-cmd, skipping...\n+ exit 77\n",
                77
            ),
            one(
                TestStatus::Skip,
                "kernel 6.12: missing trace-cmd, skipping..."
            )
        );
        assert_eq!(
            read("a\x1bb\n", 1),
            one(TestStatus::Fail, "exit code 1\na\\u{1b}b")
        );
        assert_eq!(read("", 139), one(TestStatus::Fail, "died of signal 11\n"));
    }

    #[test]
    fn results_that_say_the_same_stand_alone() {
        let good = "TAP version 13\n1..1\nok 1 a\n";
        let bad = "TAP version 13\n1..1\nnot ok 1 a\n";
        assert_eq!(read(good, 0).len(), 1);
        assert_eq!(read(bad, 1).len(), 1);
        assert_eq!(read("1..0 # SKIP no device\n", 4)[0].2, "no device");
        // It died after its last result.
        let died = read(good, 139);
        assert_eq!(died[1].1, TestStatus::Fail);
        assert!(died[1].2.starts_with("died of signal 11"));
    }
}
