//! Which cases a request means: `-s SUITE` and `-E TEXT`.

use thiserror::Error;

use crate::spec::Case;

/// The selection.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    suites: Vec<String>,
    texts: Vec<String>,
    full: bool,
}

/// A selection that can't be meant.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// No suite is called so.
    #[error("select the suite `{0}`: there is none of that name; there are {1}")]
    NoSuchSuite(String, String),
}

impl Filter {
    /// Suites by name (none: all), and texts of which each must be part of `suite/fixture/case`.
    ///
    /// # Errors
    /// Where a suite does not exist.
    pub fn new(suites: &[String], texts: &[String], cases: &[Case]) -> Result<Self, FilterError> {
        let mut known: Vec<&str> = cases.iter().map(|c| c.suite.as_str()).collect();
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
        })
    }

    /// Means those cases too that run only where they are asked for.
    #[must_use]
    pub fn full(mut self, full: bool) -> Self {
        self.full = full;
        self
    }

    /// Whether a case on a fixture is selected.
    pub fn selects(&self, case: &Case, fixture: &str) -> bool {
        let path = format!("{}/{fixture}/{}", case.suite, case.name);
        let asked = self.full || !self.suites.is_empty() || !self.texts.is_empty();
        (case.default || asked)
            && (self.suites.is_empty() || self.suites.contains(&case.suite))
            && self.texts.iter().all(|t| path.contains(t.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SpecFile;

    #[test]
    fn what_is_not_the_default_runs_where_it_is_asked_for() {
        let text = "title = \"t\"\nfixtures = [\"mm\"]\ndefault = false\n\
                    [[step]]\ndo = \"checkpoint\"\nname = \"c\"\n";
        let file = SpecFile::from_text("suites/upstream/cow.toml".into(), text);
        let cases = Case::parse("upstream", "cow", &file).unwrap();
        let selects = |suites: &[&str], texts: &[&str], full: bool| {
            let own = |list: &[&str]| -> Vec<String> { list.iter().map(|s| (*s).into()).collect() };
            let filter = Filter::new(&own(suites), &own(texts), &cases).unwrap();
            filter.full(full).selects(&cases[0], "mm")
        };
        assert!(!selects(&[], &[], false));
        assert!(selects(&[], &[], true));
        assert!(selects(&["upstream"], &[], false));
        assert!(selects(&[], &["mm/cow"], false));
        assert!(!selects(&[], &["pin"], true));
    }
}
