//! The person's end of a guest's shell: the terminal's bytes as they are, in both directions.

use std::io::{IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use proto::text::excerpt;
use proto::{Bytes, FromShell, MAX_CHUNK, ShellStart, Terminal, ToShell, WindowSize, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::exit::Failure;
use crate::vm::{End, Guest};

/// Ctrl-]: leaves a guest, also one that answers no more.
const LEAVE: u8 = 0x1d;
/// The most that one word of a guest's shell may be: a chunk whose bytes are all escaped.
const MAX_WORD: usize = 8 * MAX_CHUNK;
/// How long a guest's last words may take to come once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A terminal's settings, while they are not as they were found.
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

/// How a shell was left.
#[derive(Debug)]
pub(super) enum Ended {
    /// It ended with this code.
    Code(u8),
    /// By Ctrl-].
    Left,
    /// Its guest ended first.
    Guest(End),
    /// It could not be started. The guest's words.
    Failed(String),
    /// It was not there in time.
    Silent,
}

/// Sets a terminal back, where one is raw.
pub(super) fn restore() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(found) = found {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &found);
    }
}

/// A raw terminal; dropped, it is as it was.
struct Raw;

impl Raw {
    fn set() -> std::io::Result<Self> {
        static TIDY: Once = Once::new();
        TIDY.call_once(|| super::signals::tidy(restore));
        let found = tcgetattr(std::io::stdin())?;
        let mut raw = found.clone();
        cfmakeraw(&mut raw);
        *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Our own terminal, where both ends of it are one.
pub(super) fn here() -> Option<Terminal> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return None;
    }
    let name = std::env::var("TERM").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-+._".contains(c);
    let known = !name.is_empty() && name.len() < 64 && name.chars().all(plain);
    Some(Terminal {
        name: if known { name } else { "vt100".to_owned() },
        size: size(),
    })
}

fn size() -> WindowSize {
    let mut size = nix::libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let fd = std::io::stdout();
    // SAFETY: TIOCGWINSZ writes one winsize, and `size` is one that lives through the call.
    let done =
        unsafe { nix::libc::ioctl(fd.as_fd().as_raw_fd(), nix::libc::TIOCGWINSZ, &mut size) };
    let known = done == 0 && size.ws_row > 0 && size.ws_col > 0;
    WindowSize {
        rows: if known { size.ws_row } else { 24 },
        columns: if known { size.ws_col } else { 80 },
    }
}

/// Starts a shell in a guest and is its terminal until it ends. `limit`: until it runs, where that
/// is bounded.
///
/// # Errors
/// Where the port carries what no shell of ours says, or our own streams fail.
pub(super) async fn bridge(
    guest: &Guest,
    port: UnixStream,
    start: ShellStart,
    limit: Option<Duration>,
) -> Result<Ended, Failure> {
    let on_terminal = start.terminal.is_some();
    let (from, mut to) = port.into_split();
    let mut from = Incoming::new(from);
    send(&mut to, &ToShell::Start(start)).await?;
    let limit = limit.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
    let started = tokio::select! {
        started = tokio::time::timeout(limit, from.next()) => started,
        end = guest.ended() => return Ok(Ended::Guest(end)),
    };
    match started {
        Err(_) => return Ok(Ended::Silent),
        Ok(word) => match word? {
            FromShell::Started {} => {}
            FromShell::Failed { message } => return Ok(Ended::Failed(message)),
            other => return Err(unasked(&other)),
        },
    }
    let raw = match on_terminal {
        true => Some(Raw::set()?),
        false => None,
    };
    let ended = tokio::select! {
        ended = shown(&mut from) => ended?,
        left = typed(to, on_terminal) => left?,
        end = guest.ended() => {
            // What it said before is on its way.
            match tokio::time::timeout(LAST_WORDS, shown(&mut from)).await {
                Ok(Ok(ended @ Ended::Code(_))) => ended,
                _ => Ended::Guest(end),
            }
        }
    };
    drop(raw);
    Ok(ended)
}

/// Shows what the shell writes, until its end.
async fn shown(from: &mut Incoming) -> Result<Ended, Failure> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match from.next().await? {
            FromShell::Shown { bytes, error } => {
                let written = match error {
                    true => write(&mut err, &bytes.0).await,
                    false => write(&mut out, &bytes.0).await,
                };
                match written {
                    // A reader that has seen enough.
                    Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Ended::Left),
                    written => written?,
                }
            }
            FromShell::Ended { code } => return Ok(Ended::Code(code)),
            other => return Err(unasked(&other)),
        }
    }
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Hands on what is typed, until the guest is left by Ctrl-].
async fn typed(mut to: OwnedWriteHalf, on_terminal: bool) -> Result<Ended, Failure> {
    let mut typed = typing()?;
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        let word = tokio::select! {
            bytes = typed.recv() => match bytes {
                Some(mut bytes) => {
                    let leave = bytes.iter().position(|b| on_terminal && *b == LEAVE);
                    bytes.truncate(leave.unwrap_or(bytes.len()));
                    if leave.is_some() {
                        return Ok(Ended::Left);
                    }
                    ToShell::Typed { bytes: Bytes(bytes) }
                }
                None => {
                    send(&mut to, &ToShell::Close {}).await?;
                    return std::future::pending().await;
                }
            },
            _ = resized.recv(), if on_terminal => ToShell::Resized { size: size() },
        };
        // The escape works also where the guest reads no more.
        tokio::select! {
            sent = send(&mut to, &word) => sent?,
            () = escape(&mut typed), if on_terminal => return Ok(Ended::Left),
        }
    }
}

/// Ends with the next Ctrl-] while nothing can be handed on; what else is typed is lost.
async fn escape(typed: &mut mpsc::Receiver<Vec<u8>>) {
    // A guest that reads takes a word at once, and nothing is lost.
    tokio::time::sleep(Duration::from_secs(1)).await;
    while let Some(bytes) = typed.recv().await {
        if bytes.contains(&LEAVE) {
            return;
        }
    }
    std::future::pending().await
}

/// What is typed. Read by a thread that ends with us: nothing else can stop a read of a terminal.
fn typing() -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::Builder::new()
        .name("typing".to_owned())
        .spawn(move || {
            let mut stdin = std::io::stdin();
            let mut chunk = [0; MAX_CHUNK / 4];
            loop {
                match stdin.read(&mut chunk) {
                    Ok(n @ 1..) if sender.blocking_send(chunk[..n].to_vec()).is_ok() => {}
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    _ => return,
                }
            }
        })?;
    Ok(receiver)
}

async fn send(to: &mut OwnedWriteHalf, word: &ToShell) -> Result<(), Failure> {
    let bytes = frame::encode(word).map_err(|e| Failure::harness(format!("failed to {e}")))?;
    Ok(to.write_all(&bytes).await?)
}

fn unasked(word: &FromShell) -> Failure {
    let what = match word {
        FromShell::Started {} => "a start".to_owned(),
        FromShell::Shown { .. } => "output".to_owned(),
        FromShell::Ended { .. } => "an end".to_owned(),
        FromShell::Failed { message } => format!("a failure: {}", excerpt(message, 300)),
    };
    Failure::harness(format!(
        "the guest's shell sent what nobody asked for: {what}"
    ))
}

/// The frames that come. Nothing is lost where one is not waited for to the end.
struct Incoming {
    from: OwnedReadHalf,
    read: Vec<u8>,
}

impl Incoming {
    fn new(from: OwnedReadHalf) -> Self {
        let read = Vec::new();
        Incoming { from, read }
    }

    async fn next(&mut self) -> Result<FromShell, Failure> {
        let broken =
            |why: String| Failure::harness(format!("the port of the guest's shell broke: {why}"));
        loop {
            if let Some((header, rest)) = self.read.split_first_chunk() {
                let len = frame::body_len(*header).map_err(|e| broken(e.to_string()))?;
                if len > MAX_WORD {
                    return Err(broken(format!("a word of {len} bytes")));
                }
                if let Some(body) = rest.get(..len) {
                    let word = frame::decode(body);
                    self.read.drain(..4 + len);
                    return word.map_err(|e| broken(excerpt(&e.to_string(), 200)));
                }
            }
            match self.from.read_buf(&mut self.read).await? {
                0 => {
                    // The guest's end, which somebody else waits for.
                    std::future::pending::<()>().await;
                }
                _ => continue,
            }
        }
    }
}
