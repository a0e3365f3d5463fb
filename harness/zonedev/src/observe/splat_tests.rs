use super::*;
use std::fmt::Write;

use crate::observe::console;
use proptest::prelude::*;

fn found(text: &str) -> Vec<(String, String, (usize, usize))> {
    splats(&console(text.as_bytes()))
        .into_iter()
        .map(|s| (s.kind, s.title, s.lines))
        .collect()
}

fn titles(text: &str) -> Vec<String> {
    found(text).into_iter().map(|s| s.1).collect()
}

/// Recorded consoles of 5.10.262 and 6.12.117 under QEMU: a boot, a case's marks, and kernel
/// functions entered with arguments that they complain about.
#[test]
fn recorded_consoles() {
    let dir = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/console");
    let mut seen = 0;
    for entry in dir.read_dir_utf8().unwrap() {
        let path = entry.unwrap().path().to_owned();
        if path.extension() != Some("log") {
            continue;
        }
        let log = console(&fs_err::read(&path).unwrap());
        let mut got = String::new();
        for s in splats(&log) {
            shown(&s, &log, &mut got).unwrap();
        }
        let expected = path.with_extension("expected");
        if std::env::var_os("ZONEDEV_UPDATE_EXPECTED").is_some() {
            fs_err::write(&expected, &got).unwrap();
        }
        assert_eq!(got, fs_err::read_to_string(&expected).unwrap(), "{path}");
        seen += 1;
    }
    assert!(seen >= 5);
}

/// A report as the corpus has it: what it is, who and where, and its first and last lines.
pub(super) fn shown(s: &Splat, log: &[LogLine], out: &mut String) -> std::fmt::Result {
    let step = s.step.map_or("-".into(), |n| n.to_string());
    let own: Vec<usize> = s.own_lines().collect();
    let cut = if s.cut { ", cut off" } else { "" };
    writeln!(out, "{} | {}", s.kind, s.title)?;
    writeln!(out, "  step {step}, {} lines{cut}", own.len())?;
    for (word, at) in [("from", own.first()), ("to", own.last())] {
        writeln!(out, "  {word}: {}", at.map_or("", |i| &log[*i].text))?;
    }
    if let Some(function) = &s.function {
        writeln!(out, "  function: {function}")?;
    }
    if let Some(task) = &s.task {
        writeln!(out, "  task: {}/{}", task.comm, task.pid)?;
    }
    if let Some(cpu) = s.cpu {
        writeln!(out, "  cpu: {cpu}")?;
    }
    if !s.registers.is_empty() {
        let rax = s.registers.get("RAX").map_or("-", String::as_str);
        writeln!(out, "  {} registers, RAX {rax}", s.registers.len())?;
    }
    if !s.trace.is_empty() {
        let names: Vec<&str> = s.trace.iter().map(|f| f.function.as_str()).collect();
        let first = names
            .iter()
            .take(6)
            .copied()
            .collect::<Vec<_>>()
            .join(" < ");
        writeln!(out, "  trace of {}: {first}", names.len())?;
    }
    if let Some(page) = &s.page {
        let fields = page.fields.iter().map(|(k, v)| format!("{k}={v}"));
        let fields = fields.collect::<Vec<_>>().join(" ");
        writeln!(out, "  page: {} ({fields})", page.reason)?;
    }
    Ok(())
}

/// Headings as lib/bug.c and kernel/panic.c of 5.10 and 7.3 print them.
#[test]
fn a_warning_has_the_same_title_in_every_era() {
    for line in [
        "WARNING: CPU: 0 PID: 1 at mm/gup.c:123 try_grab_page+0x1a/0x90",
        "WARNING: CPU: 1 PID: 77 at try_grab_page+0x1a/0x90",
        "WARNING: mm/gup.c:133 at try_grab_page+0x4e/0x60, CPU#1: agent/93",
        "WARNING: at try_grab_page.part.0+0x4e/0x60, CPU#0: agent/93",
        "WARNING: CPU: 1 PID: 77 at mm/gup.c:1 try_grab_page.cold+0x1a/0x90 [mod]",
    ] {
        assert_eq!(titles(line), ["WARNING in try_grab_page"], "{line}");
    }
}

#[test]
fn titles_of_many_kinds() {
    let cases = [
        (
            "BUG: Bad page state in process agent  pfn:100200",
            "BUG: Bad page state",
        ),
        (
            "BUG: Bad page map in process agent  pte:8000000100200225 pmd:1",
            "BUG: Bad page map",
        ),
        (
            "BUG: Bad rss-counter state mm:00000000abcd type:MM_FILEPAGES val:2",
            "BUG: Bad rss-counter type:MM_FILEPAGES",
        ),
        (
            "BUG: KASAN: slab-use-after-free in dax_unlock_entry+0x12/0x90",
            "KASAN: slab-use-after-free in dax_unlock_entry",
        ),
        (
            "INFO: task agent:77 blocked for more than 120 seconds.",
            "hung task",
        ),
        (
            "rcu: INFO: rcu_sched self-detected stall on CPU",
            "RCU stall",
        ),
        (
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [agent:77]",
            "soft lockup",
        ),
        (
            "WARNING: possible circular locking dependency detected",
            "lockdep: possible circular locking dependency detected",
        ),
        (
            "WARNING: suspicious RCU usage",
            "lockdep: suspicious RCU usage",
        ),
        (
            "UBSAN: shift-out-of-bounds in fs/dax.c:12:3",
            "UBSAN: shift-out-of-bounds",
        ),
        (
            "EXT4-fs error (device pmem0): ext4_find_entry:1455: inode #2: comm x",
            "EXT4-fs error in ext4_find_entry",
        ),
        (
            "BUG: sleeping function called from invalid context at mm/x.c:12",
            "BUG: sleeping function called from invalid context",
        ),
        (
            "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
            "general protection fault",
        ),
        (
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300",
            "panic: Attempted to kill init! exitcode=X",
        ),
    ];
    for (line, title) in cases {
        assert_eq!(titles(line), [title], "{line}");
    }
    for quiet in [
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled",
        "EXT4-fs (pmem0): DAX enabled. Warning: EXPERIMENTAL, use at your own risk",
        "agent[77]: segfault at 0 ip 0000000000401136",
        "rcu: Hierarchical RCU implementation.",
    ] {
        assert_eq!(titles(quiet), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn a_stack_dump_under_an_unknown_heading_is_not_missed() {
    let text = "[    1.000000] dax: something new went wrong\n\
        [    1.000001] CPU: 0 PID: 7 Comm: agent Not tainted 7.3.4\n\
        [    1.000002] Call Trace:\n[    1.000003]  <TASK>\n[    1.000004]  dump_stack_lvl+0x1/0x2\n\
        [    1.000005]  </TASK>\n[    1.000006] pmem0: fine\n";
    let got = found(text);
    assert_eq!(
        got,
        [(
            "stack dump".into(),
            "stack dump: dax: something new went wrong".into(),
            (0, 6)
        )]
    );
}

#[test]
fn a_report_ends_where_the_next_step_begins() {
    let text = "[    1.000000] WARNING: CPU: 0 PID: 1 at mm/gup.c:1 a+0x1/0x2\n[    1.000000] Call Trace:\n\
        [    1.000000]  b+0x1/0x2\n[    1.100000] zonedev: step 4\n[    1.200000] BUG: Bad page map in process x\n";
    let log = console(text.as_bytes());
    let got: Vec<_> = splats(&log)
        .into_iter()
        .map(|s| (s.title, s.lines, s.step))
        .collect();
    assert_eq!(
        got,
        [
            ("WARNING in a".into(), (0, 3), None),
            ("BUG: Bad page map".into(), (4, 5), Some(4)),
        ]
    );
}

#[test]
fn two_processors_that_report_at_once_are_told_apart() {
    let text = "[    1.000000][   T77] ------------[ cut here ]------------\n\
        [    1.000001][   T78] BUG: Bad page state in process b  pfn:00002\n\
        [    1.000002][   T77] WARNING: CPU: 0 PID: 77 at mm/gup.c:1 f+0x1/0x2\n\
        [    1.000003][   T78] page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2\n\
        [    1.000004][   T77] CPU: 0 PID: 77 Comm: a Not tainted 6.12.0\n\
        [    1.000005][   T78] page dumped because: nonzero _refcount\n\
        [    1.000006][   T78] CPU: 1 PID: 78 Comm: b Tainted: G B 6.12.0\n\
        [    1.000007][   T77] Call Trace:\n[    1.000008][   T78] Call Trace:\n\
        [    1.000009][   T77]  g+0x3/0x4\n[    1.000010][   T78]  h+0x5/0x6\n\
        [    1.000011][   T77] ---[ end trace 0000000000000000 ]---\n\
        [    1.000012][    T1] pmem0: fine\n";
    let log = console(text.as_bytes());
    let found = splats(&log);
    let names: Vec<_> = found
        .iter()
        .map(|s| {
            let task = s.task.as_ref().unwrap();
            let frames: Vec<_> = s.trace.iter().map(|f| f.function.as_str()).collect();
            (s.title.as_str(), task.pid, s.cpu, frames, s.lines)
        })
        .collect();
    assert_eq!(
        names,
        [
            ("WARNING in f", 77, Some(0), vec!["g"], (0, 12)),
            ("BUG: Bad page state", 78, Some(1), vec!["h"], (1, 11)),
        ]
    );
    assert_eq!(
        found[0].own_lines().collect::<Vec<_>>(),
        [0, 2, 4, 7, 9, 11]
    );
    let page = found[1].page.as_ref().unwrap();
    assert_eq!(page.reason, "nonzero _refcount");
    assert_eq!(page.fields["pfn"], "0x2");
}

#[test]
fn what_repeats_counts_each_time_and_what_is_cut_off_says_so() {
    let one = "[    1.000000] ------------[ cut here ]------------\n\
        [    1.000000] WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1/0x2\n[    1.000000] Call Trace:\n\
        [    1.000000]  g+0x1/0x2\n[    1.000000] ---[ end trace 0000000000000000 ]---\n";
    let cut = "[    1.000000] ------------[ cut here ]------------\n\
        [    1.000000] WARNING: CPU: 0 PID: 1 at mm/gup.c:1 f+0x1/0x2\n[    1.000000] Modules lin";
    let text = format!("{one}{one}{one}{cut}");
    let found = splats(&console(text.as_bytes()));
    let all: Vec<_> = found.iter().map(|s| (s.title.as_str(), s.cut)).collect();
    let whole = ("WARNING in f", false);
    assert_eq!(all, [whole, whole, whole, ("WARNING in f", true)]);
}

/// As mm/kasan/report.c of 6.12 prints it: the page that it dumps is part of it.
#[test]
fn all_of_a_sanitizers_report_is_one() {
    let rule = "=".repeat(66);
    let text = [
        rule.as_str(),
        "BUG: KASAN: slab-use-after-free in dax_unlock_entry+0x12/0x90",
        "Read of size 8 at addr ffff888000001000 by task agent/77",
        "CPU: 1 UID: 0 PID: 77 Comm: agent Not tainted 6.12.0",
        "Call Trace:",
        " <TASK>",
        " dump_stack_lvl+0x1/0x2",
        " print_report+0x1/0x2",
        " dax_unlock_entry+0x12/0x90",
        " </TASK>",
        "",
        "Allocated by task 77:",
        " kasan_save_stack+0x1/0x2",
        "The buggy address belongs to the object at ffff888000001000",
        "The buggy address belongs to the physical page:",
        "page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x1",
        "page dumped because: kasan: bad access detected",
        "Memory state around the buggy address:",
        " ffff888000000f00: fb fb",
        ">ffff888000001000: fb fb",
        rule.as_str(),
        "Disabling lock debugging due to kernel taint",
    ];
    let lines = text.map(|l| format!("[    1.000000] {l}\n"));
    let found = found(&lines.concat());
    let title = "KASAN: slab-use-after-free in dax_unlock_entry";
    assert_eq!(found, [("KASAN".into(), title.into(), (0, 21))]);
}

proptest! {
    #[test]
    fn any_lines_are_borne(
        lines in prop::collection::vec(prop_oneof![
            "\\PC{0,40}",
            Just("WARNING: ".to_owned()), Just("BUG: KASAN: ".to_owned()),
            Just("Call Trace:".to_owned()), Just("page dumped because: x".to_owned()),
            Just("RIP: 0010:f+0x1/0x2".to_owned()), Just("kernel BUG at mm/x.c:1!".to_owned()),
            Just("---[ end trace 0 ]---".to_owned()), Just("zonedev: step 2".to_owned()),
            Just("------------[ cut here ]------------".to_owned()),
            Just("XFS (".to_owned()), Just("EXT4-fs error (device ".to_owned()),
        ], 0..40)
    ) {
        let log = console(lines.join("\n").as_bytes());
        let mut last = 0;
        for s in splats(&log) {
            prop_assert!(s.lines.0 >= last && s.lines.0 < s.lines.1 && s.lines.1 <= log.len());
            last = s.lines.1;
        }
    }
}

/// Each of these lines is a part of the report before it.
#[test]
fn a_report_with_parts_without_end_is_read_in_time() {
    let mut text = String::from(
        "[    1.000000][    T1] WARNING: CPU: 0 PID: 1 at f+0x1/0x2\n[    1.000000][    T1] Call Trace:\n",
    );
    text.push_str(
        &"[    2.000000][    C1] NMI backtrace for cpu 1\n[    2.000000][    C2] words\n"
            .repeat(45_000),
    );
    let log = console(text.as_bytes());
    let start = std::time::Instant::now();
    let found = splats(&log);
    assert_eq!(found[0].own_lines().count(), 2 + 45_000);
    assert!(start.elapsed() < std::time::Duration::from_secs(120));
}
