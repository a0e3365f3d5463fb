//! Namespaces, file systems and programs: what the worker does for PID 1.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use proto::{Op, Size, StepResult};

use super::{
    attributes, cxl_region, dax_mode, dax_region, drivers, namespace, program, root, teardown,
};
use crate::wire::{Context, Reply, errno, failed, io_errno, mount_point};

pub(super) type Done = Result<Reply, StepResult>;

/// For ndctl and mkfs, which take a second or two under emulation.
pub(super) const TOOL: Duration = Duration::from_secs(100);
/// For a program of a case: the kernel's own tests run for minutes.
const PROGRAM: Duration = Duration::from_secs(580);

/// Fixed, so that two file systems made alike are alike.
const UUID: &str = "5a4f4e45-4445-5600-8000-000000000001";

/// Runs one of the operations that PID 1 hands to its worker.
pub(super) fn run(op: &Op, context: &Context) -> Done {
    match op {
        Op::CreateNamespace { .. } => namespace::create(op),
        Op::DestroyNamespace {} => namespace::destroy(),
        Op::Unbind { mode, namespace } => {
            drivers::unbind_namespace(context.namespace(mode, namespace.as_deref())?)
        }
        Op::CreateRegion {} => cxl_region::create(),
        Op::DestroyRegion {} => cxl_region::destroy(),
        Op::Insmod { module } => drivers::insmod(module),
        Op::Rmmod { module } => drivers::rmmod(module),
        Op::UnbindPci { driver } => drivers::unbind_pci(driver),
        Op::DaxMode { mode, device } => dax_mode::set(*mode, device.as_deref(), context),
        Op::CreateDax { size, align, at } => dax_region::create(*size, *align, *at),
        Op::ResizeDax { device, size } => dax_region::resize(device, *size),
        Op::ReadAttributes {} => attributes::read_all(),
        Op::DestroyDax { device } => dax_region::destroy(device),
        Op::TornDown {} => teardown::check(),
        Op::Mkfs {
            fs,
            reflink,
            rmapbt,
            namespace,
        } => mkfs(
            fs,
            *reflink,
            *rmapbt,
            &block(context, namespace.as_deref())?,
        ),
        Op::Partition { start, namespace } => {
            partition(&block(context, namespace.as_deref())?, *start)
        }
        Op::Mount {
            namespace,
            read_only,
        } => {
            let dev = block(context, namespace.as_deref())?;
            let at = mount_point(namespace.as_deref());
            fs::create_dir_all(&at).map_err(|e| io_errno("mkdir", &e))?;
            mount(
                Some(dev.as_str()),
                at.as_str(),
                Some(fs_of(&dev)?),
                match read_only {
                    true => MsFlags::MS_RDONLY,
                    false => MsFlags::empty(),
                },
                Some("dax"),
            )
            .map_err(|e| errno("mount", e))?;
            load_groups(&dev);
            ok()
        }
        Op::Umount { namespace, lazy } => {
            let at = mount_point(namespace.as_deref());
            let flags = if *lazy {
                MntFlags::MNT_DETACH
            } else {
                MntFlags::empty()
            };
            umount2(at.as_str(), flags).map_err(|e| errno("umount", e))?;
            ok()
        }
        Op::Shutdown { namespace } => {
            // include/uapi/linux/fs.h, and what ext4 and xfs had before it: _IOR('X', 125, __u32)
            let no_log_flush = 2;
            of_mount(
                namespace.as_deref(),
                ("FS_IOC_SHUTDOWN", 0x8004_587d),
                no_log_flush,
            )
        }
        // _IOWR('X', 119, int) and _IOWR('X', 120, int)
        Op::Freeze { namespace } => of_mount(namespace.as_deref(), ("FIFREEZE", 0xc004_5877), 0),
        Op::Thaw { namespace } => of_mount(namespace.as_deref(), ("FITHAW", 0xc004_5878), 0),
        Op::Rebind {} => namespace::rebind(),
        Op::MountRoot {} => {
            root::prepare()?;
            ok()
        }
        Op::Run {
            argv,
            root,
            cwd,
            minutes,
            ..
        } => {
            let limit = minutes.map_or(PROGRAM, |m| Duration::from_secs(m.saturating_mul(60)));
            let place = program::Place {
                root: *root,
                cwd: cwd.as_deref().unwrap_or("/"),
            };
            let output = program::run(argv, &[], &place, limit)?;
            let mut reply = Reply::from(StepResult::Ok {});
            reply.output = Some(output);
            Ok(reply)
        }
        op => Err(failed(format!("run `{}`: not the worker's", op.word()))),
    }
}

/// BLKPG_ADD_PARTITION (include/uapi/linux/blkpg.h) of number 1, from `start` to the end. The kernel
/// keeps it as long as it has the device; the medium has no table.
fn partition(device: &str, start: Size) -> Done {
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: i32,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Argument {
        op: i32,
        flags: i32,
        length: i32,
        data: *const Partition,
    }
    const BLKPG: libc::Ioctl = 0x1269;
    const ADD: i32 = 1;
    let mut file = File::open(device).map_err(|e| io_errno("open", &e))?;
    let end = file
        .seek(SeekFrom::End(0))
        .map_err(|e| io_errno("lseek", &e))?;
    let Some(length) = end.checked_sub(start.bytes()).filter(|l| *l > 0) else {
        return Err(failed(format!(
            "make a partition of {device}: it has {end} bytes"
        )));
    };
    let partition = Partition {
        start: start.bytes() as i64,
        length: length as i64,
        number: 1,
        names: [0; 128],
    };
    let argument = Argument {
        op: ADD,
        flags: 0,
        length: size_of::<Partition>() as i32,
        data: &raw const partition,
    };
    // SAFETY: both structures are as the kernel's, and outlive the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), BLKPG, &raw const argument) };
    Errno::result(done).map_err(|e| errno("ioctl BLKPG", e))?;
    ok()
}

/// An ioctl of a mount point that takes the address of one number, by name and number.
fn of_mount(namespace: Option<&str>, (call, request): (&str, u32), value: u32) -> Done {
    let dir = File::open(mount_point(namespace)).map_err(|e| io_errno("open", &e))?;
    // SAFETY: the call reads one number at most, which outlives it.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), request as libc::Ioctl, &raw const value) };
    Errno::result(done).map_err(|e| errno(&format!("ioctl {call}"), e))?;
    ok()
}

pub(super) fn ok() -> Done {
    Ok(StepResult::Ok {}.into())
}

/// ext4's allocator passes over groups whose bitmaps are still being read (ext4_mb_prefetch()), so
/// that blocks lie elsewhere on a slow day. Who looks at all groups has them read.
fn load_groups(dev: &str) {
    if let Some(name) = dev.strip_prefix("/dev/") {
        let _ = fs::read(format!("/proc/fs/ext4/{name}/mb_groups"));
    }
}

/// The block device of a namespace. One without struct pages has a block device as well.
fn block(context: &Context, name: Option<&str>) -> Result<String, StepResult> {
    let found = context
        .namespace("fsdax", name)
        .or_else(|e| context.namespace("raw", name).map_err(|_| e))?;
    Ok(format!("/dev/{}", found.dev))
}

/// Every feature is named, so that neither mkfs's version nor its configuration
/// chooses: kernels from 5.10 on must mount the result. The stripe is 2M, so
/// that large files are allocated where a PMD can map them.
fn mkfs(fs: &str, reflink: bool, rmapbt: bool, dev: &str) -> Done {
    if (reflink || rmapbt) && fs != "xfs" {
        return Err(failed(format!(
            "make {fs} with reflink or rmapbt: only xfs has them here"
        )));
    }
    let (reflink, rmapbt) = (u8::from(reflink), u8::from(rmapbt));
    let extended = format!(
        "hash_seed={UUID},stride=512,stripe_width=512,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    );
    let metadata = format!(
        "crc=1,finobt=1,reflink={reflink},rmapbt={rmapbt},bigtime=0,inobtcount=0,uuid={UUID}"
    );
    let argv: Vec<&str> = match fs {
        "ext4" => vec![
            "mkfs.ext4",
            "-q",
            "-F",
            "-b",
            "4096",
            "-I",
            "256",
            "-U",
            UUID,
            "-E",
            &extended,
            "-O",
            "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
             large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
            dev,
        ],
        // Below 300 MiB mkfs.xfs makes a file system only when told that we know.
        "xfs" => vec![
            "mkfs.xfs",
            "--unsupported",
            "-q",
            "-f",
            "-K",
            "-b",
            "size=4096",
            "-m",
            &metadata,
            "-i",
            "nrext64=0",
            "-d",
            "su=2m,sw=1",
            dev,
        ],
        _ => return Err(failed(format!("make file system `{fs}`: use ext4 or xfs"))),
    };
    program::must(&argv, &[("E2FSPROGS_FAKE_TIME", "1704067200")], TOOL)?;
    ok()
}

/// What mkfs left on the device: trying one type after the other would write to the log.
fn fs_of(dev: &str) -> Result<&'static str, StepResult> {
    let mut head = [0; 2048];
    File::open(dev)
        .and_then(|f| f.read_exact_at(&mut head, 0))
        .map_err(|e| io_errno("read", &e))?;
    if head.starts_with(b"XFSB") {
        Ok("xfs")
    } else if head[1024 + 56..1024 + 58] == [0x53, 0xef] {
        Ok("ext4")
    } else {
        Err(failed(format!(
            "mount {dev}: no file system there; mkfs first"
        )))
    }
}
