//! `zonedev doctor`: what this host has and lacks.

use std::process::Command;

use camino::Utf8Path;
use nix::sys::statvfs::statvfs;

use crate::vm;

use super::args::BuildOptions;
use super::exit::{Exit, Failure};
use super::setup::{self, Host};

/// Programs that a build or an image needs, with the package that has each on Debian.
const PROGRAMS: [(&str, &str); 16] = [
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("pahole", "dwarves"),
    ("perl", "perl"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("xz", "xz-utils"),
    ("git", "git"),
    ("ndctl", "ndctl"),
    ("daxctl", "daxctl"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("busybox", "busybox-static"),
];
/// What one kernel's source and build take, GiB.
const KERNEL_GIB: u64 = 4;

pub(super) async fn run(project: &Utf8Path) -> Result<Exit, Failure> {
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    let mut lacks = Vec::new();
    match Host::look(&ctx, None).await {
        Ok(host) => {
            line(
                "QEMU",
                &format!("{} ({})", host.qemu.version, host.qemu.path),
            );
            let probe = &host.probe;
            let how = if probe.remembered {
                "remembered from an earlier trial that"
            } else {
                "the trial"
            };
            line(
                "accelerator",
                &format!("{}; {how} took {} ms", probe.accel, probe.took.as_millis()),
            );
            if let Some(reason) = &probe.kvm_reason {
                line("", &format!("not KVM: {reason}"));
            }
            match vm::confinement(&host.qemu, &host.spawner).await {
                Ok(words) => {
                    for (n, words) in words.iter().enumerate() {
                        line(if n == 0 { "guests" } else { "" }, words);
                    }
                }
                Err(e) => {
                    line("guests", &format!("NO SANDBOX: {e}"));
                    lacks.push("a QEMU with seccomp".to_owned());
                }
            }
        }
        Err(failure) => {
            failure.print();
            lacks.push("qemu-system-x86".to_owned());
        }
    }
    for (program, package) in PROGRAMS {
        match find(program) {
            Some(path) => line(program, &version(program).unwrap_or(path)),
            None => {
                line(program, &format!("MISSING: install the package {package}"));
                lacks.push(package.to_owned());
            }
        }
    }
    for dir in vm::memory_places(ctx.cache.root()) {
        space("guests' memory", &dir);
    }
    if let Some(free) = space("cache", ctx.cache.root())
        && free >> 30 < KERNEL_GIB
    {
        line(
            "",
            &format!("less than the {KERNEL_GIB} GiB that a kernel's build takes"),
        );
        lacks.push("room for builds".to_owned());
    }
    if let Ok(meminfo) = fs_err::read_to_string("/proc/meminfo") {
        for key in ["MemTotal", "MemAvailable"] {
            if let Some(kib) = meminfo.lines().find_map(|l| {
                l.strip_prefix(key)?
                    .strip_prefix(':')?
                    .trim()
                    .strip_suffix("kB")?
                    .trim()
                    .parse::<u64>()
                    .ok()
            }) {
                line(key, &format!("{:.1} GiB", kib as f64 / (1 << 20) as f64));
            }
        }
    }
    line(
        "processors",
        &std::thread::available_parallelism().map_or("unknown".into(), |n| n.to_string()),
    );
    if let Ok(scope) = fs_err::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
        line(
            "ptrace_scope",
            &format!("{} (a harness reads its own guests up to 1)", scope.trim()),
        );
    }
    if lacks.is_empty() {
        outln!("nothing is missing");
        Ok(Exit::Good)
    } else {
        outln!(
            "missing: {}; `./just doctor` installs packages on Debian",
            lacks.join(", ")
        );
        Ok(Exit::Harness)
    }
}

fn line(what: &str, text: &str) {
    outln!("{what:16} {text}");
}

fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|dir| format!("{dir}/{program}"))
        .find(|p| Utf8Path::new(p).is_file())
}

fn version(program: &str) -> Option<String> {
    let flag = match program {
        "mkfs.ext4" | "mkfs.xfs" => "-V",
        "busybox" => return None,
        _ => "--version",
    };
    let out = Command::new(find(program)?).arg(flag).output().ok()?;
    let text = if out.stdout.is_empty() {
        out.stderr
    } else {
        out.stdout
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let text = text.lines().find(|l| !l.trim().is_empty())?.to_owned();
    Some(text)
}

fn space(what: &str, dir: &Utf8Path) -> Option<u64> {
    let s = statvfs(dir.as_std_path()).ok()?;
    let free = s.blocks_available() as u64 * s.fragment_size() as u64;
    line(
        what,
        &format!("{dir}: {:.1} GiB free", free as f64 / (1u64 << 30) as f64),
    );
    Some(free)
}
