//! Namespaces, file systems and programs: what the worker does for PID 1.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use proto::{Op, Size, StepResult};

use super::files::pmem;
use super::{program, root};
use crate::wire::{Context, MOUNT, Reply, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// For ndctl and mkfs, which take a second or two under emulation.
const TOOL: Duration = Duration::from_secs(100);
/// For a program of a case: the kernel's own tests run for minutes.
const PROGRAM: Duration = Duration::from_secs(580);

/// Fixed, so that two file systems made alike are alike.
const UUID: &str = "5a4f4e45-4445-5600-8000-000000000001";

/// Runs one of the operations that PID 1 hands to its worker.
pub(super) fn run(op: &Op, context: &Context) -> Done {
    match op {
        Op::CreateNamespace {
            mode,
            map,
            align,
            size,
        } => create(mode, map, *align, *size),
        Op::DestroyNamespace {} => {
            program::must(&["ndctl", "destroy-namespace", "-f", "all"], &[], TOOL)?;
            ok()
        }
        Op::Mkfs { fs } => mkfs(fs, context),
        Op::Mount {} => {
            let dev = format!("/dev/{}", pmem(context)?.dev);
            fs::create_dir_all(MOUNT).map_err(|e| io_errno("mkdir", &e))?;
            mount(
                Some(dev.as_str()),
                MOUNT,
                Some(fs_of(&dev)?),
                MsFlags::empty(),
                Some("dax"),
            )
            .map_err(|e| errno("mount", e))?;
            ok()
        }
        Op::Umount {} => {
            umount2(MOUNT, MntFlags::empty()).map_err(|e| errno("umount", e))?;
            ok()
        }
        Op::MountRoot {} => {
            root::prepare()?;
            ok()
        }
        Op::Run {
            argv,
            root,
            cwd,
            minutes,
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

fn ok() -> Done {
    Ok(StepResult::Ok {}.into())
}

fn create(mode: &str, map: &str, align: Size, size: Option<Size>) -> Done {
    label_regions()?;
    let align = align.bytes().to_string();
    let size = size.map(|s| s.bytes().to_string());
    let mut argv = vec![
        "ndctl",
        "create-namespace",
        "-f",
        "-m",
        mode,
        "-M",
        map,
        "-a",
        &align,
    ];
    if let Some(size) = &size {
        argv.extend(["-s", size]);
    }
    program::must(&argv, &[], TOOL)?;
    ok()
}

/// A blank NVDIMM's region is one namespace without labels, with no room to
/// create another one in: its label area is initialised first.
fn label_regions() -> Result<(), StepResult> {
    const ND: &str = "/sys/bus/nd/devices";
    /// ND_DEVICE_NAMESPACE_IO of include/uapi/linux/ndctl.h.
    const WITHOUT_LABELS: &str = "4";
    let devices = fs::read_dir(ND).map_err(|e| io_errno("open", &e))?;
    for entry in devices.flatten() {
        let region = entry.file_name().to_string_lossy().into_owned();
        let read = |name: &str| fs::read_to_string(format!("{ND}/{region}/{name}"));
        if !region.starts_with("region")
            || !read("nstype").is_ok_and(|t| t.trim() == WITHOUT_LABELS)
        {
            continue;
        }
        // `nmem0,offset,length,position`
        let mapping = read("mapping0").map_err(|e| io_errno("open", &e))?;
        let dimm = mapping.split(',').next().unwrap_or_default();
        program::must(&["ndctl", "disable-region", &region], &[], TOOL)?;
        program::must(&["ndctl", "init-labels", "-f", dimm], &[], TOOL)?;
        program::must(&["ndctl", "enable-region", &region], &[], TOOL)?;
    }
    Ok(())
}

/// Every feature is named, so that neither mkfs's version nor its configuration
/// chooses: kernels from 5.10 on must mount the result. The stripe is 2M, so
/// that large files are allocated where a PMD can map them.
fn mkfs(fs: &str, context: &Context) -> Done {
    let dev = format!("/dev/{}", pmem(context)?.dev);
    let extended = format!(
        "hash_seed={UUID},stride=512,stripe_width=512,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    );
    let metadata = format!("crc=1,finobt=1,reflink=0,rmapbt=0,bigtime=0,inobtcount=0,uuid={UUID}");
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
            &dev,
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
            &dev,
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
