//! What several commands need first: specs, built kernels, QEMU.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use guestmem::KernelInfo;
use tokio::sync::mpsc::UnboundedSender;

use crate::build::{self, BuildCtx, BuildEvent, BuildSink, Cache, KernelArtifact};
use crate::observe::Symbols;
use crate::plan::{Filter, Plan};
use crate::record::{Event, KernelRecord};
use crate::run::{RunError, Side};
use crate::spec::{
    Case, Contract, Fixture, FixtureStore, ImageSpec, KernelName, ResolvedKernel, SelftestSpec,
    SpecFile, SuiteStore, nearest,
};
use crate::vm::{self, Accel, AccelProbe, Launcher, MemoryDir, Qemu, Spawner};

use super::args::{AccelArg, BuildOptions, Selection};
use super::exit::Failure;

/// The suite of cases of one's own.
pub(super) const OWN: &str = "own";

/// The kernels of a run whose request names none.
pub(super) const DEFAULT_KERNELS: [&str; 2] = ["5.10", "5.10+zone-device-refcount"];

/// The place of everything that can be made again.
pub(super) fn build_context(
    project: &Utf8Path,
    options: &BuildOptions,
) -> Result<BuildCtx, Failure> {
    let mut ctx = BuildCtx::new(project, Cache::of_user()?);
    ctx.locked = options.locked;
    ctx.tree_base.clone_from(&options.tree_base);
    // For tests, and where there is no cargo: an agent that was built before.
    ctx.agent = std::env::var("ZONEDEV_AGENT").ok().map(Utf8PathBuf::from);
    ctx.git = std::env::var("ZONEDEV_KERNEL_GIT")
        .ok()
        .filter(|url| !url.is_empty());
    Ok(ctx)
}

/// A kernel of the request, looked up.
pub(super) struct Requested {
    pub(super) name: String,
    pub(super) resolved: ResolvedKernel,
    pub(super) contract: Contract,
}

/// Looks up every kernel of a request; nothing is built.
pub(super) fn resolve(ctx: &BuildCtx, names: &[String]) -> Result<Vec<Requested>, Failure> {
    let default: Vec<String> = DEFAULT_KERNELS.iter().map(|n| (*n).to_owned()).collect();
    let names = if names.is_empty() { &default } else { names };
    names
        .iter()
        .map(|name| {
            let resolved = ctx.resolve(&KernelName::parse(name)?)?;
            let mut contract = contract(&ctx.project, &resolved.contract)?;
            contract.features = contract.features.without(&resolved.lacks);
            Ok(Requested {
                name: name.clone(),
                resolved,
                contract,
            })
        })
        .collect()
}

pub(super) fn contract(project: &Utf8Path, name: &str) -> Result<Contract, Failure> {
    let path = project
        .join("kernels/contracts")
        .join(format!("{name}.toml"));
    let file = SpecFile::read(&path, &format!("the contract `{name}`"))?;
    Ok(Contract::parse(&file)?)
}

/// The cases of a request.
pub(super) struct Cases {
    /// All there are.
    pub(super) all: Vec<Case>,
    /// All fixtures.
    pub(super) fixtures: BTreeMap<String, Fixture>,
    /// The selection among them.
    pub(super) filter: Filter,
}

/// Reads all cases and fixtures.
pub(super) fn cases(project: &Utf8Path, selection: &Selection) -> Result<Cases, Failure> {
    let mut cases = match selection.cases.as_slice() {
        [] => SuiteStore::new(project.join("suites")).cases()?,
        own => own_cases(own)?,
    };
    if let Some(path) = &selection.fstests {
        cases.extend(build::fstests_cases(path)?);
    }
    let store = FixtureStore::new(project.join("images/fixtures"));
    let fixtures = store.all()?;
    for case in &cases {
        for name in case.fixtures.iter().filter(|n| !fixtures.contains_key(*n)) {
            // Names the file that is missing.
            store.load(name)?;
        }
    }
    // Whoever names a case's file means it, on whatever fixture.
    let own = match selection.cases.is_empty() || !selection.suites.is_empty() {
        true => selection.suites.clone(),
        false => vec![OWN.to_owned()],
    };
    let filter = Filter::new(&own, &selection.filters, &cases)?.full(selection.full);
    Ok(Cases {
        all: cases,
        fixtures,
        filter,
    })
}

/// The whole SUITE/FIXTURE/CASE that `text` is, or of which it is a part, as long as it is one.
pub(super) fn one_case(project: &Utf8Path, text: &str) -> Result<String, Failure> {
    let all = SuiteStore::new(project.join("suites")).cases()?;
    let path = |case: &Case, fixture: &String| format!("{}/{fixture}/{}", case.suite, case.name);
    let paths: Vec<String> = (all.iter())
        .flat_map(|case| case.fixtures.iter().map(move |fixture| path(case, fixture)))
        .collect();
    if paths.iter().any(|path| path == text) {
        return Ok(text.to_owned());
    }
    let parts: Vec<&String> = paths.iter().filter(|path| path.contains(text)).collect();
    match parts.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let near = nearest(text, paths.iter().map(String::as_str));
            let hint = near.map(|near| format!("did you mean {near}? "));
            Err(Failure::request(
                format!("no case is called {text}"),
                format!("{}see `zonedev list cases`", hint.unwrap_or_default()),
            ))
        }
        [first, second, ..] => Err(Failure::request(
            format!(
                "{text} is a part of {} cases, such as {first} and {second}",
                parts.len()
            ),
            "give the whole SUITE/FIXTURE/CASE",
        )),
    }
}

/// Cases of one's own, each in a file of its own.
fn own_cases(files: &[Utf8PathBuf]) -> Result<Vec<Case>, Failure> {
    let mut cases: Vec<Case> = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap_or("case");
        let file = SpecFile::read(path, &format!("the case `{name}`"))?;
        for case in Case::parse(OWN, name, &file)? {
            if cases.iter().any(|other| other.name == case.name) {
                return Err(Failure::request(
                    format!("two cases are called `{}`", case.name),
                    "give one of the files another name",
                ));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

/// Hands a build's events on as the run's.
struct Forward(UnboundedSender<Event>);

/// Where a build's events go to become the run's.
pub(super) fn forward(events: &UnboundedSender<Event>) -> impl BuildSink + use<> {
    Forward(events.clone())
}

impl BuildSink for Forward {
    fn event(&self, event: BuildEvent) {
        let event = match event {
            BuildEvent::Started { what } => Event::BuildStarted { what },
            BuildEvent::Phase {
                what,
                phase,
                detail,
            } => {
                let phase = if detail.is_empty() {
                    phase.to_string()
                } else {
                    format!("{phase} {detail}")
                };
                Event::BuildProgress {
                    what,
                    phase,
                    done: 0,
                    total: None,
                }
            }
            BuildEvent::Progress { what, done, total } => Event::BuildProgress {
                what,
                phase: "compiling".into(),
                done,
                total,
            },
            BuildEvent::Finished { what, took, cached } => Event::BuildFinished {
                what,
                took_ms: took.as_millis() as u64,
                cached,
            },
            BuildEvent::Notice { message, .. } => Event::Notice { message },
        };
        let _ = self.0.send(event);
    }
}

/// Builds kernels, each once, one after another.
pub(super) async fn build_kernels(
    ctx: &BuildCtx,
    requested: &[Requested],
    events: &UnboundedSender<Event>,
) -> Result<Vec<KernelArtifact>, Failure> {
    let mut built: BTreeMap<String, KernelArtifact> = BTreeMap::new();
    let mut out = Vec::new();
    for r in requested {
        let artifact = match built.get(&r.name) {
            Some(artifact) => artifact.clone(),
            None => {
                let (ctx, resolved, sink) =
                    (ctx.clone(), r.resolved.clone(), Forward(events.clone()));
                for message in &resolved.notices {
                    let _ = events.send(Event::Notice {
                        message: message.clone(),
                    });
                }
                let task = tokio::task::spawn_blocking(move || {
                    build::build_kernel(&ctx, &resolved, &sink)
                });
                task.await
                    .map_err(|e| Failure::harness(format!("failed to build: {e}")))??
            }
        };
        built.insert(r.name.clone(), artifact.clone());
        out.push(artifact);
    }
    Ok(out)
}

/// Builds the root file systems that fixtures name, each once.
pub(super) async fn roots<'a>(
    ctx: &BuildCtx,
    fixtures: impl Iterator<Item = &'a Fixture>,
    events: &UnboundedSender<Event>,
) -> Result<BTreeMap<String, Utf8PathBuf>, Failure> {
    let names: BTreeSet<String> = fixtures.filter_map(|f| f.root.clone()).collect();
    let mut out = BTreeMap::new();
    for name in names {
        let (ctx, sink, of) = (ctx.clone(), Forward(events.clone()), name.clone());
        let task = tokio::task::spawn_blocking(move || build::build_rootfs(&ctx, &of, &sink));
        let root = task
            .await
            .map_err(|e| Failure::harness(format!("failed to build {name}: {e}")))??;
        out.insert(name, root.path);
    }
    Ok(out)
}

/// The disk with the user's checkout of fstests, in the run's folder.
pub(super) async fn fstests(
    ctx: &BuildCtx,
    checkout: &Utf8Path,
    dir: &Utf8Path,
    events: &UnboundedSender<Event>,
) -> Result<Utf8PathBuf, Failure> {
    let (ctx, sink) = (ctx.clone(), Forward(events.clone()));
    let (checkout, dir) = (checkout.to_owned(), dir.to_owned());
    let task =
        tokio::task::spawn_blocking(move || build::fstests_disk(&ctx, &checkout, &dir, &sink));
    let disk = task.await;
    Ok(disk.map_err(|e| Failure::harness(format!("failed to make a disk: {e}")))??)
}

/// Builds each kernel's image, with those of its own selftests that are among `programs`, and reads its types: everything that the engine needs of it.
pub(super) async fn sides(
    ctx: &BuildCtx,
    requested: &[Requested],
    artifacts: &[KernelArtifact],
    programs: &BTreeSet<String>,
    events: &UnboundedSender<Event>,
) -> Result<Vec<Side>, Failure> {
    let images = ctx.project.join("images");
    let spec = ImageSpec::load(&images, "initramfs")?;
    let selftests = SelftestSpec::load(&images)?;
    let named = selftests.programs.iter().filter(|p| programs.contains(*p));
    let wanted: BTreeSet<String> = named.cloned().collect();
    let mut out: Vec<Side> = Vec::new();
    for (r, artifact) in requested.iter().zip(artifacts) {
        if let Some(same) = out.iter().find(|s| s.name == r.name) {
            out.push(same.clone());
            continue;
        }
        let (ctx, spec, artifact, sink) = (
            ctx.clone(),
            spec.clone(),
            artifact.clone(),
            Forward(events.clone()),
        );
        let (selftests, wanted, resolved) = (selftests.clone(), wanted.clone(), r.resolved.clone());
        let (name, contract) = (r.name.clone(), r.contract.clone());
        let patience = r.resolved.patience;
        let task = tokio::task::spawn_blocking(move || -> Result<Side, Failure> {
            let tests =
                build::build_selftests(&ctx, &selftests, &resolved, &artifact, &wanted, &sink)?;
            let image = build::build_image(&ctx, &spec, &artifact, &tests, &sink)?;
            let config = fs_err::read_to_string(artifact.config())?;
            let info =
                KernelInfo::from_vmlinux(artifact.vmlinux().as_std_path()).map_err(|source| {
                    RunError::Kernel {
                        kernel: name.clone(),
                        source,
                    }
                })?;
            Ok(Side {
                lacks: tests
                    .into_iter()
                    .filter_map(|(name, built)| Some((name, built.err()?)))
                    .collect(),
                config: Arc::new(build::options_set(&config)),
                kernel: artifact.bz_image(),
                initrd: image.path,
                info: Arc::new(info),
                symbols: Arc::new(Symbols::new(&artifact.vmlinux())),
                name,
                contract,
                patience,
            })
        });
        out.push(
            task.await
                .map_err(|e| Failure::harness(format!("failed to build an image: {e}")))??,
        );
    }
    Ok(out)
}

/// What `record.json` says of a kernel.
pub(super) fn kernel_record(requested: &Requested, artifact: &KernelArtifact) -> KernelRecord {
    let record = &artifact.record;
    let mut provenance = BTreeMap::new();
    provenance.insert("release".to_owned(), record.release.clone());
    provenance.insert("compiler".to_owned(), record.toolchain.cc_version.clone());
    let source = &record.source;
    for (key, value) in [
        ("version", &source.version),
        ("sha256", &source.sha256),
        ("replaces", &source.replaces),
    ] {
        if let Some(value) = value {
            provenance.insert(key.to_owned(), value.clone());
        }
    }
    if source.dirty {
        provenance.insert(
            "dirty".to_owned(),
            "the tree had uncommitted changes".to_owned(),
        );
    }
    if !record.patches.is_empty() {
        provenance.insert("patches".to_owned(), record.patches.join(", "));
    }
    KernelRecord {
        name: requested.name.clone(),
        contract: requested.contract.name.clone(),
        provenance,
        build_key: record.key.clone(),
    }
}

/// QEMU, the accelerator that works, and the thread that starts guests.
pub(super) struct Host {
    pub(super) qemu: Qemu,
    pub(super) probe: AccelProbe,
    pub(super) spawner: Spawner,
    cache: Utf8PathBuf,
}

impl Host {
    pub(super) async fn look(ctx: &BuildCtx, accel: Option<AccelArg>) -> Result<Self, Failure> {
        let qemu = Qemu::find().await?;
        let spawner = Spawner::new()?;
        let cache = ctx.cache.root().to_owned();
        let force = accel.map(|a| match a {
            AccelArg::Kvm => Accel::Kvm,
            AccelArg::Tcg => Accel::Tcg,
        });
        let probe = vm::probe_accel(&cache, force, &qemu, &spawner).await?;
        Ok(Self {
            qemu,
            probe,
            spawner,
            cache,
        })
    }

    /// Sweeps what dead harnesses left, and makes the place for guests' memory.
    pub(super) fn launcher(&self, needed: u64) -> Result<Launcher, Failure> {
        let places = vm::memory_places(&self.cache);
        vm::sweep(&places);
        let memory = MemoryDir::create(&places, needed)?;
        Ok(Launcher {
            qemu: self.qemu.clone(),
            spawner: self.spawner.clone(),
            memory,
        })
    }
}

/// Skips what this host's QEMU has no devices for.
pub(super) async fn skip_on_host(plan: &mut Plan, qemu: &Qemu) -> Result<(), Failure> {
    if plan
        .groups
        .iter()
        .all(|g| g.fixture.qemu_devices.is_empty())
    {
        return Ok(());
    }
    let devices = qemu.devices().await?;
    for group in plan.groups.iter_mut().filter(|g| g.skip.is_none()) {
        let lacks = group
            .fixture
            .qemu_devices
            .iter()
            .find(|d| !devices.contains(*d));
        group.skip =
            lacks.map(|device| format!("this host's QEMU {} has no {device}", qemu.version));
    }
    Ok(())
}

/// The host's memory that guests may use, bytes. Where it can't be told, enough for a few.
pub(super) fn memory_for_guests() -> u64 {
    vm::available_memory().unwrap_or(4 << 30)
}

/// Bytes that `jobs` templates of these fixtures may take at once.
pub(super) fn memory_needed<'a>(fixtures: impl Iterator<Item = &'a Fixture>, jobs: usize) -> u64 {
    let one = fixtures
        .map(|f| f.memory.bytes() + f.nvdimms.iter().map(|n| n.size.bytes()).sum::<u64>())
        .max()
        .unwrap_or(0);
    one * jobs as u64
}
