//! Which accelerator really works here.
//!
//! A device node says nothing: on some hosts KVM opens, makes a machine, and then aborts QEMU, hangs,
//! or runs twenty times slower than software. So a small guest of our own (trial/trial.S) is started
//! under KVM, with the processor that guests get, on a machine like theirs, and what it did within a
//! few seconds is the judgement. That is remembered for as long as nothing changed that it depends on.

use std::fmt;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use nix::sys::memfd::{MFdFlags, memfd_create};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command::{Args, SANDBOX};
use super::error::{Result, VmError};
use super::machine::host_cpu;
use super::qemu::Qemu;
use super::spawn::{Launch, Limits, Spawner};

/// The trial's guest, a multiboot image.
const TRIAL: &[u8] = include_bytes!("trial/trial.bin");
/// The exit status of QEMU after the guest's answer, and of no other end.
const ANSWERED: i32 = 85;
/// Working KVM takes a tenth of it; a host that takes longer is better off with TCG.
const LIMIT: Duration = Duration::from_secs(3);
const KVM: &str = "/dev/kvm";

/// Who executes the guest's instructions.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

impl Accel {
    /// The processor that guests get, as `-cpu` takes it.
    pub(super) fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(format!("{text:?} is no accelerator; use kvm or tcg")),
        }
    }
}

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccelProbe {
    /// The accelerator to use.
    pub accel: Accel,
    /// Why it isn't KVM.
    pub kvm_reason: Option<String>,
    /// How long the trial boot took, now or when its outcome was remembered; zero without one.
    pub took: Duration,
    /// Whether the outcome is an earlier trial's.
    pub remembered: bool,
}

/// What is kept of a trial.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    key: String,
    /// Why KVM doesn't work; none where it does.
    failure: Option<String>,
    took_ms: u64,
}

/// Chooses the accelerator: KVM where a trial boot under it succeeds, else TCG. The trial's outcome
/// is kept in `cache_dir` (which exists). With `force`, that one: TCG without a trial, and KVM only
/// where it works.
///
/// Fails where KVM is forced and doesn't work, and where QEMU can't be started at all.
pub async fn probe_accel(
    cache_dir: &Utf8Path,
    force: Option<Accel>,
    qemu: &Qemu,
    spawner: &Spawner,
) -> Result<AccelProbe> {
    let tcg = |reason: String, took, remembered| AccelProbe {
        accel: Accel::Tcg,
        kvm_reason: Some(reason),
        took,
        remembered,
    };
    if force == Some(Accel::Tcg) {
        return Ok(tcg("TCG was asked for".to_owned(), Duration::ZERO, false));
    }
    let (failure, took, remembered) = match usable_node() {
        Err(reason) => (Some(reason), Duration::ZERO, false),
        Ok(node) => {
            let key = key(qemu, &node);
            let file = cache_dir.join("accel.json");
            match recall(&file, &key) {
                Some(memory) => (memory.failure, Duration::from_millis(memory.took_ms), true),
                None => {
                    let begin = Instant::now();
                    let failure = trial(Accel::Kvm, LIMIT, qemu, spawner).await?;
                    let took = begin.elapsed();
                    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    remember(
                        cache_dir,
                        &file,
                        &Memory {
                            key,
                            failure: failure.clone(),
                            took_ms,
                        },
                    );
                    (failure, took, false)
                }
            }
        }
    };
    match failure {
        None => Ok(AccelProbe {
            accel: Accel::Kvm,
            kvm_reason: None,
            took,
            remembered,
        }),
        Some(reason) if force == Some(Accel::Kvm) => Err(VmError::KvmUnusable { reason }),
        Some(reason) => Ok(tcg(reason, took, remembered)),
    }
}

/// Opens the device node: what describes it, or why it can't be used.
fn usable_node() -> Result<String, String> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(KVM).map_err(|error| format!("{KVM}: {error}"))?;
    fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open(KVM)
        .map_err(|error| format!("{error}; is this user in the group kvm?"))?;
    Ok(format!(
        "{:x} {:o} {} {} {}",
        meta.rdev(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.ctime()
    ))
}

/// All that a trial's outcome depends on.
fn key(qemu: &Qemu, node: &str) -> String {
    let read = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    let parts = [
        read("/proc/sys/kernel/random/boot_id"),
        read("/proc/sys/kernel/osrelease"),
        host_cpu(),
        qemu.path.to_string(),
        qemu.version.clone(),
        node.to_owned(),
        nix::unistd::geteuid().to_string(),
        LIMIT.as_millis().to_string(),
    ];
    for part in parts {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.update(TRIAL);
    hasher.finalize().to_hex().to_string()
}

fn recall(file: &Utf8Path, key: &str) -> Option<Memory> {
    let memory: Memory = serde_json::from_slice(&fs_err::read(file).ok()?).ok()?;
    (memory.key == key).then_some(memory)
}

/// Written aside and renamed. A cache that can't be written costs the next run a trial, no more.
fn remember(cache_dir: &Utf8Path, file: &Utf8Path, memory: &Memory) {
    let write = || -> std::io::Result<()> {
        let mut aside = tempfile::NamedTempFile::new_in(cache_dir)?;
        serde_json::to_writer(&mut aside, memory)?;
        aside.persist(file)?;
        Ok(())
    };
    let _ = write();
}

/// Boots the trial's guest: none if it answered, else why not.
async fn trial(
    accel: Accel,
    limit: Duration,
    qemu: &Qemu,
    spawner: &Spawner,
) -> Result<Option<String>> {
    let image = memfd_create("trial", MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| VmError::io("make a file in memory")(errno.into()))?;
    let mut file = std::fs::File::from(image);
    file.write_all(TRIAL)
        .map_err(VmError::io("write a file in memory"))?;
    let dir = tempfile::tempdir().map_err(VmError::io("make a temporary directory"))?;
    let stderr = Utf8Path::from_path(dir.path())
        .ok_or_else(|| {
            VmError::io("use the temporary directory")(std::io::Error::other(
                "its name is not UTF-8",
            ))
        })?
        .join("stderr");

    let mut args = Args::default();
    args.0
        .extend(["-nodefaults", "-no-user-config"].map(str::to_owned));
    args.add("-display", "none");
    args.add("-nic", "none");
    args.add("-sandbox", SANDBOX);
    args.add("-machine", "q35,nvdimm=on");
    args.accel(accel);
    args.add("-smp", "2");
    args.add("-m", "64M");
    args.add("-action", "reboot=shutdown");
    args.add("-device", "isa-debug-exit,iobase=0xf4,iosize=1");
    args.add("-kernel", format!("/proc/self/fd/{}", file.as_raw_fd()));
    let launch = Launch {
        program: qemu.path.clone(),
        args: args.0,
        inherit: vec![file.into()],
        stderr: stderr.clone(),
        limits: Limits::of_guest(64 << 20),
    };
    let process = spawner.start(launch).await?;
    let Ok(status) = tokio::time::timeout(limit, process.wait()).await else {
        return Ok(Some(format!(
            "a guest under {accel} did not answer within {limit:?}"
        )));
    };
    let status = status?;
    if status.code() == Some(ANSWERED) {
        return Ok(None);
    }
    let words = super::spawn::tail(&stderr, 4096);
    let first = words
        .lines()
        .find(|line| line.contains("error"))
        .or(words.lines().next());
    let ended = process.failed(status);
    let status = match &ended {
        VmError::QemuFailed { status, .. } => status.as_str(),
        _ => "no status",
    };
    Ok(Some(format!(
        "QEMU with -accel {accel} -cpu {} ended ({status}): {}",
        accel.cpu(),
        first.unwrap_or("no word").trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_image_is_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (object, image) = (dir.path().join("trial.o"), dir.path().join("trial.bin"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/vm/trial/trial.S");
        let run = |command: &mut Command| match command.status() {
            Ok(status) => assert!(status.success(), "{command:?}"),
            Err(error) => panic!("binutils is needed to build kernels and for this test: {error}"),
        };
        run(Command::new("as")
            .args(["--64", "-o"])
            .arg(&object)
            .arg(source));
        run(Command::new("objcopy")
            .args(["-O", "binary", "-j", ".text"])
            .arg(&object)
            .arg(&image));
        assert!(
            fs_err::read(image).unwrap() == TRIAL,
            "assemble trial.S again, its head says how"
        );
    }

    #[tokio::test]
    async fn the_trial_answers_where_the_processor_works_and_is_bounded_where_not() {
        let (qemu, spawner) = (Qemu::find().await.unwrap(), Spawner::new().unwrap());
        let patient = Duration::from_secs(60);
        assert_eq!(
            trial(Accel::Tcg, patient, &qemu, &spawner).await.unwrap(),
            None
        );
        let brief = Duration::from_millis(1);
        let failure = trial(Accel::Tcg, brief, &qemu, &spawner).await.unwrap();
        assert_eq!(
            failure.unwrap(),
            "a guest under tcg did not answer within 1ms"
        );
    }

    #[test]
    fn names_go_both_ways() {
        for accel in [Accel::Kvm, Accel::Tcg] {
            assert_eq!(accel.to_string().parse(), Ok(accel));
            assert_eq!(
                serde_json::to_string(&accel).unwrap(),
                format!("\"{accel}\"")
            );
        }
        assert!(
            "hvf"
                .parse::<Accel>()
                .unwrap_err()
                .contains("use kvm or tcg")
        );
    }

    #[test]
    fn a_memory_serves_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let file = dir.join("accel.json");
        assert!(recall(&file, "a").is_none());
        let memory = Memory {
            key: "a".to_owned(),
            failure: Some("slow".to_owned()),
            took_ms: 7,
        };
        remember(dir, &file, &memory);
        assert_eq!(recall(&file, "a").unwrap().failure.as_deref(), Some("slow"));
        assert!(recall(&file, "b").is_none());
        fs_err::write(&file, "{").unwrap();
        assert!(recall(&file, "a").is_none());
    }
}
