//! Mappings, and where they are put.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use proto::{Backing, Fact, Memory, Op, Size, StepResult};

use super::change::looked_up;
use super::serve::{Actor, unknown};
use super::{access, drivers, files, touch};
use crate::wire::{Context, Reply, errno, failed, io_errno};
use nix::sys::signal::Signal;
use nix::unistd::ftruncate;

type Done = Result<Reply, StepResult>;

/// One mapping of this actor.
pub(super) struct Mapping {
    /// Its address.
    pub(super) address: u64,
    /// 4K pages.
    pub(super) pages: u64,
    /// What stands behind it.
    pub(super) backing: Backing,
    /// The mapped file, for its extents; it lives exactly as long as the mapping does.
    pub(super) file: Option<File>,
    /// The reserved addresses around it.
    space: Space,
}

impl Mapping {
    /// Index in the file, device or mapping of the first 4K page.
    pub(super) fn first_page(&self) -> u64 {
        match &self.backing {
            Backing::File { first_page, .. } | Backing::Device { first_page, .. } => *first_page,
            Backing::Anon { .. } | Backing::P2pmem {} => 0,
        }
    }

    /// It lies elsewhere now.
    pub(super) fn moved(&mut self, address: u64, space: Space) {
        self.address = address;
        self.space = space;
    }

    /// Whether a store goes to the file or device itself.
    pub(super) fn is_shared(&self) -> bool {
        match &self.backing {
            Backing::File { private, .. } => !private,
            Backing::Device { .. } | Backing::P2pmem {} => true,
            Backing::Anon { .. } => false,
        }
    }
}

/// Addresses reserved with PROT_NONE. What is left of it around a mapping keeps
/// neighbouring mappings from being merged with it.
pub(super) struct Space {
    address: usize,
    length: usize,
}

impl Space {
    /// Room for `length` bytes at the first address of which
    /// `address / 4K % 512 == colour`, with at least a page on either side.
    pub(super) fn reserve(length: u64, colour: u64) -> Result<(Space, NonZeroUsize), StepResult> {
        let whole = usize::try_from(length)
            .ok()
            .and_then(|l| l.checked_add(2 * Size::PMD as usize))
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| failed("reserve addresses: the length is beyond 64 bits"))?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe {
            mmap_anonymous(
                None,
                whole,
                ProtFlags::PROT_NONE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }
        .map_err(|e| errno("mmap", e))?
        .as_ptr() as usize;
        let space = Space {
            address: at,
            length: whole.get(),
        };
        let first = at as u64 / Size::PAGE + 1;
        let page = first + (colour + 512 - first % 512) % 512;
        NonZeroUsize::new((page * Size::PAGE) as usize)
            .map(|a| (space, a))
            .ok_or_else(|| failed("reserve addresses: there are none"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(at) = NonNull::new(self.address as *mut c_void) {
            // SAFETY: unmaps what `reserve` mapped, and the mapping placed within; no
            // Rust object lives there. Failure leaves addresses reserved, no more.
            let _ = unsafe { munmap(at, self.length) };
        }
    }
}

/// The mapping operations.
pub(super) fn map(actor: &mut Actor, op: &Op, context: &Context) -> Done {
    let mut populated = Vec::new();
    let (name, mapping) = match op {
        Op::MapFile {
            map,
            file,
            offset,
            length,
            private,
            sync,
            populate,
            align,
        } => {
            let first_page = offset.bytes() / Size::PAGE;
            let colour = colour(*align, first_page)?;
            let shared = match (private, sync) {
                (true, _) => MapFlags::MAP_PRIVATE,
                (false, true) => {
                    MapFlags::from_bits_retain(libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC)
                }
                (false, false) => MapFlags::MAP_SHARED,
            };
            let flags = match populate {
                true => shared | MapFlags::MAP_POPULATE,
                false => shared,
            };
            let backing = Backing::File {
                file: file.clone(),
                first_page,
                private: *private,
            };
            let of = match private {
                true => files::open_to_read(file)?,
                false => files::open(file)?,
            };
            let at = Place {
                length: *length,
                offset: *offset,
                colour,
            };
            let taken = touch::faults()?;
            let m = place(of, at, flags, backing)?;
            if *populate {
                // Writable private memory is copied at once (populate_vma_page_range()).
                populated = touch::populated(map, &m, *private, touch::faults()? - taken)?;
            }
            (map, m)
        }
        Op::MapDevice {
            map,
            namespace,
            offset,
            length,
            private,
            anywhere,
        } => {
            let dev = context.namespace("devdax", namespace.as_deref())?;
            let of = OpenOptions::new()
                .read(true)
                .write(true)
                .open(format!("/dev/{}", dev.dev))
                .map_err(|e| io_errno("open", &e))?;
            let first_page = offset.bytes() / Size::PAGE;
            let at = Place {
                length: *length,
                offset: *offset,
                colour: first_page % 512,
            };
            let backing = Backing::Device {
                first_page,
                namespace: dev.name.clone(),
            };
            let flags = match private {
                true => MapFlags::MAP_PRIVATE,
                false => MapFlags::MAP_SHARED,
            };
            let mut m = match anywhere {
                true => chosen(of, &at, flags, backing)?,
                false => place(of, at, flags, backing)?,
            };
            m.file = None;
            (map, m)
        }
        Op::MapAnon {
            map,
            length,
            memory,
        } => (map, anon(*length, *memory)?),
        Op::MapP2pmem { map, length } => (map, p2pmem(*length)?),
        _ => return Err(failed("map: not a mapping operation")),
    };
    if actor.maps.contains_key(name) {
        return Err(failed(format!(
            "make mapping `{name}`: this actor has one of that name; unmap it first"
        )));
    }
    let mut reply = Reply::from(StepResult::Ok {});
    if let (Some(of), Backing::File { file, .. }) = (&mapping.file, &mapping.backing) {
        reply.facts.push(files::extents(file, of, context)?);
    }
    reply.facts.push(Fact::Mapped {
        map: name.clone(),
        backing: mapping.backing.clone(),
        pages: mapping.pages,
    });
    reply.facts.append(&mut populated);
    if mapping.backing == (Backing::P2pmem {}) {
        reply.facts.push(looked_up(name, &mapping)?);
    }
    reply.address = Some(mapping.address);
    actor.maps.insert(name.clone(), mapping);
    Ok(reply)
}

/// Where a mapping of `first_page` must lie modulo 2M, in 4K pages.
pub(super) fn colour(align: Size, first_page: u64) -> Result<u64, StepResult> {
    match align.bytes() {
        Size::PMD => Ok(first_page % 512),
        Size::PAGE => Ok((first_page + 1) % 512),
        _ => Err(failed(format!("align a mapping to {align}: use 4K or 2M"))),
    }
}

struct Place {
    length: Size,
    offset: Size,
    colour: u64,
}

fn place(of: File, at: Place, shared: MapFlags, backing: Backing) -> Result<Mapping, StepResult> {
    let (space, address) = Space::reserve(at.length.pages() * Size::PAGE, at.colour)?;
    mmap_file(&of, &at, Some(address), shared | MapFlags::MAP_FIXED)?;
    Ok(Mapping {
        address: address.get() as u64,
        pages: at.length.pages(),
        backing,
        file: Some(of),
        space,
    })
}

/// Where the kernel wants it, without room around it.
fn chosen(of: File, at: &Place, shared: MapFlags, backing: Backing) -> Result<Mapping, StepResult> {
    let address = mmap_file(&of, at, None, shared)?;
    let space = Space {
        address,
        length: length(at.length)?.get(),
    };
    let address = address as u64;
    if address / Size::PAGE % 512 != at.colour {
        return Err(failed(format!(
            "map anywhere: the kernel chose {address:#x}, which no huge entry fits"
        )));
    }
    Ok(Mapping {
        address,
        pages: at.length.pages(),
        backing,
        file: Some(of),
        space,
    })
}

/// mmap(2) for loads and stores: at an address that is reserved for this, or at the kernel's choice.
fn mmap_file(
    of: &File,
    at: &Place,
    address: Option<NonZeroUsize>,
    flags: MapFlags,
) -> Result<usize, StepResult> {
    let length = length(at.length)?;
    // SAFETY: MAP_FIXED replaces only addresses that a `Space` reserved for this; without it the
    // mapping is new.
    let mapped = unsafe {
        mmap(
            address,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            flags,
            of,
            at.offset.bytes() as i64,
        )
    };
    Ok(mapped.map_err(|e| errno("mmap", e))?.as_ptr() as usize)
}

fn anon(bytes: Size, memory: Memory) -> Result<Mapping, StepResult> {
    let backing = Backing::Anon { memory };
    let at = Place {
        length: bytes,
        offset: Size(0),
        colour: 0,
    };
    let mut mapping = match memory {
        Memory::File => {
            let of = memfd_create(c"zonedev", MFdFlags::MFD_CLOEXEC)
                .map_err(|e| errno("memfd_create", e))?;
            ftruncate(&of, bytes.bytes() as i64).map_err(|e| errno("ftruncate", e))?;
            place(File::from(of), at, MapFlags::MAP_PRIVATE, backing)?
        }
        _ => place_anon(&at, memory, backing)?,
    };
    mapping.file = None;
    let advice = match memory {
        // It has its size once and for all.
        Memory::Hugetlb => return Ok(mapping),
        Memory::Huge => MmapAdvise::MADV_HUGEPAGE,
        _ => MmapAdvise::MADV_NOHUGEPAGE,
    };
    let start = NonNull::new(mapping.address as *mut c_void)
        .ok_or_else(|| failed("advise: the mapping has no address"))?;
    // SAFETY: advice about the mapping just made.
    unsafe { madvise(start, length(bytes)?.get(), advice) }.map_err(|e| errno("madvise", e))?;
    Ok(mapping)
}

fn place_anon(at: &Place, memory: Memory, backing: Backing) -> Result<Mapping, StepResult> {
    let pages = at.length.pages();
    let (space, address) = Space::reserve(pages * Size::PAGE, at.colour)?;
    let shared = match memory {
        Memory::Shared => MapFlags::MAP_SHARED,
        Memory::Hugetlb => MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB,
        _ => MapFlags::MAP_PRIVATE,
    };
    // SAFETY: MAP_FIXED replaces addresses that `space` reserved for this.
    unsafe {
        mmap_anonymous(
            Some(address),
            length(at.length)?,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            shared | MapFlags::MAP_FIXED,
        )
    }
    .map_err(|e| errno("mmap", e))?;
    Ok(Mapping {
        address: address.get() as u64,
        pages,
        backing,
        file: None,
        space,
    })
}

/// Pages of the pool of the one PCI device that has peer-to-peer memory.
fn p2pmem(length: Size) -> Result<Mapping, StepResult> {
    let at = Place {
        length,
        offset: Size(0),
        colour: 0,
    };
    let of = OpenOptions::new()
        .read(true)
        .write(true)
        .open(drivers::p2pmem()?)
        .map_err(|e| io_errno("open p2pmem/allocate", &e))?;
    let mut mapping = place(of, at, MapFlags::MAP_SHARED, Backing::P2pmem {})?;
    mapping.file = None;
    Ok(mapping)
}

fn length(bytes: Size) -> Result<NonZeroUsize, StepResult> {
    NonZeroUsize::new(bytes.bytes() as usize).ok_or_else(|| failed("map nothing: give a length"))
}

/// munmap(2) of a whole mapping.
pub(super) fn unmap(actor: &mut Actor, name: &str) -> Done {
    let m = actor
        .maps
        .remove(name)
        .ok_or_else(|| unknown("a mapping", name))?;
    let at = NonNull::new(m.address as *mut c_void).ok_or_else(|| unknown("a mapping", name))?;
    // The file's last reference must go with the mapping.
    drop(m.file);
    // SAFETY: the whole of a mapping that this actor made; no Rust object lives there.
    let done = unsafe { munmap(at, (m.pages * Size::PAGE) as usize) };
    let gone = gone(m.address, m.pages);
    drop(m.space);
    done.map_err(|e| errno("munmap", e))?;
    gone?;
    Ok(StepResult::Ok {}.into())
}

/// Most pages that [`gone`] tries, the last ones: what was used last is what a processor remembers.
const TRIED: u64 = 512;

/// Nothing can be reached where nothing is mapped any more, neither by page tables nor by what the
/// processor remembers of them.
///
/// # Errors
/// Where a load succeeds, or raises another signal than SIGSEGV.
pub(super) fn gone(address: u64, pages: u64) -> Result<(), StepResult> {
    for page in pages.saturating_sub(TRIED)..pages {
        let how = match access::load(address + page * Size::PAGE) {
            Err(Signal::SIGSEGV) => continue,
            Err(signal) => format!("raises {signal}"),
            Ok(word) => format!("gives {word:#x}"),
        };
        return Err(failed(format!(
            "a load from page {page}, where nothing is mapped any more, {how}"
        )));
    }
    Ok(())
}

impl Actor {
    /// A mapping and a range of its 4K pages; to the end where `length` is absent.
    pub(super) fn range(
        &self,
        map: &str,
        offset: Size,
        length: Option<Size>,
    ) -> Result<(&Mapping, std::ops::Range<u64>), StepResult> {
        let m = self
            .maps
            .get(map)
            .ok_or_else(|| unknown("a mapping", map))?;
        let from = offset.bytes() / Size::PAGE;
        let to = length.map_or(m.pages, |l| from.saturating_add(l.pages()));
        if from >= to || to > m.pages {
            return Err(failed(format!(
                "use 4K pages {from}..{to} of mapping `{map}`: it has {}",
                m.pages
            )));
        }
        Ok((m, from..to))
    }
}
