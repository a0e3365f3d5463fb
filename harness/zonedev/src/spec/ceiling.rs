//! `suites/SUITE/skips.toml`: how much of a suite may be skipped on kernels of a contract.
//!
//! ```toml
//! [[ceiling]]
//! contract = "5.10"
//! skips = 12
//! ```
//! What is not listed may skip nothing.

use camino::Utf8Path;
use serde::Deserialize;
use toml::Spanned;

use super::{SpecError, SpecFile};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCeiling {
    contract: String,
    skips: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CeilingFile {
    #[serde(default)]
    ceiling: Vec<Spanned<RawCeiling>>,
}

/// How many skips a suite may have: cells that did not run and tests that a program left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceilings(Vec<(String, u64)>);

impl Ceilings {
    /// The file's name in a suite's folder.
    pub const FILE: &'static str = "skips.toml";

    /// Reads `DIR/skips.toml`; a suite without one may skip nothing.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn load(dir: &Utf8Path) -> Result<Self, SpecError> {
        let path = dir.join(Self::FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        Self::parse(&SpecFile::read(&path, "the ceilings of skips")?)
    }

    /// Checks the file's text.
    ///
    /// # Errors
    /// Names the line of a contract that is there twice.
    pub fn parse(file: &SpecFile) -> Result<Self, SpecError> {
        let parsed: CeilingFile = file.parse()?;
        let mut out: Vec<(String, u64)> = Vec::new();
        for one in parsed.ceiling {
            let span = one.span();
            let one = one.into_inner();
            if out.iter().any(|(contract, _)| *contract == one.contract) {
                return Err(file.error(
                    span,
                    format!("the contract `{}` is there twice", one.contract),
                    "keep one ceiling a contract",
                ));
            }
            out.push((one.contract, one.skips));
        }
        Ok(Self(out))
    }

    /// The most skips for kernels of this contract.
    pub fn of(&self, contract: &str) -> u64 {
        let found = self.0.iter().find(|(c, _)| c == contract);
        found.map_or(0, |(_, skips)| *skips)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_can_be_read() {
        let suites = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../suites");
        for suite in suites.read_dir_utf8().unwrap().flatten() {
            Ceilings::load(suite.path()).unwrap();
        }
    }

    #[test]
    fn what_is_not_listed_may_skip_nothing() {
        let parse = |text: &str| {
            Ceilings::parse(&SpecFile::from_text(
                Utf8Path::new("suites/x/skips.toml"),
                text,
            ))
        };
        let one = "[[ceiling]]\ncontract = \"5.10\"\nskips = 3\n";
        let ceilings = parse(one).unwrap();
        assert_eq!((ceilings.of("5.10"), ceilings.of("6.12")), (3, 0));
        let e = parse(&format!("{one}{one}")).unwrap_err();
        assert_eq!(
            e.to_string(),
            "suites/x/skips.toml:4: the contract `5.10` is there twice"
        );
    }
}
