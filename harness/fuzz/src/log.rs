//! What a guest prints: the console with its reports and tasks, and programs' results.

use proto::ProgramOutput;
use zonedev::observe;
use zonedev::record::{Frame, LogLine, Splat, TestResult, normalise};

use crate::{Input, assert_shown, assert_shown_but};

/// Lines, reports and tasks that are kept at most, with a line that tells of others.
const MAX_LINES: usize = 100_001;
const MAX_SPLATS: usize = 200;
const MAX_TASKS: usize = 64;
const MAX_FRAMES: usize = 80;
/// Characters that a line of 1024 may have when each is escaped.
const MAX_TEXT: usize = 1025 * 10;

/// Bytes of a console: lines, then reports, tasks and the kinds of lines.
pub(crate) fn console(data: &[u8]) {
    let log = observe::console(data);
    assert!(log.len() <= MAX_LINES);
    // Marks may be among lines that were left out.
    let left_out = " lines of the console were left out";
    let whole = !log.iter().any(|l| l.text.contains(left_out));
    let mut step = None;
    for line in &log {
        assert_shown(&line.text);
        assert!(line.text.len() <= MAX_TEXT);
        if let Some(caller) = &line.caller {
            assert!(
                caller.starts_with(['T', 'C']) && caller.len() <= 32,
                "{caller}"
            );
            assert!(line.time_us.is_some());
        }
        // A mark counts from its own line on, and nothing else changes the step.
        step = observe::mark(&line.text).or(step);
        assert!(line.step == step || !whole);
        let kind = normalise(&line.text);
        assert!(kind.len() <= line.text.len());
        assert_eq!(normalise(&kind), kind, "of {:?}", line.text);
    }
    reports(&log);
    let tasks = observe::waiting_tasks(&log);
    assert!(tasks.len() <= MAX_TASKS);
    for task in &tasks {
        assert_shown(&task.task.comm);
        assert_eq!(task.state.chars().count(), 1);
        frames(&task.trace);
    }
}

fn reports(log: &[LogLine]) {
    let splats = observe::splats(log);
    assert!(splats.len() <= MAX_SPLATS);
    for pair in splats.windows(2) {
        assert!(pair[0].lines.0 <= pair[1].lines.0, "not in order");
    }
    for splat in &splats {
        let (first, last) = splat.lines;
        assert!(first < last && last <= log.len(), "{first}..{last}");
        let mut free = first + 1;
        for (from, to) in &splat.others {
            assert!(
                free <= *from && from < to && *to < last,
                "{:?}",
                splat.others
            );
            free = to + 1;
        }
        let own: Vec<usize> = splat.own_lines().collect();
        assert_eq!((own.first(), own.last()), (Some(&first), Some(&(last - 1))));
        assert!(splat.step.is_none() || own.iter().any(|l| log[*l].step == splat.step));
        texts(splat);
    }
}

fn texts(splat: &Splat) {
    assert!(!splat.kind.is_empty() && !splat.title.is_empty());
    assert_shown(&splat.title);
    frames(&splat.trace);
    assert!(splat.registers.len() <= 64);
    let words = splat.registers.iter();
    let page = splat.page.iter().flat_map(|p| &p.fields);
    for (name, value) in words.chain(page) {
        assert_shown(name);
        assert_shown(value);
    }
    if let Some(page) = &splat.page {
        // The fields, and a few texts by their names.
        assert!(page.fields.len() <= 64 + 8);
        assert_shown(&page.reason);
    }
    if let Some(function) = &splat.function {
        assert!(
            function
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        );
    }
}

fn frames(trace: &[Frame]) {
    // One more: where RIP was.
    assert!(trace.len() <= MAX_FRAMES + 1);
    for frame in trace {
        assert_shown(&frame.function);
        frame.module.iter().for_each(|m| assert_shown(m));
    }
}

/// A program's exit code and output, read as TAP, as KTAP and as fstests' check says it.
pub(crate) fn ktap(data: &[u8]) {
    let mut input = Input::new(data);
    let code = i32::from(input.byte());
    let output = ProgramOutput {
        text: String::from_utf8_lossy(input.rest()).into_owned(),
        code,
        cut: false,
    };
    // Those that are kept, and one that tells of others.
    let most = 10_001;
    let results = observe::ktap(&output.text);
    assert!(results.len() <= most);
    shown(&results);
    let results = observe::program("p", &output);
    assert!(!results.is_empty() && results.len() <= most + 1);
    shown(&results);
    let good = |r: &TestResult| {
        use zonedev::record::TestStatus::{Pass, Skip};
        matches!(r.status, Pass | Skip)
    };
    // An exit code that tells of a failure never reads as a pass.
    assert!(matches!(code, 0 | 4 | 77) || !results.iter().all(good));
    let results = observe::fstests(&output);
    assert!(!results.is_empty());
    shown(&results);
}

fn shown(results: &[TestResult]) {
    for result in results {
        assert_shown(&result.name);
        assert_shown_but(&result.message, "\n\t");
        assert!(result.name.len() <= 2000 && result.message.len() <= 20_000);
    }
}

/// What gcov says of an object.
pub(crate) fn gcov(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(found) = observe::source_lines(&text, "mm/hmm.c") {
        assert!(!found.lines.is_empty());
        assert!(found.ran() <= found.lines.len());
        let mut twice = found.clone();
        twice.add(&found);
        assert_eq!(twice, found);
    }
}
