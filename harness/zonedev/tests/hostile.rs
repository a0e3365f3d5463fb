//! A guest that was taken over can't hurt the host's user.
//!
//! One run of the whole program: PID 1 of the fixture `hostile` is `agent/examples/hostile`, which does
//! one misdeed in each cell, and beside it an honest guest passes. Each misdeed comes to the verdict
//! that is written here, in bounded time; the harness's memory and the run's folder stay small; nothing
//! that steers a terminal is printed or written into a report; and no QEMU is left.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use zonedev::record::{CellVerdict, FailureKind, RunFolder, RunRecord};

use common::{command, files, kernel, project, qemus, said, turn};

use FailureKind as K;

/// A cell whose guest never answers is given up after 16 s ("hung" is what its step expects, though
/// not without a report), of a host that is not busy.
const MOST_TIME: Duration = Duration::from_secs(120);
/// What the harness may have in memory at any moment. The types and lines of a kernel with debug
/// information, read for its traces, are most of it.
const MOST_MEMORY: u64 = 1 << 30;
/// What the run's folder may take, bytes: each console that floods is kept to 8 MiB.
const MOST_DISK: u64 = 48 << 20;

/// A misdeed, the sorts of failure of which there must be one, and how the case goes on.
struct Misdeed(&'static str, &'static [FailureKind], Then);

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// A checkpoint.
    Checkpoint,
    /// The misdeed's step never ends.
    Hangs,
    /// The operation behind it is too long for the channel, and never ends.
    LongOperation,
    /// A program, whose results are forged.
    Program,
}

use Then::{Checkpoint, Hangs, LongOperation, Program};

const MISDEEDS: [Misdeed; 33] = [
    // The channel.
    Misdeed("garbage", &[K::AgentLost], Checkpoint),
    Misdeed("giant", &[K::AgentLost], Checkpoint),
    Misdeed("torn", &[K::KernelHung], Hangs),
    Misdeed("valid-json", &[K::AgentLost], Checkpoint),
    Misdeed("deep-json", &[K::AgentLost], Checkpoint),
    Misdeed("wrong-word", &[K::AgentLost], Checkpoint),
    Misdeed("stop-reading", &[K::KernelHung], LongOperation),
    Misdeed("wrong-id", &[K::AgentLost], Checkpoint),
    Misdeed("alive", &[K::KernelHung], Hangs),
    Misdeed("alive-flood", &[K::AgentLost], Checkpoint),
    Misdeed("fatal", &[K::AgentLost], Checkpoint),
    Misdeed("close", &[K::KernelHung], Hangs),
    // What it claims.
    Misdeed("long", &[K::OperationFailed], Checkpoint),
    Misdeed("facts", &[K::AgentLost], Checkpoint),
    Misdeed("claims-many", &[K::AgentLost], Checkpoint),
    Misdeed("claims-wild", &[K::ContractBroken], Checkpoint),
    Misdeed("counters-wild", &[K::ContractBroken], Checkpoint),
    Misdeed("a", &[K::TestFailed], Program),
    // The console.
    Misdeed("spew", &[K::KernelHung], Hangs),
    Misdeed("forge", &[K::KernelReported], Checkpoint),
    // The machine.
    Misdeed("exit", &[K::GuestDied], Checkpoint),
    Misdeed("crash", &[K::GuestDied], Checkpoint),
    Misdeed("reboot", &[K::GuestRebooted], Checkpoint),
    Misdeed("triple-fault", &[K::GuestRebooted], Checkpoint),
    Misdeed("power-off", &[K::GuestRebooted], Checkpoint),
    Misdeed("halt", &[K::KernelHung], Hangs),
    // Its memory: the guest may die of it before or after it is read.
    Misdeed("struct-pages", BROKEN, Checkpoint),
    Misdeed("struct-pages-idle", BROKEN, Checkpoint),
    Misdeed("sections", BROKEN, Checkpoint),
    Misdeed("sections-idle", BROKEN, Checkpoint),
    Misdeed("page-tables", BROKEN, Checkpoint),
    Misdeed("page-tables-idle", BROKEN, Checkpoint),
    Misdeed("vmcoreinfo", &[], Checkpoint),
];

const BROKEN: &[FailureKind] = &[
    K::ContractBroken,
    K::GuestDied,
    K::GuestRebooted,
    K::KernelHung,
    K::KernelReported,
    K::AgentLost,
];

/// The agent and the one that was taken over, built as the harness builds the agent.
fn agents() -> (Utf8PathBuf, Utf8PathBuf) {
    let project = project();
    let target = project.join("target/guest");
    let status = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()))
        .current_dir(&project)
        .args([
            "build",
            "--quiet",
            "--package",
            "agent",
            "--locked",
            "--profile",
            "agent",
        ])
        .args(["--bins", "--example", "hostile"])
        .args([
            "--target",
            "x86_64-unknown-linux-gnu",
            "--target-dir",
            target.as_str(),
        ])
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C strip=symbols",
        )
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .unwrap();
    assert!(status.success());
    let built = target.join("x86_64-unknown-linux-gnu/agent");
    (built.join("agent"), built.join("examples/hostile"))
}

/// A project with one honest case and the misdeeds.
fn hostile_project(dir: &Utf8Path, hostile: &Utf8Path) {
    let real = project();
    std::os::unix::fs::symlink(real.join("kernels"), dir.join("kernels")).unwrap();
    let copied = Command::new("cp")
        .args(["-r", real.join("images").as_str(), dir.as_str()])
        .status();
    assert!(copied.unwrap().success());
    let image = dir.join("images/initramfs.toml");
    let mut text = std::fs::read_to_string(&image).unwrap();
    let applets = text.find("[applets]").unwrap();
    text.insert_str(
        applets,
        &format!("[[program]]\npath = \"{hostile}\"\npackage = \"agent\"\n\n"),
    );
    std::fs::write(&image, text).unwrap();
    // The kernel starts another program than the agent, and fails by a triple fault when it reboots.
    for (name, reboot) in [("hostile", ""), ("hostile-triple", " reboot=t")] {
        let fixture = format!(
            "title = \"a guest that was taken over\"\ncmdline = \"rdinit={hostile}{reboot}\"\n\
             memory = \"256M\"\npages = [\"fs_dax\"]\nqemu = [\"-device\", \"virtio-rng-pci\"]\n\
             [[nvdimm]]\nsize = \"64M\"\nlabels = \"0\"\n\
             [[provision]]\ndo = \"create-namespace\"\nmode = \"fsdax\"\nmap = \"mem\"\nalign = \"2M\"\n"
        );
        std::fs::write(dir.join(format!("images/fixtures/{name}.toml")), fixture).unwrap();
    }
    let fsdax = dir.join("suites/fsdax");
    std::fs::create_dir_all(&fsdax).unwrap();
    std::fs::create_dir_all(dir.join("suites/boot")).unwrap();
    let honest = std::fs::read_to_string(real.join("suites/fsdax/map-touch-4k.toml")).unwrap();
    let (from, to) = (
        honest.find("fixtures").unwrap(),
        honest.find("[[step]]").unwrap(),
    );
    let honest = format!(
        "{}fixtures = [\"fsdax-ext4\"]\n{}",
        &honest[..from],
        &honest[to..]
    );
    std::fs::write(fsdax.join("map-touch-4k.toml"), honest).unwrap();
    let suite = dir.join("suites/hostile");
    std::fs::create_dir_all(&suite).unwrap();
    for Misdeed(name, _, then) in &MISDEEDS {
        std::fs::write(suite.join(format!("{name}.toml")), case(name, *then)).unwrap();
    }
}

fn case(name: &str, then: Then) -> String {
    let fixture = match name {
        "triple-fault" => "hostile-triple",
        _ => "hostile",
    };
    let mut out = format!("title = \"{name}\"\nfixtures = [\"{fixture}\"]\n");
    let hung = |is: bool| if is { "expect = \"hung\"\n" } else { "" };
    let _ = write!(
        out,
        "[[step]]\ndo = \"create\"\nfile = \"{}\"\nsize = \"4K\"\n{}",
        name.trim_end_matches("-idle"),
        hung(then == Hangs)
    );
    match then {
        // Where the guest is left alone for a moment, it may die of what it did.
        Checkpoint if name.ends_with("-idle") => {
            out.push_str("[[step]]\ndo = \"create\"\nfile = \"a\"\nsize = \"4K\"\n");
            out.push_str("[[step]]\ndo = \"checkpoint\"\nname = \"after\"\n");
        }
        Checkpoint => out.push_str("[[step]]\ndo = \"checkpoint\"\nname = \"after\"\n"),
        Program => out.push_str("[[step]]\ndo = \"run\"\nargv = [\"/bin/true\"]\n"),
        LongOperation => {
            let long = "x".repeat(4 << 20);
            let _ = write!(
                out,
                "[[step]]\ndo = \"create\"\nfile = \"{long}\"\nsize = \"4K\"\nexpect = \"hung\"\n"
            );
        }
        Hangs => {}
    }
    out
}

/// The most memory that a process ever had, bytes.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// No character of a text that people see steers their terminal.
fn is_tame(what: &str, text: &str) {
    let wild = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}';
    if let Some(at) = text.chars().position(|c| wild(&c)) {
        let around: String = text.chars().skip(at.saturating_sub(60)).take(120).collect();
        panic!("{what}: {around:?}");
    }
}

#[test]
fn a_guest_that_was_taken_over_hurts_nobody() {
    let _turn = turn();
    let temp = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(temp.path())
        .unwrap()
        .canonicalize_utf8()
        .unwrap();
    let (agent, hostile) = agents();
    hostile_project(&dir, &hostile);
    let run = dir.join("run");
    let kernel = kernel();
    let zonedev = |args: &[&str]| {
        let mut command = command(&dir, args);
        command.env("ZONEDEV_AGENT", agent.as_str());
        command
    };
    let began = Instant::now();
    let mut begin = zonedev(&[
        "matrix",
        "-k",
        &kernel,
        "-j",
        "6",
        "--run-dir",
        run.as_str(),
    ]);
    let child = begin
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let watched = std::thread::spawn(move || {
        let mut most = 0;
        while let Some(now) = peak(pid) {
            most = most.max(now);
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    let output = child.wait_with_output().unwrap();
    let took = began.elapsed();
    let memory = watched.join().unwrap();
    let disk: u64 = files(&run)
        .iter()
        .map(|f| f.metadata().map_or(0, |m| m.len()))
        .sum();
    let text = said(&output);
    eprintln!("{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    let folder = RunFolder::open(&run);
    let record = folder.read_record().unwrap();
    eprintln!("notices: {:?}", record.notices);
    eprintln!(
        "{} misdeeds in {took:?}; peak memory {} MiB, folder {} MiB",
        MISDEEDS.len(),
        memory >> 20,
        disk >> 20
    );

    judged(&folder, &record);
    assert!(memory > 0 && memory < MOST_MEMORY, "{} MiB", memory >> 20);
    assert!(disk < MOST_DISK, "{} MiB", disk >> 20);
    for console in files(&run)
        .iter()
        .filter(|f| f.file_name() == Some("console.log"))
    {
        let bytes = console.metadata().unwrap().len();
        assert!(bytes < (8 << 20) + 100, "{console}: {bytes}");
    }

    is_tame("printed", &text);
    for file in files(&run) {
        if file
            .extension()
            .is_some_and(|e| matches!(e, "json" | "jsonl" | "snap"))
        {
            is_tame(file.as_str(), &std::fs::read_to_string(&file).unwrap());
        }
        let name = file.file_name().unwrap();
        assert!(
            !name.ends_with(".new") && !name.contains('\u{1b}'),
            "{file}"
        );
    }
    let report = zonedev(&["report", run.as_str()]).output().unwrap();
    is_tame("report", &said(&report));
    for case in [
        "a",
        "claims-wild",
        "fatal",
        "forge",
        "long",
        "sections",
        "spew",
        "wrong-word",
    ] {
        let case = format!("hostile/{case}");
        let shown = zonedev(&["inspect", run.as_str(), &case]).output().unwrap();
        is_tame(&case, &said(&shown));
    }
    assert_eq!(qemus(&run), [0u32; 0]);
}

/// Each misdeed for what it is, in its time; and the honest cells as if there were none.
fn judged(folder: &RunFolder, record: &RunRecord) {
    let by_case: BTreeMap<&str, &(_, CellVerdict)> = record
        .cells
        .iter()
        .map(|c| (c.0.case.as_str(), c))
        .collect();
    for (id, verdict) in &record.cells {
        if id.suite != "hostile" {
            assert_eq!(*verdict, CellVerdict::Pass {}, "{id}");
        }
    }
    assert_eq!(
        *by_case["map-touch-4k"],
        (by_case["map-touch-4k"].0.clone(), CellVerdict::Pass {})
    );
    let mut wrong = Vec::new();
    for Misdeed(name, expected, _) in &MISDEEDS {
        let (id, verdict) = by_case[name];
        let cell = folder.read_cell(id).unwrap();
        let took = Duration::from_millis(cell.took_ms);
        assert!(took < MOST_TIME, "{name} took {took:?}");
        match verdict {
            CellVerdict::Pass {} if expected.is_empty() => {}
            CellVerdict::Fail { kinds, reasons, .. } => {
                eprintln!("{name}: {kinds:?} after {took:?}: {}", reasons[0]);
                if !(expected.is_empty() || kinds.iter().any(|k| expected.contains(k))) {
                    wrong.push(format!("{name}: {kinds:?}, {}", reasons[0]));
                }
                assert!(
                    reasons.len() <= 202,
                    "{name} gives {} reasons",
                    reasons.len()
                );
                // The misdeed was done.
                assert!(!reasons[0].contains("lacks"), "{name}: {}", reasons[0]);
            }
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The report that no kernel made stands where it was made, not where it says.
    let forged = folder.read_cell(&by_case["forge"].0).unwrap();
    assert!(
        forged
            .log
            .iter()
            .any(|l| l.text.contains("Comm: zonedev: end"))
    );
    assert!(!forged.splats.is_empty() && forged.splats.iter().all(|s| s.step == Some(0)));
}
