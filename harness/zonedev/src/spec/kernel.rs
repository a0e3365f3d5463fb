//! `kernels/NAME.toml` and `kernels/series/NAME/series.toml`: what a kernel is built from, with
//! which config, and which contract its pages keep.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use toml::Spanned;

use super::contract::Features;
use super::error::{SpecError, SpecFile, nearest};
use super::flavour::Flavour;
use super::kernel_name::{Base, KernelName, SeriesRef, is_fragment};
use super::kernel_source::{RawSource, SourceSpec, parse_source};

/// The compiler to use where the host's own is too new.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compiler {
    /// The newest major version of gcc known to build this kernel.
    pub newest: u32,
    /// The program to use instead of a newer one, for instance `gcc-12`.
    pub command: String,
    /// The package that has it.
    pub package: String,
}

/// A version of Linux by its first two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Era {
    /// `VERSION` of the kernel's Makefile.
    pub version: u32,
    /// `PATCHLEVEL` of the kernel's Makefile.
    pub patchlevel: u32,
}

impl Era {
    /// Reads `5.10`; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, patchlevel) = text.split_once('.')?;
        Some(Self {
            version: version.parse().ok()?,
            patchlevel: patchlevel.parse().ok()?,
        })
    }
}

/// Takes `6.12.107` apart: the listed kernel, and the number of the release.
pub fn release_of(name: &str) -> Option<(&str, u32)> {
    let (listed, number) = name.rsplit_once('.')?;
    Era::parse(listed)?;
    Some((listed, number.parse().ok()?))
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.patchlevel)
    }
}

/// A config fragment: the options that are asked for on top of allnoconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Its name, as the kernel's or the flavour's file has it.
    pub name: String,
    /// Where it is.
    pub path: Utf8PathBuf,
    /// What it says.
    pub text: String,
}

/// A listed kernel.
#[derive(Debug, Clone)]
pub struct KernelSpec {
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// `kernels/contracts/NAME.toml`.
    pub contract: String,
    /// Features of the contract that this kernel has not.
    pub lacks: Vec<String>,
    /// Names of fragments under `kernels/config/`.
    pub config: Vec<String>,
    /// What to do where the host's gcc is too new.
    pub compiler: Option<Compiler>,
    /// How many objects a build compiles, as measured: for the first build's progress.
    pub objects: Option<u64>,
    /// Sources; the first that the host can serve is used.
    pub sources: Vec<SourceSpec>,
}

/// A named series of patches.
#[derive(Debug, Clone)]
pub struct SeriesSpec {
    /// The directory's name.
    pub name: String,
    /// Where its patches are.
    pub dir: Utf8PathBuf,
    /// One line for people.
    pub title: String,
    /// The listed kernels that it is written for.
    pub bases: Vec<String>,
    /// The contract that it gives the kernel; none if it keeps its base's.
    pub contract: Option<String>,
}

/// One series of a resolved kernel.
#[derive(Debug, Clone)]
pub struct ResolvedSeries {
    /// How it was typed.
    pub reference: SeriesRef,
    /// A directory of patches, a patch or an mbox.
    pub path: Utf8PathBuf,
}

/// A kernel's name with all that its words stand for. Whether its sources can be had is for the
/// build to find out.
#[derive(Debug, Clone)]
pub struct ResolvedKernel {
    /// As it was typed.
    pub name: KernelName,
    /// One line for people.
    pub title: String,
    /// The contract that its pages keep.
    pub contract: String,
    /// Features of the contract that this kernel has not.
    pub lacks: Vec<String>,
    /// Config fragments in order; later ones win.
    pub fragments: Vec<Fragment>,
    /// How many of them, from the first, are the kernel's own; the others are its flavours'.
    pub plain: usize,
    /// `VARIABLE=VALUE` for every run of make.
    pub make: Vec<String>,
    /// Factor on every time limit in the guest.
    pub patience: u32,
    /// What to do where the host's gcc is too new.
    pub compiler: Option<Compiler>,
    /// How many objects a build compiles, if that is known.
    pub objects: Option<u64>,
    /// Sources; the first that the host can serve is used.
    pub sources: Vec<SourceSpec>,
    /// Series in the order of their application.
    pub series: Vec<ResolvedSeries>,
    /// What was decided for the user, to be said aloud.
    pub notices: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKernel {
    title: String,
    contract: Spanned<String>,
    #[serde(default)]
    lacks: Vec<Spanned<String>>,
    config: Spanned<Vec<Spanned<String>>>,
    compiler: Option<Compiler>,
    objects: Option<u64>,
    source: Option<Vec<Spanned<RawSource>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    title: String,
    base: Spanned<Vec<Spanned<String>>>,
    contract: Option<Spanned<String>>,
}

/// The `kernels/` directory of a project.
#[derive(Debug, Clone)]
pub struct KernelStore {
    dir: Utf8PathBuf,
}

impl KernelStore {
    /// The store in `dir`, which holds `NAME.toml`, `config/` and `series/`.
    pub fn new(dir: impl Into<Utf8PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// The names of the listed kernels, oldest first.
    pub fn names(&self) -> Result<Vec<String>, SpecError> {
        let mut names: Vec<String> = self.stems(&self.dir, "toml")?;
        names.sort_by_key(|name| (Era::parse(name), name.clone()));
        Ok(names)
    }

    /// The names of the series.
    pub fn series_names(&self) -> Result<Vec<String>, SpecError> {
        let dir = self.dir.join("series");
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in read_dir(&dir)? {
            if dir.join(&entry).join("series.toml").is_file() {
                names.push(entry);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The listed kernel `name`, or a release of one: `6.12.107` is 6.12 at that release.
    pub fn kernel(&self, name: &str) -> Result<KernelSpec, SpecError> {
        let path = self.dir.join(format!("{name}.toml"));
        if !path.is_file() {
            if let Some((listed, _)) = release_of(name)
                && self.dir.join(format!("{listed}.toml")).is_file()
            {
                let mut spec = self.kernel(listed)?;
                spec.title = format!("Linux {name}");
                spec.sources = (spec.sources.iter())
                    .filter_map(|source| source.at_release(name))
                    .collect();
                return Ok(spec);
            }
            let names = self.names()?;
            let help = match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`? Listed are: {}", names.join(", ")),
                None => format!("listed are: {}", names.join(", ")),
            };
            return Err(SpecError::whole_file(
                &path,
                format!("there is no kernel `{name}`"),
                help,
            ));
        }
        let file = SpecFile::read(&path, &format!("the kernel `{name}`"))?;
        parse_kernel(name, &file)
    }

    /// The named series.
    pub fn series(&self, name: &str) -> Result<SeriesSpec, SpecError> {
        let dir = self.dir.join("series").join(name);
        let path = dir.join("series.toml");
        if !path.is_file() {
            let names = self.series_names()?;
            let help = match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => "write it, or give a path with a `/`".to_owned(),
                None => format!("there are: {}; or give a path with a `/`", names.join(", ")),
            };
            return Err(SpecError::whole_file(
                &path,
                format!("there is no series `{name}`"),
                help,
            ));
        }
        let file = SpecFile::read(&path, &format!("the series `{name}`"))?;
        let raw: RawSeries = file.parse()?;
        let bases = raw.base.get_ref();
        if bases.is_empty() {
            return Err(file.error(
                raw.base.span(),
                "a series needs a kernel that it is written for",
                "name one, like base = [\"5.10\"]",
            ));
        }
        for base in bases {
            if !self.dir.join(format!("{}.toml", base.get_ref())).is_file() {
                return Err(file.error(
                    base.span(),
                    format!("there is no kernel `{}`", base.get_ref()),
                    format!("listed are: {}", self.names()?.join(", ")),
                ));
            }
        }
        Ok(SeriesSpec {
            name: name.to_owned(),
            dir,
            title: raw.title,
            bases: bases.iter().map(|b| b.get_ref().clone()).collect(),
            contract: raw.contract.map(Spanned::into_inner),
        })
    }

    /// The names of the flavours.
    pub fn flavour_names(&self) -> Result<Vec<String>, SpecError> {
        let dir = self.dir.join("flavours");
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let mut names = self.stems(&dir, "toml")?;
        names.sort();
        Ok(names)
    }

    /// The flavour `name`.
    pub fn flavour(&self, name: &str) -> Result<Flavour, SpecError> {
        let path = self.dir.join("flavours").join(format!("{name}.toml"));
        let known = self.flavour_names()?;
        if !known.iter().any(|k| k == name) {
            return Err(SpecError::whole_file(
                &path,
                format!("there is no flavour `{name}`"),
                format!("there are: {}", known.join(", ")),
            ));
        }
        Flavour::read(&path, name)
    }

    /// Looks up every word of a listed kernel's name. For `tree:` use [`Self::resolve_tree`].
    pub fn resolve(&self, name: &KernelName) -> Result<ResolvedKernel, SpecError> {
        match &name.base {
            Base::Listed(listed) => {
                let spec = self.kernel(listed)?;
                self.finish(name, spec)
            }
            Base::Tree { path, .. } => Err(SpecError::whole_file(
                path,
                "a tree's version must be known before its config is chosen",
                "resolve it through the build room",
            )),
        }
    }

    /// Looks up a local tree's name, whose Makefile says that it is `era`: config and contract
    /// are those of the nearest listed kernel that is not newer.
    pub fn resolve_tree(&self, name: &KernelName, era: Era) -> Result<ResolvedKernel, SpecError> {
        let Base::Tree { path, rev } = &name.base else {
            return self.resolve(name);
        };
        let listed = self.names()?;
        let nearest = listed
            .iter()
            .filter_map(|n| Some((Era::parse(n)?, n)))
            .filter(|(e, _)| *e <= era)
            .max_by_key(|(e, _)| *e);
        let Some((_, like)) = nearest else {
            return Err(SpecError::whole_file(
                path,
                format!("the tree is Linux {era}, older than every listed kernel"),
                format!("use a tree not older than one of: {}", listed.join(", ")),
            ));
        };
        let mut spec = self.kernel(like)?;
        spec.title = format!("Linux {era} of {path}");
        spec.objects = None;
        spec.sources = vec![SourceSpec::Tree {
            path: path.clone(),
            rev: rev.clone(),
        }];
        let contract = spec.contract.clone();
        let mut resolved = self.finish(name, spec)?;
        resolved.notices.push(format!(
            "{path} is Linux {era}: it gets the config of {like} and is held to the contract {contract}"
        ));
        Ok(resolved)
    }

    fn finish(&self, name: &KernelName, spec: KernelSpec) -> Result<ResolvedKernel, SpecError> {
        let mut fragments = Vec::new();
        for fragment in &spec.config {
            fragments.push(self.fragment(fragment)?);
        }
        let plain = fragments.len();
        let mut flavours: Vec<Flavour> = Vec::new();
        let mut references = Vec::new();
        for flavour in &name.flavours {
            if is_fragment(flavour) {
                fragments.push(read_fragment(flavour, flavour.into())?);
                continue;
            }
            let flavour = self.flavour(flavour)?;
            let of_era = flavour.config_of.get(&spec.name).into_iter().flatten();
            for fragment in flavour.config.iter().chain(of_era) {
                fragments.push(self.fragment(fragment)?);
            }
            references.extend(flavour.series.iter().cloned().map(SeriesRef::Named));
            flavours.push(flavour);
        }
        references.extend(name.series.iter().cloned());
        let mut contract = spec.contract.clone();
        let mut series = Vec::new();
        for reference in &references {
            let path = match reference {
                SeriesRef::Named(series_name) => {
                    let found = self.series(series_name)?;
                    if !found.bases.contains(&spec.name) {
                        return Err(SpecError::whole_file(
                            &found.dir.join("series.toml"),
                            format!(
                                "the series `{series_name}` is not written for {}",
                                spec.name
                            ),
                            format!("it is for: {}", found.bases.join(", ")),
                        ));
                    }
                    if let Some(own) = found.contract {
                        contract = own;
                    }
                    found.dir
                }
                SeriesRef::Path(path) => {
                    if !path.exists() {
                        return Err(SpecError::whole_file(
                            path,
                            "there is no such series",
                            "give a directory of patches, a patch or an mbox",
                        ));
                    }
                    path.clone()
                }
            };
            series.push(ResolvedSeries {
                reference: reference.clone(),
                path,
            });
        }
        for flavour in &flavours {
            if let Some(own) = flavour.contract.get(&contract) {
                contract.clone_from(own);
            }
        }
        Ok(ResolvedKernel {
            name: name.clone(),
            title: spec.title,
            contract,
            lacks: spec.lacks,
            make: flavours.iter().flat_map(|f| f.make.clone()).collect(),
            patience: flavours.iter().map(|f| f.patience).product(),
            fragments,
            plain,
            compiler: spec.compiler,
            objects: spec.objects,
            sources: spec.sources,
            series,
            notices: Vec::new(),
        })
    }

    fn fragment(&self, name: &str) -> Result<Fragment, SpecError> {
        read_fragment(name, self.dir.join("config").join(format!("{name}.config")))
    }

    fn stems(&self, dir: &Utf8Path, extension: &str) -> Result<Vec<String>, SpecError> {
        let entries = read_dir(dir)?;
        Ok(entries
            .into_iter()
            .filter_map(|name| {
                let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
                (!stem.is_empty()).then(|| stem.to_owned())
            })
            .collect())
    }
}

fn read_fragment(name: &str, path: Utf8PathBuf) -> Result<Fragment, SpecError> {
    let file = SpecFile::read(&path, &format!("the config fragment `{name}`"))?;
    let mut at = 0;
    for line in file.text().split_inclusive('\n') {
        let span = at..at + line.trim_end().len();
        at += line.len();
        let line = line.trim_end();
        let comment = line.starts_with('#') && !line.starts_with("# CONFIG_");
        let set = line.strip_prefix("CONFIG_").is_some_and(|rest| {
            rest.split_once('=')
                .is_some_and(|(n, v)| is_symbol(n) && !v.is_empty())
        });
        let unset = line
            .strip_prefix("# CONFIG_")
            .is_some_and(|rest| rest.strip_suffix(" is not set").is_some_and(is_symbol));
        if !(line.is_empty() || comment || set || unset) {
            return Err(file.error(
                span,
                "this is no config option",
                "write CONFIG_NAME=value, `# CONFIG_NAME is not set`, or a comment",
            ));
        }
    }
    Ok(Fragment {
        name: name.to_owned(),
        path,
        text: file.text().to_owned(),
    })
}

fn is_symbol(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn read_dir(dir: &Utf8Path) -> Result<Vec<String>, SpecError> {
    let read = || -> std::io::Result<Vec<String>> {
        dir.read_dir_utf8()?
            .map(|entry| Ok(entry?.file_name().to_owned()))
            .collect()
    };
    read().map_err(|e| {
        SpecError::whole_file(
            dir,
            format!("the directory can't be read: {e}"),
            "run zonedev inside the project, or name its directory",
        )
    })
}

fn parse_kernel(name: &str, file: &SpecFile) -> Result<KernelSpec, SpecError> {
    let raw: RawKernel = file.parse()?;
    if raw.config.get_ref().is_empty() {
        return Err(file.error(
            raw.config.span(),
            "a kernel needs at least one config fragment",
            "name one, like config = [\"base\"]",
        ));
    }
    for fragment in raw.config.get_ref() {
        if fragment.get_ref().contains("..") || fragment.get_ref().starts_with('/') {
            return Err(file.error(
                fragment.span(),
                format!(
                    "the fragment `{}` is outside kernels/config",
                    fragment.get_ref()
                ),
                "name a file of kernels/config, without .config",
            ));
        }
    }
    for feature in &raw.lacks {
        if !Features::names().contains(feature.get_ref()) {
            return Err(file.error(
                feature.span(),
                format!("there is no feature `{}`", feature.get_ref()),
                format!("contracts know {}", Features::names().join(", ")),
            ));
        }
    }
    let sources = raw.source.unwrap_or_default();
    if sources.is_empty() {
        return Err(file.error(
            0..file.text().len().min(1),
            "the kernel has no source",
            "add a [[source]] with kind = \"debian\", \"git\", \"tarball\" or \"tree\"",
        ));
    }
    Ok(KernelSpec {
        name: name.to_owned(),
        title: raw.title,
        contract: raw.contract.into_inner(),
        lacks: raw.lacks.into_iter().map(Spanned::into_inner).collect(),
        config: raw
            .config
            .into_inner()
            .into_iter()
            .map(Spanned::into_inner)
            .collect(),
        compiler: raw.compiler,
        objects: raw.objects,
        sources: sources
            .into_iter()
            .map(|s| parse_source(s, file))
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
