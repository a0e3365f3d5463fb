//! Which cases a request means: `-s SUITE`, `-E TEXT` and `--full`.
//!
//! Some fixtures are `full`: they take part where the full matrix is asked for, or where a text
//! names them, that is, would not be found without the fixture's name. So `-E reflink` means
//! `fsdax-xfs-reflink`, and `-E pin` means the usual fixtures. A case that has no usual fixture
//! takes part where `-s` or `-E` select it. The teardown of a fixture
//! (`boot/FIXTURE/teardown`) takes part in the full matrix, and where `-s` or `-E` select it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::spec::{Case, Fixture};

/// The suite of the cells that come from fixtures.
pub(super) const BOOT: &str = "boot";
/// The case that takes a fixture down.
pub(super) const TEARDOWN: &str = "teardown";

/// The selection.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    suites: Vec<String>,
    texts: Vec<String>,
    full: bool,
    /// All suites there are.
    known: Vec<String>,
}

/// A selection that can't be meant.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// No suite is called so.
    #[error("select the suite `{0}`: there is none of that name; there are {1}")]
    NoSuchSuite(String, String),
}

impl Filter {
    /// Suites by name (none: all), and texts of which each must be part of `suite/fixture/case`, or
    /// after a `=` all of it.
    ///
    /// # Errors
    /// Where a suite does not exist.
    pub fn new(suites: &[String], texts: &[String], cases: &[Case]) -> Result<Self, FilterError> {
        let mut known: Vec<&str> = cases.iter().map(|c| c.suite.as_str()).collect();
        known.push(BOOT);
        known.sort_unstable();
        known.dedup();
        for s in suites {
            if !known.contains(&s.as_str()) {
                return Err(FilterError::NoSuchSuite(s.clone(), known.join(", ")));
            }
        }
        Ok(Self {
            suites: suites.to_vec(),
            texts: texts.to_vec(),
            full: false,
            known: known.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The same with the full matrix, or without.
    #[must_use]
    pub fn full(self, full: bool) -> Self {
        Self { full, ..self }
    }

    /// Whether a case on a fixture, of all these, is selected.
    pub fn selects(&self, case: &Case, fixture: &Fixture, all: &BTreeMap<String, Fixture>) -> bool {
        let has_usual = || {
            let mut of = case.fixtures.iter().filter_map(|name| all.get(name));
            of.any(|f| !f.full)
        };
        (case.default || self.full || self.asked())
            && (self.full
                || !fixture.full
                || self.names(&case.suite, &fixture.name, &case.name)
                || (self.asked() && !has_usual()))
            && self.matches(&case.suite, &fixture.name, &case.name)
    }

    /// Whether a text means this case by its own name, not only the list that it is of.
    pub fn asks_for(&self, case: &Case) -> bool {
        let list = case.path.file_stem().unwrap_or_default();
        let named = |t: &String| case.name.contains(t.as_str()) && !list.contains(t.as_str());
        self.texts.iter().any(named)
    }

    /// Whether a fixture's teardown is selected.
    pub fn selects_teardown(&self, fixture: &Fixture) -> bool {
        let fixture_takes_part =
            self.full || !fixture.full || self.names(BOOT, &fixture.name, TEARDOWN);
        (self.full || self.asked())
            && fixture_takes_part
            && self.matches(BOOT, &fixture.name, TEARDOWN)
    }

    /// Whether the request says anything of what it wants.
    fn asked(&self) -> bool {
        !self.suites.is_empty() || !self.texts.is_empty()
    }

    fn matches(&self, suite: &str, fixture: &str, case: &str) -> bool {
        let path = format!("{suite}/{fixture}/{case}");
        (self.suites.is_empty() || self.suites.iter().any(|s| s == suite))
            && self.texts.iter().all(|t| is_part(t, &path))
    }

    /// Whether a text means this fixture by its name: not a suite, and not the case.
    fn names(&self, suite: &str, fixture: &str, case: &str) -> bool {
        let path = format!("{suite}/{fixture}/{case}");
        self.texts.iter().any(|t| {
            is_part(t, &path)
                && !case.contains(t.as_str())
                && !self.known.iter().any(|s| s.contains(t.as_str()))
        })
    }
}

fn is_part(text: &str, path: &str) -> bool {
    match text.strip_prefix('=') {
        Some(whole) => whole == path,
        None => path.contains(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SpecFile;

    fn fixture(name: &str, full: bool) -> Fixture {
        let text = format!("title = \"x\"\nfull = {full}\n");
        Fixture::parse(name, &SpecFile::from_text("x.toml".into(), text)).unwrap()
    }

    fn case(suite: &str, name: &str) -> Case {
        let text = "title = \"x\"\nfixtures = [\"usual\"]\n[[step]]\ndo = \"exit\"\n";
        let file = SpecFile::from_text("x.toml".into(), text);
        Case::parse(suite, name, &file).unwrap().remove(0)
    }

    #[test]
    fn a_whole_path_means_no_other_case() {
        assert!(is_part("pin", "fsdax/fsdax-ext4/pin-direct"));
        assert!(!is_part(
            "=fsdax/fsdax-ext4/pin",
            "fsdax/fsdax-ext4/pin-direct"
        ));
        assert!(is_part("=fsdax/fsdax-ext4/pin", "fsdax/fsdax-ext4/pin"));
    }

    fn selects(texts: &[&str], full: bool, of: &Fixture) -> (bool, bool) {
        let case = case("fsdax", "pin-vmsplice");
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let filter = Filter::new(&[], &texts, std::slice::from_ref(&case))
            .unwrap()
            .full(full);
        let all = BTreeMap::from([("usual".to_owned(), fixture("usual", false))]);
        (filter.selects(&case, of, &all), filter.selects_teardown(of))
    }

    #[test]
    fn a_case_without_a_usual_fixture_takes_part_when_it_is_selected() {
        let of = fixture("usual", true);
        let all = BTreeMap::from([("usual".to_owned(), of.clone())]);
        let case = case("fsdax", "pin-vmsplice");
        let selects = |suites: &[&str], texts: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
            Filter::new(&own(suites), &own(texts), std::slice::from_ref(&case))
                .unwrap()
                .selects(&case, &of, &all)
        };
        assert!(!selects(&[], &[]));
        assert!(selects(&[], &["pin"]));
        assert!(selects(&["fsdax"], &[]));
        assert!(!selects(&["boot"], &[]));
    }

    #[test]
    fn a_full_fixture_takes_part_when_it_is_named() {
        let (usual, more) = (
            fixture("fsdax-ext4", false),
            fixture("fsdax-xfs-reflink", true),
        );
        assert_eq!(selects(&[], false, &usual), (true, false));
        assert_eq!(selects(&[], false, &more), (false, false));
        assert_eq!(selects(&[], true, &usual), (true, true));
        assert_eq!(selects(&[], true, &more), (true, true));
        assert_eq!(selects(&["pin"], false, &more), (false, false));
        assert_eq!(selects(&["fsdax"], false, &more), (false, false));
        assert_eq!(selects(&["reflink"], false, &more), (true, true));
        assert_eq!(selects(&["reflink", "pin"], false, &more), (true, false));
        assert_eq!(selects(&["xfs-reflink/pin"], false, &more), (true, false));
        assert_eq!(selects(&["fsdax-ext4/"], false, &usual), (true, true));
        assert_eq!(selects(&["teardown"], false, &usual), (false, true));
    }

    #[test]
    fn the_boot_cells_are_a_suite_and_an_unknown_one_is_told() {
        let cases = [case("fsdax", "a")];
        let new = |suite: &str| Filter::new(&[suite.to_owned()], &[], &cases);
        assert!(new("boot").unwrap().selects_teardown(&fixture("f", false)));
        assert!(!new("fsdax").unwrap().selects_teardown(&fixture("f", false)));
        assert!(new("fs").is_err());
    }

    #[test]
    fn what_is_not_the_default_runs_where_it_is_asked_for() {
        let text = "title = \"t\"\nfixtures = [\"mm\"]\ndefault = false\n\
                    [[step]]\ndo = \"checkpoint\"\nname = \"c\"\n";
        let file = SpecFile::from_text("suites/upstream/cow.toml".into(), text);
        let cases = Case::parse("upstream", "cow", &file).unwrap();
        let selects = |suites: &[&str], texts: &[&str], full: bool| {
            let own = |list: &[&str]| -> Vec<String> { list.iter().map(|s| (*s).into()).collect() };
            let filter = Filter::new(&own(suites), &own(texts), &cases).unwrap();
            let all = BTreeMap::from([("mm".to_owned(), fixture("mm", false))]);
            filter.full(full).selects(&cases[0], &all["mm"], &all)
        };
        assert!(!selects(&[], &[], false));
        assert!(selects(&[], &[], true));
        assert!(selects(&["upstream"], &[], false));
        assert!(selects(&[], &["mm/cow"], false));
        assert!(!selects(&[], &["pin"], true));
    }
}
