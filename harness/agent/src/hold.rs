//! `hold`: what a person in a guest's shell maps, touches and pins, until the program is ended. So
//! that a count can be seen to move.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, vmsplice};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use proto::Size;

const USAGE: &str = "\
usage: hold [-r] [-p] FILE [LENGTH [OFFSET]]
Maps a file (made where there is none) or a device-dax device, stores to each page, and keeps it so
until it is ended. LENGTH and OFFSET as in 64K or 2M; 4K and 0 where they are not given.
  -r  loads, and does not store
  -p  pins the pages, too, as long (vmsplice)
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    path: String,
    length: u64,
    offset: u64,
    read_only: bool,
    pin: bool,
}

/// Does what the words of the command line say; the exit code.
pub(crate) fn main() -> i32 {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = parse(&words) else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return 2;
    };
    match hold(&asked) {
        Ok(never) => match never {},
        Err(e) => {
            let _ = writeln!(io::stderr(), "hold: failed to {e}");
            1
        }
    }
}

fn parse(words: &[String]) -> Option<Asked> {
    let (flags, rest): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|w| w.starts_with('-'));
    if flags.iter().any(|f| !["-r", "-p"].contains(&f.as_str())) || rest.len() > 3 {
        return None;
    }
    let size = |i: usize, default: u64| match rest.get(i) {
        None => Some(default),
        Some(text) => Some(text.parse::<Size>().ok()?.bytes()),
    };
    let (length, offset) = (size(1, Size::PAGE)?, size(2, 0)?);
    let whole = |n: u64| n.is_multiple_of(Size::PAGE);
    if length == 0 || !whole(length) || !whole(offset) {
        return None;
    }
    Some(Asked {
        path: (*rest.first()?).clone(),
        length,
        offset,
        read_only: flags.iter().any(|f| *f == "-r"),
        pin: flags.iter().any(|f| *f == "-p"),
    })
}

/// Ends with its process.
fn hold(asked: &Asked) -> io::Result<std::convert::Infallible> {
    let tell = |what: &str, e: io::Error| io::Error::other(format!("{what} {}: {e}", asked.path));
    let file = open(asked).map_err(|e| tell("open", e))?;
    let bytes = usize::try_from(asked.length).map_err(io::Error::other)?;
    let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    let mut protection = ProtFlags::PROT_READ;
    if !asked.read_only {
        protection |= ProtFlags::PROT_WRITE;
    }
    let offset = libc::off_t::try_from(asked.offset).map_err(io::Error::other)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe {
        mmap(
            None,
            length,
            protection,
            MapFlags::MAP_SHARED,
            &file,
            offset,
        )
    }
    .map_err(|e| tell("map", e.into()))?
    .cast::<u8>();
    for page in (0..bytes).step_by(Size::PAGE as usize) {
        // SAFETY: within the mapping, which stays. A page that can't be had is a SIGBUS, which is
        // this program's end and says so.
        unsafe {
            let byte = at.add(page);
            let was = byte.read_volatile();
            if !asked.read_only {
                byte.write_volatile(was);
            }
        }
    }
    let pipe = match asked.pin {
        true => Some(pin(at.as_ptr(), bytes).map_err(|e| tell("pin", e))?),
        false => None,
    };
    let how = match (asked.read_only, asked.pin) {
        (false, false) => "mapped, stored to",
        (false, true) => "mapped, stored to, pinned",
        (true, false) => "mapped, loaded from",
        (true, true) => "mapped, loaded from, pinned",
    };
    let pages = asked.length / Size::PAGE;
    let _ = writeln!(
        io::stdout(),
        "{pages} pages of {}: {how}; until process {} ends",
        asked.path,
        std::process::id()
    );
    loop {
        let _held = &pipe;
        nix::unistd::pause();
    }
}

/// A file is made as long as it must be.
fn open(asked: &Asked) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(!asked.read_only);
    let device = std::fs::metadata(&asked.path).is_ok_and(|m| m.file_type().is_char_device());
    if device || asked.read_only {
        return options.open(&asked.path);
    }
    let file = options.create(true).truncate(false).open(&asked.path)?;
    let end = asked.offset.saturating_add(asked.length);
    if file.metadata()?.len() < end {
        file.set_len(end)?;
    }
    Ok(file)
}

/// The ends of a pipe that holds a reference to each page.
fn pin(at: *const u8, bytes: usize) -> io::Result<(impl AsFd, impl AsFd)> {
    let (read, write) = nix::unistd::pipe()?;
    let size = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(size))?;
    // SAFETY: the mapping is as long, and stays.
    let range = unsafe { std::slice::from_raw_parts(at, bytes) };
    let took = vmsplice(&write, &[IoSlice::new(range)], SpliceFFlags::empty())?;
    if took < bytes {
        return Err(io::Error::other(format!("{took} of {bytes} bytes")));
    }
    Ok((read, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_understood_or_refused() {
        let of = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let asked = of("-p /mnt/a 2M 64K").unwrap();
        assert_eq!((asked.length, asked.offset), (2 << 20, 64 << 10));
        assert!(asked.pin && !asked.read_only);
        assert_eq!(of("/mnt/a").unwrap().length, 4096);
        for wrong in [
            "-x /mnt/a",
            "-p",
            "/mnt/a 5",
            "/mnt/a 0",
            "a 4K 0 0",
            "a 4K x",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
