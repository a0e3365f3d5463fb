//! The cells of a matrix, grouped by the template that they are cloned from.

use std::collections::{BTreeMap, BTreeSet};

use proto::Op;

use crate::record::{CellId, KnownFailure, KnownWhat};
use crate::spec::{Case, Contract, Facts, Fixture, Known, KnownEnd, PlannedStep, SpecError};

use super::Filter;
use super::filter::{BOOT, TEARDOWN};

/// A case to run on one kernel.
#[derive(Clone, Debug)]
pub struct PlannedCell {
    /// Its name.
    pub id: CellId,
    /// The case's title.
    pub title: String,
    /// The case's file, for snapshots.
    pub case_path: camino::Utf8PathBuf,
    /// Steps as the kernel's contract has them.
    pub steps: Vec<PlannedStep>,
    /// What this contract's kernels are known to do wrong.
    pub known_failures: Vec<KnownFailure>,
    /// Why it does not run, where it doesn't.
    pub skip: Option<String>,
    /// Why it does not run in software emulation, where it doesn't.
    pub emulated: Option<String>,
    /// Options that the kernel's config must have set, without `CONFIG_`.
    pub config: Vec<String>,
    /// Programs of the initramfs that it runs.
    pub programs: Vec<String>,
    /// Is about the fixture itself.
    pub of_fixture: bool,
}

/// All cells of one kernel on one fixture: they share a template.
#[derive(Clone, Debug)]
pub struct Group {
    /// Position of the kernel in the request.
    pub side: usize,
    /// The fixture.
    pub fixture: Fixture,
    /// The cell that stands for boot and provisioning.
    pub boot: CellId,
    /// The cases.
    pub cells: Vec<PlannedCell>,
    /// Why none of it can run on this kernel or host, if it can't.
    pub skip: Option<String>,
}

/// What a request comes to.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order of running: sides interleaved, so that a drift of the host hits both.
    pub groups: Vec<Group>,
}

impl Plan {
    /// Cells, the boot cells included.
    pub fn cells(&self) -> usize {
        self.groups.iter().map(|g| 1 + g.cells.len()).sum()
    }

    /// Their names.
    pub fn ids(&self) -> impl Iterator<Item = &CellId> {
        self.groups
            .iter()
            .flat_map(|g| std::iter::once(&g.boot).chain(g.cells.iter().map(|c| &c.id)))
    }

    /// What is left of it where these cells have finished. A group with a cell that has not is booted
    /// again.
    pub fn without(mut self, finished: &BTreeSet<CellId>) -> Plan {
        self.groups.retain(|g| {
            !finished.contains(&g.boot) || g.cells.iter().any(|c| !finished.contains(&c.id))
        });
        for group in &mut self.groups {
            group.cells.retain(|c| !finished.contains(&c.id));
        }
        self
    }
}

/// Every page idle before, the fixture's own operations, and the check that nothing is left.
fn teardown(fixture: &Fixture) -> Vec<PlannedStep> {
    let checkpoint = |name: &str| Op::Checkpoint { name: name.into() };
    [checkpoint("before")]
        .into_iter()
        .chain(fixture.teardown.iter().cloned())
        .chain([Op::TornDown {}, checkpoint("torn down")])
        .map(PlannedStep::must)
        .collect()
}

/// Makes the plan.
///
/// `kernels` are the sides: name as typed and contract, the baseline first.
///
/// # Errors
/// Where a case's condition can't be decided by a contract, or its fixture does not exist.
pub fn plan(
    kernels: &[(String, Contract)],
    cases: &[Case],
    fixtures: &BTreeMap<String, Fixture>,
    filter: &Filter,
) -> Result<Plan, SpecError> {
    let mut out = Plan::default();
    for (fixture_name, fixture) in fixtures {
        for (side, (kernel, contract)) in kernels.iter().enumerate() {
            let id = |suite: &str, case: &str| CellId {
                suite: suite.into(),
                fixture: fixture_name.clone(),
                case: case.into(),
                side,
                kernel: kernel.clone(),
            };
            let mut cells = Vec::new();
            for case in cases {
                if !case.fixtures.contains(fixture_name) || !filter.selects(case, fixture, fixtures)
                {
                    continue;
                }
                cells.push(PlannedCell {
                    id: id(&case.suite, &case.name),
                    title: case.title.clone(),
                    case_path: case.path.clone(),
                    steps: case.steps(Facts { contract, fixture })?,
                    known_failures: case
                        .known
                        .iter()
                        .filter(|k| k.holds(&contract.name, fixture_name))
                        .map(|k| KnownFailure {
                            what: known_what(k),
                            sometimes: k.sometimes,
                            reason: match &k.commit {
                                Some(commit) => format!("{} (until {commit})", k.reason),
                                None => k.reason.clone(),
                            },
                        })
                        .collect(),
                    skip: case.skip_reason(Facts { contract, fixture })?,
                    emulated: match filter.asks_for(case) {
                        true => None,
                        false => case.emulated.clone(),
                    },
                    config: case.config.clone(),
                    programs: case.programs().map(str::to_owned).collect(),
                    of_fixture: false,
                });
            }
            if filter.selects_teardown(fixture) {
                cells.push(PlannedCell {
                    id: id(BOOT, TEARDOWN),
                    title: "the fixture taken down, and nothing of it left".into(),
                    case_path: fixture.path.clone(),
                    steps: teardown(fixture),
                    known_failures: Vec::new(),
                    skip: None,
                    emulated: None,
                    config: Vec::new(),
                    programs: Vec::new(),
                    of_fixture: true,
                });
            }
            if !cells.is_empty() {
                out.groups.push(Group {
                    skip: fixture.skip_reason(contract)?,
                    side,
                    fixture: fixture.clone(),
                    boot: id(BOOT, "provision"),
                    cells,
                });
            }
        }
    }
    Ok(out)
}

fn known_what(known: &Known) -> KnownWhat {
    if let Some(v) = &known.violation {
        return KnownWhat::Violation {
            checkpoint: v.checkpoint.clone(),
            what: v.what.clone(),
            expected: v.expected.clone(),
            found: v.found.clone(),
        };
    }
    if let Some(title) = &known.report {
        return KnownWhat::Report {
            title: title.clone(),
        };
    }
    if let Some(o) = &known.outcome {
        return KnownWhat::Outcome {
            op: o.op.clone(),
            gives: o.gives.clone(),
        };
    }
    if let Some(end) = known.end {
        let how = match end {
            KnownEnd::Died => "died",
            KnownEnd::Hung => "hung",
        };
        return KnownWhat::End { how: how.into() };
    }
    KnownWhat::Test {
        name: known.test.clone().unwrap_or_default(),
    }
}
