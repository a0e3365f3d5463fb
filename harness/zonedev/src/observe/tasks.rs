//! Tasks that sysrq showed -> who waits, and where.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{LogLine, WaitingTask};

use super::splat::{frames_of, task_of};

/// Tasks kept.
const MAX_TASKS: usize = 64;
/// Tasks looked at; sysrq-t shows them all.
const MAX_SHOWN: usize = 4096;
/// Lines from a task's first to its trace's last.
const MAX_LINES: usize = 60;

/// The tasks that wait uninterruptibly, as sysrq-w and sysrq-t show them, each once; first those
/// that are no kernel thread. Where there is none, the agent's processes but the first.
pub fn waiting_tasks(log: &[LogLine]) -> Vec<WaitingTask> {
    // Another processor may report meanwhile: only lines of the same caller count.
    let mut by_caller: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for line in log {
        let caller = line.caller.as_deref();
        by_caller.entry(caller).or_default().push(&line.text);
    }
    let mut next: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut all: Vec<WaitingTask> = Vec::new();
    let mut seen = BTreeSet::new();
    for line in log {
        let caller = line.caller.as_deref();
        let at = next.entry(caller).or_default();
        let lines = by_caller.get(&caller).and_then(|l| l.get(*at..));
        *at += 1;
        let (Some(state), Some(lines)) = (state(&line.text), lines) else {
            continue;
        };
        if all.len() == MAX_SHOWN {
            break;
        }
        let lines = &lines[..lines.len().min(MAX_LINES)];
        let next = lines.iter().skip(1).position(|l| l.starts_with("task:"));
        let lines = &lines[..next.map_or(lines.len(), |n| n + 1)];
        let Some(task) = task_of(lines) else {
            continue;
        };
        if !seen.insert((task.comm.clone(), task.pid)) {
            continue;
        }
        all.push(WaitingTask {
            task,
            state,
            trace: frames_of(lines),
        });
    }
    let of_user = |t: &WaitingTask| {
        t.trace
            .iter()
            .any(|f| f.function.starts_with("do_syscall_"))
    };
    let mut out: Vec<WaitingTask> = all.iter().filter(|t| t.state == "D").cloned().collect();
    if out.is_empty() {
        let ours = |t: &&WaitingTask| t.task.pid > 1 && of_user(t);
        out = all.iter().filter(ours).cloned().collect();
    }
    out.sort_by_key(|t| !of_user(t));
    out.truncate(MAX_TASKS);
    out
}

/// The state's letter in `task:name state:D stack:…`.
fn state(text: &str) -> Option<String> {
    let rest = text.strip_prefix("task:")?;
    let (_, rest) = rest.split_once(" state:")?;
    let letter = rest.chars().next().filter(char::is_ascii_alphabetic)?;
    Some(letter.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::console;

    /// As sched_show_task() of 6.12 and of 5.10 prints them.
    #[test]
    fn the_one_who_waits_is_named_once() {
        let text = "[    9.000000] sysrq: Show Blocked State\n\
            [    9.000001] task:kworker/u4:0    state:D stack:0     pid:9     tgid:9     ppid:2      flags:0x00004000\n\
            [    9.000002] Call Trace:\n[    9.000003]  <TASK>\n[    9.000004]  __schedule+0x1/0x2\n\
            [    9.000005]  kthread+0x1/0x2\n[    9.000006]  </TASK>\n\
            [    9.000007] task:agent           state:D stack:    0 pid:   77 ppid:     1 flags:0x00004000\n\
            [    9.000008] Call Trace:\n[    9.000009]  __schedule+0x1/0x2\n[    9.000010]  ? x+0x1/0x2\n\
            [    9.000011]  dax_break_layout+0x10/0x20\n[    9.000012]  do_syscall_64+0x1/0x2\n\
            [    9.000013] sysrq: Show State\n\
            [    9.000014] task:agent           state:D stack:    0 pid:   77 ppid:     1 flags:0x00004000\n\
            [    9.000015] task:init            state:S stack:    0 pid:    1 ppid:     0 flags:0x00004000\n";
        let tasks = waiting_tasks(&console(text.as_bytes()));
        let names: Vec<_> = tasks
            .iter()
            .map(|t| (t.task.comm.as_str(), t.task.pid))
            .collect();
        assert_eq!(names, [("agent", 77), ("kworker/u4:0", 9)]);
        let frame = crate::observe::blamed_frame(&tasks[0].trace).unwrap();
        assert_eq!(frame.function, "dax_break_layout");
    }

    /// Every line another caller, every line a task.
    #[test]
    fn tasks_without_end_are_read_in_time() {
        let lines = (0..60_000).map(|n| (n, format!("T{n}"))).map(|(n, t)| {
            format!("[    9.000000][{t:>6}] task:a{n} state:D stack:0 pid:{n} ppid:1\n")
        });
        let text: String = lines.collect();
        let log = console(text.as_bytes());
        let start = std::time::Instant::now();
        assert_eq!(waiting_tasks(&log).len(), MAX_TASKS);
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
    }
}
