//! The room `vm` with a real QEMU and a real kernel.
//!
//! `ZONEDEV_TEST_KERNEL=path/to/bzImage cargo test -p zonedev --test vm_real -- --nocapture`
//! Without it, the tests that need a kernel say so and do nothing. The guest is a static busybox
//! (`/bin/busybox`, or `ZONEDEV_TEST_BUSYBOX`) whose init answers each line on the agent's port.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zonedev::vm::*;

/// The guest's end of the conversation.
const INIT: &str = r#"#!/bin/sh
mount -t devtmpfs d /dev; mount -t proc p /proc; mount -t sysfs s /sys
for p in /sys/class/virtio-ports/*; do
  read name < $p/name
  [ "$name" = org.zonedev.agent ] && port=/dev/${p##*/}
done
# The kernel may number the devices in another order than QEMU.
for b in /sys/class/block/pmem*; do
  read size < $b/size
  [ "$size" = 524288 ] && pmem=/dev/${b##*/}
done
exec 3<>$port
echo ready >&3
while read -r line <&3; do
  case $line in
    set*) echo "$line" > /keep; printf %s "${line#set }" | dd of=$pmem bs=4096 conv=notrunc,sync,fsync 2>/dev/null ;;
    get) ;;
    panic) echo c > /proc/sysrq-trigger ;;
    off) poweroff -f ;;
  esac
  if [ -e /keep ]; then read -r kept < /keep; else kept=nothing; fi
  echo "$line: $kept" >&3
done
"#;

struct Bench {
    _dir: tempfile::TempDir,
    dir: Utf8PathBuf,
    launcher: Launcher,
    machine: Machine,
    guests: std::sync::atomic::AtomicU32,
}

impl Bench {
    /// None where there is no kernel to boot.
    async fn new() -> Option<Self> {
        let Ok(kernel) = std::env::var("ZONEDEV_TEST_KERNEL") else {
            eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
            return None;
        };
        let (temp, dir) = tempdir();
        let initrd = dir.join("initrd");
        fs::write(&initrd, initramfs()).unwrap();
        let machine = Machine {
            accel: Accel::Tcg,
            cpus: 2,
            memory_mib: 512,
            nodes: 1,
            kernel: kernel.into(),
            initrd,
            cmdline: BASE_CMDLINE.to_owned(),
            nvdimms: vec![
                Nvdimm {
                    id: "pmem0".into(),
                    size_mib: 256,
                    label_kib: 128,
                    node: 0,
                },
                Nvdimm {
                    id: "pmem1".into(),
                    size_mib: 128,
                    label_kib: 128,
                    node: 0,
                },
            ],
            disks: Vec::new(),
            extra: Vec::new(),
            cloneable: true,
        };
        let launcher = launcher(&dir, machine.memory_bytes()).await;
        Some(Self {
            _dir: temp,
            dir,
            launcher,
            machine,
            guests: 0.into(),
        })
    }

    fn guest_dir(&self) -> Utf8PathBuf {
        let n = self
            .guests
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = self.dir.join(format!("guest{n}"));
        fs::create_dir(&dir).unwrap();
        dir
    }

    async fn boot(&self) -> (Guest, Agent) {
        let mut guest = Guest::boot(&self.machine, &self.launcher, &self.guest_dir())
            .await
            .unwrap();
        let mut agent = Agent::new(&mut guest);
        let ready = agent.hear(&guest).await;
        assert_eq!(ready, "ready");
        (guest, agent)
    }

    async fn clone_of(&self, template: &Template) -> (Guest, Agent) {
        let mut guest = template.start_clone(&self.guest_dir()).await.unwrap();
        let agent = Agent::new(&mut guest);
        (guest, agent)
    }
}

async fn launcher(dir: &Utf8Path, bytes: u64) -> Launcher {
    let memory = MemoryDir::create(&memory_places(dir), bytes).unwrap();
    Launcher {
        qemu: Qemu::find().await.unwrap(),
        spawner: Spawner::new().unwrap(),
        memory,
    }
}

struct Agent(BufReader<UnixStream>);

impl Agent {
    fn new(guest: &mut Guest) -> Self {
        Self(BufReader::new(guest.take_channel().unwrap()))
    }

    async fn hear(&mut self, guest: &Guest) -> String {
        let mut line = String::new();
        match timeout(Duration::from_secs(60), self.0.read_line(&mut line)).await {
            Ok(read) => read.unwrap(),
            Err(_) => panic!(
                "no answer; the console ends with:\n{}",
                guest.console().tail(2000)
            ),
        };
        line.trim_end().to_owned()
    }

    async fn say(&mut self, line: &str) {
        self.0
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn ask(&mut self, guest: &Guest, line: &str) -> String {
        self.say(line).await;
        self.hear(guest).await
    }
}

fn tempdir() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    (dir, path)
}

/// A cpio archive ("newc") of busybox and an init.
fn initramfs() -> Vec<u8> {
    let busybox = std::env::var("ZONEDEV_TEST_BUSYBOX").unwrap_or("/bin/busybox".to_owned());
    let busybox =
        fs::read(&busybox).unwrap_or_else(|error| panic!("{busybox}, a static busybox: {error}"));
    let mut archive = Vec::new();
    let mut add = |name: &str, mode: u32, data: &[u8]| {
        let header = [
            0,
            mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        archive.extend_from_slice(b"070701");
        for field in header {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    for dir in ["bin", "dev", "proc", "sys"] {
        add(dir, 0o040755, b"");
    }
    add("bin/busybox", 0o100755, &busybox);
    for applet in ["sh", "mount", "dd", "poweroff"] {
        add(&format!("bin/{applet}"), 0o120777, b"busybox");
    }
    add("init", 0o100755, INIT.as_bytes());
    add("TRAILER!!!", 0, b"");
    zstd::encode_all(&archive[..], 3).unwrap()
}

/// Reads guest-physical memory through QEMU's.
fn read_guest(guest: &Guest, gpa: u64, len: usize) -> Vec<u8> {
    let segments = guest.segments().unwrap().to_vec();
    let memory = guestmem::ProcessMemory::new(guest.pid() as i32, segments).unwrap();
    let mut bytes = vec![0; len];
    guestmem::Memory::read(&memory, gpa, &mut bytes).unwrap();
    bytes
}

fn alive(pid: u32) -> bool {
    // A zombie of a dead parent's is not alive either.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

const PMEM0: u64 = 0x1_0000_0000;

#[tokio::test(flavor = "multi_thread")]
async fn clones_are_quick_and_keep_to_themselves() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let begin = Instant::now();
    let (guest, agent) = bench.boot().await;
    let boot = begin.elapsed();
    let segments = guest.segments().unwrap();
    let places: Vec<_> = segments.iter().map(|s| (s.gpa, s.len)).collect();
    assert_eq!(
        places,
        [
            (0, 512 << 20),
            (PMEM0, 256 << 20),
            (0x1_4000_0000, 128 << 20)
        ]
    );

    let begin = Instant::now();
    let template = guest.save_template(agent).await.unwrap();
    let saving = begin.elapsed();
    assert!(
        template.state_bytes() < 4 << 20,
        "{}",
        template.state_bytes()
    );

    let (mut times, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let begin = Instant::now();
        let (guest, mut agent) = bench.clone_of(&template).await;
        starts.push(begin.elapsed());
        assert_eq!(agent.ask(&guest, "get").await, "get: nothing");
        times.push(begin.elapsed());
    }
    times.sort();
    starts.sort();
    let (best, median) = (times[0], times[times.len() / 2]);
    let ratio = boot.as_secs_f64() / median.as_secs_f64();
    eprintln!(
        "boot {boot:?}, saving {saving:?} ({} bytes), clone {best:?} to {:?}, median {median:?} (of it until it runs {:?}): 1/{ratio:.1}",
        template.state_bytes(),
        times[times.len() - 1],
        starts[starts.len() / 2]
    );
    assert!(ratio > 10.0, "a clone takes {median:?}, a boot {boot:?}");

    // Two at once, each with RAM and pmem of its own.
    let ((one, mut to_one), (two, mut to_two)) =
        tokio::join!(bench.clone_of(&template), bench.clone_of(&template));
    assert_eq!(to_one.ask(&one, "set ONE").await, "set ONE: set ONE");
    assert_eq!(to_two.ask(&two, "get").await, "get: nothing");
    assert_eq!(to_two.ask(&two, "set TWO").await, "set TWO: set TWO");
    assert_eq!(to_one.ask(&one, "get").await, "get: set ONE");
    one.pause().await.unwrap();
    assert!(!one.status().await.unwrap().running);
    assert_eq!(read_guest(&one, PMEM0, 3), b"ONE");
    assert_eq!(read_guest(&two, PMEM0, 3), b"TWO");
    one.resume().await.unwrap();
    assert_eq!(to_one.ask(&one, "get").await, "get: set ONE");
    let (three, mut to_three) = bench.clone_of(&template).await;
    assert_eq!(to_three.ask(&three, "get").await, "get: nothing");
    assert_eq!(read_guest(&three, PMEM0, 3), [0; 3]);
    // A template may go before its clones.
    drop(template);
    assert_eq!(to_one.ask(&one, "get").await, "get: set ONE");
    assert_eq!(one.segments().unwrap().len(), 3);
    let pid = one.pid();
    drop(one);
    assert!(!alive(pid));
    let two_error = two.save_template(to_two).await.unwrap_err();
    assert!(
        two_error
            .to_string()
            .contains("a clone can't be a template"),
        "{two_error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_seen_and_can_be_read() {
    let Some(mut bench) = Bench::new().await else {
        return;
    };
    // Small, for the dump's sake.
    bench.machine.memory_mib = 192;
    bench.machine.nvdimms = vec![Nvdimm {
        id: "pmem0".into(),
        size_mib: 32,
        label_kib: 0,
        node: 0,
    }];
    let (guest, agent) = bench.boot().await;
    assert_eq!(guest.end(), None);
    let template = guest.save_template(agent).await.unwrap();

    let (guest, mut agent) = bench.clone_of(&template).await;
    let mut events = guest.events();
    agent.say("panic").await;
    let end = timeout(Duration::from_secs(30), guest.ended())
        .await
        .unwrap();
    assert_eq!(
        end,
        End::Shutdown {
            reason: "guest-reset".to_owned()
        }
    );
    let event = events.recv().await.unwrap();
    assert_eq!(
        event,
        Event::Shutdown {
            guest: true,
            reason: "guest-reset".to_owned()
        }
    );
    assert_eq!(guest.status().await.unwrap().state, "shutdown");
    let console = guest.console().tail(8192);
    assert!(
        console.contains("Kernel panic - not syncing: sysrq triggered crash"),
        "{console}"
    );
    // A dead guest's memory is all there.
    assert_eq!(read_guest(&guest, PMEM0, 3), [0; 3]);
    let core = bench.dir.join("core");
    guest.dump(&core).await.unwrap();
    let core = fs::read(core).unwrap();
    assert!(core.starts_with(b"\x7fELF"));
    assert!(
        core[..65536].windows(9).any(|bytes| bytes == b"OSRELEASE"),
        "no VMCOREINFO in the dump"
    );
    assert!(core.len() as u64 >= 224 << 20, "{} bytes", core.len());
    let refused = guest.resume().await.unwrap_err();
    assert!(matches!(refused, VmError::Refused { .. }), "{refused}");

    let (guest, mut agent) = bench.clone_of(&template).await;
    agent.say("off").await;
    let end = timeout(Duration::from_secs(30), guest.ended())
        .await
        .unwrap();
    assert_eq!(
        end,
        End::Shutdown {
            reason: "guest-shutdown".to_owned()
        }
    );

    let (guest, _agent) = bench.clone_of(&template).await;
    guest.kill();
    assert_eq!(
        timeout(Duration::from_secs(5), guest.ended())
            .await
            .unwrap(),
        End::Gone
    );
    let gone = guest.pause().await.unwrap_err();
    assert_eq!(
        gone.to_string(),
        "QEMU ended by itself (SIGKILL) without a word"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ram_behind_the_pci_hole_is_found() {
    let Some(mut bench) = Bench::new().await else {
        return;
    };
    bench.machine.memory_mib = 3072;
    bench.launcher = launcher(&bench.dir, bench.machine.memory_bytes()).await;
    let (guest, _agent) = bench.boot().await;
    let places: Vec<_> = guest
        .segments()
        .unwrap()
        .iter()
        .map(|s| (s.gpa, s.len))
        .collect();
    let expected = [
        (0, 2 << 30),
        (4 << 30, 1 << 30),
        (5 << 30, 256 << 20),
        (6 << 30, 128 << 20),
    ];
    assert_eq!(places, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qemu_that_ends_says_why() {
    let (_temp, dir) = tempdir();
    let launcher = launcher(&dir, 64 << 20).await;
    let machine = Machine {
        accel: Accel::Tcg,
        cpus: 1,
        memory_mib: 64,
        nodes: 1,
        kernel: "/no/such/kernel".into(),
        initrd: "/no/such/initrd".into(),
        cmdline: String::new(),
        nvdimms: Vec::new(),
        disks: Vec::new(),
        extra: Vec::new(),
        cloneable: true,
    };
    let error = Guest::boot(&machine, &launcher, &dir).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("QEMU ended by itself (exit status 1) after saying: "),
        "{text}"
    );
    assert!(text.contains("/no/such/kernel"), "{text}");
    let machine = Machine {
        disks: Vec::new(),
        extra: vec!["-no-such-option".into()],
        ..machine
    };
    let error = Guest::boot(&machine, &launcher, &dir).await.unwrap_err();
    assert!(error.to_string().contains("-no-such-option"), "{error}");
    assert_eq!(
        fs::read_dir(launcher.memory.path()).unwrap().count(),
        0,
        "files were left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_ends_in_time_and_remembers() {
    let (_temp, dir) = tempdir();
    let (qemu, spawner) = (Qemu::find().await.unwrap(), Spawner::new().unwrap());
    let begin = Instant::now();
    let first = probe_accel(&dir, None, &qemu, &spawner).await.unwrap();
    eprintln!("{first:?} after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(first.accel == Accel::Kvm, first.kvm_reason.is_none());
    assert!(!first.remembered);
    let second = probe_accel(&dir, None, &qemu, &spawner).await.unwrap();
    assert_eq!(
        (second.accel, &second.kvm_reason),
        (first.accel, &first.kvm_reason)
    );
    assert_eq!(second.remembered, dir.join("accel.json").exists());

    let forced = probe_accel(&dir, Some(Accel::Tcg), &qemu, &spawner)
        .await
        .unwrap();
    assert_eq!(forced.accel, Accel::Tcg);
    match (
        probe_accel(&dir, Some(Accel::Kvm), &qemu, &spawner).await,
        first.kvm_reason,
    ) {
        (Ok(forced), None) => assert_eq!(forced.accel, Accel::Kvm),
        (Err(error), Some(reason)) => {
            assert!(error.to_string().contains(&reason), "{error}");
            assert_eq!(error.fault(), Fault::Host);
        }
        (forced, reason) => panic!("{forced:?}, without force {reason:?}"),
    }
}

/// Not a test of its own: the harness that the next test kills.
#[tokio::test(flavor = "multi_thread")]
async fn a_harness_to_be_killed() {
    if std::env::var_os("ZONEDEV_TEST_VICTIM").is_none() {
        return;
    }
    let bench = Bench::new().await.unwrap();
    let (guest, agent) = bench.boot().await;
    let template = guest.save_template(agent).await.unwrap();
    let (one, _to_one) = bench.clone_of(&template).await;
    let (two, _to_two) = bench.boot().await;
    println!(
        "\npids {} {} {}",
        one.pid(),
        two.pid(),
        bench.launcher.memory.path()
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_qemu_survives_a_killed_harness() {
    if Bench::new().await.is_none() {
        return;
    }
    let mut harness = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_harness_to_be_killed", "--nocapture"])
        .env("ZONEDEV_TEST_VICTIM", "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(harness.stdout.take().unwrap()).lines();
    let told = loop {
        let line = timeout(Duration::from_secs(120), lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if let Some(told) = line.strip_prefix("pids ") {
            break told.to_owned();
        }
    };
    let words: Vec<_> = told.split(' ').collect();
    let pids: Vec<u32> = words[..2]
        .iter()
        .map(|word| word.parse().unwrap())
        .collect();
    let memory = Utf8Path::new(words[2]);
    assert!(pids.iter().all(|&pid| alive(pid)) && memory.exists());
    assert!(
        !sweep(&[memory.parent().unwrap().to_owned()])
            .iter()
            .any(|dir| dir == memory)
    );

    harness.start_kill().unwrap();
    harness.wait().await.unwrap();
    let begin = Instant::now();
    while pids.iter().any(|&pid| alive(pid)) {
        assert!(begin.elapsed() < Duration::from_secs(5), "a QEMU survived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eprintln!("both gone after {:?}", begin.elapsed());
    assert!(
        sweep(&[memory.parent().unwrap().to_owned()])
            .iter()
            .any(|dir| dir == memory)
    );
}
