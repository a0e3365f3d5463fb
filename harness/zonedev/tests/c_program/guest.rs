//! A guest whose first process is a shell. It takes commands, a line each, from the port that an
//! agent would have, and answers with what they print and their exit codes.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zonedev::spec::Fixture;
use zonedev::vm::*;

use crate::archive::Archive;

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /mnt /bin /sbin /usr/bin /usr/sbin /etc
/bin/busybox --install -s /bin
mount -t devtmpfs d /dev; mount -t proc p /proc; mount -t sysfs s /sys
mount -t tmpfs t /tmp; mount -t tmpfs r /run
mount -t debugfs d /sys/kernel/debug 2>/dev/null
ln -sf /proc/mounts /etc/mtab
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/
for p in /sys/class/virtio-ports/*; do
  read name < $p/name
  [ "$name" = org.zonedev.agent ] && port=/dev/${p##*/}
done
exec 3<>$port
echo ready >&3
while read -r line <&3; do
  sh -c "$line" </dev/null >/tmp/said 2>&1 3>&-
  code=$?
  sed 's/^/  /' /tmp/said >&3
  echo "$code" >&3
done
"#;

/// What the set-up commands are.
const TOOLS: [&str; 6] = [
    "/usr/bin/ndctl",
    "/usr/bin/daxctl",
    "/usr/bin/cxl",
    "/usr/bin/addpart",
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/mkfs.xfs",
];

/// Where programs go.
pub(crate) const PROGRAMS: &str = "/programs";

/// The kernel, and where guests of it live.
pub(crate) struct Bench {
    _temp: tempfile::TempDir,
    pub(crate) dir: Utf8PathBuf,
    kernel: Utf8PathBuf,
    qemu: Qemu,
    spawner: Spawner,
    guests: std::sync::atomic::AtomicU32,
}

impl Bench {
    pub(crate) async fn new(kernel: &Utf8Path) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        Bench {
            _temp: temp,
            dir,
            kernel: kernel.to_owned(),
            qemu: Qemu::find().await.unwrap(),
            spawner: Spawner::new().unwrap(),
            guests: 0.into(),
        }
    }

    /// QEMU's devices.
    pub(crate) async fn devices(&self) -> std::collections::BTreeSet<String> {
        self.qemu.devices().await.unwrap().into_iter().collect()
    }

    fn guest_dir(&self) -> Utf8PathBuf {
        let guests = &self.guests;
        let n = guests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = self.dir.join(format!("guest{n}"));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    /// Compiles a program for a guest without libraries.
    pub(crate) fn compile(&self, name: &str, text: &str) -> Vec<u8> {
        let (source, program) = (self.dir.join(format!("{name}.c")), self.dir.join(name));
        std::fs::write(&source, text).unwrap();
        let args = [
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O2",
            "-static",
            "-pthread",
        ];
        let out = (Command::new("cc").args(args))
            .args(["-o", program.as_str(), source.as_str()])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        std::fs::read(&program).unwrap()
    }

    fn initramfs(&self, programs: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let mut archive = Archive::default();
        for dir in ["dev", "proc", "sys", "tmp", "run", "mnt", "etc"] {
            archive.dir(dir);
        }
        archive.add("init", 0o100_755, INIT.as_bytes());
        let busybox = std::env::var("ZONEDEV_TEST_BUSYBOX").unwrap_or("/bin/busybox".to_owned());
        let bytes = std::fs::read(&busybox).unwrap_or_else(|e| panic!("{busybox}: {e}"));
        archive.add("bin/busybox", 0o100_755, &bytes);
        for tool in TOOLS {
            archive.program(tool);
        }
        let modules = self.kernel.parent().unwrap().join("modules");
        let files = crate::common::files(&modules).into_iter();
        for module in files.filter(|f| f.extension() == Some("ko")) {
            // lib/modules/RELEASE/…, with an index that says that it needs no other one.
            let name = module.strip_prefix(&modules).unwrap();
            archive.add(name.as_str(), 0o100_644, &std::fs::read(&module).unwrap());
            let release: Utf8PathBuf = name.components().take(3).collect();
            let below = name.strip_prefix(&release).unwrap();
            let index = release.join("modules.dep");
            archive.add(index.as_str(), 0o100_644, format!("{below}:\n").as_bytes());
        }
        for (name, bytes) in programs {
            archive.add(&format!("{PROGRAMS}/{name}"), 0o100_755, bytes);
        }
        archive.to_bytes()
    }

    /// Boots a fixture's machine with some programs in it.
    pub(crate) async fn boot(
        &self,
        fixture: &Fixture,
        programs: &BTreeMap<String, Vec<u8>>,
    ) -> (Guest, Shell) {
        let dir = self.guest_dir();
        let initrd = dir.join("initrd");
        std::fs::write(&initrd, self.initramfs(programs)).unwrap();
        let cmdline = format!(
            "{BASE_CMDLINE} {} watchdog_thresh=25 nbd.nbds_max=4 nbd.max_part=0 {}",
            clock_parameters(),
            fixture.cmdline
        );
        let nvdimms = fixture.nvdimms.iter().enumerate().map(|(i, n)| Nvdimm {
            id: format!("nv{i}"),
            size_mib: n.size.bytes() >> 20,
            label_kib: n.labels.bytes() >> 10,
            node: n.node,
        });
        let machine = Machine {
            accel: Accel::Tcg,
            cpus: fixture.cpus,
            memory_mib: fixture.memory.bytes() >> 20,
            nodes: fixture.nodes,
            kernel: self.kernel.clone(),
            initrd,
            cmdline: cmdline.trim_end().to_owned(),
            nvdimms: nvdimms.collect(),
            disks: Vec::new(),
            extra: fixture.qemu.clone(),
            cloneable: fixture.boots_because.is_none(),
        };
        let places = memory_places(&self.dir);
        let launcher = Launcher {
            qemu: self.qemu.clone(),
            spawner: self.spawner.clone(),
            memory: MemoryDir::create(&places, machine.memory_bytes()).unwrap(),
        };
        let mut guest = Guest::boot(&machine, &launcher, &dir).await.unwrap();
        let mut shell = Shell::new(&mut guest);
        let ready = shell.line(&guest, Duration::from_secs(240)).await;
        assert_eq!(
            ready.as_deref(),
            Some("ready"),
            "{}",
            guest.console().tail(2000)
        );
        (guest, shell)
    }

    pub(crate) async fn clone_of(&self, template: &Template) -> (Guest, Shell) {
        let mut guest = template.start_clone(&self.guest_dir()).await.unwrap();
        let shell = Shell::new(&mut guest);
        (guest, shell)
    }
}

/// The guest's shell.
pub(crate) struct Shell(BufReader<UnixStream>);

impl Shell {
    fn new(guest: &mut Guest) -> Self {
        Self(BufReader::new(guest.take_channel().unwrap()))
    }

    /// A line; none where the guest says nothing, or is gone.
    async fn line(&mut self, guest: &Guest, limit: Duration) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        tokio::select! {
            read = timeout(limit, read) => match read {
                Ok(Ok(1..)) => Some(line.trim_end().to_owned()),
                _ => None,
            },
            _ = guest.ended() => None,
        }
    }

    /// Runs a command: what it said, and its exit code; none where it did not end.
    pub(crate) async fn run(&mut self, guest: &Guest, command: &str) -> (String, Option<i32>) {
        self.0
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
        let mut said = String::new();
        loop {
            let Some(line) = self.line(guest, Duration::from_secs(240)).await else {
                return (said, None);
            };
            if let Ok(code) = line.parse() {
                return (said, Some(code));
            }
            said += line.trim_start();
            said.push('\n');
        }
    }
}
