//! `images/selftests.toml`: which of a kernel's own mm selftests are built for the guest.

use camino::Utf8Path;
use serde::Deserialize;
use toml::Spanned;

use super::{SpecError, SpecFile};

/// A library that a selftest is linked with where it includes the library's header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The header, as it is included.
    pub header: String,
    /// The linker's words.
    pub link: Vec<String>,
    /// The Debian package that has both.
    pub package: String,
}

/// One program of selftests/mm (selftests/vm before 6.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    name: String,
    /// What it has to do with ZONE_DEVICE pages, for people.
    #[serde(rename = "why")]
    _why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelftestFile {
    local_config: String,
    #[serde(default)]
    library: Vec<Library>,
    program: Vec<Spanned<Program>>,
}

/// The selftests that guests can get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelftestSpec {
    /// What selftests/mm/Makefile would find out and write into local_config.h.
    pub local_config: String,
    /// Libraries by header.
    pub libraries: Vec<Library>,
    /// The programs' names: of their sources, without `.c`, and in the guest.
    pub programs: Vec<String>,
}

impl SelftestSpec {
    /// Reads `DIR/selftests.toml`.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn load(dir: &Utf8Path) -> Result<Self, SpecError> {
        Self::parse(&SpecFile::read(
            &dir.join("selftests.toml"),
            "the list of selftests",
        )?)
    }

    /// Checks the file's text.
    ///
    /// # Errors
    /// Names the line of a program that is there twice or is none.
    pub fn parse(file: &SpecFile) -> Result<Self, SpecError> {
        let parsed: SelftestFile = file.parse()?;
        let mut programs: Vec<String> = Vec::new();
        for program in parsed.program {
            let span = program.span();
            let name = program.into_inner().name;
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if name.is_empty() || !name.chars().all(plain) || programs.contains(&name) {
                return Err(file.error(
                    span,
                    format!("`{name}` is there twice or is no name of a selftest"),
                    "name each source of selftests/mm once, without `.c`",
                ));
            }
            programs.push(name);
        }
        Ok(Self {
            local_config: parsed.local_config,
            libraries: parsed.library,
            programs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_list_is_sound() {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        let spec = SelftestSpec::load(&dir).unwrap();
        assert!(spec.programs.iter().any(|p| p == "hmm-tests"));
    }

    #[test]
    fn a_program_twice_is_told_at_its_line() {
        let one = "[[program]]\nname = \"cow\"\nwhy = \"w\"\n";
        let text = format!("local_config = \"\"\n{one}{one}");
        let file = SpecFile::from_text(Utf8Path::new("images/selftests.toml"), text);
        let e = SelftestSpec::parse(&file).unwrap_err();
        assert!(
            e.to_string().starts_with("images/selftests.toml:5: `cow`"),
            "{e}"
        );
    }
}
