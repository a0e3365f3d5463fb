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
