//! Lines of the kernel log -> the kernel's reports about its own trouble.
//!
//! What a report looks like is data (`reports.toml`); it follows lib/bug.c, kernel/panic.c,
//! mm/debug.c, kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/locking,
//! mm/kasan and arch/x86's fault handlers of 5.10 to 7.3. A stack dump under none of the known
//! headings is a report too, so that a new kind is not missed.

mod detail;
mod patterns;
mod stream;

use std::collections::BTreeSet;

use patterns::{Blame, Pattern, Patterns, title};
use stream::{Stream, is_trace, streams};

use crate::record::{Frame, LogLine, Splat, Task, normalise};

/// Reports kept of one log.
const MAX_SPLATS: usize = 200;
/// Lines before a report's first that may name it: a message before its `cut here`.
const MESSAGES_BEFORE: usize = 3;
/// Lines behind a page dump within which the report stands that it belongs to.
const DUMP_TO_BUG: usize = 40;
/// Kinds of reports that have other processors say what they do.
const ASKS: [&str; 3] = ["RCU stall", "lockup", "hung task"];
/// Reports among which the one is that a part belongs to.
const RECENT: usize = 8;
/// Lines of the log within which a part belongs to the report before it.
const PART_OF: usize = 400;

/// Finds every report in a log, in the order of their first lines.
pub fn splats(log: &[LogLine]) -> Vec<Splat> {
    let mut found = Vec::new();
    let mut parts = Vec::new();
    for stream in streams(log) {
        of_stream(&stream, &mut found, &mut parts);
    }
    found.sort_by_key(|s: &Found| s.lines.first().copied());
    found.truncate(MAX_SPLATS);
    for part in parts {
        let Some(first) = part.first() else { continue };
        // The report that begins last before it, unless another asked for what is seen elsewhere.
        let before = found.partition_point(|s| s.lines.first() < Some(first));
        let near = |s: &&mut Found| {
            let mut lines = s.lines.range(first.saturating_sub(PART_OF)..=*first);
            lines.next().is_some()
        };
        let recent = found[..before].iter_mut().rev().take(RECENT);
        let whose = recent
            .filter(near)
            .enumerate()
            .min_by_key(|(n, s)| (!ASKS.contains(&s.splat.kind.as_str()), *n));
        if let Some((_, whose)) = whose
            && whose.splat.step == log[*first].step
        {
            if whose.splat.trace.is_empty() {
                whose.learn(log, &part);
            }
            whose.lines.extend(part);
        }
    }
    found.into_iter().map(Found::done).collect()
}

/// A report with the places of its lines in the log.
struct Found {
    splat: Splat,
    lines: BTreeSet<usize>,
    /// The pattern that names it, and the place of the line that it matches.
    named: Option<(usize, usize)>,
}

impl Found {
    /// What a part says of another processor: of one that does not answer, this is the report.
    fn learn(&mut self, log: &[LogLine], part: &[usize]) {
        let lines: Vec<&str> = part.iter().map(|i| log[*i].text.as_str()).collect();
        let told = describe(&lines);
        let (Some((pattern, by)), false) = (self.named, told.trace.is_empty()) else {
            return;
        };
        let splat = &mut self.splat;
        splat.trace = told.trace;
        splat.registers = told.registers;
        splat.task = splat.task.take().or(told.task);
        name(splat, Patterns::get().pattern(pattern), &log[by].text, &[]);
    }

    /// The bounds, and what stands between them of others.
    fn done(mut self) -> Splat {
        let first = self.lines.first().copied().unwrap_or_default();
        let last = self.lines.last().map_or(first + 1, |l| l + 1);
        self.splat.lines = (first, last);
        let pairs = self.lines.iter().zip(self.lines.iter().skip(1));
        self.splat.others = pairs
            .filter(|(line, next)| **next > **line + 1)
            .map(|(line, next)| (line + 1, *next))
            .collect();
        self.splat
    }
}

fn of_stream(stream: &Stream<'_>, out: &mut Vec<Found>, parts: &mut Vec<Vec<usize>>) {
    let patterns = Patterns::get();
    let (mut at, mut floor) = (0, 0);
    while at < stream.len() && out.len() < MAX_SPLATS {
        let text = stream.text(at);
        let heading = patterns.of(text, false);
        if heading.is_none() && patterns.is_part(text) {
            let end = stream.body(at, None).end;
            parts.push((at..end).map(|i| stream.index(i)).collect());
            (at, floor) = (end, end);
            continue;
        }
        let stray = heading.is_none() && text.starts_with("Call Trace:");
        if heading.is_none() && !stray {
            at += 1;
            continue;
        }
        let report = match heading {
            Some(heading) => known(stream, at, heading, floor),
            None => unknown(stream, at, floor),
        };
        floor = report.end;
        at = report.end.max(at + 1);
        out.push(report.found);
    }
}

struct Report {
    found: Found,
    /// One past its last line, in its stream.
    end: usize,
}

/// A report that the table knows by its heading.
fn known(stream: &Stream<'_>, at: usize, heading: usize, floor: usize) -> Report {
    let patterns = Patterns::get();
    let mut start = stream.prologue(at, floor);
    let (mut heading, mut at) = (heading, at);
    let mut because = None;
    let mut body = stream.body(at, Some(patterns.pattern(heading)));
    if patterns.pattern(heading).kind == "page dump"
        && let Some((next, real)) = follows(stream, at)
    {
        // VM_BUG_ON_PAGE() and its like: the dump belongs to the report behind it.
        because = stream.text(at).strip_prefix("page dumped because: ");
        body = stream.body(next, Some(patterns.pattern(real)));
        (heading, at) = (real, next);
    }
    let end = body.end.max(at + 1);
    // What names it better may stand before it, in it, or between its heading and its trace.
    let before = floor.max(start.saturating_sub(MESSAGES_BEFORE));
    let better = (before..end)
        .filter_map(|i| Some((patterns.of(stream.text(i), true)?, i)))
        .min();
    let (named, by) = match better {
        Some((pattern, i)) => {
            start = start.min(i);
            (pattern, i)
        }
        None => (heading, at),
    };
    let lines: Vec<&str> = (start..end).map(|i| stream.text(i)).collect();
    let mut splat = describe(&lines);
    let pattern = patterns.pattern(named);
    name(&mut splat, pattern, stream.text(by), &lines);
    if named == heading
        && let Some(because) = because
    {
        splat.title = format!("{}: {}", splat.title, because.trim());
    }
    splat.step = stream.step(at);
    splat.cut = body.cut;
    Report {
        found: Found {
            splat,
            lines: (start..end).map(|i| stream.index(i)).collect(),
            named: Some((named, stream.index(by))),
        },
        end,
    }
}

/// A stack dump that no heading announced.
fn unknown(stream: &Stream<'_>, at: usize, floor: usize) -> Report {
    let head = (floor.max(at.saturating_sub(4))..at).rev().find(|i| {
        let text = stream.text(*i);
        !["CPU: ", "Hardware name", "Tainted: "]
            .iter()
            .any(|s| text.starts_with(s))
    });
    let start = head.unwrap_or(at);
    let body = stream.body(at, None);
    let lines: Vec<&str> = (start..body.end).map(|i| stream.text(i)).collect();
    let mut splat = describe(&lines);
    splat.kind = "stack dump".into();
    splat.title = match head {
        Some(i) => format!("stack dump: {}", normalise(stream.text(i))),
        None => "stack dump".into(),
    };
    splat.function = blamed_frame(&splat.trace)
        .or(splat.trace.first())
        .and_then(|f| detail::function(&f.function));
    splat.step = stream.step(at);
    splat.cut = body.cut;
    Report {
        found: Found {
            splat,
            lines: (start..body.end).map(|i| stream.index(i)).collect(),
            named: None,
        },
        end: body.end,
    }
}

/// A report that follows a page dump closely.
fn follows(stream: &Stream<'_>, at: usize) -> Option<(usize, usize)> {
    let patterns = Patterns::get();
    (at + 1..stream.len().min(at + 1 + DUMP_TO_BUG)).find_map(|i| {
        let pattern = patterns.of(stream.text(i), false)?;
        matches!(patterns.pattern(pattern).kind.as_str(), "BUG" | "WARNING").then_some((i, pattern))
    })
}

/// What stands in its lines.
fn describe(lines: &[&str]) -> Splat {
    let (task, cpu) = detail::task(lines.iter().copied());
    let trace = if lines.iter().any(|l| is_trace(l)) {
        detail::trace(lines.iter().copied())
    } else {
        Vec::new()
    };
    Splat {
        kind: String::new(),
        title: String::new(),
        lines: (0, 0),
        others: Vec::new(),
        step: None,
        function: None,
        task,
        cpu,
        registers: detail::registers(lines.iter().copied()),
        trace,
        page: detail::dumped_page(lines.iter().copied()),
        cut: false,
    }
}

/// Kind, function and title, by a pattern and the line that it matches.
fn name(splat: &mut Splat, pattern: &Pattern, text: &str, lines: &[&str]) {
    let captures = pattern.captures(text);
    let group = |word: &str| {
        let found = captures.as_ref()?.name(word)?;
        Some(found.as_str().to_owned())
    };
    splat.function = group("function")
        .or_else(|| pattern.place(lines))
        .and_then(|f| detail::function(&f))
        .or_else(|| blamed(&splat.trace, pattern.function));
    splat.kind.clone_from(&pattern.kind);
    splat.title = title(&pattern.title, &|word| match word {
        "function" => splat.function.clone(),
        "what" => group("what")
            .or_else(|| group("what2"))
            .map(|w| normalise(&w)),
        word => group(word).map(|w| normalise(&w)),
    });
}

fn blamed(trace: &[Frame], blame: Option<Blame>) -> Option<String> {
    match blame? {
        // Who jumped to where no function is, and who had something copied, is next in the trace.
        Blame::Rip => trace
            .iter()
            .find(|f| f.rip && !Patterns::get().is_leaf(bare(f)))
            .or_else(|| blamed_frame(trace))
            .or_else(|| first_of_others(trace)),
        Blame::Frame => blamed_frame(trace),
    }
    .and_then(|f| detail::function(&f.function))
}

/// The first frame of a trace that is not of the machinery that reports or waits.
pub fn blamed_frame(trace: &[Frame]) -> Option<&Frame> {
    let of_others = |f: &&Frame| !f.uncertain && is_of_others(f);
    trace.iter().find(of_others)
}

/// The same where the unwinder vouches for no frame: it did not know where to begin.
fn first_of_others(trace: &[Frame]) -> Option<&Frame> {
    trace.iter().find(|f| is_of_others(f))
}

fn is_of_others(f: &Frame) -> bool {
    let patterns = Patterns::get();
    !patterns.is_machinery(bare(f)) && !patterns.is_leaf(bare(f))
}

/// A frame's function without the compiler's suffixes.
fn bare(f: &Frame) -> &str {
    f.function.split('.').next().unwrap_or_default()
}

/// Places as /proc/PID/stack has them -> frames.
pub fn frames(stack: &[String]) -> Vec<Frame> {
    let lines = stack.iter().map(|line| format!(" {line}"));
    let lines: Vec<String> = std::iter::once("Call Trace:".to_owned())
        .chain(lines)
        .collect();
    detail::trace(lines.iter().map(String::as_str))
}

/// The task that these lines are about.
pub(super) fn task_of(lines: &[&str]) -> Option<Task> {
    detail::task(lines.iter().copied()).0
}

/// The call trace in these lines.
pub(super) fn frames_of(lines: &[&str]) -> Vec<Frame> {
    detail::trace(lines.iter().copied())
}

#[cfg(test)]
#[path = "../splat_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "../corpus_tests.rs"]
mod corpus;
