//! Debian sources through a private apt root: any suite can be asked for without touching the
//! host's own package lists, from the mirror that the host's own apt uses.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::cache::{Cache, CacheLock, create_dir};
use super::error::BuildError;
use super::event::{Phase, Reporter};
use super::proc;

/// One entry of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    signed_by: Option<String>,
}

/// Where a suite's packages come from, and who signs them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    uri: String,
    signed_by: Option<String>,
}

/// A package as an index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) version: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// Parses apt's one-line format.
fn parse_list(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let mut rest = line
                .strip_prefix("deb ")
                .or_else(|| line.strip_prefix("deb\t"))?
                .trim();
            let mut signed_by = None;
            if let Some(options) = rest.strip_prefix('[') {
                let (options, after) = options.split_once(']')?;
                signed_by = options
                    .split_whitespace()
                    .find_map(|o| o.strip_prefix("signed-by="))
                    .map(str::to_owned);
                rest = after.trim();
            }
            let mut words = rest.split_whitespace().map(str::to_owned);
            let (uri, suite) = (words.next()?, words.next()?);
            Some(Entry {
                uris: vec![uri],
                suites: vec![suite],
                signed_by,
            })
        })
        .collect()
}

/// Parses apt's deb822 format.
fn parse_deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entry_of_stanza(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn entry_of_stanza(stanza: &[(String, String)]) -> Option<Entry> {
    let field = |name: &str| {
        stanza
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    };
    let words = |name: &str| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    if !words("types").iter().any(|t| t == "deb") || field("enabled") == Some("no") {
        return None;
    }
    // An armoured key written into the file itself is of no use to another file.
    let signed_by = field("signed-by")
        .filter(|s| s.starts_with('/'))
        .map(str::to_owned);
    Some(Entry {
        uris: words("uris"),
        suites: words("suites"),
        signed_by,
    })
}

/// What the host's own apt is configured with.
fn host_entries(etc_apt: &Utf8Path) -> Vec<Entry> {
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(parts) = etc_apt.join("sources.list.d").read_dir_utf8() {
        let mut parts: Vec<Utf8PathBuf> = parts.flatten().map(|e| e.into_path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut entries = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        match file.extension() {
            Some("list") => entries.extend(parse_list(&text)),
            Some("sources") => entries.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    entries
}

/// The mirror of Debian's `suite`, from the entries of a host whose own release is `codename`.
/// The archive and its security archive are told apart by their suites: other people's
/// repositories have other suites.
fn mirror_for(suite: &str, entries: &[Entry], codename: &str) -> Option<Mirror> {
    let security = |s: &str| s.ends_with("-security") || s.ends_with("/updates");
    let debian = |s: &str| {
        let release = s.split(['-', '/']).next().unwrap_or_default();
        let rest = &s[release.len()..];
        let known = release == codename
            || [
                "stable",
                "oldstable",
                "oldoldstable",
                "testing",
                "unstable",
                "sid",
            ]
            .contains(&release);
        let parts = [
            "",
            "-updates",
            "-backports",
            "-proposed-updates",
            "-security",
            "/updates",
        ]
        .contains(&rest);
        known && parts
    };
    entries
        .iter()
        .filter(|e| {
            e.suites
                .iter()
                .any(|s| debian(s) && security(s) == security(suite))
        })
        .find_map(|e| {
            Some(Mirror {
                uri: e.uris.first()?.clone(),
                signed_by: e.signed_by.clone(),
            })
        })
}

/// Where a host that lists the archive alone finds the security archive: by Debian's convention
/// beside it, under the same name with `-security`.
fn beside_the_archive(suite: &str, entries: &[Entry], codename: &str) -> Option<Mirror> {
    let release = suite.strip_suffix("-security")?;
    let archive = mirror_for(release, entries, codename)?;
    let uri = archive.uri.trim_end_matches('/');
    uri.ends_with("/debian").then(|| Mirror {
        uri: format!("{uri}-security"),
        signed_by: archive.signed_by.clone(),
    })
}

/// A private apt root for one suite.
pub(crate) struct AptRoot {
    dir: Utf8PathBuf,
    suite: String,
}

impl AptRoot {
    /// Sets one up in the cache. An error's words say why this host can't serve Debian sources.
    pub(crate) fn open(cache: &Cache, suite: &str) -> Result<Self, BuildError> {
        Self::open_in(cache, suite, false)
    }

    /// One that knows source packages too, beside the one that doesn't.
    pub(crate) fn open_with_sources(cache: &Cache, suite: &str) -> Result<Self, BuildError> {
        Self::open_in(cache, suite, true)
    }

    fn open_in(cache: &Cache, suite: &str, with_sources: bool) -> Result<Self, BuildError> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if !proc::exists(program) {
                return Err(proc::missing(program));
            }
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = release
            .lines()
            .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
            .map(|v| v.trim_matches('"').to_owned())
            .unwrap_or_default();
        let entries = host_entries(Utf8Path::new("/etc/apt"));
        let listed = mirror_for(suite, &entries, &codename);
        let Some(mirror) = listed.or_else(|| beside_the_archive(suite, &entries, &codename)) else {
            let archive = if suite.ends_with("-security") {
                "security archive"
            } else {
                "archive"
            };
            return Err(BuildError::Command {
                what: format!("find a mirror for {suite}"),
                detail: format!(
                    "the host's apt sources name no Debian {archive}; add a line `deb URI {suite} main`, with the URI of one, to a file under /etc/apt/sources.list.d"
                ),
            });
        };
        let name = if with_sources {
            format!("{suite}+src")
        } else {
            suite.to_owned()
        };
        let dir = cache.path("apt", &name);
        create_dir(&dir.join("state/lists/partial"))?;
        create_dir(&dir.join("cache/archives/partial"))?;
        // The keyring with every release's keys serves suites that the host's own entry does not.
        let keyring = [
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ]
        .into_iter()
        .find(|k| Utf8Path::new(k).is_file())
        .map(str::to_owned)
        .or(mirror.signed_by);
        let options = keyring
            .map(|k| format!("[signed-by={k}] "))
            .unwrap_or_default();
        let list = dir.join("sources.list");
        let uri = &mirror.uri;
        let mut text = format!("deb {options}{uri} {suite} main\n");
        if with_sources {
            text.push_str(&format!("deb-src {options}{uri} {suite} main\n"));
        }
        fs_err::write(&list, text).map_err(|e| BuildError::io("write", &list, e))?;
        let status = dir.join("state/status");
        fs_err::write(&status, "").map_err(|e| BuildError::io("write", &status, e))?;
        Ok(Self {
            dir,
            suite: suite.to_owned(),
        })
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let mut cmd = proc::command(program);
        for option in [
            format!("Dir::State={}/state", self.dir),
            format!("Dir::State::status={}/state/status", self.dir),
            format!("Dir::Cache={}/cache", self.dir),
            format!("Dir::Etc::sourcelist={}/sources.list", self.dir),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
        ] {
            cmd.arg("-o").arg(option);
        }
        if nix::unistd::geteuid().is_root() {
            // As root apt would become _apt, who can't read a cache in root's home.
            cmd.args(["-o", "APT::Sandbox::User=root"]);
        }
        cmd
    }

    /// Brings the suite's index up to date, and lists `package`'s versions, newest first.
    pub(crate) fn versions(
        &self,
        package: &str,
        report: &Reporter<'_>,
    ) -> Result<Vec<Listed>, BuildError> {
        report.phase(Phase::Download, format!("the index of {}", self.suite));
        let update = proc::output(self.command("apt-get").args(["-qq", "update"]))?;
        let show = proc::output(self.command("apt-cache").args(["show", package]))?;
        let mut found = parse_show(&String::from_utf8_lossy(&show.stdout), package);
        if found.is_empty() {
            // A hook of the host's own apt may fail a good update, so its failure is only told here.
            let detail = match update.status.success() {
                true => format!("{} has no package {package}", self.suite),
                false => proc::said(&update),
            };
            return Err(BuildError::Command {
                what: format!("look up {package}"),
                detail,
            });
        }
        let mut failed = None;
        found.sort_by(|a, b| match newer(&a.version, &b.version) {
            Ok(true) => std::cmp::Ordering::Less,
            Ok(false) => std::cmp::Ordering::Greater,
            Err(e) => {
                failed.get_or_insert(e);
                std::cmp::Ordering::Equal
            }
        });
        match failed {
            Some(e) => Err(e),
            None => Ok(found),
        }
    }

    /// Downloads one version of `package` into `downloads/`, checks it, and says where it is.
    pub(crate) fn download(
        &self,
        cache: &Cache,
        lock: &CacheLock,
        package: &str,
        listed: &Listed,
        report: &Reporter<'_>,
    ) -> Result<Utf8PathBuf, BuildError> {
        let place = deb_path(cache, &listed.sha256);
        if place.exists() {
            return Ok(place);
        }
        cache.need_space(listed.size, &format!("{package} {}", listed.version))?;
        report.phase(
            Phase::Download,
            format!("{package} {} of {}", listed.version, self.suite),
        );
        let temp = cache.temp(lock, "deb")?;
        proc::run(
            self.command("apt-get")
                .args(["-qq", "download", &format!("{package}={}", listed.version)])
                .current_dir(&temp),
            format!("download {package} {}", listed.version),
        )?;
        let deb = temp
            .read_dir_utf8()
            .map_err(|e| BuildError::io("read", &temp, e))?
            .flatten()
            .map(|e| e.into_path())
            .find(|p| p.extension() == Some("deb"))
            .ok_or_else(|| BuildError::Command {
                what: format!("download {package}"),
                detail: "apt-get left no package".to_owned(),
            })?;
        super::source::check_sha256(&deb, &listed.sha256, package)?;
        cache.publish(&deb, &place)?;
        super::cache::remove(&temp)?;
        Ok(place)
    }
}

/// Where a package of that checksum is kept.
pub(crate) fn deb_path(cache: &Cache, sha256: &str) -> Utf8PathBuf {
    cache.path("downloads", &format!("{sha256}.deb"))
}

pub(super) fn newer(a: &str, b: &str) -> Result<bool, BuildError> {
    let out = proc::output(proc::command("dpkg").args(["--compare-versions", a, "gt", b]))?;
    Ok(out.status.success())
}

fn parse_show(text: &str, package: &str) -> Vec<Listed> {
    let mut found: Vec<Listed> = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
                .map(str::trim)
        };
        let listed = || {
            let sha256 = field("SHA256").filter(|s| is_sha256(s))?.to_owned();
            Some(Listed {
                version: field("Version")?.to_owned(),
                sha256,
                size: field("Size")?.parse().ok()?,
            })
        };
        if field("Package") == Some(package)
            && let Some(one) = listed()
            && !found.contains(&one)
        {
            found.push(one);
        }
    }
    found
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
# a comment
Types: deb deb-src
# another
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://mirror.example/debian-security
  http://second.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm

Types: deb
URIs: https://other.example/node
Suites: nodistro
";

    #[test]
    fn the_archive_and_its_security_archive_are_told_apart() {
        let entries = parse_deb822(DEB822);
        assert_eq!(entries.len(), 3);
        let uri = |suite: &str| mirror_for(suite, &entries, "bookworm").map(|m| m.uri);
        assert_eq!(
            uri("trixie-backports").as_deref(),
            Some("http://mirror.example/debian")
        );
        assert_eq!(
            uri("bullseye-security").as_deref(),
            Some("http://mirror.example/debian-security")
        );
        assert_eq!(
            uri("bookworm").as_deref(),
            Some("http://mirror.example/debian")
        );
    }

    #[test]
    fn one_line_sources_with_options_and_other_repositories() {
        let entries = parse_list(
            "# deb http://no.example/debian bookworm main\n\
             deb https://cloud.example/apt cloud-sdk-bookworm main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian trixie main contrib # here\n\
             deb-src http://m.example/debian trixie main\n\
             deb mirror+file:/etc/apt/mirrors/s.list trixie-security main\n",
        );
        assert_eq!(entries.len(), 3);
        let main = mirror_for("bookworm-backports", &entries, "trixie").unwrap();
        assert_eq!(
            (main.uri.as_str(), main.signed_by.as_deref()),
            ("http://m.example/debian", Some("/k.gpg"))
        );
        let security = mirror_for("bookworm-security", &entries, "trixie").unwrap();
        assert_eq!(security.uri, "mirror+file:/etc/apt/mirrors/s.list");
    }

    #[test]
    fn a_bare_hosts_security_archive_is_beside_its_archive() {
        let bare = parse_list("deb http://m.example/debian/ bookworm main\n");
        assert_eq!(mirror_for("bullseye-security", &bare, "bookworm"), None);
        assert_eq!(
            beside_the_archive("bullseye-security", &bare, "bookworm")
                .unwrap()
                .uri,
            "http://m.example/debian-security"
        );
        assert_eq!(beside_the_archive("bullseye", &bare, "bookworm"), None);
        let own_name = parse_list("deb http://m.example/mine bookworm main\n");
        assert_eq!(
            beside_the_archive("bullseye-security", &own_name, "bookworm"),
            None
        );
    }

    #[test]
    fn another_distribution_has_no_mirror_of_debian() {
        let entries = parse_list("deb http://u.example/ubuntu noble main\n");
        assert_eq!(mirror_for("bookworm", &entries, "bookworm"), None);
    }

    #[test]
    fn an_index_with_two_versions_and_a_broken_stanza() {
        let sum = "a".repeat(64);
        let text = format!(
            "Package: linux-source-9\nVersion: 9.1-1\nSize: 5\nSHA256: {sum}\n\n\
             Package: linux-source-9\nVersion: 9.2-1\nSize: 6\nSHA256: {sum}\n\n\
             Package: linux-source-9\nVersion: 9.3-1\nSize: 6\nSHA256: short\n\n\
             Package: other\nVersion: 1\nSize: 6\nSHA256: {sum}\n"
        );
        let versions: Vec<String> = parse_show(&text, "linux-source-9")
            .into_iter()
            .map(|l| l.version)
            .collect();
        assert_eq!(versions, ["9.1-1", "9.2-1"]);
    }
}
