//! What stands in a report: the task, registers, the call trace, the dumped page.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::record::{DumpedPage, Frame, Task};

/// Frames kept of one trace.
const MAX_FRAMES: usize = 80;
/// Fields kept of a dumped page, and of registers.
const MAX_FIELDS: usize = 64;

static REGEXES: LazyLock<Option<Regexes>> = LazyLock::new(Regexes::new);

struct Regexes {
    task: Vec<Regex>,
    cpu: Vec<Regex>,
    frame: Regex,
    rip: Regex,
    register: Regex,
    field: Regex,
    flags: Regex,
    mapping: Regex,
}

impl Regexes {
    fn new() -> Option<Regexes> {
        let all = |texts: &[&str]| -> Option<Vec<Regex>> {
            texts.iter().map(|t| Regex::new(t).ok()).collect()
        };
        Some(Regexes {
            task: all(&[
                r"^CPU: \d+ (?:UID: \d+ )?PID: (?<pid>\d+) Comm: (?<comm>.*?) (?:Not tainted|Tainted|Kdump:)",
                r"^INFO: task (?<comm>.*):(?<pid>\d+) ",
                r"^task:(?<comm>\S.*?) +state:\S+.* pid:\s*(?<pid>\d+)",
                r"soft lockup - CPU#\d+ stuck for \S+ \[(?<comm>.*):(?<pid>\d+)\]",
                r"^WARNING: .*, CPU#\d+: (?<comm>.*)/(?<pid>\d+)$",
                r" by task (?<comm>.*)/(?<pid>\d+)(?:/\S+)?$",
                r#"^(?:kmemleak: )? *comm "(?<comm>.*)", pid (?<pid>\d+), jiffies "#,
            ])?,
            cpu: all(&[
                r"^CPU: (?<cpu>\d+) ",
                r", CPU#(?<cpu>\d+): ",
                r"soft lockup - CPU#(?<cpu>\d+) ",
                r"hard LOCKUP on cpu (?<cpu>\d+)",
            ])?,
            frame: Regex::new(
                r"^\s+(?:\[<[^>]*>\] )?(?<maybe>\? )?(?<function>[\w.$]+)\+0x(?<offset>[0-9a-f]{1,8})/0x(?<size>[0-9a-f]{1,8})(?: \[(?<module>[\w-]+)[^\]]*\])?\s*$",
            )
            .ok()?,
            rip: Regex::new(
                r"^RIP: [0-9a-f]{4}:(?<function>[\w.$]+)\+0x(?<offset>[0-9a-f]{1,8})/0x(?<size>[0-9a-f]{1,8})(?: \[(?<module>[\w-]+)[^\]]*\])?",
            )
            .ok()?,
            register: Regex::new(
                r"\b(?<name>R[A-Z0-9]{1,2}|EFLAGS|CR[0-9]|DR[0-9]|FS|GS|CS|ORIG_RAX): ?(?:[0-9a-f]{4}:)?(?<value>[0-9a-f]{4,16})\b",
            )
            .ok()?,
            field: Regex::new(r"\b(?<name>[a-z_]+):\s?(?<value>\S+)").ok()?,
            flags: Regex::new(r"^(?:page_type|flags|anon flags|ksm flags): (?<value>.*)").ok()?,
            mapping: Regex::new(
                r#"^aops:(?<aops>\S+)(?: ino:(?<ino>[0-9a-f]+))?(?: dentry name(?:\(\?\))?:"(?<name>[^"]*)")?"#,
            )
            .ok()?,
        })
    }
}

/// The function in `name.isra.0+0x12/0x34 [module]`, or in `name.cold`, without the compiler's
/// suffixes.
pub(super) fn function(place: &str) -> Option<String> {
    let name = place.trim();
    let name = name.split_once("+0x").map_or(name, |(name, _)| name);
    let name = name.split('.').next().unwrap_or(name);
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    fits.then(|| name.to_owned())
}

/// Who was running, and where.
pub(super) fn task<'a>(lines: impl Iterator<Item = &'a str>) -> (Option<Task>, Option<u32>) {
    let (mut task, mut cpu) = (None, None);
    let Some(regexes) = &*REGEXES else {
        return (None, None);
    };
    for line in lines {
        if task.is_none() {
            task = regexes.task.iter().find_map(|r| {
                let found = r.captures(line)?;
                Some(Task {
                    comm: found["comm"].chars().take(64).collect(),
                    pid: found["pid"].parse().ok()?,
                })
            });
        }
        if cpu.is_none() {
            cpu = regexes
                .cpu
                .iter()
                .find_map(|r| r.captures(line)?["cpu"].parse().ok());
        }
    }
    (task, cpu)
}

/// The first call trace: innermost first. `RIP` comes before it where the report has one.
pub(super) fn trace<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Frame> {
    let Some(regexes) = &*REGEXES else {
        return Vec::new();
    };
    let mut out: Vec<Frame> = Vec::new();
    let mut in_trace = false;
    for line in lines {
        if let Some(found) = regexes.rip.captures(line) {
            // The second one is where the task came from user space, or of another processor.
            if out.is_empty() {
                out.extend(frame(&found, true));
            }
            continue;
        }
        // kmemleak writes its name before each line.
        let line = line.strip_prefix("kmemleak: ").unwrap_or(line);
        if line.trim_start().starts_with("Call Trace:")
            || line == "stack backtrace:"
            || line.starts_with("  backtrace")
        {
            if in_trace {
                break;
            }
            in_trace = true;
            continue;
        }
        if !in_trace {
            continue;
        }
        let Some(found) = regexes.frame.captures(line) else {
            let text = line.trim();
            // Between the parts of a trace stand `<IRQ>`, and the registers of what was interrupted.
            if text.starts_with('<') || line.starts_with(['R', 'C', 'D', 'E', 'F', 'P', ' ']) {
                continue;
            }
            break;
        };
        if out.len() == MAX_FRAMES {
            break;
        }
        out.extend(frame(&found, false));
    }
    out
}

fn frame(found: &regex::Captures<'_>, rip: bool) -> Option<Frame> {
    let number = |name: &str| u64::from_str_radix(&found[name], 16).ok();
    Some(Frame {
        function: found["function"].to_owned(),
        offset: number("offset")?,
        size: number("size")?,
        module: found.name("module").map(|m| m.as_str().to_owned()),
        uncertain: found.name("maybe").is_some(),
        rip,
        at: Vec::new(),
    })
}

/// The first value of each register: those of the kernel stand before those of its caller.
pub(super) fn registers<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let Some(regexes) = &*REGEXES else {
        return out;
    };
    let of_registers = |line: &&str| {
        ["R", "EFLAGS", "CR", "DR", "FS:", "CS:", "ORIG_RAX"]
            .iter()
            .any(|s| line.starts_with(s))
    };
    for line in lines.filter(of_registers) {
        for found in regexes.register.captures_iter(line) {
            if out.len() < MAX_FIELDS {
                out.entry(found["name"].to_owned())
                    .or_insert_with(|| found["value"].to_owned());
            }
        }
    }
    out
}

/// What dump_page() says.
pub(super) fn dumped_page<'a>(lines: impl Iterator<Item = &'a str>) -> Option<DumpedPage> {
    let regexes = REGEXES.as_ref()?;
    let mut out = DumpedPage {
        reason: String::new(),
        fields: BTreeMap::new(),
    };
    let mut seen = false;
    for line in lines {
        if let Some(reason) = line.strip_prefix("page dumped because: ") {
            out.reason = reason.trim().chars().take(200).collect();
            seen = true;
        } else if let Some(rest) = line.strip_prefix("page:").or(line.strip_prefix("head:")) {
            let prefix = if line.starts_with("head:") {
                "head."
            } else {
                ""
            };
            seen = true;
            for found in regexes.field.captures_iter(rest) {
                if out.fields.len() < MAX_FIELDS {
                    out.fields
                        .entry(format!("{prefix}{}", &found["name"]))
                        .or_insert_with(|| found["value"].to_owned());
                }
            }
        } else if let (true, Some(found)) = (seen, regexes.mapping.captures(line)) {
            for name in ["aops", "ino", "name"] {
                if let Some(value) = found.name(name) {
                    let value = value.as_str().chars().take(200).collect();
                    out.fields.entry(name.to_owned()).or_insert(value);
                }
            }
        } else if seen
            && let Some(found) = regexes.flags.captures(line)
            && let Some((name, _)) = line.split_once(':')
        {
            out.fields
                .entry(name.to_owned())
                .or_insert_with(|| found["value"].chars().take(200).collect());
        }
    }
    seen.then_some(out)
}
