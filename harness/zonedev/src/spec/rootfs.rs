//! `images/rootfs.toml`: the root file system for suites that need a shell and a writable root.
//!
//! It is made of Debian's packages and not of the host's programs: the same on every host,
//! whatever that host has under /usr, and with a C library of its own for what is compiled for it.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{SpecError, SpecFile};

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootLink {
    /// Where it is.
    pub path: String,
    /// Where it leads.
    pub target: String,
}

/// A small text file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    /// Its path.
    pub path: String,
    /// What it says.
    pub text: String,
    /// Whether it is a program.
    #[serde(default)]
    pub executable: bool,
}

/// A test program that is compiled for the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestProgram {
    /// Its name.
    pub name: String,
    /// Its sources, from the top of their package.
    pub sources: Vec<String>,
    /// The linker's words.
    #[serde(default)]
    pub link: Vec<String>,
}

/// Tests from a source package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTests {
    /// The source package; of it, the upstream tarball is used.
    pub package: String,
    /// Where its tests go.
    pub dir: String,
    /// Files that are taken as they are: a directory of the source whose plain files all come.
    pub copy: String,
    /// Include paths, from the top of the package.
    #[serde(default)]
    pub include: Vec<String>,
    /// The config.h that its build system would write.
    pub config_h: String,
    /// What is compiled.
    #[serde(default)]
    pub program: Vec<TestProgram>,
}

/// A root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootSpec {
    /// One line for people.
    pub title: String,
    /// Debian's suite.
    pub suite: String,
    /// Packages; what they depend on comes with them.
    pub packages: Vec<String>,
    /// Packages against which the tests are compiled; not in the guest.
    #[serde(default)]
    pub build_packages: Vec<String>,
    /// Packages that others ask for and no test uses.
    #[serde(default)]
    pub without: Vec<String>,
    /// Paths that stay out, from the root, without a leading `/`.
    #[serde(default)]
    pub leave_out: Vec<String>,
    /// Directories that are there and empty.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Links.
    #[serde(default)]
    pub link: Vec<RootLink>,
    /// Text files.
    #[serde(default)]
    pub file: Vec<RootFile>,
    /// Tests of source packages.
    #[serde(default)]
    pub tests: Vec<SourceTests>,
}

/// What is checked with its place before the rest is taken as it is.
#[derive(Deserialize)]
struct Places {
    suite: Spanned<String>,
    packages: Vec<Spanned<String>>,
    #[serde(default)]
    build_packages: Vec<Spanned<String>>,
    #[serde(default)]
    directories: Vec<Spanned<String>>,
    #[serde(default)]
    link: Vec<Spanned<RootLink>>,
    #[serde(default)]
    file: Vec<Spanned<RootFile>>,
    #[serde(default)]
    tests: Vec<Spanned<SourceTests>>,
}

impl RootSpec {
    /// Reads `DIR/NAME.toml`.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn load(dir: &Utf8Path, name: &str) -> Result<Self, SpecError> {
        let path: Utf8PathBuf = dir.join(format!("{name}.toml"));
        Self::parse(&SpecFile::read(
            &path,
            &format!("the root file system `{name}`"),
        )?)
    }

    /// Checks the file's text.
    ///
    /// # Errors
    /// Names the line of a path that leaves the root or a word that is no package's name.
    pub fn parse(file: &SpecFile) -> Result<Self, SpecError> {
        let spec: Self = file.parse()?;
        let places: Places = file.parse()?;
        let words = [&places.suite]
            .into_iter()
            .chain(&places.packages)
            .chain(&places.build_packages);
        for word in words {
            // These become arguments of apt.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-+.".contains(c);
            let text = word.get_ref();
            if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) {
                return Err(file.error(
                    word.span(),
                    format!("`{text}` is no name of a package or suite"),
                    "write it as Debian does",
                ));
            }
        }
        let mut paths: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
        paths.extend(
            places
                .directories
                .iter()
                .map(|d| (d.get_ref().as_str(), d.span())),
        );
        paths.extend(
            places
                .link
                .iter()
                .map(|l| (l.get_ref().path.as_str(), l.span())),
        );
        paths.extend(
            places
                .file
                .iter()
                .map(|f| (f.get_ref().path.as_str(), f.span())),
        );
        paths.extend(
            places
                .tests
                .iter()
                .map(|t| (t.get_ref().dir.as_str(), t.span())),
        );
        for (path, span) in paths {
            let plain = path
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(|p| !matches!(p, "" | "." | "..")));
            if !plain {
                return Err(file.error(
                    span,
                    format!("`{path}` is no plain absolute path"),
                    "write it from the guest's root, without `.`, `..` or `//`",
                ));
            }
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_is_sound() {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        let root = RootSpec::load(&dir, "rootfs").unwrap();
        assert!(root.packages.iter().any(|p| p == "jq"));
    }

    #[test]
    fn what_is_wrong_is_told_at_its_line() {
        for (text, said) in [
            (
                "packages = [\n\"--purge\"]\n",
                "images/x.toml:4: `--purge` is no name",
            ),
            (
                "packages = []\ndirectories = [\n\"/a/../b\"]\n",
                "images/x.toml:5: `/a/../b` is no plain",
            ),
            (
                "packages = []\npackage = []\n",
                "images/x.toml:4: unknown field",
            ),
        ] {
            let text = format!("title = \"t\"\nsuite = \"s\"\n{text}");
            let file = SpecFile::from_text(Utf8Path::new("images/x.toml"), text);
            let e = RootSpec::parse(&file).unwrap_err();
            assert!(e.to_string().starts_with(said), "{e}");
        }
    }
}
