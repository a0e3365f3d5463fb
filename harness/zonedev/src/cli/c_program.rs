//! `zonedev c-program`.

use camino::{Utf8Path, Utf8PathBuf};

use crate::reproducer::{Reproduced, c_program};
use crate::spec::{Case, Facts, FixtureStore, SpecFile, SuiteStore};

use super::args::{BuildOptions, CProgramArgs};
use super::exit::{Exit, Failure};
use super::setup;

/// A case, and the fixture that it is to run on.
struct Meant {
    case: Case,
    fixture: String,
}

pub(super) fn run(project: &Utf8Path, args: &CProgramArgs) -> Result<Exit, Failure> {
    out!("{}", text(project, args)?);
    Ok(Exit::Good)
}

/// The program.
pub(super) fn text(project: &Utf8Path, args: &CProgramArgs) -> Result<String, Failure> {
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    let kernel = setup::resolve(&ctx, std::slice::from_ref(&args.kernel))?.remove(0);
    let meant = match args.case.ends_with(".toml") {
        true => of_file(&args.case, args.fixture.as_deref())?,
        false => of_suites(project, &args.case)?,
    };
    let fixture = FixtureStore::new(project.join("images/fixtures")).load(&meant.fixture)?;
    let facts = Facts {
        contract: &kernel.contract,
        fixture: &fixture,
    };
    let skipped = match fixture.skip_reason(&kernel.contract)? {
        Some(reason) => Some(reason),
        None => meant.case.skip_reason(facts)?,
    };
    if let Some(reason) = skipped {
        return Err(Failure::nothing_selected(
            format!("{} does not run on {}: {reason}", args.case, kernel.name),
            "name another kernel with -k",
        ));
    }
    let steps = meant.case.steps(facts)?;
    c_program(&Reproduced {
        name: &meant.case.name,
        title: &meant.case.title,
        kernel: &kernel.name,
        contract: &kernel.contract,
        fixture: &fixture,
        steps: &steps,
    })
    .map_err(|e| Failure::request(e.to_string(), "leave that operation out of the case"))
}

/// A file that stands on its own.
fn of_file(path: &str, fixture: Option<&str>) -> Result<Meant, Failure> {
    let path = Utf8PathBuf::from(path);
    let file = SpecFile::read(&path, "the case")?;
    let name = path.file_stem().unwrap_or("case");
    let case = Case::parse("", name, &file)?.into_iter().next();
    let fixture = |case: &Case| {
        fixture
            .map(str::to_owned)
            .or(case.fixtures.first().cloned())
    };
    case.and_then(|case| Some((fixture(&case)?, case)))
        .map(|(fixture, case)| Meant { case, fixture })
        .ok_or_else(|| Failure::request(format!("{path} names no fixture"), "add `fixtures`"))
}

/// One of suites/, by its whole name.
fn of_suites(project: &Utf8Path, name: &str) -> Result<Meant, Failure> {
    let mut parts = name.splitn(3, '/');
    let (suite, fixture, case) = (parts.next(), parts.next(), parts.next());
    let found = SuiteStore::new(project.join("suites"))
        .cases()?
        .into_iter()
        .find(|c| {
            Some(c.suite.as_str()) == suite
                && Some(c.name.as_str()) == case
                && c.fixtures.iter().any(|f| Some(f.as_str()) == fixture)
        });
    found
        .zip(fixture)
        .map(|(case, fixture)| Meant {
            case,
            fixture: fixture.to_owned(),
        })
        .ok_or_else(|| {
            Failure::nothing_selected(
                format!("there is no case {name}"),
                "give its whole SUITE/FIXTURE/CASE, as `zonedev list cases` tells them, or a .toml file",
            )
        })
}
