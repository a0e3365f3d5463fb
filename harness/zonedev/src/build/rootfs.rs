//! The root file system: Debian's packages unpacked over each other, tests compiled against them,
//! and all of it in one erofs, which a guest mounts read-only under a tmpfs. The same inputs give
//! the same bytes: nothing is installed, no script of a package runs, and times and owners are fixed.

use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};

use super::apt::deb_path;
use super::cache::{create_dir, remove};
use super::context::BuildCtx;
use super::debs::{self, DebLock, LockedDeb};
use super::error::BuildError;
use super::event::{BuildSink, Phase, Reporter};
use super::{overlay::Change, proc, source};
use crate::spec::{RootSpec, SourceTests};

/// Changes whenever the way we build changes what comes out.
const RECIPE: &str = "zonedev rootfs 1";
/// What the packages and the image take at most, bytes, as measured.
const NEEDS: u64 = 1 << 30;
/// Fixed, so that images made alike are alike.
const UUID: &str = "5a4f4e45-4445-5600-8000-000000000002";

/// A built root file system.
#[derive(Debug, Clone)]
pub struct RootArtifact {
    /// The erofs, for a read-only disk.
    pub path: Utf8PathBuf,
    /// A key of all that it depends on.
    pub key: String,
}

/// Builds `images/NAME.toml`, or finds it in the cache. Blocks until it is there.
pub fn build_rootfs(
    ctx: &BuildCtx,
    name: &str,
    sink: &dyn BuildSink,
) -> Result<RootArtifact, BuildError> {
    let started = Instant::now();
    let what = format!("root file system {name}");
    let report = Reporter::new(&what, sink);
    let images = ctx.project.join("images");
    let spec = RootSpec::load(&images, name)?;
    let lock = debs::obtain(ctx, &spec, &images.join(format!("{name}.lock")), &report)?;
    let key = key(&spec, &lock)?;
    let place = ctx.cache.path("images", &key);
    let path = place.join("rootfs.erofs");
    let cached = path.is_file();
    if !cached {
        report.started();
        let guard = ctx.cache.lock(&format!("image-{key}"), &report)?;
        ctx.cache.need_space(NEEDS, &what)?;
        let temp = ctx.cache.temp(&guard, "rootfs")?;
        let root = temp.join("root");
        let (own, build): (Vec<_>, Vec<_>) = lock.package.iter().partition(|d| !d.build);
        report.phase(Phase::Unpack, format!("{} packages", own.len()));
        unpack(ctx, &own, &spec.leave_out, &root)?;
        if !spec.tests.is_empty() {
            report.phase(Phase::Tests, "for the root file system");
            let sysroot = temp.join("sysroot");
            // Headers and libraries of both.
            unpack(ctx, &own, &spec.leave_out, &sysroot)?;
            unpack(ctx, &build, &spec.leave_out, &sysroot)?;
            for tests in &spec.tests {
                build_tests(ctx, tests, &lock, &sysroot, &temp, &root)?;
            }
        }
        furnish(&spec, &root)?;
        let out = temp.join("out");
        create_dir(&out)?;
        erofs(&root, &out.join("rootfs.erofs"))?;
        report.phase(Phase::Publish, key.clone());
        ctx.cache.publish(&out, &place)?;
        remove(&temp)?;
    }
    report.finished(started.elapsed(), cached);
    Ok(RootArtifact { path, key })
}

/// Makes an erofs of a directory, uncompressed: the emulated processor would pay for compression.
pub(crate) fn erofs(dir: &Utf8Path, file: &Utf8Path) -> Result<(), BuildError> {
    if !proc::exists("mkfs.erofs") {
        return Err(BuildError::MissingTool {
            program: "mkfs.erofs".to_owned(),
            package: "erofs-utils".to_owned(),
        });
    }
    proc::run(
        proc::command("mkfs.erofs")
            .args(["--quiet", "-T0", "-U", UUID, "--all-root", "-x-1"])
            .args([file, dir]),
        format!("make an erofs of {dir}"),
    )
    .map(drop)
}

fn key(spec: &RootSpec, lock: &DebLock) -> Result<String, BuildError> {
    let json = |what: Result<Vec<u8>, serde_json::Error>| {
        what.map_err(|e| BuildError::Command {
            what: "write down a root file system".to_owned(),
            detail: e.to_string(),
        })
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(RECIPE.as_bytes());
    hasher.update(&json(serde_json::to_vec(spec))?);
    hasher.update(&json(serde_json::to_vec(lock))?);
    if !spec.tests.is_empty() {
        let version = proc::run(
            proc::command("gcc").arg("--version"),
            "ask gcc for its version",
        )?;
        hasher.update(version.as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// Unpacks packages over each other.
fn unpack(
    ctx: &BuildCtx,
    debs: &[&LockedDeb],
    leave_out: &[String],
    root: &Utf8Path,
) -> Result<(), BuildError> {
    create_dir(root)?;
    // Old packages ship files below /bin, new ones below /usr/bin only.
    for dir in ["bin", "sbin", "lib", "lib64"] {
        create_dir(&root.join("usr").join(dir))?;
        let link = root.join(dir);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(format!("usr/{dir}"), &link)
                .map_err(|e| BuildError::io("write", &link, e))?;
        }
    }
    for deb in debs {
        let file = deb_path(&ctx.cache, &deb.sha256);
        let excludes = leave_out.iter().map(|p| format!("--exclude=./{p}"));
        source::pipe(
            proc::command("dpkg-deb").args(["--fsys-tarfile", file.as_str()]),
            proc::command("tar")
                .args(["-x", "--no-same-owner", "--keep-directory-symlink", "-C"])
                .arg(root)
                .args(excludes),
            &format!("unpack {}", deb.name),
            root,
        )?;
    }
    Ok(())
}

/// Directories, links and files of the spec.
fn furnish(spec: &RootSpec, root: &Utf8Path) -> Result<(), BuildError> {
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for dir in &spec.directories {
        create_dir(&inside(dir))?;
    }
    for link in &spec.link {
        Change::Link {
            target: link.target.clone(),
        }
        .write(&inside(&link.path))?;
    }
    for file in &spec.file {
        Change::File {
            bytes: file.text.clone().into_bytes(),
            executable: file.executable,
        }
        .write(&inside(&file.path))?;
    }
    Ok(())
}

/// Compiles tests of a source package, and copies those that are scripts.
fn build_tests(
    ctx: &BuildCtx,
    tests: &SourceTests,
    lock: &DebLock,
    sysroot: &Utf8Path,
    temp: &Utf8Path,
    root: &Utf8Path,
) -> Result<(), BuildError> {
    let locked = lock.source.iter().find(|s| s.package == tests.package);
    let locked = locked.ok_or_else(|| BuildError::Command {
        what: format!("build the tests of {}", tests.package),
        detail: "its source is not locked".to_owned(),
    })?;
    let tree = temp.join("source").join(&tests.package);
    create_dir(&tree)?;
    source::untar(&locked.path(ctx), &tree)?;
    let header = tree.join("config.h");
    fs_err::write(&header, &tests.config_h).map_err(|e| BuildError::io("write", &header, e))?;
    let place = root.join(tests.dir.trim_start_matches('/'));
    create_dir(&place)?;
    let scripts = tree.join(&tests.copy);
    let entries = scripts
        .read_dir_utf8()
        .map_err(|e| BuildError::io("read", &scripts, e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_source = [".c", ".h", ".build"].iter().any(|s| name.ends_with(s));
        // One script has several names, by links.
        let is_script = |t: std::fs::FileType| t.is_file() || t.is_symlink();
        if entry.file_type().is_ok_and(is_script) && !is_source {
            Change::read(entry.path())?.write(&place.join(name))?;
        }
    }
    for program in &tests.program {
        let mut cmd = proc::command("gcc");
        // gcc looks beside itself before it looks into the sysroot.
        let libraries = sysroot.join("usr/lib/x86_64-linux-gnu");
        cmd.current_dir(&tree)
            .args(["-w", "-O2", "-s", "-pthread", "-include", "config.h"])
            .arg(format!("--sysroot={sysroot}"))
            .args([format!("-B{libraries}"), format!("-L{libraries}")])
            .arg(format!("-ffile-prefix-map={tree}=/{}", tests.package));
        for dir in &tests.include {
            cmd.args(["-I", dir]);
        }
        cmd.args(&program.sources)
            .arg("-o")
            .arg(place.join(&program.name))
            .args(&program.link);
        let done = proc::output(&mut cmd)?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).replace(temp.as_str(), "");
            let errors = said
                .lines()
                .filter(|l| l.contains("error") || l.contains("undefined"));
            let mut errors: Vec<String> = errors.take(5).map(str::to_owned).collect();
            if errors.is_empty() {
                errors.push(proc::said(&done));
            }
            return Err(BuildError::Command {
                what: format!("compile {} of {}", program.name, tests.package),
                detail: errors.join("; "),
            });
        }
    }
    Ok(())
}
