//! What a guest says on its console, kept within bounds, and what is said to it.
//!
//! QEMU writes single bytes; a FIFO gathers them (a socket would not). The first megabytes are
//! written to the console's file as they come, so that a harness that is killed leaves them; of a
//! kernel that spews, the last ones are kept too, and how much stood between them.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::stat::Mode;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::error::{Result, VmError};

/// Bytes kept from the beginning, and as many from the end.
const KEPT: usize = 4 << 20;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// For how long bytes gather where few came.
const GATHER: Duration = Duration::from_millis(2);
/// What the FIFO may hold where the host lets it, bytes.
const PIPE: i32 = 1 << 20;

/// A guest's console. Cheap to clone; outlives the guest.
#[derive(Debug, Clone)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: Utf8PathBuf,
    heard: Mutex<Heard>,
    /// Bytes so far, and whether it has ended.
    progress: watch::Sender<(u64, bool)>,
    input: pipe::Sender,
}

#[derive(Debug)]
struct Heard {
    file: fs_err::File,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes between head and tail that are not kept.
    left_out: u64,
    last: Instant,
    /// Why the file lacks what was heard.
    problem: Option<String>,
}

/// The two FIFOs that QEMU opens, at `path`.in and `path`.out; removed when dropped.
#[derive(Debug)]
pub(super) struct Fifos {
    path: Utf8PathBuf,
}

impl Fifos {
    pub(super) fn make(path: Utf8PathBuf) -> Result<Self> {
        let fifos = Fifos { path };
        for end in [fifos.end("in"), fifos.end("out")] {
            nix::unistd::mkfifo(end.as_std_path(), Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|e| VmError::io(format!("make {end}"))(e.into()))?;
        }
        Ok(fifos)
    }

    /// What QEMU is told.
    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    fn end(&self, which: &str) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("{}.{which}", self.path))
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        // Gone already, or with the directory that they are in.
        let _ = fs_err::remove_file(self.end("in"));
        let _ = fs_err::remove_file(self.end("out"));
    }
}

impl Console {
    /// Listens, once QEMU has opened its ends. What is heard goes to the file `path`, behind what is
    /// in it.
    pub(super) fn listen(fifos: &Fifos, path: Utf8PathBuf) -> Result<Self> {
        let (input, output) = (fifos.end("in"), fifos.end("out"));
        let from = pipe::OpenOptions::new()
            .open_receiver(&output)
            .map_err(VmError::io(format!("open {output}")))?;
        let input = pipe::OpenOptions::new()
            .open_sender(&input)
            .map_err(VmError::io(format!("open {input}")))?;
        // A smaller one serves, too.
        let _ = nix::fcntl::fcntl(from.as_fd(), nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE));
        let file = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(VmError::io(format!("open {path}")))?;
        let shared = Arc::new(Shared {
            path,
            heard: Mutex::new(Heard {
                file,
                head: Vec::new(),
                tail: VecDeque::new(),
                left_out: 0,
                last: Instant::now(),
                problem: None,
            }),
            progress: watch::Sender::new((0, false)),
            input,
        });
        let console = Console { shared };
        tokio::spawn(console.clone().read(from));
        Ok(console)
    }

    async fn read(self, from: pipe::Receiver) {
        let mut chunk = vec![0; CHUNK];
        loop {
            if from.readable().await.is_err() {
                break;
            }
            match from.try_read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    self.heard().add(&chunk[..n]);
                    self.shared.progress.send_modify(|p| p.0 += n as u64);
                    if n < CHUNK / 16 {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        self.heard().finish();
        self.shared.progress.send_modify(|p| p.1 = true);
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that has it.
    pub fn path(&self) -> &Utf8Path {
        &self.shared.path
    }

    /// All that is kept: the beginning, how much was left out if any was, the end.
    pub fn bytes(&self) -> Vec<u8> {
        let heard = self.heard();
        let mut out = heard.head.clone();
        out.extend(heard.rest());
        out
    }

    /// The last bytes, as text.
    pub fn tail(&self, bytes: usize) -> String {
        let heard = self.heard();
        let from_tail = heard.tail.len().min(bytes);
        let from_head = heard.head.len().min(bytes - from_tail);
        let mut out = heard.head[heard.head.len() - from_head..].to_vec();
        out.extend(heard.tail.range(heard.tail.len() - from_tail..));
        String::from_utf8_lossy(&out).into_owned()
    }

    /// For how long it has been silent.
    pub fn silent_for(&self) -> Duration {
        self.heard().last.elapsed()
    }

    /// Bytes heard so far, kept or not.
    pub fn total(&self) -> u64 {
        self.shared.progress.borrow().0
    }

    /// Why the file lacks what was heard, if it does.
    pub fn problem(&self) -> Option<String> {
        self.heard().problem.clone()
    }

    /// Waits until the last bytes hold `text`; false where they do not within `limit`, or where the
    /// guest is gone without it.
    pub async fn wait_for(&self, text: &str, limit: Duration) -> bool {
        const LAST: usize = 4096;
        let mut progress = self.shared.progress.subscribe();
        let wait = async {
            loop {
                let ended = progress.borrow_and_update().1;
                if self.tail(LAST).contains(text) {
                    return true;
                }
                if ended || progress.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.unwrap_or(false)
    }

    /// Waits until a guest that is gone has been heard to the end, at most for `limit`.
    pub async fn ended(&self, limit: Duration) {
        let mut progress = self.shared.progress.subscribe();
        // Without the end, what was heard is what there is.
        let _ = tokio::time::timeout(limit, progress.wait_for(|p| p.1)).await;
    }

    /// Types a byte; false where the guest takes none.
    pub(super) fn type_byte(&self, byte: u8) -> bool {
        self.shared.input.try_write(&[byte]).is_ok()
    }
}

impl Heard {
    fn add(&mut self, bytes: &[u8]) {
        self.last = Instant::now();
        let to_head = bytes.len().min(KEPT - self.head.len());
        let (head, rest) = bytes.split_at(to_head);
        self.head.extend_from_slice(head);
        self.write(head);
        // No more than what is kept goes in.
        let skipped = rest.len().saturating_sub(KEPT);
        self.tail.extend(&rest[skipped..]);
        let over = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..over);
        self.left_out += (skipped + over) as u64;
    }

    /// What follows the head.
    fn rest(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.left_out > 0 {
            let words = format!(
                "\n[zonedev: {} bytes of the console were left out]\n",
                self.left_out
            );
            out.extend_from_slice(words.as_bytes());
        }
        out.extend(&self.tail);
        out
    }

    fn finish(&mut self) {
        let rest = self.rest();
        self.write(&rest);
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.problem.is_some() {
            return;
        }
        if let Err(e) = self.file.write_all(bytes) {
            self.problem = Some(e.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    /// A guest's ends: QEMU opens both of its FIFOs for reading and writing.
    fn guest(fifos: &Fifos) -> (std::fs::File, std::fs::File) {
        let open = |which: &str| {
            let mut options = std::fs::OpenOptions::new();
            options
                .read(true)
                .write(true)
                .open(fifos.end(which))
                .unwrap()
        };
        (open("in"), open("out"))
    }

    #[tokio::test]
    async fn what_is_said_is_kept_and_a_mark_is_waited_for() {
        let (_dir, path) = place();
        let fifos = Fifos::make(path.join("c")).unwrap();
        let (mut guest_in, mut guest_out) = guest(&fifos);
        let console = Console::listen(&fifos, path.join("console.log")).unwrap();
        drop(fifos);
        assert!(!path.join("c.in").exists() && !path.join("c.out").exists());
        guest_out.write_all(b"hello, ").unwrap();
        assert!(!console.wait_for("world", Duration::from_millis(20)).await);
        guest_out.write_all(b"world").unwrap();
        assert!(
            console
                .wait_for("hello, world", Duration::from_secs(20))
                .await
        );
        assert!(console.type_byte(b'w'));
        let mut byte = [0];
        std::io::Read::read_exact(&mut guest_in, &mut byte).unwrap();
        assert_eq!(byte, *b"w");
        drop(guest_out);
        console.ended(Duration::from_secs(20)).await;
        assert!(!console.wait_for("more", Duration::from_secs(20)).await);
        assert_eq!(console.bytes(), b"hello, world");
        assert_eq!(fs_err::read(console.path()).unwrap(), b"hello, world");
        assert_eq!(console.tail(5), "world");
    }

    #[tokio::test]
    async fn a_guest_that_spews_fills_neither_memory_nor_disk() {
        let (_dir, path) = place();
        let fifos = Fifos::make(path.join("c")).unwrap();
        let (_guest_in, mut guest_out) = guest(&fifos);
        let console = Console::listen(&fifos, path.join("console.log")).unwrap();
        let spewed = 64 * KEPT;
        let spewing = tokio::task::spawn_blocking(move || {
            guest_out.write_all(b"first").unwrap();
            let line = [b'x'; 4096];
            for _ in 0..spewed / line.len() {
                guest_out.write_all(&line).unwrap();
            }
            guest_out.write_all(b"last").unwrap();
        });
        spewing.await.unwrap();
        console.ended(Duration::from_secs(60)).await;
        assert!(console.heard().tail.capacity() < 4 * KEPT);
        let bytes = console.bytes();
        let words = format!(
            "[zonedev: {} bytes of the console were left out]",
            spewed + 9 - 2 * KEPT
        );
        assert!(bytes.len() < 2 * KEPT + 100);
        assert!(bytes.starts_with(b"firstxx") && bytes.ends_with(b"xxlast"));
        assert!(String::from_utf8_lossy(&bytes).contains(&words), "{words}");
        assert_eq!(fs_err::read(console.path()).unwrap(), bytes);
        assert_eq!(console.total(), (spewed + 9) as u64);
    }

    #[tokio::test]
    async fn without_room_for_the_file_nothing_that_was_heard_is_lost() {
        let (_dir, path) = place();
        let fifos = Fifos::make(path.join("c")).unwrap();
        let (_guest_in, mut guest_out) = guest(&fifos);
        let console = Console::listen(&fifos, "/dev/full".into()).unwrap();
        guest_out.write_all(b"BUG: x").unwrap();
        drop(guest_out);
        console.ended(Duration::from_secs(20)).await;
        assert_eq!(console.bytes(), b"BUG: x");
        assert!(console.problem().unwrap().contains("No space left"));
    }
}
