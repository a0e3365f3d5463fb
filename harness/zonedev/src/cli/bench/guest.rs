//! A boot beside a bare QEMU's, its clones, and its pages.

use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::mpsc;

use super::super::args::BuildOptions;
use super::super::exit::Failure;
use super::super::setup::{self, Host};
use super::{BenchArgs, Figure, Figures, median, ms, peers};
use crate::record::RunFolder;
use crate::run::{Engine, EngineConfig, Isolation, PageReader, Repeat, Session};
use crate::spec::{Fixture, FixtureStore};

/// How often a page reading is measured.
const READINGS: usize = 11;
/// Boots of each kind, taken in turns.
const BOOTS: usize = 5;
/// Clones in a row.
const CLONES: usize = 100;

pub(super) async fn measure(
    project: &Utf8Path,
    args: &BenchArgs,
    out: &mut Figures,
) -> Result<(), Failure> {
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    let requested = setup::resolve(&ctx, std::slice::from_ref(&args.kernel))?;
    let (events, _receiver) = mpsc::unbounded_channel();
    let artifacts = setup::build_kernels(&ctx, &requested, &events).await?;
    let programs = std::collections::BTreeSet::new();
    let sides = setup::sides(&ctx, &requested, &artifacts, &programs, &events).await?;
    let side = sides[0].clone();
    let host = Host::look(&ctx, None).await?;
    let under = host.probe.accel;
    let fixtures = FixtureStore::new(project.join("images/fixtures"));
    let mut fixture = fixtures.load("fsdax-ext4")?;
    let dir = tempfile::tempdir()?;
    let folder = Utf8PathBuf::from_path_buf(dir.path().to_owned())
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    let engine = |fixture: &Fixture, name: &str| -> Result<(Engine, Utf8PathBuf), Failure> {
        let path = folder.join(name);
        RunFolder::create(&path)?;
        let config = EngineConfig {
            launcher: host.launcher(setup::memory_needed([fixture].into_iter(), 1))?,
            accel: under,
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
        let engine = Engine::new(config, vec![side.clone()], events.clone());
        Ok((engine, path))
    };
    let failed = |end| Failure::harness(format!("the guest did not come up: {end:?}"));
    let gone = |e| Failure::harness(format!("a clone did not answer: {e}"));

    // The same processors and memory, and nothing to provision.
    let mut bare = fixture.clone();
    bare.nvdimms.clear();
    bare.provision.clear();
    bare.pages.clear();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for i in 0..BOOTS {
        let (engine, _) = engine(&bare, &format!("boot-{i}"))?;
        let started = Instant::now();
        let (guest, _session) = engine.boot_alone(&bare).await.map_err(failed)?;
        ours.push(started.elapsed());
        guest.kill();
        let init = peers::bare_init(&folder).map_err(Failure::harness)?;
        theirs.push(peers::bare_qemu(
            &host.qemu.path,
            &side.kernel,
            &init,
            &bare,
        )?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    out.figures.push(Figure {
        name: format!("boot until the agent has answered and a checkpoint is read ({under})"),
        value: ms(ours),
        unit: "ms",
        against: format!(
            "bare QEMU until its PID 1 runs, the same kernel, processors and memory: {:.0} ms",
            ms(theirs)
        ),
        ratio: theirs.as_secs_f64() / ours.as_secs_f64(),
        limit: "the emulation of the kernel's own start",
    });

    let (small, path) = engine(&fixture, "clone")?;
    let started = Instant::now();
    let (guest, session) = small.boot_alone(&fixture).await.map_err(failed)?;
    let boot = started.elapsed();
    let template = guest.save_template(session).await?;
    let (mut clones, mut memory) = (Vec::new(), Vec::new());
    for i in 0..CLONES {
        let dir = path.join(format!("{i}"));
        fs_err::create_dir_all(&dir)?;
        let started = Instant::now();
        let mut clone = template.start_clone(&dir).await?;
        let limit = Duration::from_secs(30);
        Session::open(&mut clone, side.contract.behaviour, limit, limit)
            .await
            .map_err(gone)?;
        clones.push(started.elapsed());
        memory.extend(clone.own_memory());
    }
    drop(template);
    memory.sort_unstable();
    let own = memory.get(memory.len() / 2).copied().unwrap_or_default() >> 20;
    let clone = median(clones);
    out.figures.push(Figure {
        name: format!(
            "clone ready for its first operation, of {CLONES} in a row, each with {own} MiB of its own \
             ({under})"
        ),
        value: ms(clone),
        unit: "ms",
        against: format!("cold boot and provisioning, {:.0} ms", ms(boot)),
        ratio: boot.as_secs_f64() / clone.as_secs_f64(),
        limit: "QEMU's own start and the first translation of the guest's code",
    });

    fixture.nvdimms[0].size = proto::Size(1 << 30);
    let (large, path) = engine(&fixture, "pages")?;
    let (guest, session) = large.boot_alone(&fixture).await.map_err(failed)?;
    guest.pause().await?;
    let reader = PageReader::new(std::sync::Arc::clone(&side.info));
    let mut pages = 0;
    let mut readings = Vec::new();
    for _ in 0..READINGS {
        let started = Instant::now();
        let reading = reader.read_paused(&guest)?;
        readings.push(started.elapsed());
        if !reading.is_whole() {
            return Err(Failure::harness(format!(
                "the reading is not whole: {:?}",
                reading.problems
            )));
        }
        let of = reading.regions.iter().map(|r| r.pages - r.metadata_pages);
        pages = of.sum();
    }
    // The first also finds VMCOREINFO, as the first checkpoint of each template does.
    let first = readings[0];
    let reading = median(readings);
    let rate = pages as f64 / reading.as_secs_f64() / 1e6;
    let name = format!(
        "ZONE_DEVICE pages read and classified on one core, of {pages} in {:.2} ms (first {:.2} ms)",
        ms(reading),
        ms(first)
    );
    let limit = "the memory of the guest's struct pages, 64 bytes each, copied once";
    if args.no_peers {
        out.figures.push(Figure {
            name,
            value: rate,
            unit: "million a second",
            against: "nothing".into(),
            ratio: 1.0,
            limit,
        });
        return Ok(());
    }
    let dump = path.join("guest.core");
    guest.dump(&dump).await?;
    drop((guest, session));
    let drgn = peers::drgn(project, &ctx, &artifacts[0].vmlinux(), &dump);
    match drgn {
        Ok(drgn) => {
            for (how, seconds) in [
                ("a loop over page objects", drgn.each),
                ("one bulk read", drgn.bulk),
            ] {
                let theirs = drgn.pages as f64 / seconds / 1e6;
                out.figures.push(Figure {
                    name: name.clone(),
                    value: rate,
                    unit: "million a second",
                    against: format!(
                        "drgn reading only their _refcount from a dump by {how}: {theirs:.2} million a \
                         second"
                    ),
                    ratio: rate / theirs,
                    limit,
                });
            }
        }
        Err(why) => out.left_out.push(format!("drgn: {why}")),
    }
    Ok(())
}
