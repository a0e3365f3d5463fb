//! What a user would use instead: drgn for pages, virtme-ng for a kernel's tests, QEMU alone for a boot.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use proto::text::escape;

use super::super::args::BuildOptions;
use super::super::exit::Failure;
use super::super::setup;
use super::{BenchArgs, Figure, Figures, sh};
use crate::build::{self, BuildCtx, Quiet};
use crate::record::{CellVerdict, RunFolder};
use crate::spec::{Fixture, KernelName, SelftestSpec};
use crate::vm::BASE_CMDLINE;

/// What bare QEMU's PID 1 says.
const UP: &str = "zonedev-bench-up";
/// How long a program of others may take.
const LIMIT: &str = "600";

/// An initramfs whose init is a busybox shell that says that it runs, and ends the machine.
pub(super) fn bare_init(dir: &Utf8Path) -> Result<Utf8PathBuf, String> {
    let file = dir.join("bare-init.cpio");
    if file.exists() {
        return Ok(file);
    }
    let script = "set -e; d=$1/bare-init; mkdir -p $d/bin; cp \"$(command -v busybox)\" $d/bin/busybox; \
                  printf '#!/bin/busybox sh\\necho %s\\n/bin/busybox poweroff -f\\n' \"$2\" >$d/init; \
                  chmod +x $d/init; cd $d; find . | cpio --quiet -o -H newc >\"$3\"";
    sh(Command::new("sh").args(["-c", script, "sh", dir.as_str(), UP, file.as_str()]))?;
    Ok(file)
}

/// The time from QEMU's start until PID 1 runs, with the processors and the memory of a fixture.
pub(super) fn bare_qemu(
    qemu: &Utf8Path,
    kernel: &Utf8Path,
    init: &Utf8Path,
    fixture: &Fixture,
) -> Result<Duration, Failure> {
    let started = Instant::now();
    let mut child = Command::new(qemu)
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args([
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ])
        .args(["-smp", &fixture.cpus.to_string()])
        .args(["-m", &format!("{}M", fixture.memory.bytes() >> 20)])
        .args(["-kernel", kernel.as_str(), "-initrd", init.as_str()])
        .args(["-append", BASE_CMDLINE, "-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut took = None;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).split(b'\n') {
            if String::from_utf8_lossy(&line?).contains(UP) {
                took = Some(started.elapsed());
                break;
            }
        }
    }
    child.kill()?;
    child.wait()?;
    took.ok_or_else(|| Failure::harness("bare QEMU ended before its PID 1 said anything"))
}

/// What drgn took for the counts of so many pages, seconds.
pub(super) struct Drgn {
    pub(super) each: f64,
    pub(super) bulk: f64,
    pub(super) pages: u64,
}

/// drgn from PyPI.
pub(super) fn drgn(
    project: &Utf8Path,
    ctx: &BuildCtx,
    vmlinux: &Utf8Path,
    dump: &Utf8Path,
) -> Result<Drgn, String> {
    let python = from_pypi(ctx, "drgn", "drgn")?;
    let script = project.join("harness/zonedev/benches/drgn_counts.py");
    let out = sh(Command::new(&python).args([script.as_str(), vmlinux.as_str(), dump.as_str()]))?;
    let words: Vec<f64> = out
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    match words[..] {
        [each, bulk, pages] if pages > 0.0 => Ok(Drgn {
            each,
            bulk,
            pages: pages as u64,
        }),
        _ => Err(format!("it said `{}`", out.trim())),
    }
}

/// A package of PyPI, in an environment of its own in the cache: its python.
fn from_pypi(ctx: &BuildCtx, package: &str, module: &str) -> Result<Utf8PathBuf, String> {
    let venv = ctx.cache.root().join("tools").join(package);
    let python = venv.join("bin/python");
    if !python.exists() {
        sh(Command::new("python3").args(["-m", "venv", venv.as_str()]))?;
    }
    let import = format!("import {module}");
    if sh(Command::new(&python).args(["-c", &import])).is_err() {
        sh(Command::new(&python).args(["-m", "pip", "install", "--quiet", package]))?;
    }
    Ok(python)
}

/// PATH, with the programs beside this one first.
fn path_with(program: &Utf8Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    match program.parent() {
        Some(dir) => format!("{dir}:{path}"),
        None => path,
    }
}

/// vmtest from crates.io, in the cache.
fn vmtest(ctx: &BuildCtx) -> Result<Utf8PathBuf, String> {
    let root = ctx.cache.root().join("tools/vmtest");
    let program = root.join("bin/vmtest");
    if !program.exists() {
        let install = [
            "install",
            "--quiet",
            "--locked",
            "--root",
            root.as_str(),
            "vmtest",
        ];
        sh(Command::new("cargo").args(install))?;
    }
    Ok(program)
}

/// The kernel's own hmm-tests, by us and by others.
pub(super) async fn measure(
    project: &Utf8Path,
    args: &BenchArgs,
    out: &mut Figures,
) -> Result<(), Failure> {
    if args.no_build {
        let why = "virtme-ng and vmtest, which need a kernel with 9p (--no-build)";
        out.left_out.push(why.to_owned());
        return Ok(());
    }
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    let options = project.join("harness/zonedev/benches/virtme.config");
    let kernel = ctx.resolve(&KernelName::parse(&format!("{}:{options}", args.kernel))?)?;
    let selftests = SelftestSpec::load(&project.join("images"))?;
    let task = tokio::task::spawn_blocking(move || -> Result<_, Failure> {
        let built = build::build_kernel(&ctx, &kernel, &Quiet)?;
        let wanted = std::collections::BTreeSet::from(["hmm-tests".to_owned()]);
        let tests = build::build_selftests(&ctx, &selftests, &kernel, &built, &wanted, &Quiet)?;
        let program = match tests.get("hmm-tests") {
            Some(Ok(program)) => Ok(program),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the kernel has no hmm-tests".to_owned()),
        };
        let (virtme, vmtest) = (from_pypi(&ctx, "virtme-ng", "virtme"), vmtest(&ctx));
        let virtme = program.clone().and_then(|program| {
            let python = virtme?;
            timed(
                Command::new("timeout")
                    .args([LIMIT, python.as_str()])
                    .arg(python.with_file_name("vng"))
                    // It starts others of its programs by name. Without udev in the guest, what a program
                    // says comes with the kernel's log.
                    .env("PATH", path_with(&python))
                    .arg("--verbose")
                    .args(["--run", built.bz_image().as_str()])
                    .args(["--disable-kvm", "--user", "root"])
                    .args(["--cpus", "2", "--memory", "1G"])
                    .args(["--exec", program.as_str()]),
            )
        });
        let vmtest = program.and_then(|program| {
            timed(
                Command::new("timeout")
                    .args([LIMIT, vmtest?.as_str()])
                    .args(["--kernel", built.bz_image().as_str()])
                    .arg(program),
            )
        });
        Ok([
            (
                "virtme-ng on the same kernel with 9p and overlayfs besides",
                virtme,
            ),
            ("vmtest on the same kernel with 9p besides", vmtest),
        ])
    });
    let peers = task
        .await
        .map_err(|e| Failure::harness(format!("failed to measure others: {e}")))??;
    let ours = match peers.iter().any(|(_, took)| took.is_ok()) {
        true => hmm_tests(project, &args.kernel)?,
        false => None,
    };
    for (peer, took) in peers {
        match (took, ours) {
            (Ok(theirs), Some(ours)) => out.figures.push(Figure {
                name: "the kernel's own hmm-tests, a whole run a second time".to_owned(),
                value: ours.as_secs_f64(),
                unit: "s",
                against: format!("{peer}: {:.1} s", theirs.as_secs_f64()),
                ratio: theirs.as_secs_f64() / ours.as_secs_f64(),
                limit: "the tests themselves",
            }),
            (Ok(_), None) => {
                let why = format!("{peer}: our own run of the tests did not pass");
                out.left_out.push(why);
            }
            (Err(why), _) => out.left_out.push(format!("{peer}: {why}")),
        }
    }
    Ok(())
}

/// How long a program takes that runs the tests. Some of them fail in emulation, under whatever; that
/// all of them ran is in the last line.
fn timed(command: &mut Command) -> Result<Duration, String> {
    let started = Instant::now();
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{command:?}: {e}"))?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    if said.contains("# Totals:") {
        return Ok(took);
    }
    let mut lines = said.lines().rev().map(str::trim);
    let last = lines.find(|l| !l.is_empty()).unwrap_or("not a word");
    Err(format!(
        "the tests did not run to their end; it said: {}",
        escape(last)
    ))
}

/// The same by us, all of it a second time. None where it does not pass.
fn hmm_tests(project: &Utf8Path, kernel: &str) -> Result<Option<Duration>, Failure> {
    let dir = tempfile::tempdir()?;
    let mut took = Duration::ZERO;
    for n in 0..2 {
        let run = dir.path().join(n.to_string());
        let started = Instant::now();
        let done = Command::new(std::env::current_exe()?)
            .args(["--project", project.as_str(), "-q", "matrix", "-k", kernel])
            .args(["-E", "=upstream/hmm/hmm-tests", "--run-dir"])
            .arg(&run)
            .stdout(Stdio::null())
            .status()?;
        took = started.elapsed();
        let run = Utf8PathBuf::from_path_buf(run).unwrap_or_default();
        let cells = RunFolder::open(&run).read_record()?.cells;
        let passed = |(_, v): &(_, CellVerdict)| matches!(v, CellVerdict::Pass {});
        if !done.success() || cells.is_empty() || !cells.iter().all(passed) {
            return Ok(None);
        }
    }
    Ok(Some(took))
}
