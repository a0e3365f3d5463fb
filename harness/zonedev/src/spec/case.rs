//! Suites: a folder of cases, a case a TOML file.
//!
//! A step is a table with the operation's own keys (see [`proto::Op`]) and
//! these common ones:
//!
//! | key | meaning |
//! |---|---|
//! | `actor` | the process that runs it; default `main` |
//! | `expect` | `ok` (default), an errno or signal name, `blocked` |
//! | `expect_if` | `{ "fsdax.pins=refused" = "ENOMEM" }`: another expectation where the contract says so |
//! | `splats` | titles of kernel reports that belong to this step |
//! | `splats_if` | the same under a condition |
//! | `may_block` | watch it: a step that sleeps is told as `blocked`, and not waited for |
//! | `when`, `unless` | run the step only where the contract says so, or does not |
//!
//! Conditions (see [`super::Facts`]) joined with `&` must all hold. Where several expectations
//! hold, the last in alphabetical order is meant: one with a further condition follows its plain one.
//!
//! Where a step is expected to end with `died`, later steps of its actor are left out; checkpoints
//! are the host's and stay. Where one is expected to end with `hung`, the guest answers no more; with
//! `panic`, `guest-reset` or `guest-shutdown`, it is gone: it is the last step, and passes only with
//! all the reports that `splats` name. `every_splat` asks for all of them of any step.
//!
//! `config` names options that the kernel must have, or the case is skipped.
//! `emulated` is the reason why a case does not run in software emulation unless `-E` names it. A
//! case with a `[[skip]]` table (`when`, a condition, and `reason`) does not run where the condition
//! holds. A step that names no test_hmm device means the fixture's.
//!
//! A file can list programs instead of steps (`[[program]]`, see [`super::program`]): each is a
//! case of its own. With `default = false` a file's cases run only where they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use proto::Op;
use serde::Deserialize;

use super::ceiling::Ceilings;
use super::fixture::SkipRule;
use super::known::Known;
use super::program::{Listed, ProgramTable, Shared};
use super::{Facts, SpecError, SpecFile};

/// A case as its file says it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder under suites/.
    pub suite: String,
    /// The file's stem.
    pub name: String,
    /// A sentence that a kernel developer would write.
    pub title: String,
    /// Names of the fixtures that it runs on, each for itself.
    pub fixtures: Vec<String>,
    /// Whether a request that names nothing means it too.
    pub default: bool,
    /// What stock kernels are known to do wrong here.
    pub known: Vec<Known>,
    /// Why it never runs, where it doesn't.
    pub skip: Option<String>,
    /// Why it does not run in software emulation unless it is asked for by name, where it doesn't.
    pub emulated: Option<String>,
    /// The kernels and fixtures that it can't run on.
    pub skip_rules: Vec<SkipRule>,
    /// Options that the kernel's config must have set, without `CONFIG_`.
    pub config: Vec<String>,
    /// The file, relative to the project.
    pub path: Utf8PathBuf,
    steps: Vec<Step>,
}

/// How a program's results are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// TAP or KTAP where it speaks it, and its exit code.
    #[default]
    Program,
    /// What fstests' `check` says of each test.
    Fstests,
}

#[derive(Clone, Debug)]
struct Step {
    actor: String,
    op: Op,
    expect: String,
    expect_if: BTreeMap<String, String>,
    splats: Vec<String>,
    splats_if: BTreeMap<String, Vec<String>>,
    every_splat: bool,
    when: Option<String>,
    unless: Option<String>,
    may_block: bool,
    reads: Reads,
    test: Option<String>,
}

/// A step as one contract has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The process that runs it.
    pub actor: String,
    /// What to do.
    pub op: Op,
    /// The outcome's word that is expected.
    pub expected: String,
    /// Titles of kernel reports that are expected of it.
    pub splats: Vec<String>,
    /// Whether each of these must come.
    pub every_splat: bool,
    /// Whether it may block on some contract, so that the agent watches for it.
    pub may_block: bool,
    /// How a program's results are read.
    pub reads: Reads,
    /// What a program's only result is called, where its own name says too little.
    pub test: Option<String>,
}

impl PlannedStep {
    /// What the first actor must do, on every kernel: provisioning and teardown.
    pub(crate) fn must(op: Op) -> Self {
        Self {
            actor: main_actor(),
            op,
            expected: ok(),
            splats: Vec::new(),
            every_splat: false,
            may_block: false,
            reads: Reads::default(),
            test: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    title: String,
    fixtures: Vec<String>,
    #[serde(default = "yes")]
    default: bool,
    emulated: Option<String>,
    #[serde(default)]
    skip: Vec<SkipRule>,
    /// Of a list, each program has its own.
    #[serde(default)]
    config: Vec<String>,
    #[serde(default)]
    known: Vec<toml::Spanned<Known>>,
    #[serde(default)]
    step: Vec<toml::Spanned<toml::Table>>,
    /// What the programs of a list have in common.
    shared: Option<Shared>,
    #[serde(default)]
    program: Vec<toml::Spanned<ProgramTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    #[serde(default = "main_actor")]
    actor: String,
    #[serde(default = "ok")]
    expect: String,
    #[serde(default)]
    expect_if: BTreeMap<String, String>,
    #[serde(default)]
    splats: Vec<String>,
    #[serde(default)]
    splats_if: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    every_splat: bool,
    #[serde(default)]
    may_block: bool,
    when: Option<String>,
    unless: Option<String>,
}

const COMMON: [&str; 9] = [
    "actor",
    "expect",
    "expect_if",
    "splats",
    "splats_if",
    "every_splat",
    "may_block",
    "when",
    "unless",
];

fn yes() -> bool {
    true
}

/// What a step is expected to do where the guest is expected to hang of it.
pub(crate) const HUNG: &str = "hung";
/// What a step is expected to do where the guest is expected to end by it: in the words of
/// [`crate::record::End::GuestDied`].
const ENDS: [&str; 3] = ["panic", "guest-reset", "guest-shutdown"];

/// Whether no step can follow one that is expected to do this.
pub(crate) fn ends_guest(expected: &str) -> bool {
    expected == HUNG || ENDS.contains(&expected)
}

fn main_actor() -> String {
    "main".into()
}

fn ok() -> String {
    "ok".into()
}

impl Case {
    /// Reads one file: a case, or a list of programs of which each is a case.
    ///
    /// # Errors
    /// Names the file, the line of the step or key, and the remedy.
    pub fn parse(suite: &str, name: &str, file: &SpecFile) -> Result<Vec<Self>, SpecError> {
        let parsed: CaseFile = file.parse()?;
        if !parsed.program.is_empty() {
            return Self::of_programs(suite, name, file, parsed);
        }
        if parsed.step.is_empty() {
            return Err(file.error(
                0..0,
                "the case has no steps",
                "add a [[step]] table, or a [[program]] for a list of programs",
            ));
        }
        if parsed.shared.is_some() {
            return Err(file.error(0..0, "[shared] is of no use here", "add [[program]] tables"));
        }
        let mut known = Vec::new();
        for one in parsed.known {
            Known::check(file, &one)?;
            if one.get_ref().program.is_some() {
                return Err(file.error(
                    one.span(),
                    "only a list of programs has programs",
                    "remove the key `program`",
                ));
            }
            known.push(one.into_inner());
        }
        let mut checkpoints = BTreeSet::new();
        let mut steps = Vec::new();
        for spanned in parsed.step {
            let span = spanned.span();
            let step = step(spanned.into_inner())
                .map_err(|(m, help)| file.error(span.clone(), m, help))?;
            if let Op::Checkpoint { name } = &step.op
                && !checkpoints.insert(name.clone())
            {
                return Err(file.error(
                    span,
                    format!("the checkpoint `{name}` is there twice"),
                    "give each checkpoint of a case a name of its own",
                ));
            }
            steps.push(step);
        }
        Ok(vec![Case {
            suite: suite.into(),
            name: name.into(),
            title: parsed.title,
            fixtures: parsed.fixtures,
            default: parsed.default,
            known,
            skip: None,
            emulated: parsed.emulated,
            skip_rules: parsed.skip,
            config: parsed.config,
            path: file.path().to_owned(),
            steps,
        }])
    }

    fn of_programs(
        suite: &str,
        name: &str,
        file: &SpecFile,
        parsed: CaseFile,
    ) -> Result<Vec<Self>, SpecError> {
        if let Some(step) = parsed.step.first() {
            return Err(file.error(
                step.span(),
                "a list of programs has no steps of its own",
                "move the [[step]] tables to a file of their own",
            ));
        }
        let programs =
            super::program::programs(file, parsed.shared.unwrap_or_default(), parsed.program)?;
        for one in &parsed.known {
            Known::check(file, one)?;
            let named = one.get_ref().program.as_deref();
            if !named.is_some_and(|n| programs.iter().any(|p| p.name == n)) {
                return Err(file.error(
                    one.span(),
                    "it does not say which program's test is known to fail",
                    "add `program`, with the name of one of the list",
                ));
            }
        }
        Ok(programs
            .into_iter()
            .map(|p| {
                let of_this = |k: &&Known| k.program.as_deref() == Some(p.name.as_str());
                let known = parsed.known.iter().map(|k| k.get_ref());
                Case {
                    suite: suite.into(),
                    name: format!("{name}-{}", p.name),
                    title: format!("{}: {}", parsed.title, p.title),
                    fixtures: p
                        .fixtures
                        .clone()
                        .unwrap_or_else(|| parsed.fixtures.clone()),
                    default: parsed.default,
                    known: known.filter(of_this).cloned().collect(),
                    skip: p.skip.clone(),
                    emulated: p.emulated.clone().or_else(|| parsed.emulated.clone()),
                    skip_rules: parsed.skip.clone(),
                    config: p.config.clone(),
                    path: file.path().to_owned(),
                    steps: steps_around(&p),
                }
            })
            .collect())
    }

    /// A case that reads the pages, runs a program to its end, and reads the pages again.
    pub fn of_program(suite: &str, name: &str, fixture: &str, run: Op, reads: Reads) -> Self {
        Case {
            suite: suite.into(),
            name: name.into(),
            title: name.into(),
            fixtures: vec![fixture.into()],
            default: false,
            known: Vec::new(),
            skip: None,
            emulated: None,
            skip_rules: Vec::new(),
            config: Vec::new(),
            path: Utf8PathBuf::from(format!("suites/{suite}")),
            steps: steps_around(&Listed {
                name: name.into(),
                title: name.into(),
                fixtures: None,
                run,
                reads,
                config: Vec::new(),
                skip: None,
                emulated: None,
                splats: Vec::new(),
                splats_if: BTreeMap::new(),
                every_splat: false,
                ends: None,
            }),
        }
    }

    /// The programs of the initramfs that it runs, by their names without a directory.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|s| match &s.op {
            Op::Run {
                argv, root: false, ..
            } => Utf8Path::new(argv.first()?).file_name(),
            _ => None,
        })
    }

    /// Why it does not run on a kernel and a fixture, where it doesn't.
    ///
    /// # Errors
    /// Where a condition names a property that there is not.
    pub fn skip_reason(&self, facts: Facts<'_>) -> Result<Option<String>, SpecError> {
        for rule in &self.skip_rules {
            if facts.hold(&rule.when, &self.path)? {
                return Ok(Some(rule.reason.clone()));
            }
        }
        Ok(self.skip.clone())
    }

    /// The steps for a kernel and a fixture.
    ///
    /// # Errors
    /// Where a condition names a property that there is not.
    pub fn steps(&self, facts: Facts<'_>) -> Result<Vec<PlannedStep>, SpecError> {
        let holds = |condition: &str| facts.hold(condition, &self.path);
        let mut out = Vec::new();
        let mut dead = BTreeSet::new();
        for s in &self.steps {
            if dead.contains(&s.actor) && !matches!(s.op, Op::Checkpoint { .. }) {
                continue;
            }
            if let Some(c) = &s.when
                && !holds(c)?
            {
                continue;
            }
            if let Some(c) = &s.unless
                && holds(c)?
            {
                continue;
            }
            let mut expected = s.expect.clone();
            for (c, word) in &s.expect_if {
                if holds(c)? {
                    expected.clone_from(word);
                }
            }
            let mut splats = s.splats.clone();
            for (c, titles) in &s.splats_if {
                if holds(c)? {
                    splats.extend(titles.iter().cloned());
                }
            }
            if expected == "died" {
                dead.insert(&s.actor);
            }
            let last = ends_guest(&expected);
            let mut op = s.op.clone();
            op.set_device(facts.fixture.hmm_device);
            out.push(PlannedStep {
                actor: s.actor.clone(),
                op,
                expected,
                splats,
                every_splat: s.every_splat,
                may_block: s.may_block,
                reads: s.reads,
                test: s.test.clone(),
            });
            if last {
                break;
            }
        }
        Ok(out)
    }
}

fn step(mut table: toml::Table) -> Result<Step, (String, String)> {
    let mut common = toml::Table::new();
    for key in COMMON {
        if let Some(v) = table.remove(key) {
            common.insert(key.into(), v);
        }
    }
    let common: Common = common.try_into().map_err(|e: toml::de::Error| {
        (
            e.message().to_owned(),
            "correct this step's common keys".to_owned(),
        )
    })?;
    if !table.contains_key("do") {
        return Err((
            "the step has no `do`".into(),
            "name an operation, such as do = \"touch\"".into(),
        ));
    }
    let op: Op = table.try_into().map_err(|e: toml::de::Error| {
        (
            e.message().to_owned(),
            "the operations and their keys are those of proto::Op".to_owned(),
        )
    })?;
    if let Op::Race { arm, .. } = &op
        && let Some(bad) = arm.iter().find(|a| !a.can_race())
    {
        return Err((
            format!("no thread of a race can do `{}`", bad.word()),
            "use one of those that proto::Op::Race names".to_owned(),
        ));
    }
    let may_block = (common.expect_if.values().chain([&common.expect]))
        .any(|word| word == "blocked")
        || common.may_block;
    Ok(Step {
        actor: common.actor,
        op,
        expect: common.expect,
        expect_if: common.expect_if,
        splats: common.splats,
        splats_if: common.splats_if,
        every_splat: common.every_splat,
        when: common.when,
        unless: common.unless,
        may_block,
        reads: Reads::default(),
        test: None,
    })
}

fn steps_around(program: &Listed) -> Vec<Step> {
    let checkpoint = |name: &str| Op::Checkpoint { name: name.into() };
    [
        checkpoint("before"),
        program.run.clone(),
        checkpoint("after"),
    ]
    .into_iter()
    .map(|op| {
        let runs = matches!(op, Op::Run { .. });
        Step {
            actor: main_actor(),
            splats: match runs {
                true => program.splats.clone(),
                false => Vec::new(),
            },
            op,
            expect: program.ends.clone().filter(|_| runs).unwrap_or_else(ok),
            expect_if: BTreeMap::new(),
            splats_if: match runs {
                true => program.splats_if.clone(),
                false => BTreeMap::new(),
            },
            every_splat: runs && program.every_splat,
            when: None,
            unless: None,
            may_block: false,
            reads: program.reads,
            test: Some(program.name.clone()),
        }
    })
    .collect()
}

/// The suites/ folder.
#[derive(Clone, Debug)]
pub struct SuiteStore {
    dir: Utf8PathBuf,
}

impl SuiteStore {
    /// The folder that holds one folder a suite.
    pub fn new(dir: impl Into<Utf8PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where the suites are.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// All cases, by suite and name.
    ///
    /// # Errors
    /// The first file that is wrong, with its line.
    pub fn cases(&self) -> Result<Vec<Case>, SpecError> {
        let mut out = Vec::new();
        for suite in folder(&self.dir)? {
            let path = self.dir.join(&suite);
            if !path.is_dir() || suite == "src" || suite == "target" {
                continue;
            }
            for entry in folder(&path)? {
                if let Some(name) = entry.strip_suffix(".toml")
                    && entry != Ceilings::FILE
                {
                    let file =
                        SpecFile::read(&path.join(&entry), &format!("the case `{suite}/{name}`"))?;
                    out.extend(Case::parse(&suite, name, &file)?);
                }
            }
        }
        Ok(out)
    }
}

/// Sorted names in a folder.
pub(super) fn folder(dir: &Utf8Path) -> Result<Vec<String>, SpecError> {
    let error = |e: std::io::Error| {
        SpecError::whole_file(
            dir,
            format!("the folder can't be read: {e}"),
            "run zonedev inside its checkout, or name it with --project",
        )
    };
    let mut names = Vec::new();
    for entry in dir.read_dir_utf8().map_err(error)? {
        names.push(entry.map_err(error)?.file_name().to_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod tests;
