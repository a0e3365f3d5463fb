//! `suites/unreachable.toml`: functions that no guest of ours can run, and why.
//!
//! ```toml
//! [[unreachable]]
//! reason = "the driver is built in, and does not go"
//! functions = ["dax_exit"]
//! ```

use camino::Utf8Path;
use serde::Deserialize;
use toml::Spanned;

use super::{SpecError, SpecFile};

/// Functions, and why they can't run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unreachable {
    /// Why.
    pub reason: String,
    /// Their names; a kernel need not have them all.
    pub functions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnreachableFile {
    #[serde(default)]
    unreachable: Vec<Spanned<Unreachable>>,
}

impl Unreachable {
    /// The file's name in the folder of the suites.
    pub const FILE: &'static str = "unreachable.toml";

    /// Reads `DIR/unreachable.toml`; without one, everything can run.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn load(dir: &Utf8Path) -> Result<Vec<Self>, SpecError> {
        let path = dir.join(Self::FILE);
        match path.exists() {
            true => Self::parse(&SpecFile::read(&path, "the functions that can't run")?),
            false => Ok(Vec::new()),
        }
    }

    /// Checks the file's text.
    ///
    /// # Errors
    /// Names the line of a function that is there twice.
    pub fn parse(file: &SpecFile) -> Result<Vec<Self>, SpecError> {
        let parsed: UnreachableFile = file.parse()?;
        let mut out: Vec<Unreachable> = Vec::new();
        for one in parsed.unreachable {
            let span = one.span();
            let one = one.into_inner();
            let listed = |f: &&String| out.iter().any(|o| o.functions.contains(f));
            if let Some(twice) = one.functions.iter().find(listed) {
                return Err(file.error(
                    span,
                    format!("the function `{twice}` is there twice"),
                    "keep it where its reason is",
                ));
            }
            out.push(one);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_can_be_read() {
        let suites = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../suites");
        assert!(!Unreachable::load(&suites).unwrap().is_empty());
    }

    #[test]
    fn a_function_has_one_reason() {
        let parse = |text: &str| {
            Unreachable::parse(&SpecFile::from_text(
                Utf8Path::new("suites/unreachable.toml"),
                text,
            ))
        };
        let one = "[[unreachable]]\nreason = \"r\"\nfunctions = [\"f\"]\n";
        assert_eq!(parse(one).unwrap()[0].functions, ["f"]);
        assert_eq!(
            parse(&format!("{one}{one}")).unwrap_err().to_string(),
            "suites/unreachable.toml:4: the function `f` is there twice"
        );
    }
}
