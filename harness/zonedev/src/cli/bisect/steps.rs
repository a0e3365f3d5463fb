//! What lies between the two ends: commits, releases, patches or options.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::bisect::{Kind, Step};
use crate::build::{
    BuildCtx, Cache, Commit, OnePatch, OptionChange, OptionStep, Quiet, commits_between,
    options_between, releases_between, releases_offered, write_patches,
};
use crate::cli::args::BisectArgs;
use crate::cli::exit::Failure;
use crate::spec::{Base, KernelName, ResolvedKernel, SeriesRef, release_of};

/// The steps, and the revision whose objects they are built from.
pub(super) struct Steps {
    pub(super) kind: Kind,
    pub(super) steps: Vec<Step>,
    pub(super) tree_base: Option<String>,
}

/// What is asked for, or else what the names differ in.
fn kind(args: &BisectArgs, good: &KernelName, bad: &KernelName) -> Result<Kind, Failure> {
    let asked = match (args.releases, args.series, args.config) {
        (true, ..) => Some(Kind::Releases),
        (_, true, _) => Some(Kind::Patches),
        (.., true) => Some(Kind::Options),
        _ => None,
    };
    let differ = (
        good.base != bad.base,
        good.flavours != bad.flavours,
        good.series != bad.series,
    );
    let does = match differ {
        (true, false, false) => match asked {
            Some(Kind::Releases) => Kind::Releases,
            _ if matches!(bad.base, Base::Listed(_)) => Kind::Releases,
            _ => Kind::Commits,
        },
        (false, true, false) => Kind::Options,
        (false, false, true) => Kind::Patches,
        (false, false, false) => {
            return Err(Failure::request(
                format!("{good} and {bad} are the same kernel"),
                "name a good and a bad one",
            ));
        }
        _ => {
            return Err(Failure::request(
                format!("{good} and {bad} differ in more than one way"),
                "let them differ in the revision of a tree, in the series, or in the flavours",
            ));
        }
    };
    match asked {
        Some(asked) if asked != does => Err(Failure::request(
            format!("{good} and {bad} do not differ in what is asked for"),
            match asked {
                Kind::Patches => "with --series, name KERNEL and KERNEL+SERIES",
                Kind::Options => {
                    "with --config, name KERNEL and KERNEL:FLAVOUR, or KERNEL:./my.config"
                }
                _ => "with --releases, name tree:PATH@TAG and tree:PATH@TAG",
            },
        )),
        _ => Ok(does),
    }
}

/// A kernel's name whose paths mean the same everywhere: a bisection may be gone on with elsewhere.
pub(super) fn absolute(name: &str) -> Result<String, Failure> {
    let mut name = KernelName::parse(name)?;
    let whole = |path: &Utf8Path| -> Result<Utf8PathBuf, Failure> {
        let path = std::path::absolute(path)?;
        Utf8PathBuf::from_path_buf(path)
            .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))
    };
    if let Base::Tree { path, .. } = &mut name.base {
        *path = whole(path)?;
    }
    for flavour in name.flavours.iter_mut().filter(|f| f.contains('/')) {
        *flavour = whole(Utf8Path::new(flavour.as_str()))?.into_string();
    }
    for series in &mut name.series {
        if let SeriesRef::Path(path) = series {
            *path = whole(path)?;
        }
    }
    Ok(name.to_string())
}

/// Finds the steps. Files that they are made of are written to `dir`.
pub(super) fn find(
    project: &Utf8Path,
    args: &BisectArgs,
    good: &str,
    bad: &str,
    dir: &Utf8Path,
) -> Result<Steps, Failure> {
    let (good, bad) = (KernelName::parse(good)?, KernelName::parse(bad)?);
    let kind = kind(args, &good, &bad)?;
    let mut tree_base = None;
    let steps = match kind {
        Kind::Releases if matches!(bad.base, Base::Listed(_)) => offered(project, &good, &bad)?,
        Kind::Commits | Kind::Releases => {
            let (path, first, last) = revisions(&good, &bad)?;
            tree_base = Some(first.clone());
            match kind {
                Kind::Commits => of_tree(&bad, &path, commits_between(&path, &first, &last)?),
                _ => of_releases(&bad, &path, &last, releases_between(&path, &first, &last)?),
            }
        }
        Kind::Patches => patches(project, &good, &bad, &dir.join("patches"))?,
        Kind::Options => options(project, &good, &bad, &dir.join("options"))?,
    };
    for step in &steps {
        if KernelName::parse(&step.kernel).ok().map(|n| n.to_string()) != Some(step.kernel.clone())
        {
            return Err(Failure::request(
                format!("{} can't be the name of a kernel", step.kernel),
                "give --run-dir a folder whose path holds no `+`, `,`, `:` or `@`",
            ));
        }
    }
    Ok(Steps {
        kind,
        steps,
        tree_base,
    })
}

fn revisions(
    good: &KernelName,
    bad: &KernelName,
) -> Result<(Utf8PathBuf, String, String), Failure> {
    if let (
        Base::Tree {
            path,
            rev: Some(first),
        },
        Base::Tree {
            path: other,
            rev: Some(last),
        },
    ) = (&good.base, &bad.base)
        && path == other
    {
        return Ok((path.clone(), first.clone(), last.clone()));
    }
    Err(Failure::request(
        format!("{good} and {bad} are no two revisions of a tree"),
        "name both as tree:PATH@REV",
    ))
}

fn at_revision(like: &KernelName, path: &Utf8Path, rev: &str) -> String {
    let mut name = like.clone();
    name.base = Base::Tree {
        path: path.to_owned(),
        rev: Some(rev.to_owned()),
    };
    name.to_string()
}

/// Commits, parents first.
fn of_tree(like: &KernelName, path: &Utf8Path, commits: Vec<Commit>) -> Vec<Step> {
    let mut numbers = BTreeMap::new();
    let mut steps = Vec::new();
    for commit in commits {
        let parents = commit.parents.iter();
        let parents = parents.filter_map(|p| numbers.get(p).copied()).collect();
        numbers.insert(commit.id.clone(), steps.len());
        steps.push(Step {
            kernel: at_revision(like, path, &commit.id),
            id: commit.id,
            title: commit.title,
            parents,
            without: None,
            needed_by: Vec::new(),
        });
    }
    steps
}

/// Releases; what comes after the last one is a step, too.
fn of_releases(
    like: &KernelName,
    path: &Utf8Path,
    last: &str,
    mut releases: Vec<Commit>,
) -> Vec<Step> {
    if releases.last().is_none_or(|r| r.id != last) {
        releases.push(Commit {
            id: last.to_owned(),
            title: "the bad end".to_owned(),
            parents: releases.last().map(|r| r.id.clone()).into_iter().collect(),
        });
    }
    of_tree(like, path, releases)
}

/// Releases that the kernel's sources offer.
fn offered(project: &Utf8Path, good: &KernelName, bad: &KernelName) -> Result<Vec<Step>, Failure> {
    let no_releases = || {
        Failure::request(
            format!("{good} and {bad} are no two releases of a listed kernel"),
            "name two like 6.12.107 and 6.12.117, or two revisions of a tree",
        )
    };
    let (Base::Listed(from), Base::Listed(to)) = (&good.base, &bad.base) else {
        return Err(no_releases());
    };
    let (first, last) = (release_of(from), release_of(to));
    let (Some((listed, first)), Some((other, last))) = (first, last) else {
        return Err(no_releases());
    };
    if listed != other || first >= last {
        return Err(no_releases());
    }
    let ctx = BuildCtx::new(project, Cache::of_user()?);
    let spec = ctx.kernels().kernel(listed)?;
    let releases = releases_offered(&ctx, &spec.sources, from, to, &Quiet)?;
    let step = |(n, release): (usize, String)| {
        let mut name = bad.clone();
        name.base = Base::Listed(release.clone());
        Step {
            kernel: name.to_string(),
            title: format!("Linux {release}"),
            id: release,
            parents: n.checked_sub(1).into_iter().collect(),
            without: None,
            needed_by: Vec::new(),
        }
    };
    Ok(releases.into_iter().enumerate().map(step).collect())
}

/// The patches that `bad` has and `good` has not, each in a file of its own.
fn patches(
    project: &Utf8Path,
    good: &KernelName,
    bad: &KernelName,
    dir: &Utf8Path,
) -> Result<Vec<Step>, Failure> {
    if !bad.series.starts_with(&good.series) {
        return Err(Failure::request(
            format!("{bad} does not begin with the series of {good}"),
            "name KERNEL and KERNEL+SERIES",
        ));
    }
    let ctx = BuildCtx::new(project, Cache::of_user()?);
    let (has, all) = (ctx.resolve(good)?, ctx.resolve(bad)?);
    let patches = write_patches(&all.series[has.series.len()..], dir)?;
    let with = |patches: &mut dyn Iterator<Item = &OnePatch>| {
        let mut name = good.clone();
        name.series
            .extend(patches.map(|p| SeriesRef::Path(p.path.clone())));
        name.to_string()
    };
    let step = |(n, patch): (usize, &OnePatch)| {
        let others = patches.iter().enumerate().filter(|(i, _)| *i != n);
        Step {
            kernel: match n + 1 == patches.len() {
                true => bad.to_string(),
                false => with(&mut patches[..=n].iter()),
            },
            id: patch.path.file_name().unwrap_or_default().to_owned(),
            title: patch.title.clone(),
            parents: n.checked_sub(1).into_iter().collect(),
            without: Some(with(&mut others.map(|(_, p)| p))),
            needed_by: Vec::new(),
        }
    };
    Ok(patches.iter().enumerate().map(step).collect())
}

/// The options that both ask for differently, as fragments on top of those of `good`.
fn options(
    project: &Utf8Path,
    good: &KernelName,
    bad: &KernelName,
    dir: &Utf8Path,
) -> Result<Vec<Step>, Failure> {
    let ctx = BuildCtx::new(project, Cache::of_user()?);
    let (from, to) = (ctx.resolve(good)?, ctx.resolve(bad)?);
    let references = |k: &ResolvedKernel| -> Vec<SeriesRef> {
        k.series.iter().map(|s| s.reference.clone()).collect()
    };
    if from.make != to.make || references(&from) != references(&to) || from.contract != to.contract
    {
        return Err(Failure::request(
            format!(
                "{good} and {bad} differ in more than options: a flavour brings patches, another contract or variables of make"
            ),
            "name flavours that only have config fragments, or put the options into a my.config and name KERNEL:./my.config",
        ));
    }
    let found = options_between(&ctx, &from, &to, &Quiet)?;
    fs_err::create_dir_all(dir)?;
    let write = |file: String,
                 steps: &mut dyn Iterator<Item = &OptionStep>,
                 of: &KernelName,
                 back: bool| {
        let lines = steps.flat_map(|s| &s.changes).filter_map(|c| {
            let (from, to) = match back {
                true => (&c.to, &c.from),
                false => (&c.from, &c.to),
            };
            wanted(c, from.as_deref(), to.as_deref())
        });
        let path = dir.join(file);
        fs_err::write(&path, lines.collect::<String>())?;
        let mut name = of.clone();
        name.flavours.push(path.to_string());
        Ok::<_, Failure>(name.to_string())
    };
    let mut out = Vec::new();
    for (n, step) in found.iter().enumerate() {
        let kernel = match n + 1 == found.len() {
            true => bad.to_string(),
            false => write(
                format!("{:04}.config", n + 1),
                &mut found[..=n].iter(),
                good,
                false,
            )?,
        };
        let mut gone = [n]
            .into_iter()
            .chain(step.needed_by.iter().copied())
            .map(|i| &found[i]);
        let without = write(format!("without-{:04}.config", n + 1), &mut gone, bad, true)?;
        let words: Vec<String> = step.changes.iter().map(OptionChange::to_string).collect();
        out.push(Step {
            kernel,
            id: words.join(", "),
            title: String::new(),
            parents: n.checked_sub(1).into_iter().collect(),
            without: Some(without),
            needed_by: step.needed_by.clone(),
        });
    }
    Ok(out)
}

/// The line that takes an option from one value to another. Where nothing is asked for afterwards,
/// what was set is unset; a number stays.
fn wanted(change: &OptionChange, from: Option<&str>, to: Option<&str>) -> Option<String> {
    let unset = || matches!(from, Some("y" | "m")).then_some("n");
    OptionChange::line(&change.name, to.or_else(unset))
}
