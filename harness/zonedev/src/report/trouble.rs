//! What a kernel said of its own trouble, and what is known of one that hung.

use std::fmt::Write as _;

use super::text::{Look, Paint, escape};
use crate::record::{CellRecord, DumpedPage, Frame, Hang, Splat, WaitingTask};

/// Frames shown of one trace.
const MAX_FRAMES: usize = 24;
/// Tasks shown of a kernel that hangs.
const MAX_TASKS: usize = 6;

/// Writes every report of a cell's kernel with its trace, and where it hung; empty where there is
/// nothing to tell.
pub fn trouble(cell: &CellRecord, look: &Look) -> String {
    let mut out = String::new();
    for splat in &cell.splats {
        report(cell, splat, look, &mut out);
    }
    if let Some(hang) = &cell.hang {
        hung(hang, look, &mut out);
    }
    out
}

fn report(cell: &CellRecord, splat: &Splat, look: &Look, out: &mut String) {
    let mut head = splat.title.clone();
    if let Some(step) = splat.step {
        let word = cell.steps.get(step).map_or("", |s| s.op.word());
        let _ = write!(head, " (step {step} {word})");
    }
    if splat.cut {
        head.push_str(", cut off");
    }
    let _ = writeln!(out, "{}", look.paint(Paint::Bad, &escape(&head)));
    let mut who = Vec::new();
    if let Some(task) = &splat.task {
        who.push(format!("task {}/{}", task.comm, task.pid));
    }
    if let Some(cpu) = splat.cpu {
        who.push(format!("cpu {cpu}"));
    }
    if !who.is_empty() {
        let _ = writeln!(out, "  {}", escape(&who.join(", ")));
    }
    if let Some(page) = &splat.page {
        let _ = writeln!(out, "  {}", escape(&page_words(page)));
    }
    frames(&splat.trace, "  ", out);
    let _ = writeln!(
        out,
        "  lines {} to {} of the console",
        splat.lines.0.saturating_add(1),
        splat.lines.1
    );
}

fn page_words(page: &DumpedPage) -> String {
    let fields = page
        .fields
        .iter()
        .map(|(name, value)| format!("{name} {value}"));
    let fields = fields.collect::<Vec<_>>().join(", ");
    format!("page ({}): {fields}", page.reason)
}

fn frames(trace: &[Frame], indent: &str, out: &mut String) {
    for frame in trace.iter().take(MAX_FRAMES) {
        let sure = if frame.uncertain { "? " } else { "" };
        let module = frame.module.as_ref().map(|m| format!(" [{m}]"));
        let module = module.unwrap_or_default();
        let Some((outer, inlined)) = frame.at.split_last() else {
            let name = format!("{sure}{}+{:#x}{module}", frame.function, frame.offset);
            let _ = writeln!(out, "{indent}{}", escape(&name));
            continue;
        };
        for place in inlined {
            let text = format!(
                "{sure}{} (inlined) {}:{}",
                place.function, place.file, place.line
            );
            let _ = writeln!(out, "{indent}{}", escape(&text));
        }
        let text = format!(
            "{sure}{}+{:#x}{module} {}:{}",
            frame.function, frame.offset, outer.file, outer.line
        );
        let _ = writeln!(out, "{indent}{}", escape(&text));
    }
    if trace.len() > MAX_FRAMES {
        let _ = writeln!(out, "{indent}and {} more", trace.len() - MAX_FRAMES);
    }
}

fn hung(hang: &Hang, look: &Look, out: &mut String) {
    let _ = writeln!(out, "{}", look.paint(Paint::Bad, "where it hung"));
    for rung in &hang.rungs {
        let gave = if rung.answered { "" } else { "nothing: " };
        let _ = writeln!(
            out,
            "  {}: {gave}{}",
            escape(&rung.what),
            escape(&rung.gave)
        );
    }
    for WaitingTask { task, state, trace } in hang.tasks.iter().take(MAX_TASKS) {
        let who = format!("{}/{} in state {state}", task.comm, task.pid);
        let _ = writeln!(out, "  {}", escape(&who));
        frames(trace, "    ", out);
    }
    for (n, processor) in hang.processors.iter().enumerate() {
        let _ = writeln!(out, "  cpu {n} {}", escape(processor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::{cell, splat};
    use crate::record::{SourcePlace, Task};

    #[test]
    fn a_trace_has_its_lines_and_no_escape_reaches_the_terminal() {
        let mut c = cell("truncate", 0, "6.12");
        let mut report = splat("WARNING", "WARNING in f", (3, 9), None);
        report.task = Some(Task {
            comm: "a\u{1b}[31m".into(),
            pid: 77,
        });
        let place = |function: &str, line| SourcePlace {
            function: function.into(),
            file: "fs/dax.c".into(),
            line,
        };
        let frame = |function: &str, at| Frame {
            function: function.into(),
            offset: 16,
            size: 32,
            module: None,
            uncertain: false,
            rip: false,
            at,
        };
        report.trace = vec![
            frame("f", vec![place("inner", 7), place("f", 12)]),
            frame("g", Vec::new()),
        ];
        c.splats = vec![report.clone()];
        let mut hang = Hang::default();
        hang.add("sysrq: blocked tasks", Err("nothing within 10 s".into()));
        hang.tasks.push(WaitingTask {
            task: report.task.clone().unwrap(),
            state: "D".into(),
            trace: vec![frame(
                "dax_break_layout",
                vec![place("dax_break_layout", 9)],
            )],
        });
        hang.processors.push("in default_idle".into());
        c.hang = Some(hang);
        insta::assert_snapshot!(trouble(&c, &Look::plain(80)), @r"
        WARNING in f
          task a\u{1b}[31m/77
          inner (inlined) fs/dax.c:7
          f+0x10 fs/dax.c:12
          g+0x10
          lines 4 to 9 of the console
        where it hung
          sysrq: blocked tasks: nothing: nothing within 10 s
          a\u{1b}[31m/77 in state D
            dax_break_layout+0x10 fs/dax.c:9
          cpu 0 in default_idle
        ");
    }
}
