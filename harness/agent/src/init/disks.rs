//! Network block devices whose server is PID 1. A transfer to one of them
//! lasts, and with it its pin on the pages, until PID 1 answers.
//!
//! Each is set up once, at its first use, by a helper process that PID 1
//! forks; neither has ever mapped DAX memory, so that the helper, which stays
//! in the kernel for as long as the device is connected, keeps nothing alive.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork};
use proto::StepResult;

use super::boot;
use crate::wire::{ExpectedRun, TAIL, words};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const REQUEST_LEN: usize = 28;
const READ: u32 = 0;
const WRITE: u32 = 1;

const BLOCK: u64 = 4096;
/// 1 GiB: more than any pin of a case.
const BLOCKS: u64 = 1 << 18;

/// ioctl numbers of include/uapi/linux/nbd.h: `_IO(0xab, n)`.
const fn nbd_io(n: libc::c_ulong) -> libc::c_ulong {
    0xab << 8 | n
}

struct Request {
    kind: u32,
    handle: [u8; 8],
    from: u64,
    length: u64,
}

/// Whose pin a disk holds.
pub(super) struct Holder {
    pub(super) actor: String,
    pub(super) pin: String,
    /// What a read is answered with.
    pub(super) generation: u64,
    /// Index of the pin's first page in its file or device.
    pub(super) first_page: u64,
    /// And in its mapping.
    pub(super) first_of_map: u64,
    /// What the pages hold, as far as that is known, by page of the mapping.
    pub(super) expected: Vec<ExpectedRun>,
}

struct Disk {
    index: u32,
    server: UnixStream,
    bytes: Vec<u8>,
    /// Payload bytes of a write that are still to come.
    payload: u64,
    /// The words at the starts and ends of the pages that came, by page of the disk.
    came: BTreeMap<u64, [u8; 16]>,
    requests: Vec<Request>,
    holder: Option<Holder>,
}

/// See the module's words.
#[derive(Default)]
pub(super) struct Disks {
    disks: Vec<Disk>,
}

impl Disks {
    /// Prepares a disk to hold a pin; answers its device node.
    ///
    /// # Errors
    /// Where the kernel has no device left, or it could not be connected.
    pub(super) fn take(&mut self, holder: Holder) -> io::Result<String> {
        let at = match self.disks.iter().position(|d| d.holder.is_none()) {
            Some(at) => at,
            None => {
                self.disks.push(connect(self.disks.len() as u32)?);
                self.disks.len() - 1
            }
        };
        let disk = &mut self.disks[at];
        disk.came.clear();
        disk.holder = Some(holder);
        Ok(format!("/dev/nbd{}", disk.index))
    }

    /// Waits until requests for all `bytes` of a pin have come, their data
    /// included; answers how many have.
    pub(super) fn gather(&mut self, actor: &str, pin: &str, bytes: u64) -> u64 {
        let until = Instant::now() + Duration::from_secs(5);
        let Some(disk) = self.of(actor, pin) else {
            return 0;
        };
        loop {
            disk.serve();
            let seen = disk.requests.iter().map(|r| r.length).sum();
            if seen >= bytes && disk.payload == 0 || Instant::now() > until {
                return seen;
            }
            let mut fds = [PollFd::new(disk.server.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(20u8));
        }
    }

    /// What is wrong with the data that a pin's transfer wrote to its disk, if anything is.
    pub(super) fn wrong(&mut self, actor: &str, pin: &str) -> Option<StepResult> {
        let disk = self.of(actor, pin)?;
        let holder = disk.holder.as_ref()?;
        disk.came.iter().find_map(|(page, bytes)| {
            let (words, _) = bytes.as_chunks::<8>();
            let found = [words[0], words[1]].map(u64::from_le_bytes);
            let page = holder.first_of_map + page;
            let known = holder.expected.iter().any(|r| r.has(page));
            known.then(|| ExpectedRun::wrong(&holder.expected, page, found))?
        })
    }

    /// Answers what a pin's transfer is waiting for, and lets the disk be used again.
    pub(super) fn release(&mut self, actor: &str, pin: &str) {
        if let Some(disk) = self.of(actor, pin) {
            disk.answer();
        }
    }

    /// The same for all pins of an actor.
    pub(super) fn release_all(&mut self, actor: &str) {
        for disk in &mut self.disks {
            if disk.holder.as_ref().is_some_and(|h| h.actor == actor) {
                disk.answer();
            }
        }
    }

    /// For poll(2).
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.disks.iter().map(|d| d.server.as_fd())
    }

    /// Takes what has come on any of them.
    pub(super) fn serve(&mut self) {
        self.disks.iter_mut().for_each(Disk::serve);
    }

    fn of(&mut self, actor: &str, pin: &str) -> Option<&mut Disk> {
        self.disks.iter_mut().find(|d| {
            d.holder
                .as_ref()
                .is_some_and(|h| h.actor == actor && h.pin == pin)
        })
    }
}

impl Disk {
    fn serve(&mut self) {
        let mut chunk = [0; 64 << 10];
        // Ends with WouldBlock, or with the connection.
        while let Ok(n @ 1..) = self.server.read(&mut chunk) {
            let mut rest = &chunk[..n];
            while !rest.is_empty() {
                let part = self.payload.min(rest.len() as u64) as usize;
                self.keep(&rest[..part]);
                self.payload -= part as u64;
                rest = &rest[part..];
                let want = (REQUEST_LEN - self.bytes.len()).min(rest.len());
                self.bytes.extend_from_slice(&rest[..want]);
                rest = &rest[want..];
                self.parse();
            }
        }
        if self.holder.is_none() {
            self.answer();
        }
    }

    /// Keeps the words of a part of a write's payload.
    fn keep(&mut self, mut part: &[u8]) {
        let Some(request) = self.requests.last() else {
            return;
        };
        let mut at = request.from + request.length - self.payload;
        while !part.is_empty() {
            let (page, within) = (at / BLOCK, at % BLOCK);
            let (word, to) = match within {
                0..8 => (Some(within), 8),
                8..TAIL => (None, TAIL),
                _ => (Some(8 + within - TAIL), BLOCK),
            };
            let (now, later) = part.split_at(part.len().min((to - within) as usize));
            if let Some(word) = word {
                let bytes = self.came.entry(page).or_default();
                bytes[word as usize..][..now.len()].copy_from_slice(now);
            }
            at += now.len() as u64;
            part = later;
        }
    }

    fn parse(&mut self) {
        if self.bytes.len() < REQUEST_LEN {
            return;
        }
        let b = std::mem::take(&mut self.bytes);
        let half = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        if half(0) != REQUEST_MAGIC {
            boot::log(3, "zonedev agent: an nbd request without its magic");
            return;
        }
        let mut handle = [0; 8];
        handle.copy_from_slice(&b[8..16]);
        let request = Request {
            // The upper half holds flags.
            kind: half(4) & 0xffff,
            handle,
            from: u64::from(half(16)) << 32 | u64::from(half(20)),
            length: u64::from(half(24)),
        };
        if request.kind == WRITE {
            self.payload = request.length;
        }
        self.requests.push(request);
    }

    fn answer(&mut self) {
        let holder = self.holder.take();
        for request in std::mem::take(&mut self.requests) {
            let mut reply = Vec::from(REPLY_MAGIC.to_be_bytes());
            reply.extend(0u32.to_be_bytes());
            reply.extend(request.handle);
            if request.kind == READ {
                let at = reply.len();
                reply.resize(at + request.length as usize, 0);
                if let Some(h) = &holder {
                    let first = h.first_page + request.from / BLOCK;
                    for (i, page) in reply[at..].chunks_mut(BLOCK as usize).enumerate() {
                        let [head, tail] = words(h.generation, first + i as u64);
                        if let Some(at) = page.first_chunk_mut::<8>() {
                            *at = head.to_le_bytes();
                        }
                        if let Some(at) = page.last_chunk_mut::<8>() {
                            *at = tail.to_le_bytes();
                        }
                    }
                }
            }
            if let Err(e) = self.send(&reply) {
                boot::log(3, &format!("zonedev agent: failed to answer nbd: {e}"));
            }
        }
    }

    fn send(&mut self, mut rest: &[u8]) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        while !rest.is_empty() {
            match self.server.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    let mut fds = [PollFd::new(self.server.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::from(100u8));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Connects /dev/nbd`index` to a socket of ours.
fn connect(index: u32) -> io::Result<Disk> {
    let node = format!("/dev/nbd{index}");
    if !Path::new(&node).exists() {
        return Err(io::Error::other(format!(
            "find {node}: the kernel has no more network block devices (nbd.nbds_max)"
        )));
    }
    let (server, client) = UnixStream::pair()?;
    // SAFETY: PID 1 has one thread; the child makes system calls only, and ends with _exit.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let code = drive(&node, client.as_raw_fd());
            // SAFETY: ends this process; takes no pointer.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { .. } => {}
    }
    drop(client);
    // The device has its size (in sectors of 512 bytes) only when it is connected.
    let size = format!("/sys/block/nbd{index}/size");
    let until = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(&size).is_ok_and(|s| s.trim() == "0") {
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "connect {node}: the kernel didn't in 10 s"
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    server.set_nonblocking(true)?;
    Ok(Disk {
        index,
        server,
        bytes: Vec::new(),
        payload: 0,
        came: BTreeMap::new(),
        requests: Vec::new(),
        holder: None,
    })
}

/// In the helper: sets the device up and stays in the kernel to drive it.
fn drive(node: &str, client: RawFd) -> i32 {
    const SOCKET: RawFd = 3;
    // SAFETY: descriptor 3 becomes the socket; whatever it was is PID 1's copy, unused here.
    if unsafe { libc::dup3(client, SOCKET, 0) } < 0 && client != SOCKET {
        return 1;
    }
    boot::close_from(SOCKET as u32 + 1);
    let Ok(device) = fs::File::options().read(true).write(true).open(node) else {
        return 2;
    };
    let set: [(libc::c_ulong, libc::c_ulong); 5] = [
        (nbd_io(1), BLOCK),  // NBD_SET_BLKSIZE
        (nbd_io(7), BLOCKS), // NBD_SET_SIZE_BLOCKS
        // NBD_SET_TIMEOUT, in seconds: no pin lasts that long, and the default of 30 s
        // would write to the log.
        (nbd_io(9), 36_000),
        (nbd_io(0), SOCKET as libc::c_ulong), // NBD_SET_SOCK
        (nbd_io(3), 0),                       // NBD_DO_IT: until disconnected
    ];
    for (number, argument) in set {
        // SAFETY: these take integers, no pointers.
        if unsafe { libc::ioctl(device.as_raw_fd(), number, argument) } < 0 {
            return 3;
        }
    }
    0
}
