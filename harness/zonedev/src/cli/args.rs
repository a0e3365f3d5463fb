//! What can be typed. Parsing does no I/O.

use std::num::NonZero;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::Partition;

use super::exit::{Exit, Failure};
use super::{
    accept, bench, bisect, build, c_program, cache, ci_plan, cluster, core, diff, doctor, generate,
    history, inspect, list, matrix, merge, minimise, mutants, report, rerun, shell, watch,
};
use crate::report::Verbosity;

/// Boots Linux kernels side by side and says what a change to the kernel
/// changed for every ZONE_DEVICE page.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  zonedev matrix                                  5.10 against 5.10+zone-device-refcount
  zonedev matrix -k 6.12 -k 6.12+./my.mbox        what a series of patches changes
  zonedev matrix -k 6.12 -k 7.3 -s fsdax          two releases, one suite
  zonedev inspect latest fsdax-ext4/map-touch-4k  the pages of its checkpoints

Exit codes: 0 nothing regressed, 1 something regressed or broke its contract,
2 the request or a spec is wrong, 3 the harness or the host failed,
4 nothing was selected, 5 a kernel or an image did not build."
)]
pub struct Cli {
    /// The checkout with kernels/, images/ and suites/ (default: the one around the working directory)
    #[arg(long, global = true, value_name = "DIR", env = "ZONEDEV_PROJECT")]
    project: Option<Utf8PathBuf>,
    /// Tell everything: each cell and step as it goes, and the whole summary
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Tell only what fails, and the verdict
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run cases on kernels and compare each kernel with the first
    #[command(after_help = "\
Examples:
  zonedev matrix -k 6.12 -k 7.3 -s fsdax
  zonedev matrix -k 6.12 -k 6.12+./0001-my.patch -E pin
  zonedev matrix -k tree:../linux@v6.12 -k tree:../linux
  zonedev matrix --full                           every fixture, and its teardown
  zonedev matrix -E fsdax-xfs-reflink             a fixture by name
  zonedev matrix --full --executor slurm          on a cluster (docs/cluster.md)")]
    Matrix(MatrixArgs),
    /// List kernels, suites, cases or the cells of a request
    List(ListArgs),
    /// Build kernels into the cache
    Build(BuildArgs),
    /// What a CI has to build and to run for a matrix, as JSON (docs/nightly.md)
    CiPlan(CiPlanArgs),
    /// A busybox shell in a guest with a fixture
    #[command(after_help = "\
Examples:
  zonedev shell 6.12 --fixture fsdax-xfs          a prompt; Ctrl-] leaves a guest that hangs
  zonedev shell 7.3 -c 'ndctl list'               one command
  zonedev shell 6.12 < script.sh                  the commands of a file
  zonedev shell 6.12 --gdb                        gdb holds it from its first instruction on

Exit codes: of a command or a script its own, and 125 where it had none; of a prompt 0
(docs/by-hand.md).")]
    Shell(shell::ShellArgs),
    /// Run a cell of a run again, up to a moment, and give a shell in the guest as it is then
    #[command(after_help = "\
Examples:
  zonedev rerun latest fsdax-ext4/pin-vmsplice    up to where it goes wrong, or to its end
  zonedev rerun latest truncate-pinned -k 7.3 --until pinned

Its processes stay as they are, with what they map and pin (docs/by-hand.md).")]
    Rerun(rerun::RerunArgs),
    /// The pages of a guest of `shell` or `rerun`, live
    #[command(after_help = "\
Examples:
  zonedev watch                                   the only guest that runs
  zonedev watch 6.12 --once                       one look at one of them, as a table
  zonedev watch --once --json                     … for a program")]
    Watch(watch::WatchArgs),
    /// What a run's folder says; of a run that was cut off, what had finished
    #[command(after_help = "\
Examples:
  zonedev report latest                            the summary
  zonedev report latest --mail                     for a reply on a mailing list
  zonedev report latest --junit -o junit.xml

docs/formats.md tells what reads each form, and its limits.")]
    Report(ReportArgs),
    /// Make one run of the parts of one (`zonedev matrix --partition`), with one verdict
    #[command(after_help = "\
Example:
  zonedev matrix -s fsdax --partition 1/2 --run-dir a     on one machine
  zonedev matrix -s fsdax --partition 2/2 --run-dir b     on another
  zonedev merge a b

A part that is missing or was cut off leaves its cells unfinished: the run is not green (3), and
`zonedev matrix --resume` goes on with it. docs/nightly.md tells how CI does it.")]
    Merge(merge::MergeArgs),
    /// What the kernel of a cell reported, with source lines, and the pages of its checkpoints as a
    /// table, prediction beside observation
    Inspect(InspectArgs),
    /// Runs of many nights: which cases are red or flaky, and since when
    #[command(after_help = "\
Examples:
  zonedev history import target/runs/* ./nightly.tar.gz
  zonedev history                                 what is red, flaky or without a verdict
  zonedev history fsdax-ext4/pin-vmsplice         one case, over the runs
  zonedev history diff latest~1 latest            what changed since the night before
  zonedev history times                           how the time goes

docs/history.md tells more.")]
    History(history::HistoryArgs),
    /// Compare any two recorded runs, or cells of them
    #[command(after_help = "\
Examples:
  zonedev diff 20261127T010000Z-1 latest          what changed since that night
  zonedev diff latest:'pin on 6.12' latest:'pin on 7.3'
  zonedev diff ./nightly/monday ./nightly/tuesday

Exit codes: 0 no difference, 1 a difference, 4 nothing in common.")]
    Diff(DiffArgs),
    /// Make what a run observed the accepted snapshots; a cell that breaks its contract is refused
    #[command(after_help = "\
Examples:
  zonedev accept latest -E 'fsdax-ext4/pin' --reason 'the series waits for pins'

The files are suites/SUITE/snapshots/*.snap: `git diff suites` shows what is accepted, and
`cargo insta review` works on the same ones.")]
    Accept(AcceptArgs),
    /// A case as a C program that needs nothing of ours, to be mailed
    #[command(after_help = "\
Examples:
  zonedev c-program -k 6.12 fsdax/fsdax-ext4/umount-pinned > umount-pinned.c
  zonedev c-program -k 6.12+./my.mbox ./found.toml

The commands that set its machine up stand in its first comment.")]
    CProgram(CProgramArgs),
    /// Unpack the memory of a guest that was kept, and say how drgn and crash open it
    Core(CoreArgs),
    /// What finished runs reached, by suite and kernel, as Markdown: docs/coverage.md
    Coverage(CoverageArgs),
    /// Run kernels that are broken on purpose, and say who sees it: kernels/mutants/
    Mutants(MutantsArgs),
    /// Find the change between a good and a bad kernel that brought a failure
    #[command(after_help = "\
Examples:
  zonedev bisect --good tree:../linux@v6.12 --bad tree:../linux@HEAD -E fsdax/fsdax-ext4/pin-vmsplice
  zonedev bisect --good 5.10 --bad 5.10+./my.mbox -E fsdax/fsdax-ext4/pin-vmsplice --series
  zonedev bisect --good 6.12 --bad 6.12:./my.config -E fsdax/fsdax-ext4/pin-vmsplice --config
  zonedev bisect --resume target/bisections/ID     go on with one that was ended
  zonedev bisect --log target/bisections/ID        as `git bisect log`

Exit codes: 0 it is found, 1 a range is left. docs/bisect.md tells how it works.")]
    Bisect(BisectArgs),
    /// Try one kernel, for `git bisect run`
    #[command(
        name = "bisect-step",
        after_help = "\
Example, in a kernel's tree:
  git bisect run zonedev --project ../zonedev bisect-step -E fsdax/fsdax-ext4/pin-vmsplice

Exit codes: 0 good, 1 bad, 125 can't tell, 128 stop."
    )]
    BisectStep(BisectStepArgs),
    /// Make a case that failed as small as it can be and still fail so (docs/minimise.md)
    #[command(after_help = "\
Examples:
  zonedev minimise latest fsdax-ext4/pin-direct-read
  zonedev minimise latest truncate-pinned -k 6.12+./my.mbox --title 'did not end'
  zonedev minimise --resume ../small                go on with one that was ended

Writes minimised.toml, a case that stands on its own: `zonedev matrix -k KERNEL --case minimised.toml`.

Exit codes: 0 it is written, 2 it does not fail so any more.")]
    Minimise(MinimiseArgs),
    /// Say what this host has and lacks
    Doctor,
    /// What the cache holds, and making room in it
    #[command(after_help = "\
Examples:
  zonedev cache                                   what takes how much
  zonedev -v cache                                … each entry, the least recently used first
  zonedev cache prune --older 7                   remove what nobody used for a week
  zonedev cache prune templates --older 0         … every template that no run uses now")]
    Cache(cache::CacheArgs),
    /// How long a recorded run would take on how many nodes of a cluster (docs/cluster.md)
    SimulateCluster(cluster::SimulateArgs),
    /// Measure, as ratios, into target/bench.json
    Bench(bench::BenchArgs),
    /// Print a shell's completions: `just install` puts them in their place
    Completions(generate::CompletionsArgs),
    /// Write the man pages into a folder: `just install` puts them in their place
    Man(generate::ManArgs),
}

/// Which kernels and cases.
#[derive(Debug, Clone, Args)]
pub(super) struct Selection {
    /// A kernel; the first is the baseline [default: 5.10 and 5.10+zone-device-refcount]
    #[arg(short, long = "kernel", value_name = "KERNEL")]
    pub(super) kernels: Vec<String>,
    /// Only this suite (repeatable)
    #[arg(short, long = "suite", value_name = "SUITE")]
    pub(super) suites: Vec<String>,
    /// Only cases whose SUITE/FIXTURE/CASE contains this text, or is it after a `=` (repeatable: all
    /// of them)
    #[arg(short = 'E', long = "filter", value_name = "TEXT")]
    pub(super) filters: Vec<String>,
    /// All cases and fixtures, those too that run only where they are asked for, and every
    /// fixture's teardown
    #[arg(long)]
    pub(super) full: bool,
    /// A built checkout of fstests: its dax group becomes cases of the suite upstream
    #[arg(long, value_name = "PATH")]
    pub(super) fstests: Option<Utf8PathBuf>,
    /// A case file of one's own, instead of the suites: the suite `own` (repeatable)
    #[arg(long = "case", value_name = "FILE")]
    pub(super) cases: Vec<Utf8PathBuf>,
    /// Only this part of what is selected: I/N, fixture:I/N or hash:I/N. `zonedev merge` makes one run of
    /// all parts
    #[arg(long, value_name = "I/N")]
    pub(super) partition: Option<Partition>,
}

/// Options of building.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct BuildOptions {
    /// Refuse a source whose locked version the mirror no longer has
    #[arg(long)]
    pub(super) locked: bool,
    /// Make the files of a tree's revisions of those of this one, so that they are built from its
    /// objects: for many revisions that differ little
    #[arg(long, value_name = "REV")]
    pub(super) tree_base: Option<String>,
}

/// The accelerator as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AccelArg {
    /// Hardware
    Kvm,
    /// Emulation
    Tcg,
}

/// `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IsolationArg {
    /// A clone of a booted machine for each case
    Clone,
    /// A boot for each case
    Boot,
}

/// `zonedev matrix`.
#[derive(Debug, Args)]
pub(super) struct MatrixArgs {
    #[command(flatten)]
    pub(super) selection: Selection,
    #[command(flatten)]
    pub(super) build: BuildOptions,
    /// Guests at a time [default: one more than the host has processors]
    #[arg(short, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// The accelerator [default: KVM if a trial boot works, else TCG]
    #[arg(long)]
    pub(super) accel: Option<AccelArg>,
    /// How cases are kept apart
    #[arg(long, default_value = "clone")]
    pub(super) isolation: IsolationArg,
    /// Boot every fixture, also where an earlier run kept a template of the same
    #[arg(long)]
    pub(super) fresh: bool,
    /// Run each case so often, each time in a guest of its own; races take the next seed each time.
    /// A case that does not always pass is told with its rate
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) repeat: NonZero<u32>,
    /// With --repeat: no more runs of a case once it has failed
    #[arg(long)]
    pub(super) until_fails: bool,
    /// Run a case that fails again, up to so often; one that passes then is told as a flake, with its
    /// rate, and does not fail the run
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) retries: u32,
    /// The seed of every race, to run one schedule again
    #[arg(long, value_name = "SEED")]
    pub(super) seed: Option<u64>,
    /// Keep the memory of a guest that hangs; `zonedev core` makes it ready for drgn and crash
    #[arg(long)]
    pub(super) dump_hung: bool,
    /// Build all that the run takes from the cache, print the kernels' keys, and start no guest
    #[arg(long)]
    pub(super) build_only: bool,
    #[command(flatten)]
    pub(super) cluster: cluster::ClusterArgs,
    /// Where the run's folder goes [default: target/runs/ID]
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<Utf8PathBuf>,
    /// Go on with a run that was cut off, without its finished cells: its folder, or its name
    #[arg(long, value_name = "RUN", conflicts_with_all = ["kernels", "suites", "filters", "full",
        "fstests", "cases", "partition", "accel", "isolation", "repeat", "until_fails", "retries", "seed", "dump_hung", "run_dir", "locked", "build_only",
        "tree_base", "executor"])]
    pub(super) resume: Option<String>,
}

/// `zonedev report`.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// A run's folder, its name, or `latest`
    pub(super) run: String,
    #[command(flatten)]
    pub(super) form: report::Form,
    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<std::path::PathBuf>,
}

/// `zonedev list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    pub(super) what: ListWhat,
    #[command(flatten)]
    pub(super) selection: Selection,
}

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ListWhat {
    /// Kernels, series and flavours
    Kernels,
    /// Suites with the number of their cases
    Suites,
    /// Cases with their titles
    Cases,
    /// What a matrix would run
    Cells,
    /// Fixtures with their titles
    Fixtures,
    /// What a case can do, with its keys; -E chooses by a part of the name
    Operations,
}

/// `zonedev build`.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// Kernels, as `zonedev matrix -k` takes them
    #[arg(required = true)]
    pub(super) kernels: Vec<String>,
    /// Print the path of each bzImage and nothing else
    #[arg(long)]
    pub(super) bzimage: bool,
    /// Print each kernel's name and the key that its build has in the cache, and build nothing
    #[arg(long, conflicts_with = "bzimage")]
    pub(super) print_key: bool,
    #[command(flatten)]
    pub(super) build: BuildOptions,
}

/// `zonedev ci-plan`.
#[derive(Debug, Args)]
pub(super) struct CiPlanArgs {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// The first of the parts: 1/8, hash:1/8
    #[arg(long, value_name = "1/N", default_value = "1/1")]
    pub(super) shards: Partition,
}

/// `zonedev inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A run's folder, or `latest`
    pub(super) run: String,
    /// A part of SUITE/FIXTURE/CASE that names one case
    pub(super) cell: String,
    /// Only this kernel
    #[arg(short, long, value_name = "KERNEL")]
    pub(super) kernel: Option<String>,
    /// Only this checkpoint
    #[arg(short, long, value_name = "NAME")]
    pub(super) checkpoint: Option<String>,
}

/// `zonedev diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// RUN or RUN:CELL: a run's folder, its name, or `latest`, and a part of `SUITE/FIXTURE/CASE on
    /// KERNEL`
    pub(super) old: String,
    /// The same of the other one
    pub(super) new: String,
}

/// `zonedev accept`.
#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// A run's folder, its name, or `latest`
    pub(super) run: String,
    /// Only cells whose `SUITE/FIXTURE/CASE on KERNEL` contains this text (repeatable: all of them)
    #[arg(short = 'E', long = "filter", value_name = "TEXT")]
    pub(super) filters: Vec<String>,
    /// Why this is wanted; it stays with the snapshot
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
}

/// `zonedev c-program`.
#[derive(Debug, Args)]
pub(super) struct CProgramArgs {
    /// The whole SUITE/FIXTURE/CASE, or a case's file
    pub(super) case: String,
    /// The kernel whose outcomes are expected
    #[arg(short, long, value_name = "KERNEL", default_value = "6.12")]
    pub(super) kernel: String,
    /// The fixture of a case's file [default: its first]
    #[arg(long)]
    pub(super) fixture: Option<String>,
}

/// `zonedev core`.
#[derive(Debug, Args)]
pub(super) struct CoreArgs {
    /// A run's folder, or `latest`
    pub(super) run: String,
    /// A part of SUITE/FIXTURE/CASE that names one case
    pub(super) cell: String,
    /// Only this kernel
    #[arg(short, long, value_name = "KERNEL")]
    pub(super) kernel: Option<String>,
    /// Where it goes; a new file [default: CASE.core]
    #[arg(short, long, value_name = "FILE")]
    pub(super) out: Option<Utf8PathBuf>,
}

/// `zonedev coverage`.
#[derive(Debug, Args)]
pub(super) struct CoverageArgs {
    /// Runs' folders, or `latest`
    #[arg(required = true)]
    pub(super) runs: Vec<String>,
    /// Which lines of the kernel ran, and which stayed dark: of runs on the flavour gcov
    #[arg(long)]
    pub(super) lines: bool,
}

/// `zonedev mutants`.
#[derive(Debug, Args)]
pub(super) struct MutantsArgs {
    /// Only mutants whose `NAME on KERNEL` contains this text (repeatable: all of them)
    #[arg(short = 'E', long = "filter", value_name = "TEXT")]
    pub(super) filters: Vec<String>,
}

/// `zonedev bisect`.
#[derive(Debug, Args)]
pub(super) struct BisectArgs {
    /// A kernel that does not fail
    #[arg(long, value_name = "KERNEL")]
    pub(super) good: Option<String>,
    /// A kernel that fails: another revision of the same tree, with a series, or with flavours
    #[arg(long, value_name = "KERNEL")]
    pub(super) bad: Option<String>,
    /// The case that fails, its whole SUITE/FIXTURE/CASE
    #[arg(short = 'E', long, value_name = "CASE")]
    pub(super) case: Option<String>,
    /// A part of the reason why it fails [default: the first reason at the bad end]
    #[arg(long, value_name = "TEXT")]
    pub(super) title: Option<String>,
    /// Between two revisions of a tree: which release, of the tags between them
    #[arg(long)]
    pub(super) releases: bool,
    /// Which patch of the series that the bad kernel has
    #[arg(long)]
    pub(super) series: bool,
    /// Which option of those that the bad kernel's config asks for
    #[arg(long, conflicts_with_all = ["releases", "series"])]
    pub(super) config: bool,
    /// How sure the answer must be
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    pub(super) confidence: f64,
    /// How many kernels to build ahead while one is tried [default: one where the host has four
    /// processors or more]
    #[arg(long, value_name = "N")]
    pub(super) ahead: Option<usize>,
    /// Leave out the search for the smallest case that shows it
    #[arg(long)]
    pub(super) no_minimise: bool,
    /// Where the bisection's folder goes [default: target/bisections/ID]
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<Utf8PathBuf>,
    /// Go on with the bisection in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["good", "bad", "case", "title",
        "releases", "series", "config", "confidence", "run_dir"])]
    pub(super) resume: Option<Utf8PathBuf>,
    /// Print what is known of the bisection in this folder as `git bisect log` would
    #[arg(long, value_name = "DIR", conflicts_with_all = ["good", "bad", "case", "resume"])]
    pub(super) log: Option<Utf8PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A part of 1 that is worth to be believed.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.5..=0.999_999).contains(&share) => Ok(share),
        _ => Err("give a number from 0.5 to 0.999999".to_owned()),
    }
}

/// `zonedev bisect-step`.
#[derive(Debug, Args)]
pub(super) struct BisectStepArgs {
    /// The case that fails, its whole SUITE/FIXTURE/CASE
    #[arg(short = 'E', long, value_name = "CASE")]
    pub(super) case: String,
    /// A part of the reason why it fails; what fails otherwise is told with 125
    #[arg(long, value_name = "TEXT")]
    pub(super) title: Option<String>,
    /// The kernel [default: tree:., the working tree]
    #[arg(short, long, value_name = "KERNEL", default_value = "tree:.")]
    pub(super) kernel: String,
    /// How often to try before the step is called good
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) trials: NonZero<u32>,
}

/// `zonedev minimise`.
#[derive(Debug, Args)]
pub(super) struct MinimiseArgs {
    /// A run's folder, its name, or `latest`
    #[arg(required_unless_present = "resume")]
    pub(super) run: Option<String>,
    /// A part of SUITE/FIXTURE/CASE that names one case, which failed
    #[arg(required_unless_present = "resume")]
    pub(super) cell: Option<String>,
    /// The kernel on which it failed, where it did on several
    #[arg(short, long, value_name = "KERNEL")]
    pub(super) kernel: Option<String>,
    /// A part of the reason why it fails [default: the first reason]
    #[arg(long, value_name = "TEXT")]
    pub(super) title: Option<String>,
    /// A kernel without the failure, which must pass what is left of the case [default: one of the run
    /// that has the same contract and passed]
    #[arg(long, value_name = "KERNEL")]
    pub(super) good: Option<String>,
    /// Write it as a C program, too, which needs nothing of zonedev: minimised.c
    #[arg(long)]
    pub(super) c: bool,
    /// Guests at a time [default: one more than the host has processors]
    #[arg(short, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// Where its folder goes [default: target/minimised/ID]
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<Utf8PathBuf>,
    /// Go on with the one in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["run", "cell", "kernel", "title", "good",
        "run_dir"])]
    pub(super) resume: Option<Utf8PathBuf>,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// With the code and the words of the end.
    pub async fn run(self) -> Result<Exit, Failure> {
        super::tell(match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Brief,
            (_, true) => Verbosity::All,
            _ => Verbosity::Screen,
        });
        match &self.command {
            Command::Completions(args) => return generate::completions(args),
            Command::Man(args) => return generate::man(args),
            Command::Cache(args) => return cache::run(args, self.verbose),
            _ => {}
        }
        let project = super::project::find(self.project.as_deref())?;
        match self.command {
            // Tells what had finished when it is interrupted.
            Command::Matrix(args) => return matrix::run(&project, args).await,
            Command::List(args) => return list::run(&project, &args),
            Command::Inspect(args) => return inspect::run(&project, &args),
            Command::Merge(args) => return merge::run(&project, &args),
            Command::SimulateCluster(args) => return cluster::simulate(&project, &args),
            Command::Report(args) => return report::run(&project, &args),
            Command::History(args) => return history::run(&project, &args),
            Command::Diff(args) => return diff::run(&project, &args),
            Command::Accept(args) => return accept::run(&project, &args),
            Command::Minimise(args) => return minimise::run(&project, &args).await,
            Command::CProgram(args) => return c_program::run(&project, &args),
            Command::Core(args) => return core::run(&project, &args),
            Command::Coverage(args) => return inspect::coverage(&project, &args),
            _ => {}
        }
        super::or_interrupted(async {
            match self.command {
                Command::Build(args) => build::run(&project, args).await,
                Command::CiPlan(args) => ci_plan::run(&project, args).await,
                Command::Shell(args) => shell::run(&project, args).await,
                Command::Rerun(args) => rerun::run(&project, args).await,
                Command::Watch(args) => watch::run(&project, args).await,
                Command::Bench(args) => bench::run(&project, args).await,
                Command::Bisect(args) => bisect::run(&project, &args).await,
                Command::BisectStep(args) => bisect::one_step(&project, &args).await,
                Command::Mutants(args) => mutants::run(&project, &args).await,
                _ => doctor::run(&project).await,
            }
        })
        .await
    }

    /// The arguments of `zonedev matrix`, if that is what was typed.
    pub(super) fn into_matrix(self) -> Option<MatrixArgs> {
        match self.command {
            Command::Matrix(args) => Some(args),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
