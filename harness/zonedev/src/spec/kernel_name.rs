//! The name of a kernel, as a person types it. Parsing is pure: nothing is looked up.
//!
//! ```text
//! NAME[:FLAVOUR[,FLAVOUR]…][+SERIES]…        5.10   5.10:up+zone-device-refcount   6.12+./my.mbox
//! tree:PATH[@REV][:FLAVOUR…][+SERIES]…       tree:../linux   tree:../linux@HEAD~3
//! ```
//! A flavour is a name under `kernels/flavours/`, or the path of a config fragment, which has a `/`
//! or starts with a `.` and ends in `.config`. A series is a name under `kernels/series/`, or a path: it has a `/`, starts with a `.`, or ends
//! like a patch does. Paths here can't hold `+`, and a tree's path no `@` or `:`.

use std::fmt;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// What a kernel is built from, before any series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Base {
    /// `kernels/NAME.toml`.
    Listed(String),
    /// A local tree; without a revision its working files, uncommitted changes included.
    Tree {
        /// Where the tree is.
        path: Utf8PathBuf,
        /// A git revision of it.
        rev: Option<String>,
    },
}

/// Patches to apply on top.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SeriesRef {
    /// `kernels/series/NAME/`.
    Named(String),
    /// A directory of patches, a patch, or an mbox.
    Path(Utf8PathBuf),
}

/// A kernel's name, taken apart. Displays as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KernelName {
    /// What it is built from.
    pub base: Base,
    /// Other ways to build it, `kernels/flavours/NAME.toml`, or paths of config fragments.
    pub flavours: Vec<String>,
    /// Patches, in the order of their application.
    pub series: Vec<SeriesRef>,
}

/// Why a kernel's name can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel name `{name}` can't be read: {reason}; write it like 5.10, 5.10:up, 5.10+SERIES, 6.12+./my.mbox or tree:PATH@REV"
)]
pub struct KernelNameError {
    name: String,
    reason: String,
}

impl KernelName {
    /// Reads a name.
    pub fn parse(name: &str) -> Result<Self, KernelNameError> {
        let fail = |reason: String| KernelNameError {
            name: name.to_owned(),
            reason,
        };
        if name.chars().any(char::is_control) {
            return Err(fail("it holds a control character".to_owned()));
        }
        let mut parts = name.split('+');
        let head = parts.next().unwrap_or_default();
        let (base, flavours) = match head.strip_prefix("tree:") {
            Some(rest) => {
                let (place, flavours) = split_flavours(rest);
                let (path, rev) = match place.split_once('@') {
                    Some((path, rev)) => (path, Some(rev)),
                    None => (place, None),
                };
                if path.is_empty() {
                    return Err(fail("the tree's path is missing".to_owned()));
                }
                if rev.is_some_and(|r| r.is_empty() || r.starts_with('-')) {
                    return Err(fail("what stands after `@` is no revision".to_owned()));
                }
                (
                    Base::Tree {
                        path: path.into(),
                        rev: rev.map(str::to_owned),
                    },
                    flavours,
                )
            }
            None => {
                let (listed, flavours) = split_flavours(head);
                if !is_word(listed) {
                    return Err(fail(format!("`{listed}` is no name of a kernel")));
                }
                (Base::Listed(listed.to_owned()), flavours)
            }
        };
        let flavours: Vec<String> = match flavours {
            None => Vec::new(),
            Some(list) => list.split(',').map(str::to_owned).collect(),
        };
        if let Some(bad) = flavours.iter().find(|f| !is_word(f) && !is_fragment(f)) {
            return Err(fail(format!("`{bad}` is no name of a flavour")));
        }
        let mut series = Vec::new();
        for part in parts {
            if is_path(part) {
                series.push(SeriesRef::Path(part.into()));
            } else if is_word(part) {
                series.push(SeriesRef::Named(part.to_owned()));
            } else if part.contains(':') {
                return Err(fail(format!(
                    "a flavour stands before the series, not in `{part}`"
                )));
            } else {
                return Err(fail(format!("`{part}` is no series")));
            }
        }
        Ok(Self {
            base,
            flavours,
            series,
        })
    }

    /// The name without its series: what a patched build starts from.
    pub fn without_series(&self) -> Self {
        Self {
            base: self.base.clone(),
            flavours: self.flavours.clone(),
            series: Vec::new(),
        }
    }
}

fn split_flavours(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((base, flavours)) => (base, Some(flavours)),
        None => (text, None),
    }
}

/// A word that can stand as a file name: no separators, no leading dot or dash.
fn is_word(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(['.', '-'])
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !is_path(word)
}

/// Whether a flavour is the path of a config fragment.
pub(super) fn is_fragment(flavour: &str) -> bool {
    flavour.ends_with(".config") && (flavour.contains('/') || flavour.starts_with('.'))
}

fn is_path(part: &str) -> bool {
    let extension = Utf8Path::new(part).extension();
    part.contains('/')
        || part.starts_with('.')
        || matches!(extension, Some("mbox" | "patch" | "diff" | "mbx" | "eml"))
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Base::Listed(name) => f.write_str(name)?,
            Base::Tree { path, rev } => {
                write!(f, "tree:{path}")?;
                if let Some(rev) = rev {
                    write!(f, "@{rev}")?;
                }
            }
        }
        if !self.flavours.is_empty() {
            write!(f, ":{}", self.flavours.join(","))?;
        }
        for series in &self.series {
            write!(f, "+{series}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SeriesRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeriesRef::Named(name) => f.write_str(name),
            SeriesRef::Path(path) => f.write_str(path.as_str()),
        }
    }
}

impl FromStr for KernelName {
    type Err = KernelNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl TryFrom<String> for KernelName {
    type Error = KernelNameError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::parse(&s)
    }
}

impl From<KernelName> for String {
    fn from(name: KernelName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> KernelName {
        KernelName::parse(text).unwrap()
    }

    #[test]
    fn the_forms_of_the_manual() {
        assert_eq!(name("5.10").base, Base::Listed("5.10".into()));
        let n = name("5.10:up+zone-device-refcount");
        assert_eq!(n.flavours, ["up"]);
        assert_eq!(n.series, [SeriesRef::Named("zone-device-refcount".into())]);
        assert_eq!(n.without_series(), name("5.10:up"));
        assert_eq!(name("5.10:up,./my.config").flavours, ["up", "./my.config"]);
        assert_eq!(
            name("6.12+./my.mbox").series,
            [SeriesRef::Path("./my.mbox".into())]
        );
        assert_eq!(
            name("6.12+my.mbox").series,
            [SeriesRef::Path("my.mbox".into())]
        );
        assert_eq!(name("6.12+a+/tmp/b").series.len(), 2);
        assert_eq!(
            name("tree:../linux@HEAD~3:up").base,
            Base::Tree {
                path: "../linux".into(),
                rev: Some("HEAD~3".into())
            }
        );
        assert_eq!(
            name("tree:/src").base,
            Base::Tree {
                path: "/src".into(),
                rev: None
            }
        );
    }

    #[test]
    fn what_is_no_name_says_why() {
        for (text, words) in [
            ("", "no name of a kernel"),
            ("../5.10", "no name of a kernel"),
            ("5.10+", "no series"),
            ("5.10:", "no name of a flavour"),
            ("5.10:up,,x", "no name of a flavour"),
            ("5.10:./my.txt", "no name of a flavour"),
            ("5.10+a:up", "flavour stands before"),
            ("tree:", "path is missing"),
            ("tree:x@", "no revision"),
            ("tree:x@--upload-pack=y", "no revision"),
            ("5.10\n", "control character"),
        ] {
            let e = KernelName::parse(text).unwrap_err().to_string();
            assert!(e.contains(words), "{text:?}: {e}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_displays_as_typed(text in "(tree:)?[a-z0-9./@:+,~-]{0,24}") {
            if let Ok(parsed) = KernelName::parse(&text) {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }

        #[test]
        fn a_listed_name_never_leaves_its_directory(text in "\\PC{0,16}") {
            if let Ok(KernelName { base: Base::Listed(name), flavours, .. }) = KernelName::parse(&text) {
                for word in flavours.iter().filter(|f| !is_fragment(f)).chain([&name]) {
                    prop_assert!(!word.contains('/') && !word.starts_with('.'));
                }
            }
        }
    }
}
