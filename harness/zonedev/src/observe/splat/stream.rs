//! The lines of one caller, and how far a report goes in them.
//!
//! Two processors that report at once mix their lines; CONFIG_PRINTK_CALLER tells them apart. A
//! line without a caller belongs to the one before it.

use std::collections::BTreeMap;

use super::patterns::{Pattern, Patterns};
use crate::record::LogLine;

/// Lines that a report may have.
const MAX_LINES: usize = 400;
/// Lines from the heading of a part to its stack dump.
const PART_PROLOGUE: usize = 8;
/// Lines before a heading among which the dump of what it is about may begin.
const MAX_DUMP: usize = 40;
/// Lines before a heading that may be part of it.
const MAX_BEFORE: usize = 12;

/// The lines of one caller, by their place in the log.
pub(super) struct Stream<'a> {
    log: &'a [LogLine],
    /// Indexes into the log, ascending.
    lines: Vec<usize>,
}

/// The log by callers, in the order of their first lines.
pub(super) fn streams(log: &[LogLine]) -> Vec<Stream<'_>> {
    let mut by_caller: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    let mut last = None;
    for (i, line) in log.iter().enumerate() {
        if line.time_us.is_some() {
            last = line.caller.as_deref();
        }
        by_caller.entry(last).or_default().push(i);
    }
    let mut out: Vec<Stream<'_>> = by_caller
        .into_values()
        .map(|lines| Stream { log, lines })
        .collect();
    out.sort_by_key(|s| s.lines.first().copied());
    out
}

/// How a report ends.
pub(super) struct Body {
    /// One past its last line.
    pub(super) end: usize,
    /// Whether it stops in the middle: the log ends, or another begins.
    pub(super) cut: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn text(&self, at: usize) -> &'a str {
        &self.log[self.lines[at]].text
    }

    /// The place in the log.
    pub(super) fn index(&self, at: usize) -> usize {
        self.lines[at]
    }

    pub(super) fn step(&self, at: usize) -> Option<usize> {
        self.log[self.lines[at]].step
    }

    /// Where a report really starts: at the `cut here` line, the page dump's first line, or the line
    /// that frames it.
    pub(super) fn prologue(&self, at: usize, floor: usize) -> usize {
        let mut start = at;
        for i in (floor.max(at.saturating_sub(MAX_DUMP))..at).rev() {
            let text = self.text(i);
            let frames = text.contains("[ cut here ]") || is_rule(text);
            if frames && at - i <= MAX_BEFORE || starts_dump(text) {
                start = i;
            } else if is_mark(text) || text.starts_with("---[ end") {
                break;
            }
        }
        start
    }

    /// The end of the report whose heading is at `at`.
    pub(super) fn body(&self, at: usize, pattern: Option<&Pattern>) -> Body {
        if pattern.is_some_and(|p| p.alone) {
            return Body {
                end: at + 1,
                cut: false,
            };
        }
        let until = pattern.and_then(|p| p.until.as_ref());
        if let Some(until) = until {
            for i in at + 1..self.len().min(at + 1 + MAX_LINES) {
                let text = self.text(i);
                if until.is_match(text) || text.starts_with("---[ end") {
                    return Body {
                        end: i + 1,
                        cut: false,
                    };
                }
                if is_panic(text) {
                    return Body { end: i, cut: false };
                }
                if is_mark(text) || text.contains("[ cut here ]") {
                    break;
                }
            }
        }
        let mut body = self.by_trace(at, pattern);
        if pattern.is_some_and(|p| p.untraced) && body.end == at + 1 {
            body.cut = false;
        }
        body
    }

    /// A report without a line that ends it goes as far as its stack dump does.
    fn by_trace(&self, at: usize, pattern: Option<&Pattern>) -> Body {
        let prologue = pattern.map_or(PART_PROLOGUE, |p| p.prologue);
        let continued = pattern.and_then(|p| p.continued.as_ref());
        let mut traced = is_trace(self.text(at));
        let last = self.len().min(at + 1 + MAX_LINES);
        let end = |end, cut| Body { end, cut };
        for i in at + 1..last {
            let text = self.text(i);
            // The last words of a panic that restarts the machine.
            if text.starts_with("---[ end") || traced && text.starts_with("Kernel Offset") {
                return end(i + 1, false);
            }
            let anew = || starts_anew(text) && !continued.is_some_and(|c| c.is_match(text));
            if is_mark(text) || text.contains("[ cut here ]") || anew() {
                return if traced {
                    end(i, false)
                } else {
                    end(at + 1, true)
                };
            }
            if is_trace(text) {
                traced = true;
            } else if traced && !is_detail(text) {
                return end(i, false);
            } else if !traced && i - at > prologue {
                return end(at + 1, true);
            }
        }
        match traced {
            true => end(
                last,
                last == self.len() && !is_outermost(self.text(last - 1)),
            ),
            // Cut off before its trace.
            false if last == self.len() => {
                let own = (at + 1..last).rfind(|i| continues(self.text(*i)));
                end(own.unwrap_or(at) + 1, true)
            }
            false => end(at + 1, true),
        }
    }
}

/// A heading that continues a report: an Oops line, a page dump.
fn continues(text: &str) -> bool {
    Patterns::get().of(text, false).is_some() && !starts_anew(text)
}

/// A heading within a report that begins another. An Oops line continues the BUG before it, and a
/// page dump is part of what it is in.
fn starts_anew(text: &str) -> bool {
    let patterns = Patterns::get();
    patterns
        .of(text, false)
        .is_some_and(|i| !matches!(patterns.pattern(i).kind.as_str(), "Oops" | "page dump"))
}

fn is_panic(text: &str) -> bool {
    let patterns = Patterns::get();
    let found = patterns.of(text, false);
    found.is_some_and(|i| patterns.pattern(i).kind == "panic")
}

/// The last line of a whole trace: where a task, or what it came from, began.
fn is_outermost(text: &str) -> bool {
    text.trim_start().starts_with("</TASK>")
        || text.starts_with("R13: ")
        || text.contains(" ret_from_fork")
}

/// A line that the agent or the host wrote.
fn is_mark(text: &str) -> bool {
    text.starts_with("zonedev: ")
}

/// The first line of what dump_page(), dump_vma() and dump_mm() print.
fn starts_dump(text: &str) -> bool {
    let address = |rest: &str| rest.split(' ').next().is_some_and(|word| word.len() == 16);
    text.starts_with("page:")
        || ["vma ", "mm "]
            .iter()
            .any(|s| text.strip_prefix(s).is_some_and(address))
}

/// A line of one character, as sanitizers and lockdep draw around their reports.
fn is_rule(text: &str) -> bool {
    text.len() >= 20 && (text.bytes().all(|b| b == b'=') || text.bytes().all(|b| b == b'-'))
}

pub(super) fn is_trace(text: &str) -> bool {
    if text.starts_with("kmemleak:   backtrace") || text.starts_with("  backtrace") {
        return true;
    }
    let text = text.trim_start();
    text.starts_with("Call Trace:") || text.starts_with("RIP: ") || text == "stack backtrace:"
}

/// A line as they stand below a report's heading.
fn is_detail(text: &str) -> bool {
    const STARTS: [&str; 28] = [
        "Call Trace",
        "RIP",
        "RSP",
        "RAX",
        "RBX",
        "RDX",
        "RBP",
        "RSI",
        "R10",
        "R13",
        "FS:",
        "CS:",
        "CR",
        "DR",
        "Code:",
        "PKRU:",
        "Modules linked in",
        "Kernel Offset",
        "irq event",
        "hardirqs",
        "softirqs",
        "note:",
        "EAX",
        "ORIG_RAX",
        "</",
        "Hardware name",
        "CPU: ",
        "Tainted: ",
    ];
    text.starts_with([' ', '<'])
        || text.starts_with("kmemleak:  ")
        || STARTS.iter().any(|s| text.starts_with(s))
}
