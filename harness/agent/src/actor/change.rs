//! Calls that change a mapping: munmap, mprotect, mremap, madvise, msync.

use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc::c_void;
use proto::{Advice, Backing, Fact, Protection, Size, StepResult};

use super::maps::{self, Mapping, Space};
use super::serve::{Actor, unknown};
use super::{access, files, touch};
use crate::pagemap;
use crate::wire::{Context, Reply, errno, failed, io_errno};

type Done = Result<Reply, StepResult>;

/// A range as a system call takes it.
pub(super) struct Span {
    pub(super) at: *mut c_void,
    pub(super) bytes: usize,
}

impl Actor {
    pub(super) fn span(
        &self,
        map: &str,
        offset: Size,
        length: Option<Size>,
    ) -> Result<Span, StepResult> {
        let (m, range) = self.range(map, offset, length)?;
        Ok(Span {
            at: (m.address + range.start * Size::PAGE) as *mut c_void,
            bytes: ((range.end - range.start) * Size::PAGE) as usize,
        })
    }
}

fn ok() -> Done {
    Ok(StepResult::Ok {}.into())
}

/// munmap(2) of a mapping, or of a range of it.
pub(super) fn unmap(actor: &mut Actor, map: &str, offset: Size, length: Option<Size>) -> Done {
    if offset.bytes() == 0 && length.is_none() {
        return maps::unmap(actor, map);
    }
    let span = actor.span(map, offset, length)?;
    // SAFETY: within a mapping that this actor made; no Rust object lives there.
    Errno::result(unsafe { libc::munmap(span.at, span.bytes) }).map_err(|e| errno("munmap", e))?;
    maps::gone(span.at as u64, span.bytes as u64 / Size::PAGE)?;
    ok()
}

/// mprotect(2).
pub(super) fn protect(
    actor: &Actor,
    map: &str,
    offset: Size,
    length: Option<Size>,
    to: Protection,
) -> Done {
    let span = actor.span(map, offset, length)?;
    let protection = match to {
        Protection::None => libc::PROT_NONE,
        Protection::Read => libc::PROT_READ,
        Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    };
    // SAFETY: within a mapping that this actor made; no Rust object lives there.
    Errno::result(unsafe { libc::mprotect(span.at, span.bytes, protection) })
        .map_err(|e| errno("mprotect", e))?;
    ok()
}

/// mremap(2) to addresses of that alignment. The answer tells where.
pub(super) fn remap(actor: &mut Actor, map: &str, align: Size) -> Done {
    let m = actor
        .maps
        .get_mut(map)
        .ok_or_else(|| unknown("a mapping", map))?;
    let bytes = m.pages * Size::PAGE;
    let (space, to) = Space::reserve(bytes, maps::colour(align, m.first_page())?)?;
    // SAFETY: moves a mapping that this actor made, in which no Rust object lives, to addresses
    // that `space` reserved for it.
    let at = unsafe {
        libc::mremap(
            m.address as *mut c_void,
            bytes as usize,
            bytes as usize,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            to.get() as *mut c_void,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(errno("mremap", Errno::last()));
    }
    maps::gone(m.address, m.pages)?;
    m.moved(to.get() as u64, space);
    let mut reply = Reply::from(StepResult::Ok {});
    reply.address = Some(m.address);
    Ok(reply)
}

/// madvise(2).
pub(super) fn advise(
    actor: &Actor,
    map: &str,
    offset: Size,
    length: Option<Size>,
    advice: Advice,
    context: &Context,
) -> Done {
    let span = actor.span(map, offset, length)?;
    let word = match advice {
        Advice::PopulateRead | Advice::PopulateWrite => {
            let (word, write) = match advice {
                Advice::PopulateWrite => (libc::MADV_POPULATE_WRITE, true),
                _ => (libc::MADV_POPULATE_READ, false),
            };
            let (m, range) = actor.range(map, offset, length)?;
            // SAFETY: within a mapping that this actor made; no Rust object lives there.
            let call = || Errno::result(unsafe { libc::madvise(span.at, span.bytes, word) });
            let (done, facts) = touch::during(map, m, range, write, context, call)?;
            return told("madvise", done, facts);
        }
        Advice::Dontneed => libc::MADV_DONTNEED,
        Advice::Dontfork => libc::MADV_DONTFORK,
        Advice::Hwpoison => libc::MADV_HWPOISON,
        Advice::Remove => libc::MADV_REMOVE,
        Advice::Free => libc::MADV_FREE,
        Advice::Pageout => libc::MADV_PAGEOUT,
        Advice::Cold => libc::MADV_COLD,
        Advice::SoftOffline => libc::MADV_SOFT_OFFLINE,
    };
    // SAFETY: within a mapping that this actor made; no Rust object lives there.
    let call = || Errno::result(unsafe { libc::madvise(span.at, span.bytes, word) });
    let (done, came) = access::awaiting(call);
    if let Some(came) = came {
        let mut reply = Reply::from(came.result());
        let holds =
            |m: &Mapping| (m.address..m.address + m.pages * Size::PAGE).contains(&came.address);
        let of = actor.maps.iter().find(|(_, m)| holds(m));
        let (map, page) = match of {
            Some((name, m)) => (name.clone(), (came.address - m.address) / Size::PAGE),
            None => (String::new(), came.address / Size::PAGE),
        };
        reply.facts.push(Fact::Signalled {
            map,
            code: came.code,
            page,
            lsb: came.lsb,
        });
        return Ok(reply);
    }
    done.map_err(|e| errno("madvise", e))?;
    let mut reply = Reply::from(StepResult::Ok {});
    if advice == Advice::Pageout {
        let m = actor
            .maps
            .get(map)
            .ok_or_else(|| unknown("a mapping", map))?;
        reply.facts.push(looked_up(map, m)?);
    }
    if advice == Advice::Remove
        && let Some(m) = actor.maps.get(map)
        && let (Some(of), Backing::File { file, .. }) = (&m.file, &m.backing)
    {
        reply.facts.push(files::extents(file, of, context)?);
    }
    Ok(reply)
}

/// mlock(2), which populates the range.
pub(super) fn lock(
    actor: &Actor,
    map: &str,
    offset: Size,
    length: Option<Size>,
    context: &Context,
) -> Done {
    let span = actor.span(map, offset, length)?;
    let (m, range) = actor.range(map, offset, length)?;
    // SAFETY: within a mapping that this actor made.
    let call = || Errno::result(unsafe { libc::mlock(span.at, span.bytes) });
    // Writable private memory is copied at once (populate_vma_page_range()).
    let (done, facts) = touch::during(map, m, range, !m.is_shared(), context, call)?;
    told("mlock", done, facts)
}

fn told(call: &str, done: Result<i32, Errno>, facts: Vec<Fact>) -> Done {
    let result = match done {
        Ok(_) => StepResult::Ok {},
        Err(e) => errno(call, e),
    };
    let mut reply = Reply::from(result);
    reply.facts = facts;
    Ok(reply)
}

/// What pagemap says of a mapping now.
pub(super) fn looked_up(map: &str, m: &Mapping) -> Result<Fact, StepResult> {
    let entries =
        pagemap::entries("self", m.address, m.pages).map_err(|e| io_errno("read pagemap", &e))?;
    Ok(Fact::Pagemap {
        map: map.to_owned(),
        runs: pagemap::runs(&entries),
    })
}

/// msync(2) of a whole mapping.
pub(super) fn sync(actor: &Actor, map: &str) -> Done {
    let span = actor.span(map, Size(0), None)?;
    let at = NonNull::new(span.at).ok_or_else(|| failed("sync: the mapping has no address"))?;
    // SAFETY: a mapping that this actor made.
    Errno::result(unsafe { libc::msync(at.as_ptr(), span.bytes, libc::MS_SYNC) })
        .map_err(|e| errno("msync", e))?;
    ok()
}
