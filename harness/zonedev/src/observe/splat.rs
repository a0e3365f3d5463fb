//! Lines of the kernel log -> the kernel's reports about its own trouble.
//!
//! What counts as a report follows lib/bug.c, kernel/panic.c, mm/debug.c, kernel/hung_task.c,
//! kernel/watchdog.c, kernel/rcu/tree_stall.h and arch/x86's fault handlers of 5.10 to 7.3. A
//! stack dump under none of the known headings is a report too, so that a new kind is not missed.

use crate::record::{LogLine, Splat, normalise};

/// Lines that a report may have.
const MAX_LINES: usize = 250;
/// Lines from a heading to its stack dump.
const MAX_PROLOGUE: usize = 40;
/// Reports kept of one log.
const MAX_SPLATS: usize = 200;

/// A heading: what sort of report, and its title as far as the line tells.
struct Heading {
    kind: &'static str,
    title: String,
    /// Whether the title wants the function that RIP names.
    wants_rip: bool,
}

impl Heading {
    fn new(kind: &'static str, title: impl Into<String>) -> Heading {
        Heading {
            kind,
            title: title.into(),
            wants_rip: false,
        }
    }

    fn at_rip(kind: &'static str, title: impl Into<String>) -> Heading {
        Heading {
            kind,
            title: title.into(),
            wants_rip: true,
        }
    }
}

/// Finds every report in a log, in order.
pub fn splats(log: &[LogLine]) -> Vec<Splat> {
    let mut out: Vec<Splat> = Vec::new();
    let mut at = 0;
    while at < log.len() && out.len() < MAX_SPLATS {
        let Some(mut heading) = heading(&log[at].text).or_else(|| stray_trace(log, at)) else {
            at += 1;
            continue;
        };
        let floor = out.last().map_or(0, |s| s.lines.1);
        let start = prologue(log, at, floor);
        let mut end = body_end(log, at);
        if heading.kind == "page dump"
            && let Some((next, real)) = follows(log, at)
        {
            // VM_BUG_ON_PAGE() and its like: the dump belongs to the report behind it.
            let reason = std::mem::replace(&mut heading, real).title;
            if let Some(reason) = reason.strip_prefix("page dumped because: ") {
                end = body_end(log, next);
                complete(&mut heading, &log[start..end]);
                heading.title = format!("{}: {reason}", heading.title);
            }
        }
        complete(&mut heading, &log[start..end]);
        out.push(Splat {
            kind: heading.kind.to_owned(),
            title: heading.title,
            lines: (start, end),
            step: log[at].step,
        });
        at = end.max(at + 1);
    }
    out
}

/// Adds the function of RIP, or the message of a warning that says more than its place.
fn complete(heading: &mut Heading, lines: &[LogLine]) {
    if heading.kind == "WARNING" {
        let telling = lines.iter().find_map(|l| {
            [
                "refcount_t: ",
                "list_add corruption",
                "list_del corruption",
                "ODEBUG: ",
            ]
            .iter()
            .any(|m| l.text.starts_with(m))
            .then(|| normalise(&l.text))
        });
        if let Some(message) = telling {
            heading.title = format!("WARNING: {message}");
        }
    }
    if !heading.wants_rip {
        return;
    }
    heading.wants_rip = false;
    let rip = lines
        .iter()
        .find_map(|l| l.text.strip_prefix("RIP: ")?.split_once(':'));
    if let Some(name) = rip.and_then(|(_, place)| function(place)) {
        heading.title = format!("{} in {name}", heading.title);
    }
}

/// A report that follows a page dump closely.
fn follows(log: &[LogLine], at: usize) -> Option<(usize, Heading)> {
    (at + 1..log.len().min(at + 1 + MAX_PROLOGUE)).find_map(|i| {
        let h = heading(&log[i].text)?;
        matches!(h.kind, "BUG" | "WARNING").then_some((i, h))
    })
}

/// Where a report really starts: at the `cut here` line or the page dump's first line.
fn prologue(log: &[LogLine], at: usize, floor: usize) -> usize {
    let mut start = at;
    for i in (floor.max(at.saturating_sub(12))..at).rev() {
        let text = &log[i].text;
        if text.contains("[ cut here ]") || text.starts_with("page:") || text.starts_with("page: ")
        {
            start = i;
        } else if text.starts_with("zonedev: ") || text.starts_with("---[ end") {
            break;
        }
    }
    start
}

/// One past the last line of the report whose heading is at `at`.
fn body_end(log: &[LogLine], at: usize) -> usize {
    let mut traced = is_trace(&log[at].text);
    for (i, line) in log.iter().enumerate().skip(at + 1).take(MAX_LINES) {
        let text = line.text.as_str();
        if text.starts_with("---[ end") {
            return i + 1;
        }
        if text.starts_with("zonedev: ") || text.contains("[ cut here ]") || starts_anew(text) {
            return if traced { i } else { at + 1 };
        }
        if is_trace(text) {
            traced = true;
        } else if traced && !is_detail(text) {
            return i;
        } else if !traced && i - at > MAX_PROLOGUE {
            return at + 1;
        }
    }
    if traced {
        log.len().min(at + 1 + MAX_LINES)
    } else {
        at + 1
    }
}

/// A heading within a report that begins another. An Oops line continues the BUG before it.
fn starts_anew(text: &str) -> bool {
    heading(text).is_some_and(|h| h.kind != "Oops" && h.kind != "page dump")
}

fn is_trace(text: &str) -> bool {
    text.starts_with("Call Trace:") || text.starts_with("RIP: ")
}

/// A line as they stand below a report's heading.
fn is_detail(text: &str) -> bool {
    const STARTS: [&str; 26] = [
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
    ];
    text.starts_with(' ') || text.starts_with('<') || STARTS.iter().any(|s| text.starts_with(s))
}

/// A stack dump that no heading announced.
fn stray_trace(log: &[LogLine], at: usize) -> Option<Heading> {
    if !log[at].text.starts_with("Call Trace:") {
        return None;
    }
    let before = log[at.saturating_sub(4)..at]
        .iter()
        .rev()
        .find(|l| !l.text.starts_with("CPU: ") && !l.text.starts_with("Hardware name"));
    let title = before.map_or_else(
        || "stack dump".to_owned(),
        |l| format!("stack dump: {}", normalise(&l.text)),
    );
    Some(Heading::new("stack dump", title))
}

fn heading(text: &str) -> Option<Heading> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix("WARNING: ") {
        return Some(warning(rest));
    }
    if let Some(rest) = text.strip_prefix("BUG: ") {
        return Some(bug(rest));
    }
    for mark in ["kernel BUG at ", "Kernel BUG at "] {
        if let Some(rest) = text.strip_prefix(mark) {
            return Some(match function(rest) {
                Some(name) => Heading::new("BUG", format!("kernel BUG in {name}")),
                None => Heading::at_rip("BUG", "kernel BUG"),
            });
        }
    }
    if let Some(rest) = text.strip_prefix("Kernel panic - not syncing: ") {
        return Some(Heading::new("panic", format!("panic: {}", normalise(rest))));
    }
    if let Some(rest) = text.strip_prefix("page dumped because: ") {
        return Some(Heading::new(
            "page dump",
            format!("page dumped because: {}", rest.trim()),
        ));
    }
    if let Some(rest) = text.strip_prefix("INFO: task ") {
        let task = rest.split([':', ' ']).next().unwrap_or_default();
        return rest
            .contains(" blocked ")
            .then(|| Heading::new("hung task", format!("hung task {task}")));
    }
    if text.contains("INFO: rcu_") && text.contains(" stall") {
        return Some(Heading::at_rip("RCU stall", "RCU stall"));
    }
    if text.contains("BUG: soft lockup") {
        return Some(Heading::at_rip("lockup", "soft lockup"));
    }
    if text.contains("Watchdog detected hard LOCKUP") {
        return Some(Heading::at_rip("lockup", "hard lockup"));
    }
    if text.contains(" invoked oom-killer: ") {
        return Some(Heading::new("OOM", "OOM killer"));
    }
    if let Some(rest) = text.strip_prefix("UBSAN: ") {
        let what = rest.split(':').next().unwrap_or_default();
        return Some(Heading::new("UBSAN", format!("UBSAN: {}", normalise(what))));
    }
    if text.starts_with("INFO: trying to register non-static key") {
        return Some(Heading::new("lockdep", "lockdep: non-static key"));
    }
    file_system(text).or_else(|| oops(text))
}

fn warning(rest: &str) -> Heading {
    const LOCKDEP: [&str; 8] = [
        "possible ",
        "inconsistent lock state",
        "bad unlock balance",
        "suspicious RCU usage",
        "lock held when returning",
        "held lock freed",
        "Nested lock",
        "Possible ",
    ];
    // `CPU: 0 PID: 1 at mm/gup.c:12 name+0x1/0x2` up to 6.18, `mm/gup.c:12 at name+0x1/0x2, CPU#0`
    // later; either may lack the file.
    let place = rest
        .split([' ', ','])
        .find(|word| word.contains("+0x"))
        .and_then(function)
        .filter(|_| rest.contains(" at ") || rest.starts_with("at "));
    if let Some(name) = place {
        return Heading::new("WARNING", format!("WARNING in {name}"));
    }
    if LOCKDEP.iter().any(|l| rest.starts_with(l)) || rest.contains(" lock") {
        return Heading::new("lockdep", format!("lockdep: {}", normalise(rest)));
    }
    Heading::new("WARNING", format!("WARNING: {}", normalise(rest)))
}

fn bug(rest: &str) -> Heading {
    for (mark, kind) in [
        ("KASAN: ", "KASAN"),
        ("KCSAN: ", "KCSAN"),
        ("KFENCE: ", "KFENCE"),
        ("KMSAN: ", "KMSAN"),
    ] {
        if let Some(what) = rest.strip_prefix(mark) {
            let (what, place) = what.split_once(" in ").unwrap_or((what, ""));
            let name = function(place)
                .map(|n| format!(" in {n}"))
                .unwrap_or_default();
            return Heading::new(kind, format!("{kind}: {}{name}", normalise(what)));
        }
    }
    for (mark, kind) in [("Bad page state", "Bad page"), ("Bad page map", "Bad page")] {
        if rest.starts_with(mark) {
            return Heading::new(kind, format!("BUG: {mark}"));
        }
    }
    if rest.starts_with("Bad rss-counter") {
        let what = rest
            .split_whitespace()
            .find(|w| w.starts_with("type:"))
            .unwrap_or_default();
        return Heading::new(
            "BUG",
            format!("BUG: Bad rss-counter {what}").trim().to_owned(),
        );
    }
    for mark in ["kernel NULL pointer dereference", "unable to handle"] {
        if rest.starts_with(mark) {
            let what = rest.split([',', ':']).next().unwrap_or(mark);
            let what = what.trim_end_matches(" for address");
            return Heading::at_rip("BUG", format!("BUG: {what}"));
        }
    }
    for mark in ["scheduling while atomic", "workqueue lockup"] {
        if rest.starts_with(mark) {
            return Heading::new("BUG", format!("BUG: {mark}"));
        }
    }
    Heading::new("BUG", format!("BUG: {}", normalise(rest)))
}

fn file_system(text: &str) -> Option<Heading> {
    if let Some(rest) = text.strip_prefix("EXT4-fs error (device ") {
        let place = rest.split("): ").nth(1).unwrap_or_default();
        let name = place.split(':').next().unwrap_or_default();
        return Some(Heading::new(
            "file system",
            format!("EXT4-fs error in {name}"),
        ));
    }
    let rest = text.strip_prefix("XFS (")?.split("): ").nth(1)?;
    [
        "Internal error",
        "Metadata corruption detected",
        "Corruption ",
    ]
    .iter()
    .any(|m| rest.starts_with(m))
    .then(|| Heading::new("file system", format!("XFS: {}", normalise(rest))))
}

/// die()'s line: `general protection fault, …: 0000 [#1] SMP`, `Oops: 0002 [#1]`.
fn oops(text: &str) -> Option<Heading> {
    if !text.contains(" [#") {
        return None;
    }
    let what = text.strip_prefix("Oops: ").unwrap_or(text);
    let what = what.split([':', ',']).next().unwrap_or_default();
    let known = [
        "general protection fault",
        "stack segment",
        "double fault",
        "divide error",
        "int3",
    ];
    if known.contains(&what) {
        return Some(Heading::at_rip("BUG", what));
    }
    (text.starts_with("Oops") || text.starts_with("invalid opcode"))
        .then(|| Heading::at_rip("Oops", "Oops"))
}

/// The function in `name.isra.0+0x12/0x34 [module]`, without the compiler's suffixes.
fn function(place: &str) -> Option<&str> {
    let (name, _) = place.trim().split_once("+0x")?;
    let name = name.split('.').next().unwrap_or(name);
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    fits.then_some(name)
}

#[cfg(test)]
#[path = "splat_tests.rs"]
mod tests;
