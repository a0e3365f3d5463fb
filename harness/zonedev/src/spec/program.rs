//! Lists of programs: the kernel's own tests, ndctl's, and whoever's else are run as they are.
//! Each program of a list is a case: the pages are read, it runs to its end, and they are read again.
//!
//! ```toml
//! [shared]            # for all of the list, each key can be given by a program too
//! cwd = "/mnt"
//! [[program]]
//! name = "gup_test-u" # the case is called LIST-gup_test-u
//! argv = ["/usr/bin/gup_test", "-u"]
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `root` | it is a program of the root file system; else one of the initramfs |
//! | `cwd` | the directory that it begins in |
//! | `reads` | `program` (default) or `fstests`: how its results are read |
//! | `config` | options that the kernel must have, without `CONFIG_`; where one is missing the case is skipped |
//! | `skip` | why it never runs |
//! | `emulated` | why it does not run in software emulation, unless `-E` names it |
//! | `minutes` | how long it may run, in minutes of guest time, where that is longer than usual |
//! | `poisons` | it fails pages of memory on purpose, and may leave them so |
//! | `splats` | titles of kernel reports that it causes on purpose |
//! | `splats_if` | more of them under a condition |
//! | `every_splat` | whether each of them must come |
//! | `ends` | how the guest ends by it: `panic`, `guest-reset`, `guest-shutdown` or `hung` |

use std::collections::BTreeMap;

use proto::Op;
use serde::Deserialize;
use toml::Spanned;

use super::case::{Reads, ends_guest};
use super::{SpecError, SpecFile};

/// `[shared]`: what the programs of a list have in common.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shared {
    #[serde(default)]
    root: bool,
    cwd: Option<String>,
    #[serde(default)]
    reads: Reads,
    #[serde(default)]
    config: Vec<String>,
    /// Words before each program's own.
    #[serde(default)]
    argv: Vec<String>,
    #[serde(default)]
    every_splat: bool,
}

/// `[[program]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProgramTable {
    name: String,
    title: Option<String>,
    #[serde(default)]
    argv: Vec<String>,
    fixtures: Option<Vec<String>>,
    root: Option<bool>,
    cwd: Option<String>,
    reads: Option<Reads>,
    #[serde(default)]
    config: Vec<String>,
    skip: Option<String>,
    emulated: Option<String>,
    #[serde(default)]
    splats: Vec<String>,
    #[serde(default)]
    splats_if: BTreeMap<String, Vec<String>>,
    ends: Option<Spanned<String>>,
    minutes: Option<u64>,
    #[serde(default)]
    poisons: bool,
}

/// A program of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) fixtures: Option<Vec<String>>,
    pub(super) run: Op,
    pub(super) reads: Reads,
    pub(super) config: Vec<String>,
    pub(super) skip: Option<String>,
    pub(super) emulated: Option<String>,
    pub(super) splats: Vec<String>,
    pub(super) splats_if: BTreeMap<String, Vec<String>>,
    pub(super) every_splat: bool,
    /// How the guest ends by it, where it does.
    pub(super) ends: Option<String>,
}

/// Checks a list.
pub(super) fn programs(
    file: &SpecFile,
    shared: Shared,
    tables: Vec<Spanned<ProgramTable>>,
) -> Result<Vec<Listed>, SpecError> {
    let mut out: Vec<Listed> = Vec::new();
    for table in tables {
        let span = table.span();
        let table = table.into_inner();
        let name = table.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
            return Err(file.error(
                span,
                format!("`{name}` is no name of a case"),
                "use letters, digits, dots, dashes and underscores",
            ));
        }
        if out.iter().any(|p| p.name == name) {
            return Err(file.error(
                span,
                format!("the program `{name}` is there twice"),
                "give each program of a list a name of its own",
            ));
        }
        let argv: Vec<String> = shared.argv.iter().cloned().chain(table.argv).collect();
        if argv.first().is_none_or(|p| !p.starts_with('/')) {
            return Err(file.error(
                span,
                format!("the program `{name}` has no place"),
                "begin `argv` with the program's path in the guest",
            ));
        }
        if let Some(ends) = table.ends.as_ref().filter(|e| !ends_guest(e.get_ref())) {
            return Err(file.error(
                ends.span(),
                format!("no guest ends by `{}`", ends.get_ref()),
                "use `panic`, `guest-reset`, `guest-shutdown` or `hung`",
            ));
        }
        out.push(Listed {
            title: table.title.unwrap_or_else(|| argv.join(" ")),
            name,
            fixtures: table.fixtures,
            run: Op::Run {
                argv,
                root: table.root.unwrap_or(shared.root),
                minutes: table.minutes,
                poisons: table.poisons,
                cwd: table.cwd.or_else(|| shared.cwd.clone()),
            },
            reads: table.reads.unwrap_or(shared.reads),
            config: shared.config.iter().cloned().chain(table.config).collect(),
            skip: table.skip,
            emulated: table.emulated,
            splats: table.splats,
            splats_if: table.splats_if,
            every_splat: shared.every_splat,
            ends: table.ends.map(Spanned::into_inner),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Case, SpecFile};
    use camino::Utf8Path;

    fn parse(text: &str) -> Result<Vec<Case>, super::SpecError> {
        let head = "title = \"t\"\nfixtures = [\"f\"]\ndefault = false\n";
        let file = SpecFile::from_text(Utf8Path::new("suites/x/mm.toml"), format!("{head}{text}"));
        Case::parse("x", "mm", &file)
    }

    #[test]
    fn each_program_is_a_case() {
        let cases = parse(
            "[shared]\nargv = [\"/usr/bin/a\"]\nconfig = [\"GUP_TEST\"]\n\
             [[program]]\nname = \"a-u\"\nargv = [\"-u\"]\n\
             [[program]]\nname = \"b\"\nskip = \"it needs nfit_test\"\nconfig = [\"X\"]\n\
             emulated = \"slow\"\n\
             [[known]]\nprogram = \"b\"\ntest = \"t\"\ncontracts = [\"6.12\"]\nreason = \"r\"\n",
        )
        .unwrap();
        let names: Vec<_> = cases.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["mm-a-u", "mm-b"]);
        assert!(!cases[0].default && cases[0].known.is_empty());
        assert_eq!(cases[0].title, "t: /usr/bin/a -u");
        assert_eq!(cases[0].programs().collect::<Vec<_>>(), ["a"]);
        assert_eq!(cases[1].config, ["GUP_TEST", "X"]);
        assert_eq!(cases[1].skip.as_deref(), Some("it needs nfit_test"));
        assert_eq!(cases[1].emulated.as_deref(), Some("slow"));
        assert!(cases[1].known[0].holds("6.12", "any"));
    }

    #[test]
    fn what_is_wrong_is_told_at_its_line() {
        let one = "[[program]]\nname = \"a\"\nargv = [\"/a\"]\n";
        for (text, said) in [
            (format!("{one}{one}"), "there twice"),
            (one.replace("\"a\"", "\"a/b\""), "no name of a case"),
            (one.replace("/a", "a"), "has no place"),
            (
                format!("{one}[[known]]\ntest = \"t\"\ncontracts = []\nreason = \"r\"\n"),
                "which program",
            ),
            (
                format!("{one}[[step]]\ndo = \"mount\"\n"),
                "no steps of its own",
            ),
            (one.replace("argv", "arg"), "unknown field"),
        ] {
            let e = parse(&text).unwrap_err();
            assert!(e.to_string().contains(said), "{e}");
            assert!(e.line().is_some_and(|l| l >= 4), "{e}");
        }
    }
}
