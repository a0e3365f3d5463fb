//! Functions with offsets -> lines of the source, by the build's own vmlinux.
//!
//! A trace names a function, an offset and the function's size. Names are not unique in a kernel:
//! where several functions have one, the size decides, and where that does not, nothing is said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use object::{Object, ObjectSymbol, SymbolKind};

use crate::record::{Frame, SourcePlace, Splat};

/// Inlined functions told of one address.
const MAX_INLINED: usize = 16;

/// The symbols and lines of one build. Read when the first trace asks.
#[derive(Debug)]
pub struct Symbols {
    vmlinux: Utf8PathBuf,
    read: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Unread,
    /// Traces stay as printed.
    Unreadable,
    Read(Box<Read>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Unread => "Unread",
            State::Unreadable => "Unreadable",
            State::Read(_) => "Read",
        })
    }
}

struct Read {
    /// Address and size by name.
    functions: HashMap<String, Vec<(u64, u64)>>,
    lines: addr2line::Loader,
    /// What the paths in the debug information begin with.
    tree: String,
}

impl Symbols {
    /// Those of a build; `vmlinux` has its symbols and debug information.
    pub fn new(vmlinux: &Utf8Path) -> Symbols {
        Symbols {
            vmlinux: vmlinux.to_owned(),
            read: Mutex::new(State::Unread),
        }
    }

    /// Adds the source's lines to every report's trace. Where the vmlinux can't be read, or says
    /// nothing of a place, the trace stays as it is.
    pub fn fill_in(&self, splats: &mut [Splat]) {
        self.fill_in_frames(splats.iter_mut().flat_map(|s| &mut s.trace));
    }

    /// The same for frames.
    pub fn fill_in_frames<'a>(&self, frames: impl Iterator<Item = &'a mut Frame>) {
        let mut frames = frames.peekable();
        if frames.peek().is_none() {
            return;
        }
        self.with(|read| frames.for_each(|f| f.at = read.places(f)));
    }

    /// The function that an address is in, with its line: `default_idle (arch/x86/kernel/process.c:7)`.
    pub fn function_at(&self, address: u64) -> Option<String> {
        let place = self.with(|read| read.lines_at(address))??.pop()?;
        Some(format!(
            "{} ({}:{})",
            place.function, place.file, place.line
        ))
    }

    fn with<T>(&self, ask: impl FnOnce(&Read) -> T) -> Option<T> {
        let mut state = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Unread) {
            *state = match Read::open(&self.vmlinux) {
                Some(read) => State::Read(Box::new(read)),
                None => State::Unreadable,
            };
        }
        match &*state {
            State::Read(read) => Some(ask(read)),
            State::Unread | State::Unreadable => None,
        }
    }
}

impl Read {
    fn open(vmlinux: &Utf8Path) -> Option<Read> {
        let bytes = fs_err::read(vmlinux).ok()?;
        let file = object::File::parse(&*bytes).ok()?;
        let mut all: Vec<(u64, &str, bool)> = file
            .symbols()
            .filter(|s| s.address() != 0 && s.is_definition())
            .filter_map(|s| Some((s.address(), s.name().ok()?, s.kind() == SymbolKind::Text)))
            .collect();
        all.sort_unstable();
        let mut functions: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
        for (i, (address, name, text)) in all.iter().enumerate() {
            if !text {
                continue;
            }
            // As kallsyms has it: up to the next symbol.
            let next = all[i..].iter().find(|s| s.0 > *address);
            let size = next.map_or(0, |s| s.0 - address);
            functions
                .entry((*name).to_owned())
                .or_default()
                .push((*address, size));
        }
        let lines = addr2line::Loader::new(vmlinux).ok()?;
        let start = functions.get("start_kernel")?.first()?.0;
        let file = lines.find_location(start).ok()??.file?.to_owned();
        let tree = file.strip_suffix("init/main.c")?.to_owned();
        Some(Read {
            functions,
            lines,
            tree,
        })
    }

    fn places(&self, frame: &Frame) -> Vec<SourcePlace> {
        if frame.module.is_some() || frame.offset > frame.size {
            return Vec::new();
        }
        let mut fits = self.functions.get(&frame.function).into_iter().flatten();
        let Some((address, _)) = fits.clone().find(|f| f.1 == frame.size) else {
            return Vec::new();
        };
        if fits.any(|f| f.1 == frame.size && f.0 != *address) {
            return Vec::new();
        }
        // A return address is behind the call, which may be its line's last instruction.
        let back = u64::from(!frame.rip && frame.offset > 0);
        self.lines_at(address + frame.offset - back)
            .unwrap_or_default()
    }

    fn lines_at(&self, address: u64) -> Option<Vec<SourcePlace>> {
        let mut frames = self.lines.find_frames(address).ok()?;
        let mut out = Vec::new();
        while let (Ok(Some(frame)), true) = (frames.next(), out.len() < MAX_INLINED) {
            let function = frame.function.as_ref();
            let function = function.and_then(|f| f.raw_name().ok().map(|n| n.into_owned()));
            let (Some(function), Some(at)) = (function, frame.location) else {
                continue;
            };
            let (Some(file), Some(line)) = (at.file, at.line) else {
                continue;
            };
            out.push(SourcePlace {
                function,
                file: self.relative(file),
                line,
            });
        }
        Some(out)
    }

    fn relative(&self, file: &str) -> String {
        let file = file.strip_prefix(&self.tree).unwrap_or(file);
        file.strip_prefix("./").unwrap_or(file).to_owned()
    }
}
