//! Asynchronous I/O by the kernel's own interface, which has no wrapper in libc.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

use nix::errno::Errno;

const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_PWRITE: u16 = 1;

/// struct iocb of include/uapi/linux/aio_abi.h, little endian.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: u32,
}

/// struct io_event of the same header.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

/// One request in flight.
pub(super) struct Flight {
    context: u64,
    /// The target, open until the request has ended.
    _target: File,
}

impl Flight {
    /// Starts one transfer between `length` bytes at `address` and the start of `target`.
    pub(super) fn start(
        target: File,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<Self, Errno> {
        let mut context = 0u64;
        // SAFETY: writes the new context into `context`, which the kernel wants zeroed.
        Errno::result(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
        let mut iocb = Iocb {
            opcode: if write {
                IOCB_CMD_PWRITE
            } else {
                IOCB_CMD_PREAD
            },
            fildes: target.as_raw_fd() as u32,
            buf: address,
            nbytes: length,
            ..Iocb::default()
        };
        let flight = Flight {
            context,
            _target: target,
        };
        let mut list = [&raw mut iocb];
        // SAFETY: one iocb, which the kernel copies before it returns; the buffer lies in
        // a mapping that a case made, which holds no Rust object.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_io_submit, context, 1, list.as_mut_ptr())
        })?;
        Ok(flight)
    }

    /// Waits up to `seconds` for the end; `None` where it didn't come, else the
    /// bytes moved.
    pub(super) fn end(&self, seconds: i64) -> Option<Result<u64, Errno>> {
        let mut event = Event::default();
        let mut timeout = libc::timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        // SAFETY: room for the one event asked for, and a timeout that outlives the call.
        let got = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                i64::from(seconds > 0),
                1i64,
                &raw mut event,
                &raw mut timeout,
            )
        };
        match Errno::result(got) {
            Ok(0) => None,
            Ok(_) => Some(u64::try_from(event.res).map_err(|_| Errno::from_raw(-event.res as i32))),
            Err(e) => Some(Err(e)),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // SAFETY: destroys the context that `start` made; waits for what is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context, ptr::null::<()>()) };
    }
}
