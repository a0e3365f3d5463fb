//! TAP 13 and KTAP -> results of tests.
//!
//! Written after tools/testing/selftests/kselftest.h and kselftest_harness.h of 5.10 and 7.3, and
//! Documentation/dev-tools/ktap.rst. Any text gives results: what was announced and never
//! reported is [`TestStatus::Missing`].

use proto::text::{escape, push_escaped};

use crate::record::{TestResult, TestStatus};

/// Results kept of one program.
const MAX_RESULTS: usize = 10_000;
/// Bytes read of one line, and characters kept of one name: each result has the names of its levels.
const MAX_LINE: usize = 4096;
const MAX_NAME: usize = 200;
/// Characters of diagnostics kept with one result.
const MAX_MESSAGE: usize = 2_000;
/// Results that are missing of one plan, told.
const MAX_MISSING: usize = 1_000;

/// One level of nesting, while it is read.
#[derive(Default)]
struct Level {
    indent: usize,
    planned: Option<usize>,
    seen: usize,
    /// Name of the test whose parts this level holds.
    prefix: String,
    /// How many results there were before it.
    start: usize,
}

/// Reads all results of a program's output.
pub fn ktap(text: &str) -> Vec<TestResult> {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    out: Vec<TestResult>,
    levels: Vec<Level>,
    /// Test that the harness said it runs, and its diagnostics.
    running: Option<String>,
    notes: String,
    /// What a program without the harness calls its next test: gup_longterm and cow print
    /// `# [RUN] what ... with which`, and name many results alike.
    titled: Option<String>,
    bailed: Option<String>,
    /// Results beyond [`MAX_RESULTS`].
    left_out: usize,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let mut end = (0..=line.len().min(MAX_LINE)).rev();
        let end = end.find(|at| line.is_char_boundary(*at));
        let line = &line[..end.unwrap_or_default()];
        let indent = line.len() - line.trim_start_matches(' ').len();
        let line = line.trim_end();
        let body = line.trim_start();
        if let Some(diagnostic) = body.strip_prefix('#') {
            self.diagnostic(diagnostic, indent);
        } else if body.starts_with("TAP version ") || body.starts_with("KTAP version ") {
            self.enter(indent);
        } else if let Some(plan) = plan(body) {
            self.enter(indent);
            if let Some(level) = self.levels.last_mut() {
                level.planned = Some(plan.0);
            }
            if let Some(reason) = plan.1.filter(|_| plan.0 == 0) {
                self.push("all".into(), TestStatus::Skip, reason.to_owned());
            }
        } else if let Some(reason) = body.strip_prefix("Bail out!") {
            self.bailed = Some(cut(reason.trim(), MAX_MESSAGE));
        } else if let Some(result) = result_line(body) {
            self.result(indent, &result);
        } else if !body.is_empty() {
            self.note(body);
        }
    }

    fn diagnostic(&mut self, text: &str, indent: usize) {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("RUN ") {
            self.died();
            self.running = Some(cut(name.trim().trim_end_matches("...").trim(), MAX_NAME));
            self.notes.clear();
        } else if let Some(title) = text.strip_prefix("[RUN] ") {
            self.titled = Some(cut(title.trim(), MAX_NAME));
        } else if let Some(name) = text.strip_prefix("Subtest:") {
            self.enter(indent);
            if let Some(level) = self.levels.last_mut() {
                level.prefix = cut(name.trim(), MAX_NAME);
            }
        } else if text.starts_with("OK ") || text.starts_with("FAIL ") {
            // The harness's own words before its result line.
        } else {
            self.note(text);
        }
    }

    fn note(&mut self, text: &str) {
        if self.notes.len() < MAX_MESSAGE {
            if !self.notes.is_empty() {
                self.notes.push('\n');
            }
            self.notes.extend(text.chars().take(500));
        }
    }

    /// A test that was announced, with no result before the next one.
    fn died(&mut self) {
        if let Some(name) = self.running.take() {
            let notes = std::mem::take(&mut self.notes);
            self.push(name, TestStatus::Missing, notes);
        }
    }

    fn enter(&mut self, indent: usize) {
        while self.levels.last().is_some_and(|l| l.indent > indent) {
            self.leave();
        }
        if self.levels.last().is_none_or(|l| l.indent < indent) && self.levels.len() < 32 {
            self.levels.push(Level {
                indent,
                start: self.out.len(),
                ..Level::default()
            });
        }
    }

    /// A level ends: tests that its plan announced and nobody reported are missing.
    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else {
            return;
        };
        let Some(planned) = level.planned else { return };
        if planned > level.seen {
            let path = self.path(&level.prefix);
            let at = if path.is_empty() {
                String::new()
            } else {
                format!("{path}.")
            };
            let message = match &self.bailed {
                Some(reason) => format!("bailed out: {reason}"),
                None => format!("{planned} tests planned, {} reported", level.seen),
            };
            // One more than there is room for: so many are left out, and that is told.
            let room = MAX_RESULTS.saturating_sub(self.out.len()) + 1;
            for n in (level.seen + 1..=planned).take(room.min(MAX_MISSING)) {
                self.push(format!("{at}#{n}"), TestStatus::Missing, message.clone());
            }
        }
    }

    fn path(&self, last: &str) -> String {
        let mut parts: Vec<&str> = self.levels.iter().map(|l| l.prefix.as_str()).collect();
        parts.push(last);
        parts.retain(|p| !p.is_empty());
        parts.join(".")
    }

    fn result(&mut self, indent: usize, line: &ResultLine) {
        // A result less deep than the last level sums up that level.
        let sums_up = self.levels.last().is_some_and(|l| l.indent > indent);
        let running = self.running.take();
        if sums_up && let Some(name) = running.clone() {
            self.push(name, TestStatus::Missing, String::new());
        }
        let first = self
            .levels
            .iter()
            .find(|l| l.indent > indent)
            .map(|l| l.start);
        self.enter(indent);
        if let Some(level) = self.levels.last_mut() {
            level.seen += 1;
        }
        let mut notes = std::mem::take(&mut self.notes);
        let parts = first.and_then(|n| self.out.get(n..)).unwrap_or_default();
        // The sum adds nothing where a part tells it already.
        if parts
            .iter()
            .any(|r| line.status == TestStatus::Pass || r.status == line.status)
        {
            return;
        }
        // 5.10 prints `ok 3 # SKIP reason` without a name; the name stands in the RUN line.
        let titled = self.titled.take();
        let name = match (line.name, running) {
            (said, None) if titled.is_some() => {
                if line.status != TestStatus::Pass && !said.is_empty() {
                    notes.insert_str(0, &format!("{said}\n"));
                }
                titled.unwrap_or_default()
            }
            ("", Some(running)) => running,
            ("", None) => format!("#{}", line.number),
            (name, _) => self.path(name),
        };
        let mut message = line.reason.to_owned();
        if line.status != TestStatus::Pass && !notes.is_empty() {
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(&notes);
        }
        self.push(name, line.status, message);
    }

    fn push(&mut self, name: String, status: TestStatus, message: String) {
        if self.out.len() < MAX_RESULTS {
            let mut shown = String::with_capacity(message.len().min(MAX_MESSAGE));
            for c in message.chars().take(MAX_MESSAGE) {
                match c {
                    '\n' => shown.push(c),
                    c => push_escaped(&mut shown, c),
                }
            }
            let name = escape(&cut(&name, MAX_NAME));
            let message = shown;
            self.out.push(TestResult {
                name,
                status,
                message,
            });
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> Vec<TestResult> {
        if let Some(name) = self.running.take() {
            let notes = std::mem::take(&mut self.notes);
            if let Some(level) = self.levels.last_mut() {
                level.seen += 1;
            }
            self.push(name, TestStatus::Missing, notes);
        }
        while !self.levels.is_empty() {
            self.leave();
        }
        if self.left_out > 0 {
            // One of them may have failed.
            self.out.push(TestResult {
                name: "further results".into(),
                status: TestStatus::Missing,
                message: format!("{} were left out", self.left_out),
            });
        }
        self.out
    }
}

/// The first characters.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// `1..N`, with the reason behind `# SKIP`.
fn plan(body: &str) -> Option<(usize, Option<&str>)> {
    let rest = body.strip_prefix("1..")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let reason = rest[end..].trim().strip_prefix('#').map(|r| {
        let r = r.trim();
        r.strip_prefix("SKIP").unwrap_or(r).trim()
    });
    Some((rest[..end].parse().ok()?, reason))
}

struct ResultLine<'a> {
    number: usize,
    name: &'a str,
    status: TestStatus,
    reason: &'a str,
}

/// `ok 1 name # SKIP reason`, `not ok 2 - name`.
fn result_line(body: &str) -> Option<ResultLine<'_>> {
    let (good, rest) = match body.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, body.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let number = rest[..digits].parse().unwrap_or(0);
    let rest = rest[digits..].trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = match rest.strip_prefix('#') {
        Some(directive) => ("", directive),
        None => rest.split_once(" #").unwrap_or((rest, "")),
    };
    let directive = directive.trim();
    let word = directive.split([' ', ':']).next().unwrap_or_default();
    let after = directive[word.len()..].trim_start_matches([' ', ':']);
    let (status, reason) = match word.to_ascii_uppercase().as_str() {
        "SKIP" => (TestStatus::Skip, after),
        // An expected failure is no failure; an unexpected success is told as one.
        "XFAIL" | "TODO" => (TestStatus::Pass, directive),
        "XPASS" => (TestStatus::Fail, directive),
        "TIMEOUT" | "ERROR" => (TestStatus::Fail, directive),
        _ if good => (TestStatus::Pass, directive),
        _ => (TestStatus::Fail, directive),
    };
    Some(ResultLine {
        number,
        name: name.trim(),
        status,
        reason,
    })
}

#[cfg(test)]
#[path = "ktap_tests.rs"]
mod tests;
