//! What /proc says of a process.

use std::fs;

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Whose: the process asked for, or the program that it waits for.
    pub(crate) pid: i32,
    /// State letter of /proc/PID/stat.
    pub(crate) state: char,
    /// User and system time used, in ticks.
    ticks: u64,
    /// /proc/PID/wchan.
    pub(crate) wchan: String,
}

impl Sample {
    /// Whether it sleeps.
    pub(crate) fn sleeps(&self) -> bool {
        matches!(self.state, 'S' | 'D')
    }
}

/// Samples a process, or the program at the end of its chain of children:
/// that is the one that does the work.
pub(crate) fn sample(pid: i32) -> Option<Sample> {
    let mut pid = pid;
    let table = children();
    while let Some((_, child)) = table.iter().find(|(parent, _)| *parent == pid) {
        pid = *child;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = after_name(&stat)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // utime and stime are fields 14 and 15; the state is field 3.
    let ticks = fields
        .skip(10)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum();
    let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    Some(Sample {
        pid,
        state,
        ticks,
        wchan,
    })
}

/// Where a process is in the kernel, innermost first, without addresses; empty where /proc does not
/// tell.
pub(crate) fn stack(pid: i32, frames: usize) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stack")).unwrap_or_default();
    text.lines()
        .filter_map(|line| Some(line.split_once("] ")?.1.trim().chars().take(160).collect()))
        .take(frames)
        .collect()
}

/// (parent, child) of every process.
fn children() -> Vec<(i32, i32)> {
    let Ok(dir) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    dir.flatten()
        .filter_map(|e| {
            let pid: i32 = e.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = after_name(&stat)?.split_ascii_whitespace();
            // A zombie does no work.
            if fields.next()? == "Z" {
                return None;
            }
            Some((fields.next()?.parse().ok()?, pid))
        })
        .collect()
}

/// The fields after `(comm)`, which may itself hold blanks and parentheses.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest)
}
