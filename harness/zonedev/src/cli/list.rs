//! `zonedev list`.

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::plan;
use crate::report;
use crate::spec::{self, KernelStore};

use super::args::{BuildOptions, ListArgs, ListWhat};
use super::exit::{Exit, Failure};
use super::setup::{self, Cases};

pub(super) fn run(project: &Utf8Path, args: &ListArgs) -> Result<Exit, Failure> {
    match args.what {
        ListWhat::Operations => {
            let filters = &args.selection.filters;
            let mut all = spec::operations();
            all.retain(|op| filters.iter().all(|f| op.word.contains(f.as_str())));
            if all.is_empty() {
                return Err(Failure::nothing_selected(
                    "no operation was selected",
                    "each -E must be a part of its name",
                ));
            }
            out!("{}", report::vocabulary(&all));
            Ok(Exit::Good)
        }
        ListWhat::Fixtures => {
            let Cases { fixtures, .. } = setup::cases(project, &args.selection)?;
            for (name, fixture) in &fixtures {
                let full = if fixture.full { " (--full)" } else { "" };
                outln!("{name:24} {}{full}", fixture.title);
            }
            Ok(Exit::Good)
        }
        ListWhat::Kernels => kernels(&KernelStore::new(project.join("kernels"))),
        ListWhat::Suites => {
            let Cases { all: cases, .. } = setup::cases(project, &args.selection)?;
            let mut counts = BTreeMap::<String, usize>::new();
            for case in &cases {
                *counts.entry(case.suite.clone()).or_default() += 1;
            }
            for (suite, n) in counts {
                outln!("{suite:16} {n} cases");
            }
            Ok(Exit::Good)
        }
        ListWhat::Cases => {
            let Cases {
                all: cases,
                fixtures,
                filter,
            } = setup::cases(project, &args.selection)?;
            let mut any = false;
            for case in &cases {
                let on: Vec<&str> = case
                    .fixtures
                    .iter()
                    .filter_map(|f| fixtures.get(f))
                    .filter(|f| filter.selects(case, f, &fixtures))
                    .map(|f| f.name.as_str())
                    .collect();
                if !on.is_empty() {
                    any = true;
                    outln!(
                        "{}/{}  [{}]\n    {}",
                        case.suite,
                        case.name,
                        on.join(", "),
                        case.title
                    );
                }
            }
            selected(any)
        }
        ListWhat::Cells => {
            let ctx = setup::build_context(project, &BuildOptions::default())?;
            let requested = setup::resolve(&ctx, &args.selection.kernels)?;
            let Cases {
                all: cases,
                fixtures,
                filter,
            } = setup::cases(project, &args.selection)?;
            let kernels: Vec<_> = requested
                .into_iter()
                .map(|r| (r.name, r.contract))
                .collect();
            let mut plan = plan::plan(&kernels, &cases, &fixtures, &filter)?;
            if let Some(partition) = args.selection.partition {
                plan = plan.part(partition);
            }
            for group in &plan.groups {
                let skipped = match &group.skip {
                    Some(reason) => format!("  (skipped: {reason})"),
                    None => String::new(),
                };
                outln!("{}{skipped}", group.boot);
                for cell in &group.cells {
                    outln!("{}{skipped}", cell.id);
                }
            }
            selected(!plan.groups.is_empty())
        }
    }
}

fn selected(any: bool) -> Result<Exit, Failure> {
    if any {
        Ok(Exit::Good)
    } else {
        Err(Failure::nothing_selected(
            "no case was selected",
            "each -E must be a part of SUITE/FIXTURE/CASE",
        ))
    }
}

fn kernels(store: &KernelStore) -> Result<Exit, Failure> {
    for name in store.names()? {
        let kernel = store.kernel(&name)?;
        outln!("{name:30} {} (contract {})", kernel.title, kernel.contract);
    }
    for name in store.series_names()? {
        let series = store.series(&name)?;
        for base in &series.bases {
            outln!("{:30} {}", format!("{base}+{name}"), series.title);
        }
    }
    for name in store.flavour_names()? {
        outln!(
            "{:30} {} (any kernel)",
            format!("KERNEL:{name}"),
            store.flavour(&name)?.title
        );
    }
    Ok(Exit::Good)
}
