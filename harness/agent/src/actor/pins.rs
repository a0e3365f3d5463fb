//! Pins: references to pages that the kernel holds for an I/O.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, vmsplice};
use proto::{Backing, PinHow, Size, StepResult};

use super::aio::Flight;
use super::change::looked_up;
use super::gup_test::GupTest;
use super::serve::{Actor, unknown};
use super::touch;
use super::uring::Ring;
use crate::wire::{Context, Reply, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// How long a released transfer may take to end, in seconds.
const END_S: i64 = 20;

/// What keeps pages pinned.
pub(super) enum Held {
    /// The two ends of a pipe that holds references.
    Pipe {
        /// Dropped with the other end.
        _ends: (OwnedFd, OwnedFd),
    },
    /// gup_test, with the range pinned.
    GupTest(GupTest),
    /// A ring with the range as its registered buffer.
    Ring(Ring),
    /// A transfer of so many bytes whose end PID 1 withholds.
    Flight(Flight, u64),
    /// A parent's transfer, in the copy of a forked child.
    Foreign,
}

impl Held {
    /// In a forked child: leaves the parent's transfer alone. The child has no
    /// aio context (they belong to the address space), so it must destroy none.
    pub(super) fn disown(&mut self) {
        if let Held::Flight(flight, _) = mem::replace(self, Held::Foreign) {
            mem::forget(flight);
        }
    }
}

/// Takes a pin. A direct one is complete only when PID 1 has seen all its requests.
pub(super) fn pin(
    actor: &mut Actor,
    pin: &str,
    how: PinHow,
    map: &str,
    (offset, length): (Size, Size),
    context: &Context,
) -> Done {
    if actor.pins.contains_key(pin) {
        return Err(failed(format!(
            "take pin `{pin}`: this actor has one of that name; release it first"
        )));
    }
    let (m, range) = actor.range(map, offset, Some(length))?;
    let address = m.address + range.start * Size::PAGE;
    let bytes = (range.end - range.start) * Size::PAGE;
    // Device-coherent pages are named by nothing else.
    let frames = match m.backing {
        Backing::Anon { .. } => Some(looked_up(map, m)?),
        _ => None,
    };
    let into = how == PinHow::DirectRead;
    let (held, facts) = match how {
        PinHow::Vmsplice => {
            let (read, write) =
                nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| errno("pipe", e))?;
            fcntl(&write, FcntlArg::F_SETPIPE_SZ(bytes as i32))
                .map_err(|e| errno("fcntl F_SETPIPE_SZ", e))?;
            let (done, facts) = touch::during(map, m, range, false, context, || {
                splice(&write, address, bytes)
            })?;
            let held = Held::Pipe {
                _ends: (read, write),
            };
            (done.map(|()| held).map_err(|e| errno("vmsplice", e)), facts)
        }
        PinHow::IoUring => {
            let ring = Ring::new().map_err(|e| errno("io_uring_setup", e))?;
            // A buffer is pinned for writing.
            let (done, facts) = touch::during(map, m, range, true, context, || {
                ring.register(address, bytes)
            })?;
            let held = done.map(|()| Held::Ring(ring));
            (held.map_err(|e| errno("io_uring_register", e)), facts)
        }
        PinHow::GupTest => {
            let test = GupTest::open()?;
            let (done, facts) =
                touch::during(map, m, range, true, context, || test.hold(address, bytes))?;
            let held = done.map(|()| Held::GupTest(test));
            (
                held.map_err(|e| errno("ioctl PIN_LONGTERM_TEST_START", e)),
                facts,
            )
        }
        PinHow::DirectWrite | PinHow::DirectRead => {
            let dev = context
                .nbd
                .as_ref()
                .ok_or_else(|| failed("find a network block device: PID 1 named none"))?;
            let target = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_DIRECT)
                .open(dev)
                .map_err(|e| io_errno("open nbd", &e))?;
            let (flight, facts) = touch::during(map, m, range, into, context, || {
                Flight::start(target, address, bytes, !into)
            })?;
            let held = match flight {
                Err(e) => Err(errno("io_submit", e)),
                Ok(flight) => match flight.end(0) {
                    None => Ok(Held::Flight(flight, bytes)),
                    Some(Err(e)) => Err(errno("io_submit", e)),
                    Some(Ok(n)) => Err(failed(format!(
                        "hold a transfer: it ended at once with {n} bytes"
                    ))),
                },
            };
            (held, facts)
        }
    };
    let result = match held {
        Ok(held) => {
            actor.pins.insert(pin.to_owned(), held);
            StepResult::Ok {}
        }
        Err(result) => result,
    };
    let mut reply = Reply::from(result);
    reply.facts = facts;
    reply.facts.extend(frames);
    Ok(reply)
}

/// Puts a reference to every page of the range into the pipe.
fn splice(pipe: &OwnedFd, address: u64, bytes: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < bytes {
        // SAFETY: the range lies in a mapping of this actor. The slice is only handed to
        // vmsplice, which takes references to its pages and reads no byte of it.
        let rest = unsafe {
            std::slice::from_raw_parts((address + at) as *const u8, (bytes - at) as usize)
        };
        match vmsplice(pipe, &[IoSlice::new(rest)], SpliceFFlags::SPLICE_F_NONBLOCK)? {
            0 => return Err(Errno::EAGAIN),
            n => at += n as u64,
        }
    }
    Ok(())
}

/// Lets a pin go; PID 1 has let a transfer end before it asks.
pub(super) fn release(actor: &mut Actor, pin: &str) -> Done {
    let held = actor
        .pins
        .remove(pin)
        .ok_or_else(|| unknown("a pin", pin))?;
    let (flight, bytes) = match held {
        Held::Flight(flight, bytes) => (flight, bytes),
        Held::Ring(ring) => {
            ring.unregister()
                .map_err(|e| errno("io_uring_register", e))?;
            return Ok(StepResult::Ok {}.into());
        }
        Held::GupTest(test) => {
            test.let_go()
                .map_err(|e| errno("ioctl PIN_LONGTERM_TEST_STOP", e))?;
            return Ok(StepResult::Ok {}.into());
        }
        Held::Pipe { .. } | Held::Foreign => return Ok(StepResult::Ok {}.into()),
    };
    match flight.end(END_S) {
        Some(Ok(n)) if n == bytes => Ok(StepResult::Ok {}.into()),
        Some(Ok(n)) => Err(failed(format!(
            "end a transfer of {bytes} bytes: {n} moved"
        ))),
        Some(Err(e)) => Err(errno("io_getevents", e)),
        None => {
            // Destroying it would wait for ever.
            mem::forget(flight);
            Err(failed(format!("end a transfer: nothing came in {END_S} s")))
        }
    }
}
