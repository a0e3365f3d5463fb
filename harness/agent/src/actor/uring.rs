//! io_uring's registered buffers, as far as pins need them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// io_uring_register(2): IORING_REGISTER_BUFFERS and its opposite.
const REGISTER_BUFFERS: libc::c_uint = 0;
const UNREGISTER_BUFFERS: libc::c_uint = 1;

/// struct io_uring_params, of which we use nothing.
#[repr(C)]
#[derive(Default)]
struct Params([u32; 30]);

/// A ring with one registered buffer.
pub(super) struct Ring(OwnedFd);

impl Ring {
    /// A ring of one entry without buffers.
    pub(super) fn new() -> Result<Ring, Errno> {
        let mut params = Params::default();
        // SAFETY: struct io_uring_params of 120 bytes, zeroed as the call wants it.
        let fd =
            Errno::result(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) })?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Ring(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Registers one range of memory.
    pub(super) fn register(&self, address: u64, bytes: u64) -> Result<(), Errno> {
        let buffer = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: bytes as usize,
        };
        // SAFETY: one iovec that outlives the call; the kernel touches no byte of the buffer.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.0.as_raw_fd(),
                REGISTER_BUFFERS,
                &raw const buffer,
                1,
            )
        })
        .map(drop)
    }

    /// Lets it go.
    pub(super) fn unregister(&self) -> Result<(), Errno> {
        // SAFETY: takes no pointer.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.0.as_raw_fd(),
                UNREGISTER_BUFFERS,
                std::ptr::null::<libc::c_void>(),
                0,
            )
        })
        .map(drop)
    }
}
