//! `[[source]]` of a kernel's file: where its source can come from.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::error::{SpecError, SpecFile, nearest};

/// Where a kernel's source can come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SourceSpec {
    /// A Debian `linux-source-X.Y` package.
    Debian {
        /// The suite that has it, for instance `bookworm-security`.
        suite: String,
        /// The package's name.
        package: String,
        /// The release of Linux, such as `6.12.107`, where it is one by name and not the locked one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<String>,
    },
    /// A git remote.
    Git {
        /// What `git clone` takes.
        url: String,
        /// A tag or a branch of it.
        tag: String,
    },
    /// A tarball, from the net or from a path.
    Tarball {
        /// A URL, or a path relative to the project.
        at: String,
        /// The file's SHA-256, in hex.
        sha256: String,
    },
    /// A local tree.
    Tree {
        /// Where it is.
        path: Utf8PathBuf,
        /// A git revision of it; without, its working files.
        rev: Option<String>,
    },
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSpec::Debian {
                suite,
                package,
                release: None,
            } => write!(f, "Debian's {package} of {suite}"),
            SourceSpec::Debian {
                suite,
                package,
                release: Some(release),
            } => write!(f, "Debian's {package} of {suite}, Linux {release}"),
            SourceSpec::Git { url, tag } => write!(f, "{url} at {tag}"),
            SourceSpec::Tarball { at, .. } => write!(f, "the tarball {at}"),
            SourceSpec::Tree {
                path,
                rev: Some(rev),
            } => write!(f, "the tree {path} at {rev}"),
            SourceSpec::Tree { path, rev: None } => write!(f, "the tree {path}"),
        }
    }
}

impl SourceSpec {
    /// The same at one release of Linux; none where a source has but one.
    pub(super) fn at_release(&self, release: &str) -> Option<Self> {
        match self {
            SourceSpec::Debian { suite, package, .. } => Some(SourceSpec::Debian {
                suite: suite.clone(),
                package: package.clone(),
                release: Some(release.to_owned()),
            }),
            SourceSpec::Git { url, .. } => Some(SourceSpec::Git {
                url: url.clone(),
                tag: format!("v{release}"),
            }),
            SourceSpec::Tarball { .. } | SourceSpec::Tree { .. } => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    kind: Spanned<String>,
    suite: Option<Spanned<String>>,
    package: Option<Spanned<String>>,
    url: Option<Spanned<String>>,
    tag: Option<Spanned<String>>,
    sha256: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    rev: Option<Spanned<String>>,
}

/// Checks that a source has what its kind takes, and nothing else.
pub(super) fn parse_source(
    raw: Spanned<RawSource>,
    file: &SpecFile,
) -> Result<SourceSpec, SpecError> {
    let whole = raw.span();
    let raw = raw.into_inner();
    let kind = raw.kind;
    let wanted: &[&str] = match kind.get_ref().as_str() {
        "debian" => &["suite", "package"],
        "git" => &["url", "tag"],
        "tarball" => &["url", "path", "sha256"],
        "tree" => &["path", "rev"],
        other => {
            let kinds = ["debian", "git", "tarball", "tree"];
            let help = match nearest(other, kinds.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of: {}", kinds.join(", ")),
            };
            return Err(file.error(
                kind.span(),
                format!("unknown kind of source `{other}`"),
                help,
            ));
        }
    };
    let kind_name = kind.get_ref().as_str();
    let mut fields = [
        ("suite", raw.suite),
        ("package", raw.package),
        ("url", raw.url),
        ("tag", raw.tag),
        ("sha256", raw.sha256),
        ("path", raw.path),
        ("rev", raw.rev),
    ];
    for (field, value) in &fields {
        if let (Some(value), false) = (value, wanted.contains(field)) {
            return Err(file.error(
                value.span(),
                format!("a source of kind `{kind_name}` has no `{field}`"),
                format!("it takes: {}", wanted.join(", ")),
            ));
        }
        if let Some(value) = value
            && (value.get_ref().is_empty() || value.get_ref().starts_with('-'))
        {
            return Err(file.error(
                value.span(),
                format!("`{}` can't be a source's {field}", value.get_ref()),
                "correct this line",
            ));
        }
    }
    let mut take = |field: &str| {
        fields
            .iter_mut()
            .find(|(name, _)| *name == field)
            .and_then(|(_, value)| value.take())
    };
    let need = |field: &str, value: Option<Spanned<String>>| {
        value.map(Spanned::into_inner).ok_or_else(|| {
            file.error(
                whole.clone(),
                format!("this source of kind `{kind_name}` has no `{field}`"),
                format!("add a line `{field} = \"…\"`"),
            )
        })
    };
    Ok(match kind_name {
        "debian" => SourceSpec::Debian {
            suite: need("suite", take("suite"))?,
            package: need("package", take("package"))?,
            release: None,
        },
        "git" => SourceSpec::Git {
            url: need("url", take("url"))?,
            tag: need("tag", take("tag"))?,
        },
        "tarball" => {
            let at = match (take("url"), take("path")) {
                (Some(_), Some(path)) => {
                    return Err(file.error(
                        path.span(),
                        "this source has both a `url` and a `path`",
                        "keep one of them; further sources get their own [[source]]",
                    ));
                }
                (url, path) => need("url", url.or(path))?,
            };
            let Some(sha256) = take("sha256") else {
                return Err(file.error(
                    whole.clone(),
                    "this tarball has no `sha256`",
                    "add a line `sha256 = \"…\"`, as sha256sum prints it",
                ));
            };
            if sha256.get_ref().len() != 64
                || !sha256.get_ref().bytes().all(|b| b.is_ascii_hexdigit())
            {
                return Err(file.error(
                    sha256.span(),
                    "this is no SHA-256",
                    "write the 64 hex digits that sha256sum prints",
                ));
            }
            SourceSpec::Tarball {
                at,
                sha256: sha256.into_inner().to_lowercase(),
            }
        }
        _ => SourceSpec::Tree {
            path: need("path", take("path"))?.into(),
            rev: take("rev").map(Spanned::into_inner),
        },
    })
}
