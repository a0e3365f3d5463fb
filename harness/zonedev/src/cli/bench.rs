//! `zonedev bench`: the figures, as ratios measured in one run, into target/bench.json.

use std::process::Command;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::build::{self, BuildCtx, Cache, Quiet};
use crate::record::RunFolder;
use crate::run::{Engine, EngineConfig, Isolation, PageReader, Repeat, Session};
use crate::spec::{Fixture, FixtureStore, KernelName};

use super::args::BuildOptions;
use super::exit::{Exit, Failure};
use super::setup::{self, Host};

/// How often short things are measured.
const ROUNDS: usize = 11;

/// One line of target/bench.json.
#[derive(Debug, Serialize)]
struct Figure {
    /// What was measured.
    name: String,
    /// How much.
    value: f64,
    /// Of what.
    unit: &'static str,
    /// What it is compared with, measured in the same run.
    against: String,
    /// `value` of the other divided by this one's: how many times less this takes.
    ratio: f64,
}

/// `zonedev bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// The kernel that is measured
    #[arg(short, long, default_value = "6.12")]
    pub(super) kernel: String,
    /// Leave the builds out: a clean one takes minutes
    #[arg(long)]
    pub(super) no_build: bool,
}

pub(super) async fn run(project: &Utf8Path, args: BenchArgs) -> Result<Exit, Failure> {
    let mut figures = Vec::new();
    let mut left_out = Vec::new();
    guest(project, &args, &mut figures, &mut left_out).await?;
    if args.no_build {
        left_out.push("builds (--no-build)".to_owned());
    } else {
        builds(project, &args.kernel, &mut figures).await?;
    }
    for f in &figures {
        outln!(
            "{:44} {:>10.2} {:3}  against {} : 1/{:.1}",
            f.name,
            f.value,
            f.unit,
            f.against,
            f.ratio
        );
    }
    for what in &left_out {
        outln!("left out: {what}");
    }
    let path = project.join("target/bench.json");
    fs_err::create_dir_all(project.join("target"))?;
    fs_err::write(
        &path,
        serde_json::to_vec_pretty(&figures).map_err(std::io::Error::from)?,
    )?;
    outln!("written to {path}");
    Ok(Exit::Good)
}

/// A boot against its clones, and a reading of 1 GiB of pages against drgn's.
async fn guest(
    project: &Utf8Path,
    args: &BenchArgs,
    figures: &mut Vec<Figure>,
    left_out: &mut Vec<String>,
) -> Result<(), Failure> {
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    let requested = setup::resolve(&ctx, std::slice::from_ref(&args.kernel))?;
    let (events, _receiver) = mpsc::unbounded_channel();
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await?;
    let programs = std::collections::BTreeSet::new();
    let sides = setup::sides(&ctx, &requested, &artifacts, &programs, &events).await?;
    let side = sides[0].clone();
    let host = Host::look(&ctx, None).await?;
    let mut fixture = FixtureStore::new(project.join("images/fixtures")).load("fsdax-ext4")?;
    let dir = tempfile::tempdir()?;
    let folder = Utf8PathBuf::from_path_buf(dir.path().to_owned())
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    let engine = |fixture: &Fixture, name: &str| -> Result<(Engine, Utf8PathBuf), Failure> {
        let path = folder.join(name);
        RunFolder::create(&path)?;
        let config = EngineConfig {
            launcher: host.launcher(setup::memory_needed([fixture].into_iter(), 1))?,
            accel: host.probe.accel,
            isolation: Isolation::Boot,
            repeat: Repeat::ONCE,
            dump_hung: false,
            jobs: 1,
            folder: path.clone(),
            roots: Default::default(),
            fstests: None,
            memory: setup::memory_for_guests(),
            times: None,
            shelf: None,
        };
        Ok((
            Engine::new(config, vec![side.clone()], events.clone()),
            path,
        ))
    };
    let failed = |end| Failure::harness(format!("the guest did not come up: {end:?}"));
    let gone = |e| Failure::harness(format!("a clone did not answer: {e}"));

    let (small, path) = engine(&fixture, "clone")?;
    let started = Instant::now();
    let (guest, session) = small.boot_alone(&fixture).await.map_err(failed)?;
    let boot = started.elapsed();
    let template = guest.save_template(session).await?;
    let mut clones = Vec::new();
    for i in 0..ROUNDS {
        let dir = path.join(format!("{i}"));
        fs_err::create_dir_all(&dir)?;
        let started = Instant::now();
        let mut clone = template.start_clone(&dir).await?;
        Session::open(
            &mut clone,
            side.contract.behaviour,
            Duration::from_secs(30),
            Duration::from_secs(30),
        )
        .await
        .map_err(gone)?;
        clones.push(started.elapsed());
    }
    drop(template);
    let clone = median(clones);
    let under = host.probe.accel;
    figures.push(Figure {
        name: format!("clone ready for its first operation ({under})"),
        value: ms(clone),
        unit: "ms",
        against: format!("cold boot and provisioning, {:.0} ms", ms(boot)),
        ratio: boot.as_secs_f64() / clone.as_secs_f64(),
    });

    fixture.nvdimms[0].size = proto::Size(1 << 30);
    let (large, path) = engine(&fixture, "pages")?;
    let (guest, session) = large.boot_alone(&fixture).await.map_err(failed)?;
    guest.pause().await?;
    let reader = PageReader::new(std::sync::Arc::clone(&side.info));
    let mut pages = 0;
    let mut readings = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let reading = reader.read_paused(&guest)?;
        readings.push(started.elapsed());
        if !reading.is_whole() {
            return Err(Failure::harness(format!(
                "the reading is not whole: {:?}",
                reading.problems
            )));
        }
        pages = reading
            .regions
            .iter()
            .map(|r| r.pages - r.metadata_pages)
            .sum();
    }
    // The first also finds VMCOREINFO, as the first checkpoint of each template does.
    let first = readings[0];
    let reading = median(readings);
    let dump = path.join("guest.core");
    guest.dump(&dump).await?;
    drop((guest, session));
    match drgn(project, &ctx, &artifacts[0].vmlinux(), &dump) {
        Ok((took, count)) => figures.push(Figure {
            name: format!(
                "reading {pages} ZONE_DEVICE pages (1 GiB NVDIMM and test_hmm; first {:.1} ms)",
                ms(first)
            ),
            value: ms(reading),
            unit: "ms",
            against: format!(
                "drgn reading the counts of {count} of them from a dump, {:.0} ms",
                ms(took)
            ),
            ratio: (took.as_secs_f64() / count as f64) / (reading.as_secs_f64() / pages as f64),
        }),
        Err(why) => {
            left_out.push(format!("drgn: {why}"));
            figures.push(Figure {
                name: format!("reading {pages} ZONE_DEVICE pages"),
                value: ms(reading),
                unit: "ms",
                against: "nothing".into(),
                ratio: 1.0,
            });
        }
    }
    Ok(())
}

/// drgn from PyPI, in an environment of its own in the cache.
fn drgn(
    project: &Utf8Path,
    ctx: &BuildCtx,
    vmlinux: &Utf8Path,
    dump: &Utf8Path,
) -> Result<(Duration, u64), String> {
    let venv = ctx.cache.root().join("tools/drgn");
    let python = venv.join("bin/python");
    if !python.exists() {
        sh(Command::new("python3").args(["-m", "venv", venv.as_str()]))?;
    }
    if sh(Command::new(&python).args(["-c", "import drgn"])).is_err() {
        sh(Command::new(&python).args(["-m", "pip", "install", "--quiet", "drgn"]))?;
    }
    let script = project.join("harness/zonedev/benches/drgn_counts.py");
    let out = sh(Command::new(&python).args([script.as_str(), vmlinux.as_str(), dump.as_str()]))?;
    let mut words = out.split_whitespace();
    let seconds = words.next().and_then(|w| w.parse::<f64>().ok());
    let count = words.next().and_then(|w| w.parse().ok());
    match (seconds, count) {
        (Some(s), Some(n)) if n > 0 => Ok((Duration::from_secs_f64(s), n)),
        _ => Err(format!("it said `{}`", out.trim())),
    }
}

fn sh(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let last = said
        .lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or_default();
    Err(format!("{:?} failed: {last}", command.get_program()))
}

/// A one-file patch in mm/ against a clean build, both in a cache of their own.
async fn builds(
    project: &Utf8Path,
    kernel: &str,
    figures: &mut Vec<Figure>,
) -> Result<(), Failure> {
    let patch = project.join("kernels/mutants/bench-one-file.patch");
    let dir = tempfile::Builder::new()
        .prefix("zonedev-bench-")
        .tempdir_in(Cache::of_user()?.root())?;
    let root = Utf8PathBuf::from_path_buf(dir.path().to_owned())
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    let ctx = BuildCtx::new(project, Cache::at(root)?);
    let kernel = kernel.to_owned();
    let task = tokio::task::spawn_blocking(move || -> Result<(f64, f64), Failure> {
        let base = ctx.resolve(&KernelName::parse(&kernel)?)?;
        let clean = build::build_kernel(&ctx, &base, &Quiet)?;
        let patched = ctx.resolve(&KernelName::parse(&format!("{kernel}+{patch}"))?)?;
        let patched = build::build_kernel(&ctx, &patched, &Quiet)?;
        Ok((
            clean.record.took.make,
            patched.record.took.prepare + patched.record.took.make,
        ))
    });
    let (clean, patched) = task
        .await
        .map_err(|e| Failure::harness(format!("failed to build: {e}")))??;
    figures.push(Figure {
        name: "a patch of one file in mm/, prepared and compiled".into(),
        value: patched,
        unit: "s",
        against: format!("a clean build, {clean:.0} s"),
        ratio: clean / patched,
    });
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
