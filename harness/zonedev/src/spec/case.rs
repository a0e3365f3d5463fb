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
//! | `when`, `unless` | run the step only where the contract says so, or does not |
//!
//! Where a step is expected to end with `died`, later steps of its actor are left out; checkpoints
//! are the host's and stay.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use proto::Op;
use serde::Deserialize;

use super::{Contract, SpecError, SpecFile};

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
    /// What the tests of a program are known to do wrong on stock kernels.
    pub known: Vec<Known>,
    /// Needs the kernel's own hmm-tests program.
    pub needs_hmm_tests: bool,
    /// The file, relative to the project.
    pub path: Utf8PathBuf,
    steps: Vec<Step>,
}

/// A test that stock kernels of a contract fail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Name of the test, such as `hmm.hmm_device_private.exclusive`.
    pub test: String,
    /// Contracts of the kernels that fail it.
    pub contracts: Vec<String>,
    /// Why, with the upstream commit that ends it where there is one.
    pub reason: String,
}

#[derive(Clone, Debug)]
struct Step {
    actor: String,
    op: Op,
    expect: String,
    expect_if: BTreeMap<String, String>,
    splats: Vec<String>,
    splats_if: BTreeMap<String, Vec<String>>,
    when: Option<String>,
    unless: Option<String>,
    may_block: bool,
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
    /// Whether it may block on some contract, so that the agent watches for it.
    pub may_block: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    title: String,
    fixtures: Vec<String>,
    #[serde(default)]
    known: Vec<Known>,
    #[serde(default)]
    step: Vec<toml::Spanned<toml::Table>>,
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
    when: Option<String>,
    unless: Option<String>,
}

const COMMON: [&str; 7] = [
    "actor",
    "expect",
    "expect_if",
    "splats",
    "splats_if",
    "when",
    "unless",
];

fn main_actor() -> String {
    "main".into()
}

fn ok() -> String {
    "ok".into()
}

impl Case {
    /// Reads one case file.
    ///
    /// # Errors
    /// Names the file, the line of the step or key, and the remedy.
    pub fn parse(suite: &str, name: &str, file: &SpecFile) -> Result<Self, SpecError> {
        let parsed: CaseFile = file.parse()?;
        if parsed.step.is_empty() {
            return Err(file.error(0..0, "the case has no steps", "add a [[step]] table"));
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
        let needs_hmm_tests = steps.iter().any(|s| {
            matches!(&s.op, Op::Run { argv } if argv.first().is_some_and(|p| p.ends_with("hmm-tests")))
        });
        Ok(Case {
            suite: suite.into(),
            name: name.into(),
            title: parsed.title,
            fixtures: parsed.fixtures,
            known: parsed.known,
            needs_hmm_tests,
            path: file.path().to_owned(),
            steps,
        })
    }

    /// The steps for a kernel of this contract.
    ///
    /// # Errors
    /// Where a condition names a property that no contract has.
    pub fn steps(&self, contract: &Contract) -> Result<Vec<PlannedStep>, SpecError> {
        let holds = |condition: &str| {
            contract.holds_condition(condition).map_err(|e| {
                SpecError::whole_file(
                    &self.path,
                    format!("the condition `{condition}` can't be decided: {e}"),
                    "write it as TYPE.PROPERTY=VALUE, as in kernels/contracts/",
                )
            })
        };
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
            out.push(PlannedStep {
                actor: s.actor.clone(),
                op: s.op.clone(),
                expected,
                splats,
                may_block: s.may_block,
            });
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
    let may_block =
        common.expect == "blocked" || common.expect_if.values().any(|word| word == "blocked");
    Ok(Step {
        actor: common.actor,
        op,
        expect: common.expect,
        expect_if: common.expect_if,
        splats: common.splats,
        splats_if: common.splats_if,
        when: common.when,
        unless: common.unless,
        may_block,
    })
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
                if let Some(name) = entry.strip_suffix(".toml") {
                    let file =
                        SpecFile::read(&path.join(&entry), &format!("the case `{suite}/{name}`"))?;
                    out.push(Case::parse(&suite, name, &file)?);
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
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Case, SpecError> {
        let file = SpecFile::from_text(Utf8Path::new("suites/x/y.toml"), text);
        Case::parse("x", "y", &file)
    }

    const HEAD: &str = "title = \"t\"\nfixtures = [\"f\"]\n";

    #[test]
    fn a_step_has_common_keys_and_those_of_its_operation() {
        let case = parse(&format!(
            "{HEAD}[[step]]\ndo = \"touch\"\nmap = \"m\"\nlength = \"2M\"\nactor = \"child\"\nexpect = \"SIGBUS\"\n"
        ))
        .unwrap();
        assert_eq!(case.steps[0].actor, "child");
        assert_eq!(case.steps[0].expect, "SIGBUS");
        assert!(
            matches!(&case.steps[0].op, Op::Touch { length: Some(l), .. } if l.bytes() == 2 << 20)
        );
    }

    #[test]
    fn errors_name_the_line_of_the_step() {
        for (step, said) in [
            ("do = \"tuch\"\n", "unknown variant `tuch`"),
            (
                "do = \"touch\"\nmap = \"m\"\nlenght = \"2M\"\n",
                "unknown field `lenght`",
            ),
            (
                "do = \"touch\"\nmap = \"m\"\nlength = \"2X\"\n",
                "not a size",
            ),
            ("map = \"m\"\n", "no `do`"),
        ] {
            let e = parse(&format!(
                "{HEAD}[[step]]\ndo = \"hmm-open\"\n[[step]]\n{step}"
            ))
            .unwrap_err();
            assert!(e.message().contains(said), "{e}");
            assert!(e.line().is_some_and(|l| l >= 5), "{e}");
        }
    }

    #[test]
    fn a_checkpoint_may_not_be_there_twice() {
        let step = "[[step]]\ndo = \"checkpoint\"\nname = \"a\"\n";
        let e = parse(&format!("{HEAD}{step}{step}")).unwrap_err();
        assert!(e.message().contains("there twice"), "{e}");
    }
}
