//! Faults of the host: no space, no memory, a broken cache, nobody who reads.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{qemus, said};
use crate::world::{Place, Running, World, ensure, soon, spawn, wait};

/// What a guest of the fixture takes at most, MiB: its RAM and its NVDIMM.
const GUEST_MIB: u64 = 768;

/// Whether this process may have mounts of its own: as root, or in a user namespace.
fn unshare() -> Option<Vec<&'static str>> {
    let ways = [vec!["unshare", "-m"], vec!["unshare", "-rm"]];
    ways.into_iter().find(|way| {
        let tried = Command::new(way[0])
            .args(&way[1..])
            .args(["mount", "-t", "tmpfs", "none", "/mnt"])
            .output();
        tried.is_ok_and(|o| o.status.success())
    })
}

/// A harness in mounts of its own: the script makes them, and then runs the harness as `"$@"`.
fn mounted(way: &[&str], script: &str, harness: &Command) -> Command {
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).args(["sh", "-ec", script, "sh"]);
    command.arg(harness.get_program()).args(harness.get_args());
    for (name, value) in harness.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null());
    command
}

/// The run's file system is full at some moment: it says so, keeps what it has, and goes on later.
pub(crate) fn no_space_for_the_run(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let Some(way) = unshare() else {
        return Ok(false);
    };
    // It is copied out of its mounts, to be gone on with.
    let kib = 16 + world.below(world.bytes >> 10);
    let small = place.dir.join("small");
    std::fs::create_dir(&small).unwrap();
    let out = place.dir.join("out");
    let mut inside = Place::new();
    inside.run = small.join("run");
    let script = format!(
        "mount -t tmpfs -o size={kib}k none {small}; code=0; \"$@\" || code=$?; cp -a {} {out}; exit $code",
        inside.run
    );
    let mut command = mounted(&way, &script, &world.matrix(&inside));
    let output = wait(spawn(&mut command))?;
    let text = said(&output);
    ensure!(
        output.status.code() == Some(3),
        "{kib} KiB: {}: {text}",
        output.status
    );
    ensure!(
        text.contains("os error 28"),
        "{kib} KiB: it does not say why: {text}"
    );
    let mut kept = Place::new();
    kept.run.clone_from(&out);
    if out.join("begun.json").exists() {
        world.goes_on(&kept)?;
    }
    Ok(true)
}

/// Nowhere is there room for guests' memory: that is told before the first one is started.
pub(crate) fn no_memory_for_guests(world: &mut World) -> Result<bool, String> {
    let Some(way) = unshare() else {
        return Ok(false);
    };
    let place = Place::new();
    let mib = 1 + world.below(GUEST_MIB / 2);
    let memory = cache().join("memory");
    std::fs::create_dir_all(&memory).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={mib}m none /dev/shm; mount -t tmpfs -o size={mib}m none {memory}; exec \"$@\""
    );
    let mut harness = world.matrix(&place);
    harness.env_remove("XDG_RUNTIME_DIR");
    let mut command = mounted(&way, &script, &harness);
    command.env_remove("XDG_RUNTIME_DIR");
    let output = wait(spawn(&mut command))?;
    let text = said(&output);
    ensure!(output.status.code() == Some(3), "{}: {text}", output.status);
    ensure!(text.contains("no room for"), "{text}");
    world.goes_on(&place)?;
    Ok(true)
}

/// There was room for guests' memory when they were started, and then somebody else took it.
pub(crate) fn memory_taken_away(world: &mut World) -> Result<bool, String> {
    let Some(way) = unshare() else {
        return Ok(false);
    };
    let place = Place::new();
    let moment = world.moment();
    let script = "mount -t tmpfs -o size=4g none /dev/shm; exec \"$@\"";
    let mut running = spawn(&mut mounted(&way, script, &world.matrix(&place)));
    if !running.runs_for(moment) {
        let output = wait(running)?;
        world.is_complete(&place, &output)?;
        return Ok(false);
    }
    // The harness's own view of it; once it is mounted.
    let hog = Utf8PathBuf::from(format!("/proc/{}/root/dev/shm/hog", running.child.id()));
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", running.child.id()));
    if !mounts.is_ok_and(|m| m.contains("size=4194304k")) {
        let output = wait(running)?;
        world.is_complete(&place, &output)?;
        return Ok(false);
    }
    if let Ok(mut file) = std::fs::File::create(&hog) {
        let chunk = vec![1; 1 << 20];
        // Until it is full.
        while file.write_all(&chunk).is_ok() {}
    }
    let memory = running.memory.clone();
    let output = wait(running)?;
    let text = said(&output);
    match output.status.code() {
        Some(0) => world.is_complete(&place, &output)?,
        Some(3) => {
            // QEMU got none (SIGBUS), or the next one was refused before it began.
            let told = ["SIGBUS", "no room for", "os error 28"]
                .iter()
                .any(|w| text.contains(w));
            ensure!(told, "it does not say why: {text}");
            world.is_tidy(&place, &memory)?;
            world.goes_on(&place)?;
        }
        _ => return Err(format!("{}: {text}", output.status)),
    }
    Ok(true)
}

fn cache() -> Utf8PathBuf {
    let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    var("ZONEDEV_CACHE").map_or_else(
        || match var("XDG_CACHE_HOME") {
            Some(dir) => Utf8PathBuf::from(dir).join("zonedev"),
            None => Utf8PathBuf::from(var("HOME").unwrap()).join(".cache/zonedev"),
        },
        Utf8PathBuf::from,
    )
}

/// A cache of its own with the user's kernels, and without images.
fn small_cache(dir: &Utf8Path) -> Utf8PathBuf {
    let (all, small) = (cache(), dir.join("cache"));
    std::fs::create_dir(&small).unwrap();
    for room in [
        "downloads",
        "apt",
        "sources",
        "trees",
        "kernels",
        "selftests",
        "tools",
    ] {
        if all.join(room).exists() {
            std::os::unix::fs::symlink(all.join(room), small.join(room)).unwrap();
        }
    }
    small
}

/// Something in the cache is not what it was, or can't be read: it is made again, or named; a kernel is
/// never blamed for it.
pub(crate) fn broken_cache(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let small = small_cache(&place.dir);
    let begin = |world: &World, place: &Place| {
        let mut harness = world.matrix(place);
        harness.env("ZONEDEV_CACHE", small.as_str());
        harness
    };
    // Fills it.
    let output = wait(spawn(&mut begin(world, &place)))?;
    world.is_complete(&place, &output)?;
    let images = small.join("images");
    let image = images
        .read_dir_utf8()
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .into_path();
    let initrd = image.join("initrd");
    let (what, heals): (&str, bool) = match world.below(6) {
        0 => {
            let bytes = std::fs::read(&initrd).unwrap();
            let cut = world.below(bytes.len() as u64) as usize;
            std::fs::write(&initrd, &bytes[..cut]).unwrap();
            ("an image that is cut off", true)
        }
        1 => {
            std::fs::remove_file(&initrd).unwrap();
            std::fs::create_dir(&initrd).unwrap();
            ("a directory in place of an image", true)
        }
        2 => {
            std::fs::remove_dir_all(&images).unwrap();
            std::fs::write(&images, "no directory").unwrap();
            ("a file in place of a directory", false)
        }
        3 => {
            std::fs::write(small.join("accel.json"), [0xff; 100]).unwrap();
            ("noise in what is remembered of the accelerator", true)
        }
        4 => {
            std::fs::remove_dir_all(small.join("locks")).unwrap();
            std::fs::write(small.join("locks"), "").unwrap();
            ("no place for locks", false)
        }
        _ => {
            std::fs::remove_file(small.join("kernels")).unwrap();
            std::os::unix::fs::symlink("/proc/self/mem", small.join("kernels")).unwrap();
            ("kernels that can't be read", false)
        }
    };
    let again = Place::new();
    let output = wait(spawn(&mut begin(world, &again)))?;
    if heals {
        return match world.is_complete(&again, &output) {
            Ok(()) => Ok(true),
            Err(e) => Err(format!("{what}: {e}")),
        };
    }
    let code = output.status.code();
    ensure!(
        matches!(code, Some(3 | 5)),
        "{what}: {}: {}",
        output.status,
        said(&output)
    );
    world.is_tidy(&again, &[])?;
    Ok(true)
}

/// Two at once make the same image in one cache.
pub(crate) fn two_harnesses(world: &mut World) -> Result<bool, String> {
    let (one, two) = (Place::new(), Place::new());
    let small = small_cache(&one.dir);
    let begin = |place: &Place| {
        let mut harness = world.matrix(place);
        spawn(harness.env("ZONEDEV_CACHE", small.as_str()))
    };
    let (first, second) = (begin(&one), begin(&two));
    let ends = [(one, wait(first)?), (two, wait(second)?)];
    for (place, output) in &ends {
        world.is_complete(place, output)?;
    }
    let left = small.join("tmp").read_dir_utf8().unwrap().count();
    ensure!(left == 0, "{left} things are left in the cache's tmp");
    Ok(true)
}

/// `| head -1`: who reads has seen enough.
pub(crate) fn output_closed(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let mut running = spawn(&mut world.matrix(&place));
    let mut stdout = running.child.stdout.take().unwrap();
    let stderr = running.child.stderr.take().unwrap();
    let mut one = [0];
    if world.below(2) == 0 {
        drop((stdout, stderr));
    } else {
        drop(stderr);
        let _ = stdout.read(&mut one);
        drop(stdout);
    }
    let output = wait(running)?;
    world.is_complete(&place, &output)?;
    Ok(true)
}

/// A pipe that is full already.
fn full() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = nix::fcntl::fcntl(writer.as_fd(), nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer.write_all(&vec![b'.'; size as usize]).unwrap();
    (reader, writer)
}

/// Nobody reads what goes on: the run goes on.
pub(crate) fn progress_never_read(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let (reader, writer) = full();
    let child = world
        .matrix(&place)
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()
        .unwrap();
    let output = wait(Running {
        child,
        memory: Vec::new(),
    })?;
    drop(reader);
    world.is_complete(&place, &output)?;
    Ok(true)
}

/// Nobody reads the result: as any program it waits for its reader, but everything else is over and
/// written down, and Ctrl-C ends it.
pub(crate) fn output_never_read(world: &mut World) -> Result<bool, String> {
    let place = Place::new();
    let (reader, writer) = full();
    let child = world
        .matrix(&place)
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running {
        child,
        memory: Vec::new(),
    };
    let until = Instant::now() + Duration::from_secs(600);
    while place.record().is_none() && Instant::now() < until {
        ensure!(
            running.runs_for(Duration::from_millis(20)),
            "it ended without its reader"
        );
    }
    ensure!(place.record().is_some(), "it wrote no record");
    let memory = running.memory.clone();
    ensure!(!memory.is_empty(), "no memory of guests was seen");
    soon("the guests' memory is gone", || {
        memory.iter().all(|m| !m.exists())
    })?;
    ensure!(qemus(&place.run).is_empty(), "a QEMU is left");
    let began = Instant::now();
    kill(Pid::from_raw(running.child.id() as i32), Signal::SIGINT).map_err(|e| e.to_string())?;
    let output = wait(running)?;
    let took = began.elapsed();
    drop(reader);
    ensure!(
        output.status.code() == Some(3),
        "it ended with {}",
        output.status
    );
    ensure!(took < Duration::from_secs(8), "it ended after {took:?}");
    let report = place.report();
    ensure!(report.status.code() == Some(0), "report: {}", said(&report));
    Ok(true)
}
