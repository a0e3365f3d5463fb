//! `kernels/mutants/mutants.toml`: kernels that are broken on purpose, and what is expected to see it.
//!
//! ```toml
//! [[mutant]]
//! name = "fsdax-wakeup"
//! kernel = "7.3"                      # what the patch goes on
//! patch = "fsdax-wakeup-7.3.patch"    # beside this file
//! breaks = "do not wake up who waits for an fsdax folio"
//! suites = ["fsdax"]                  # where to look, as -s and -E of `zonedev matrix`
//! filters = ["fsdax-ext4", "pin"]
//! finding = { kind = "kernel-hung", case = "truncate-pinned", at = "wait" }
//! ```

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use toml::Spanned;

use super::{SpecError, SpecFile};
use crate::record::FailureKind;

/// A kernel that is broken on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name, of its own.
    pub name: String,
    /// What the patch goes on, as `-k` takes it.
    pub kernel: String,
    /// The patch's file, beside the list.
    pub patch: String,
    /// What it breaks, in words.
    pub breaks: String,
    /// Where to look.
    pub suites: Vec<String>,
    /// Parts of SUITE/FIXTURE/CASE, all of them.
    #[serde(default)]
    pub filters: Vec<String>,
    /// What is expected to be found.
    pub finding: Finding,
    /// Why it is known not to be found, where it is.
    #[serde(default)]
    pub missed: Option<String>,
}

/// What is expected of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The sort of failure; absent: nothing fails, and the cell differs from the unbroken kernel's.
    #[serde(default)]
    pub kind: Option<FailureKind>,
    /// A part of the SUITE/FIXTURE/CASE of a cell that fails so.
    pub case: String,
    /// Where in the case: a checkpoint, an operation's word, or a program's test.
    #[serde(default)]
    pub at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MutantFile {
    mutant: Vec<Spanned<Mutant>>,
}

impl Mutant {
    /// Reads `DIR/mutants.toml`.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn load(dir: &Utf8Path) -> Result<Vec<Mutant>, SpecError> {
        let file = SpecFile::read(&dir.join("mutants.toml"), "the list of mutants")?;
        let parsed: MutantFile = file.parse()?;
        let mut out: Vec<Mutant> = Vec::new();
        for one in parsed.mutant {
            let (span, one) = (one.span(), one.into_inner());
            if out.iter().any(|o| o.name == one.name) {
                let message = format!("the mutant `{}` is there twice", one.name);
                return Err(file.error(span, message, "give each a name of its own"));
            }
            if !dir.join(&one.patch).is_file() {
                let message = format!("there is no patch `{}` beside this file", one.patch);
                return Err(file.error(span, message, "name a file of kernels/mutants/"));
            }
            out.push(one);
        }
        Ok(out)
    }

    /// The broken kernel, as `-k` takes it.
    pub fn broken(&self, dir: &Utf8Path) -> String {
        let patch: Utf8PathBuf = dir.join(&self.patch);
        format!("{}+{patch}", self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_are_there_with_their_changelogs() {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/mutants");
        let mutants = Mutant::load(&dir).unwrap();
        assert!(!mutants.is_empty());
        for mutant in mutants {
            let patch = fs_err::read_to_string(dir.join(&mutant.patch)).unwrap();
            assert!(patch.contains("MUTANT: "), "{}", mutant.name);
            assert!(
                patch.contains("SPDX-License-Identifier: GPL-2.0-only"),
                "{}",
                mutant.name
            );
        }
    }
}
