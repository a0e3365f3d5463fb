//! Operations on devices and file systems as a whole, on test_hmm's devices, and programs.

use proto::{DaxMode, DeviceRange, Op, Size};

use super::devices::{Device, driver, mount_point, path};
use super::error::CannotSay;
use super::ops_map::store;
use super::setup;
use super::step::{Line, Writer};
use super::text::{bytes, ident, literal};

const DAX: &str = "/sys/bus/dax/devices";
const DRIVERS: &str = "/sys/bus/dax/drivers";

fn main(call: String) -> Vec<Line> {
    vec![Line::Main(call)]
}

fn put(path: &str, text: &str) -> String {
    format!("put({}, {})", literal(path), literal(text))
}

/// Several calls, of which the last is the step's.
fn last_is_main(mut calls: Vec<String>) -> Vec<Line> {
    let last = calls.pop();
    let mut lines: Vec<Line> = calls.into_iter().map(Line::Also).collect();
    lines.extend(last.map(Line::Main));
    lines
}

impl Writer<'_> {
    pub(super) fn of_device(&mut self, op: &Op, ok: bool) -> Result<Vec<Line>, CannotSay> {
        let no_device = || CannotSay {
            op: op.word(),
            why: "the case makes no such device".into(),
        };
        let lines = match op {
            Op::Mount {
                namespace,
                read_only,
            } => {
                let name = namespace.as_deref();
                let device = self.devices.block(name).ok_or_else(no_device)?;
                let fs = device.fs.clone().ok_or_else(|| CannotSay {
                    op: op.word(),
                    why: "the case makes no file system there".into(),
                })?;
                let flags = if *read_only { "MS_RDONLY" } else { "0" };
                let at = literal(&mount_point(name));
                let call = format!(
                    "mount({}, {at}, {}, {flags}, \"dax\")",
                    literal(&device.node()),
                    literal(&fs)
                );
                if ok {
                    self.unmounted.remove(namespace);
                }
                main(call)
            }
            Op::Umount { namespace, lazy } => {
                let mut lines = self.before_umount(namespace.as_deref());
                if ok {
                    self.unmounted.insert(namespace.clone());
                }
                let flags = if *lazy { "MNT_DETACH" } else { "0" };
                let at = literal(&mount_point(namespace.as_deref()));
                lines.push(Line::Main(format!("umount2({at}, {flags})")));
                lines
            }
            Op::Shutdown { namespace } => main(of_mount(
                namespace.as_deref(),
                "FS_IOC_SHUTDOWN, FS_SHUTDOWN_FLAGS_NOLOGFLUSH",
            )),
            Op::Freeze { namespace } => main(of_mount(namespace.as_deref(), "FIFREEZE, 0")),
            Op::Thaw { namespace } => main(of_mount(namespace.as_deref(), "FITHAW, 0")),
            Op::Unbind { mode, namespace } => {
                let found = self.devices.find(mode, namespace.as_deref());
                let dev = &found.ok_or_else(no_device)?.dev;
                main(match mode.as_str() {
                    "devdax" => format!("unbind(\"{DAX}/{dev}\")"),
                    _ => format!("unbind(\"/sys/block/{dev}/device\")"),
                })
            }
            Op::Rmmod { module } => main(format!(
                "syscall(SYS_delete_module, {}, O_NONBLOCK)",
                literal(module)
            )),
            Op::UnbindPci { driver } => {
                let dir = format!("/sys/bus/pci/drivers/{driver}");
                main(format!("unbind_pci({})", literal(&dir)))
            }
            Op::DaxMode { mode, device } => {
                let found = self.devices.dax(device.as_deref());
                last_is_main(mode_calls(*mode, found.ok_or_else(no_device)?))
            }
            Op::CreateDax { size, align, at } => main(format!(
                "create_dax({}, {}, {})",
                bytes(size.bytes()),
                bytes(align.bytes()),
                bytes(at.map_or(0, Size::bytes))
            )),
            Op::ResizeDax { device, size } => {
                self.words.device_gone(device);
                let size = size.bytes().to_string();
                last_is_main(vec![
                    put(&format!("{DRIVERS}/device_dax/unbind"), device),
                    put(&format!("{DAX}/{device}/size"), &size),
                    put(&format!("{DRIVERS}/device_dax/bind"), device),
                ])
            }
            Op::DestroyDax { device } => {
                self.words.device_gone(device);
                let mut calls = vec![
                    put(&format!("{DAX}/{device}/driver/unbind"), device),
                    put(&format!("{DAX}/{device}/size"), "0"),
                ];
                // The first stays without memory.
                if !device.ends_with(".0") {
                    let region = format!("{DAX}/{device}/../dax_region/delete");
                    calls.push(put(&region, device));
                }
                last_is_main(calls)
            }
            Op::ReadAttributes {} => ["nd/devices/*/*", "dax/devices/*/*", "nd/devices/*/*/*"]
                .into_iter()
                .chain(["dax/devices/*/../dax_region/*"])
                .map(|what| Line::Main(format!("read_attributes(\"/sys/bus/{what}\")")))
                .collect(),
            Op::TornDown {} => main("torn_down()".to_owned()),
            Op::SwapOn { cached } => {
                self.swap_cached = *cached;
                let mut calls = vec!["must(\"mkswap /dev/ram0 >/dev/null\")".to_owned()];
                if *cached {
                    calls.push("must(\"losetup /dev/loop0 /dev/ram0\")".to_owned());
                }
                calls.push(format!("swapon(\"{}\", 0)", self.swap()));
                last_is_main(calls)
            }
            Op::SwapOff {} => {
                let mut lines = main(format!("swapoff(\"{}\")", self.swap()));
                if self.swap_cached {
                    lines.push(Line::Also("must(\"losetup -d /dev/loop0\")".to_owned()));
                }
                lines
            }
            // Programs that the case takes from a root file system are where it is run.
            Op::MountRoot {} => vec![Line::Comment(
                "its programs are those of this system".into(),
            )],
            Op::Run { argv, cwd, .. } => {
                let command = setup::command(argv, cwd.as_deref());
                main(format!("run({})", literal(&command)))
            }
            Op::CreateNamespace { .. }
            | Op::Partition { .. }
            | Op::Mkfs { .. }
            | Op::Rebind {}
            | Op::DestroyNamespace {}
            | Op::CreateRegion {}
            | Op::DestroyRegion {}
            | Op::Insmod { .. } => {
                let commands = setup::commands(op, &self.devices)?.unwrap_or_default();
                let calls = commands.iter().map(|c| format!("must({})", literal(c)));
                if matches!(op, Op::Mkfs { .. } | Op::DestroyNamespace {}) && ok {
                    self.words.forget_files();
                }
                last_is_main(calls.collect())
            }
            op => {
                return Err(CannotSay {
                    op: op.word(),
                    why: "it is not about a device".into(),
                });
            }
        };
        if ok {
            setup::follow(op, &mut self.devices);
        }
        Ok(lines)
    }

    fn swap(&self) -> &'static str {
        match self.swap_cached {
            true => "/dev/loop0",
            false => "/dev/ram0",
        }
    }

    /// Looks up where files are that are read from the device while nothing is mounted.
    fn before_umount(&mut self, namespace: Option<&str>) -> Vec<Line> {
        let name = namespace.map(str::to_owned);
        let of = self.of;
        let mut files: Vec<&str> = Vec::new();
        for step in of.steps.iter().skip(self.n) {
            match &step.op {
                Op::Mount { namespace: n, .. } if *n == name => break,
                Op::Read {
                    file,
                    by: proto::ReadBy::Device,
                    ..
                } if super::devices::namespace_of(file) == namespace
                    && !files.contains(&file.as_str()) =>
                {
                    files.push(file);
                }
                _ => {}
            }
        }
        files.iter().map(|file| self.look_up(file)).collect()
    }

    pub(super) fn of_hmm(
        &mut self,
        actor: &str,
        op: &Op,
        ok: bool,
    ) -> Result<Vec<Line>, CannotSay> {
        let (command, of) = match op {
            Op::HmmOpen { device } => {
                let n = device.unwrap_or(0);
                self.global(&format!("static int hmm{n} = -1;"));
                return Ok(main(format!(
                    "open_device(&hmm{n}, \"/dev/hmm_dmirror{n}\")"
                )));
            }
            Op::HmmClose { device } => {
                return Ok(main(format!("close_device(&hmm{})", device.unwrap_or(0))));
            }
            Op::HmmCheckExclusive(of) => {
                let (range, at, bytes) = self.of_range(actor, of, op)?;
                let copy = self.buffer(range.end - range.start);
                let fd = device_of(of);
                return Ok(main(format!("is_exclusive({fd}, {at}, {bytes}, {copy})")));
            }
            op => match (self.hmm_command(op), op.device_range()) {
                (Some(command), Some(of)) => (command, of),
                _ => {
                    return Err(CannotSay {
                        op: op.word(),
                        why: "it is not about a device's memory".into(),
                    });
                }
            },
        };
        let (range, at, bytes) = self.of_range(actor, of, op)?;
        let copy = self.buffer(range.end - range.start);
        let fd = device_of(of);
        let mut lines = Vec::new();
        let writes = matches!(op, Op::HmmWrite(_));
        if writes {
            let view = self.view(actor, &of.map, op)?;
            let n = self.words.next_store();
            let first = view.first_page + range.start;
            let fill = store(copy, &bytes, n, first, [true; 2]);
            lines.push(Line::Also(fill));
            let stored = ok.then_some(n);
            self.words
                .stored((actor, &of.map), range.clone(), stored, [true; 2]);
        }
        lines.push(Line::Main(format!(
            "device({fd}, {command}, {at}, {bytes}, {copy})"
        )));
        let reads = !writes && !matches!(op, Op::HmmReturn(_) | Op::HmmSnapshot(_));
        if ok && reads {
            let runs = self.words.of(actor, &of.map, range.clone());
            let calls = Self::verified(copy, range.start, &runs);
            lines.extend(calls.into_iter().map(Line::Also));
        }
        Ok(lines)
    }

    fn of_range(
        &self,
        actor: &str,
        of: &DeviceRange,
        op: &Op,
    ) -> Result<(std::ops::Range<u64>, String, String), CannotSay> {
        self.range(actor, (&of.map, of.offset, of.length), op)
    }

    /// The command that an operation is, by its number on this kernel.
    pub(super) fn hmm_command(&self, op: &Op) -> Option<&'static str> {
        Some(match op {
            Op::HmmMigrate(_) => "HMM_DMIRROR_MIGRATE_TO_DEV",
            Op::HmmReturn(_) => "HMM_DMIRROR_MIGRATE_TO_SYS",
            Op::HmmRead(_) => "HMM_DMIRROR_READ",
            Op::HmmReadUnlocked(_) => "HMM_DMIRROR_READ_UNLOCKED",
            Op::HmmWrite(_) => "HMM_DMIRROR_WRITE",
            Op::HmmExclusive(_) => "HMM_DMIRROR_EXCLUSIVE",
            // With exclusive access came other numbers.
            Op::HmmSnapshot(_) if self.of.contract.features.hmm_exclusive => "HMM_DMIRROR_SNAPSHOT",
            Op::HmmSnapshot(_) => "OLD_HMM_DMIRROR_SNAPSHOT",
            _ => return None,
        })
    }
}

/// The variable of the device that is asked.
pub(super) fn device_of(of: &DeviceRange) -> String {
    format!("hmm{}", of.device.unwrap_or(0))
}

/// A call about a mount point.
fn of_mount(namespace: Option<&str>, what: &str) -> String {
    format!("fs_ioctl({}, {what})", literal(&mount_point(namespace)))
}

/// Writes to sysfs that give an instance of device-dax to another driver, or take system RAM out of
/// use and back.
fn mode_calls(mode: DaxMode, device: &Device) -> Vec<String> {
    let dev = &device.dev;
    let is_ram = |mode| matches!(mode, DaxMode::SystemRam | DaxMode::Unplugged);
    let state =
        |state: &str, blocks: &str| format!("memory_state(\"{dev}\", \"{state}\", \"{blocks}\")");
    match (mode, is_ram(device.driver)) {
        (DaxMode::SystemRam, true) => return vec![state("online_movable", "online_movable")],
        (DaxMode::Unplugged, _) => return vec![state("unplugged", "offline")],
        _ => {}
    }
    let was = format!("{DRIVERS}/{}", driver(device.driver));
    let new = format!("{DRIVERS}/{}", driver(mode));
    let mut calls = Vec::new();
    if is_ram(device.driver) {
        calls.push(format!("memory_blocks(\"{dev}\", \"offline\")"));
    }
    if device.driver != DaxMode::Devdax {
        calls.push(put(&format!("{was}/remove_id"), dev));
    }
    calls.push(put(&format!("{was}/unbind"), dev));
    match mode {
        DaxMode::Devdax => calls.push(put(&format!("{new}/bind"), dev)),
        // They take only what they are told; telling them binds it.
        DaxMode::SystemRam | DaxMode::Unplugged => {
            let auto = "/sys/devices/system/memory/auto_online_blocks";
            calls.push(put(auto, "online_movable"));
            calls.push(put(&format!("{new}/new_id"), dev));
        }
        DaxMode::Fsdev => calls.push(put(&format!("{new}/new_id"), dev)),
    }
    calls
}

/// A file's variable for a race.
pub(super) fn size_var(file: &str, n: usize) -> String {
    format!("size_{}_{n}", ident(file))
}

/// A file's path, quoted.
pub(super) fn quoted(file: &str) -> String {
    literal(&path(file))
}
