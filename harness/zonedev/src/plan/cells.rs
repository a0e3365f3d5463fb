//! The cells of a matrix, grouped by the template that they are cloned from.

use std::collections::BTreeMap;

use crate::record::{CellId, KnownFailure};
use crate::spec::{Case, Contract, Fixture, PlannedStep, SpecError};

use super::Filter;

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
    /// Tests of a program that this contract's kernels are known to fail.
    pub known_failures: Vec<KnownFailure>,
    /// Why it does not run, where it doesn't.
    pub skip: Option<String>,
    /// Options that the kernel's config must have set, without `CONFIG_`.
    pub config: Vec<String>,
    /// Programs of the initramfs that it runs.
    pub programs: Vec<String>,
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
                if !case.fixtures.contains(fixture_name) || !filter.selects(case, fixture_name) {
                    continue;
                }
                cells.push(PlannedCell {
                    id: id(&case.suite, &case.name),
                    title: case.title.clone(),
                    case_path: case.path.clone(),
                    steps: case.steps(contract)?,
                    known_failures: case
                        .known
                        .iter()
                        .filter(|k| k.holds(&contract.name, fixture_name))
                        .map(|k| KnownFailure {
                            test: k.test.clone(),
                            reason: match &k.commit {
                                Some(commit) => format!("{} (until {commit})", k.reason),
                                None => k.reason.clone(),
                            },
                        })
                        .collect(),
                    skip: case.skip.clone(),
                    config: case.config.clone(),
                    programs: case.programs().map(str::to_owned).collect(),
                });
            }
            if !cells.is_empty() {
                out.groups.push(Group {
                    side,
                    fixture: fixture.clone(),
                    boot: id("boot", "provision"),
                    cells,
                });
            }
        }
    }
    Ok(out)
}
