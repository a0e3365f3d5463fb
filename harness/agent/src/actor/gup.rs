//! Calls that pin pages and let go of them before they come back.

use std::fs::OpenOptions;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::libc::c_void;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::getpid;
use proto::{GupHow, Size, StepResult};

use super::access;
use super::drivers;
use super::gup_test::{self, GupTest};
use super::serve::Actor;
use super::touch;
use crate::wire::{Context, Reply, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// What GUP has read is what a load finds there, at the start and at the end of each page. `from` is where
/// in the mapping that is.
fn same(read: &[u8], address: u64, from: u64) -> StepResult {
    let words = read.as_chunks::<8>().0;
    let per_page = Size::PAGE as usize / 8;
    for (n, word) in words.iter().enumerate() {
        if ![0, per_page - 1].contains(&(n % per_page)) {
            continue;
        }
        let (offset, found) = (n as u64 * 8, u64::from_ne_bytes(*word));
        match access::load(address + offset) {
            Ok(expected) if expected != found => {
                return StepResult::WrongData {
                    offset: from + offset,
                    expected,
                    found,
                };
            }
            Ok(_) => {}
            Err(signal) => return failed(format!("load what was read: {signal}")),
        }
    }
    StepResult::Ok {}
}

/// Makes the call on a range of a mapping.
pub(super) fn gup(
    actor: &Actor,
    how: GupHow,
    map: &str,
    (offset, length): (Size, Option<Size>),
    context: &Context,
) -> Done {
    let (m, range) = actor.range(map, offset, length)?;
    let address = m.address + range.start * Size::PAGE;
    let bytes = ((range.end - range.start) * Size::PAGE) as usize;
    let (result, facts) = match how {
        GupHow::ProcessVmReadv => {
            let mut into = vec![0; bytes];
            let (done, facts) = touch::during(map, m, range.clone(), false, context, || {
                let remote = [RemoteIoVec {
                    base: address as usize,
                    len: bytes,
                }];
                process_vm_readv(getpid(), &mut [IoSliceMut::new(&mut into)], &remote)
            })?;
            let result = match done {
                Ok(n) if n == bytes => same(&into, address, range.start * Size::PAGE),
                Ok(n) => failed(format!("read {bytes} bytes of memory: {n} came")),
                Err(e) => errno("process_vm_readv", e),
            };
            (result, facts)
        }
        GupHow::NvmeWrite => {
            let disk = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_DIRECT)
                .open(drivers::nvme()?)
                .map_err(|e| io_errno("open the NVMe namespace", &e))?;
            // SAFETY: the range lies in a mapping of this actor; the call only reads it.
            let call = || unsafe {
                Errno::result(libc::pwrite(
                    disk.as_raw_fd(),
                    address as *const c_void,
                    bytes,
                    0,
                ))
            };
            let (done, facts) = touch::during(map, m, range, false, context, call)?;
            let result = match done {
                Ok(n) if n.cast_unsigned() == bytes => StepResult::Ok {},
                Ok(n) => failed(format!("write {bytes} bytes of memory: {n} went")),
                Err(e) => errno("pwrite", e),
            };
            (result, facts)
        }
        how => {
            let test = GupTest::open()?;
            let bytes = bytes as u64;
            let (done, facts) = touch::during(map, m, range, false, context, || {
                test.take(how, address, bytes)
            })?;
            (gup_test::came(done?, bytes), facts)
        }
    };
    let mut reply = Reply::from(result);
    reply.facts = facts;
    Ok(reply)
}
