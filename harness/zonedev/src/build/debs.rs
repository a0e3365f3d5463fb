//! The packages that a root file system is made of: resolved by apt in a private root with nothing
//! installed, locked with their checksums, and kept in the cache by these.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::apt::{AptRoot, deb_path, is_sha256, newer};
use super::cache::{CacheLock, remove};
use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{Phase, Reporter};
use super::{proc, source};
use crate::spec::{RootSpec, SpecFile};

const HEAD: &str = "\
# The exact packages that the root file system is made of. Written by zonedev when it is first built,
# when its list of packages changes, and when a locked version is gone from its mirror; checked in,
# so that everyone builds the same.
";

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedDeb {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
    /// Only there to compile against.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) build: bool,
}

/// The upstream tarball of a source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedSource {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) file: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// `images/NAME.lock`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DebLock {
    /// What was asked for; another list is another lock.
    pub(crate) asked: String,
    #[serde(default)]
    pub(crate) source: Vec<LockedSource>,
    #[serde(default)]
    pub(crate) package: Vec<LockedDeb>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
fn is_false(flag: &bool) -> bool {
    !flag
}

impl DebLock {
    fn read(path: &Utf8Path) -> Result<Self, BuildError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        Ok(SpecFile::read(path, "the lock of the root file system")?.parse()?)
    }

    fn write(&self, path: &Utf8Path) -> Result<(), BuildError> {
        let text = toml::to_string(self).map_err(|e| BuildError::Command {
            what: format!("write {path}"),
            detail: e.to_string(),
        })?;
        let temp = path.with_extension("lock.new");
        fs_err::write(&temp, format!("{HEAD}\n{text}"))
            .map_err(|e| BuildError::io("write", &temp, e))?;
        fs_err::rename(&temp, path).map_err(|e| BuildError::io("write", path, e))
    }
}

impl LockedSource {
    /// Where it is in the cache.
    pub(crate) fn path(&self, ctx: &BuildCtx) -> Utf8PathBuf {
        ctx.cache
            .path("downloads", &format!("{}.tarball", self.sha256))
    }
}

/// All packages of `spec`, locked in `path` and in the cache.
pub(crate) fn obtain(
    ctx: &BuildCtx,
    spec: &RootSpec,
    path: &Utf8Path,
    report: &Reporter<'_>,
) -> Result<DebLock, BuildError> {
    let asked = asked(spec);
    let known = DebLock::read(path)?;
    if known.asked == asked && all_here(ctx, &known) {
        return Ok(known);
    }
    report.started();
    let guard = ctx.cache.lock(&format!("apt-{}+src", spec.suite), report)?;
    let root = AptRoot::open_with_sources(&ctx.cache, &spec.suite)?;
    report.phase(Phase::Download, format!("the index of {}", spec.suite));
    // Whether a failure matters, the look-ups say.
    let update = proc::output(root.command("apt-get").args(["-qq", "update"]))?;
    let mut lock = known.clone();
    let why = if known.asked == asked {
        let missing: Vec<&LockedDeb> = known
            .package
            .iter()
            .filter(|d| !deb_path(&ctx.cache, &d.sha256).exists())
            .collect();
        let names = missing.iter().map(|d| d.name.as_str());
        let shown = proc::output(root.command("apt-cache").arg("show").args(names))?;
        let offered = parse_packages(&String::from_utf8_lossy(&shown.stdout));
        let gone = missing.iter().find(|d| {
            let found = offered.get(&(d.name.clone(), d.version.clone()));
            found.is_none_or(|(sha256, _)| *sha256 != d.sha256)
        });
        gone.map(|d| format!("{} {} is gone from the mirror", d.name, d.version))
    } else {
        Some("the list of packages changed".to_owned())
    };
    if let Some(why) = why {
        let what = format!("the packages of the root file system are not as locked: {why}");
        if ctx.locked {
            return Err(BuildError::Locked {
                what,
                lock: path.to_owned(),
            });
        }
        report.notice(format!(
            "{what}; locking what {} has now in {path}",
            spec.suite
        ));
        lock = resolve(&root, spec, asked).map_err(|e| match update.status.success() {
            true => e,
            false => BuildError::Command {
                what: format!("bring the index of {} up to date", spec.suite),
                detail: proc::said(&update),
            },
        })?;
    }
    download(ctx, &guard, &root, &lock, report)?;
    if lock != known {
        lock.write(path)?;
    }
    Ok(lock)
}

/// What a lock is of, in one line.
fn asked(spec: &RootSpec) -> String {
    let sources: Vec<&str> = spec.tests.iter().map(|t| t.package.as_str()).collect();
    format!(
        "{}: {}; to build: {}; without: {}; sources: {}",
        spec.suite,
        spec.packages.join(" "),
        spec.build_packages.join(" "),
        spec.without.join(" "),
        sources.join(" ")
    )
}

fn all_here(ctx: &BuildCtx, lock: &DebLock) -> bool {
    lock.package
        .iter()
        .all(|d| deb_path(&ctx.cache, &d.sha256).exists())
        && lock.source.iter().all(|s| s.path(ctx).exists())
}

/// Asks apt what the packages need.
fn resolve(root: &AptRoot, spec: &RootSpec, asked: String) -> Result<DebLock, BuildError> {
    let closure = |packages: &[String]| -> Result<BTreeSet<(String, String)>, BuildError> {
        let text = proc::run(
            root.command("apt-get")
                .args([
                    "-qq",
                    "--print-uris",
                    "--no-install-recommends",
                    "-y",
                    "install",
                    "--",
                ])
                .args(packages),
            "resolve the packages of the root file system",
        )?;
        Ok(parse_uris(&text))
    };
    let own = closure(&spec.packages)?;
    let all: Vec<String> = spec
        .packages
        .iter()
        .chain(&spec.build_packages)
        .cloned()
        .collect();
    let with_build = closure(&all)?;
    let wanted = |(name, _): &&(String, String)| !spec.without.contains(name);
    let names: Vec<&(String, String)> = with_build.iter().filter(wanted).collect();
    let shown = proc::run(
        root.command("apt-cache").arg("show").args(
            names
                .iter()
                .map(|(name, version)| format!("{name}={version}")),
        ),
        "look up the packages of the root file system",
    )?;
    let found = parse_packages(&shown);
    let mut lock = DebLock {
        asked,
        ..DebLock::default()
    };
    for one in names {
        let Some((sha256, size)) = found.get(one) else {
            return Err(BuildError::Command {
                what: format!("look up {} {}", one.0, one.1),
                detail: "the index has no checksum of it".to_owned(),
            });
        };
        lock.package.push(LockedDeb {
            name: one.0.clone(),
            version: one.1.clone(),
            sha256: sha256.clone(),
            size: *size,
            build: !own.contains(one),
        });
    }
    for tests in &spec.tests {
        let text = proc::run(
            root.command("apt-cache")
                .args(["showsrc", "--only-source", &tests.package]),
            format!("look up the source of {}", tests.package),
        )?;
        let mut newest: Option<LockedSource> = None;
        for source in parse_sources(&text, &tests.package) {
            let later = match &newest {
                Some(n) => newer(&source.version, &n.version)?,
                None => true,
            };
            if later {
                newest = Some(source);
            }
        }
        lock.source.push(newest.ok_or_else(|| BuildError::Command {
            what: format!("look up the source of {}", tests.package),
            detail: format!("{} has no upstream tarball of it", spec.suite),
        })?);
    }
    Ok(lock)
}

fn download(
    ctx: &BuildCtx,
    guard: &CacheLock,
    root: &AptRoot,
    lock: &DebLock,
    report: &Reporter<'_>,
) -> Result<(), BuildError> {
    let missing: Vec<&LockedDeb> = lock
        .package
        .iter()
        .filter(|d| !deb_path(&ctx.cache, &d.sha256).exists())
        .collect();
    let bytes = missing.iter().map(|d| d.size).sum();
    ctx.cache
        .need_space(bytes, "the packages of the root file system")?;
    let temp = ctx.cache.temp(guard, "debs")?;
    if !missing.is_empty() {
        let words = format!("{} packages, {} MB", missing.len(), bytes / 1_000_000);
        report.phase(Phase::Download, words);
        proc::run(
            root.command("apt-get")
                .args(["-qq", "download"])
                .args(missing.iter().map(|d| format!("{}={}", d.name, d.version)))
                .current_dir(&temp),
            "download the packages of the root file system",
        )?;
    }
    for deb in missing {
        let version = deb.version.replace(':', "%3a");
        let file = ["amd64", "all"]
            .iter()
            .map(|arch| temp.join(format!("{}_{version}_{arch}.deb", deb.name)))
            .find(|p| p.is_file())
            .ok_or_else(|| BuildError::Command {
                what: format!("download {} {}", deb.name, deb.version),
                detail: "apt-get left no package".to_owned(),
            })?;
        source::check_sha256(&file, &deb.sha256, &deb.name)?;
        ctx.cache
            .publish(&file, &deb_path(&ctx.cache, &deb.sha256))?;
    }
    for one in lock.source.iter().filter(|s| !s.path(ctx).exists()) {
        report.phase(Phase::Download, format!("the source of {}", one.package));
        // Debian's packaging is not needed, so it does not matter whether apt gets all of it.
        let tried = proc::output(
            root.command("apt-get")
                .args(["-qq", "source", "--download-only", "--only-source"])
                .arg(format!("{}={}", one.package, one.version))
                .current_dir(&temp),
        )?;
        let file = temp.join(&one.file);
        if !file.is_file() {
            return Err(BuildError::Command {
                what: format!("download {}", one.file),
                detail: proc::said(&tried),
            });
        }
        source::check_sha256(&file, &one.sha256, &one.file)?;
        ctx.cache.publish(&file, &one.path(ctx))?;
    }
    remove(&temp)
}

/// `'URI' NAME_VERSION_ARCH.deb SIZE CHECKSUM`, a line a package.
fn parse_uris(text: &str) -> BTreeSet<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let file = line.split_whitespace().nth(1)?.strip_suffix(".deb")?;
            let mut parts = file.split('_');
            let (name, version) = (parts.next()?, parts.next()?);
            Some((name.to_owned(), version.replace("%3a", ":")))
        })
        .collect()
}

/// SHA-256 and size by name and version, of apt-cache's stanzas.
fn parse_packages(text: &str) -> BTreeMap<(String, String), (String, u64)> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let name = field(stanza, "Package")?.to_owned();
            let version = field(stanza, "Version")?.to_owned();
            let sha256 = field(stanza, "SHA256").filter(|s| is_sha256(s))?.to_owned();
            Some((
                (name, version),
                (sha256, field(stanza, "Size")?.parse().ok()?),
            ))
        })
        .collect()
}

/// The upstream tarballs in apt-cache's stanzas of a source package.
fn parse_sources(text: &str, package: &str) -> Vec<LockedSource> {
    text.split("\n\n")
        .filter(|stanza| field(stanza, "Package") == Some(package))
        .filter_map(|stanza| {
            let version = field(stanza, "Version")?.to_owned();
            let sums = stanza.split("\nChecksums-Sha256:").nth(1)?;
            sums.lines()
                .skip(1)
                .take_while(|l| l.starts_with(' '))
                .find_map(|line| {
                    let mut words = line.split_whitespace();
                    let (sha256, size, file) = (words.next()?, words.next()?, words.next()?);
                    let plain = !file.contains('/') && is_sha256(sha256);
                    (plain && file.contains(".orig.tar.") && !file.ends_with(".asc")).then(
                        || {
                            Some(LockedSource {
                                package: package.to_owned(),
                                version: version.clone(),
                                file: file.to_owned(),
                                sha256: sha256.to_owned(),
                                size: size.parse().ok()?,
                            })
                        },
                    )?
                })
        })
        .collect()
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_words_for_what_it_would_download() {
        let text = "'http://m.example/gawk_1%3a5.2.1-2+b1_amd64.deb' gawk_1%3a5.2.1-2+b1_amd64.deb 673696 MD5Sum:00\n\
                    'http://m.example/base.deb' debconf_1.5.91_all.deb 121088 MD5Sum:00\n";
        let found: Vec<_> = parse_uris(text).into_iter().collect();
        assert_eq!(
            found,
            [
                ("debconf".to_owned(), "1.5.91".to_owned()),
                ("gawk".to_owned(), "1:5.2.1-2+b1".to_owned())
            ]
        );
    }

    #[test]
    fn the_upstream_tarball_of_a_source_package() {
        let sum = |c: &str| c.repeat(64);
        let text = format!(
            "Package: ndctl\nBinary: ndctl, libndctl6\nVersion: 76.1-1\nFiles:\n 00 1 ndctl_76.1.orig.tar.gz\n\
             Checksums-Sha256:\n {} 2456 ndctl_76.1-1.dsc\n {} 419651 ndctl_76.1.orig.tar.gz\n\
             Homepage: https://h.example\n\nPackage: other\nVersion: 1\n",
            sum("a"),
            sum("b")
        );
        let found = parse_sources(&text, "ndctl");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].file.as_str(), found[0].size),
            ("ndctl_76.1.orig.tar.gz", 419_651)
        );
        assert_eq!(found[0].sha256, sum("b"));
    }

    #[test]
    fn checksums_by_name_and_version() {
        let sum = "c".repeat(64);
        let text = format!(
            "Package: jq\nVersion: 1.7\nSize: 5\nSHA256: {sum}\n\nPackage: x\nVersion: 1\nSize: 1\nSHA256: short\n"
        );
        let found = parse_packages(&text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&("jq".to_owned(), "1.7".to_owned())], (sum, 5));
    }
}
