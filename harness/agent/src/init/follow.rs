//! What is followed from an operation that has ended: the words that pages hold now, and what each
//! actor has.

use std::ops::Range;

use proto::{Advice, DeviceRange, Fact, FallocateMode, Op, PinHow, Size, StepResult};

use super::agent::Agent;
use super::table::Job;

impl Agent {
    /// An actor knows a file by the name that it mapped it under; the ledger
    /// may have given it another one since.
    pub(super) fn name_files(&self, by: &str, op: &Op, facts: &mut [Fact]) {
        let (Op::Touch { map, .. }
        | Op::Verify { map, .. }
        | Op::Pin { map, .. }
        | Op::Gup { map, .. }
        | Op::Mlock { map, .. }
        | Op::HmmWrite(DeviceRange { map, .. })
        | Op::Madvise { map, .. }) = op
        else {
            return;
        };
        let Some(now) = self.ledger.file_of(by, map) else {
            return;
        };
        for fact in facts {
            if let Fact::Extents { file, .. } = fact {
                now.clone_into(file);
            }
        }
    }

    pub(super) fn follow_words(
        &mut self,
        by: &str,
        job: &Job,
        result: &StepResult,
        facts: &[Fact],
    ) {
        for fact in facts {
            match fact {
                Fact::Extents { file, extents } => self.expect.blocks_are(file, extents),
                Fact::Mapped { map, backing, .. } => self.expect.mapped(by, map, backing),
                Fact::Touched {
                    map,
                    page,
                    pages,
                    write: true,
                    ..
                } if matches!(job.op, Op::Touch { .. }) => {
                    let range = *page..page + pages;
                    self.expect
                        .stored(by, map, range, job.generation, job.stores);
                }
                _ => {}
            }
        }
        if *result != (StepResult::Ok {}) {
            return;
        }
        match &job.op {
            Op::Truncate { file, size } => self.expect.truncated(file, *size),
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => {
                let (from, pages) = (offset.pages(), length.pages());
                match mode {
                    FallocateMode::PunchHole | FallocateMode::ZeroRange => {
                        let bytes = offset.bytes()..offset.bytes() + length.bytes();
                        self.expect.zeroed(file, bytes);
                    }
                    FallocateMode::CollapseRange => {
                        self.expect.shifted(file, from, -(pages as i64));
                    }
                    FallocateMode::InsertRange => self.expect.shifted(file, from, pages as i64),
                    FallocateMode::UnshareRange => {}
                }
            }
            Op::Clone {
                file,
                to,
                offset,
                length,
                to_offset,
            } => {
                let from = offset.bytes() / Size::PAGE;
                let pages = length.map_or(u64::MAX, |l| from.saturating_add(l.pages()));
                let at = to_offset.bytes() / Size::PAGE;
                self.expect.cloned(file, from..pages, to, at);
            }
            Op::CopyFile { file, to, length } => {
                self.expect.cloned(file, 0..length.pages(), to, 0);
            }
            Op::Rename { file, to } => self.expect.renamed(file, to),
            Op::Race { arm, .. } => {
                for file in arm.iter().filter_map(Op::file) {
                    self.expect.cut(file, 0..u64::MAX, true);
                }
                for map in arm.iter().filter_map(Op::map) {
                    let range = self.pages_of(by, map, Size(0), None);
                    self.expect.cut_behind(by, map, 0..u64::MAX);
                    self.expect.stored_if_own(by, map, range, job.generation);
                }
            }
            Op::Write {
                file,
                offset,
                length,
            } => {
                let from = offset.bytes() / Size::PAGE;
                let range = from..from + length.pages();
                self.expect.written(file, range, job.generation, job.stores);
            }
            Op::HmmWrite(of) => {
                let range = self.pages_of(by, &of.map, of.offset, of.length);
                self.expect
                    .stored(by, &of.map, range, job.generation, [true; 2]);
            }
            Op::Madvise {
                map,
                offset,
                length,
                advice,
            } => {
                let range = self.pages_of(by, map, *offset, *length);
                match advice {
                    Advice::Dontneed => self.expect.dropped(by, map, range),
                    Advice::Remove => self.expect.cut_behind(by, map, range),
                    Advice::Dontfork
                    | Advice::Hwpoison
                    | Advice::Free
                    | Advice::Pageout
                    | Advice::Cold
                    | Advice::SoftOffline
                    | Advice::PopulateRead => {}
                    // It faults, and stores nothing.
                    Advice::PopulateWrite => {}
                }
            }
            Op::Unlink { file } => self.expect.unlinked(file),
            Op::Unmap {
                map,
                offset: Size(0),
                length: None,
            } => self.expect.unmapped(by, map),
            Op::Fork { child } => self.expect.forked(by, child),
            Op::DestroyDax { device } | Op::ResizeDax { device, .. } => {
                self.expect.device_gone(device);
            }
            Op::Mkfs { .. } | Op::CreateNamespace { .. } | Op::DestroyNamespace {} => {
                self.expect.forget_files();
            }
            Op::Pin {
                pin,
                how: PinHow::DirectRead,
                map,
                offset,
                length,
            } => {
                let from = offset.bytes() / Size::PAGE;
                let coming =
                    self.expect
                        .coming(by, map, from..from + length.pages(), job.generation);
                self.coming.insert((by.to_owned(), pin.clone()), coming);
            }
            _ => {}
        }
    }

    /// Pages of an actor's mapping, as far as it reaches; to the end where `length` is absent.
    pub(super) fn pages_of(
        &self,
        by: &str,
        map: &str,
        offset: Size,
        length: Option<Size>,
    ) -> Range<u64> {
        let member = self.table.members.get(by);
        let pages = member
            .and_then(|m| m.maps.get(map))
            .map_or(0, |(_, pages)| *pages);
        let from = (offset.bytes() / Size::PAGE).min(pages);
        from..length.map_or(pages, |l| from.saturating_add(l.pages()).min(pages))
    }

    pub(super) fn follow_members(
        &mut self,
        name: &str,
        op: &Op,
        result: &StepResult,
        facts: &[Fact],
        address: Option<u64>,
    ) {
        let Some(member) = self.table.members.get_mut(name) else {
            return;
        };
        for fact in facts {
            if let (Fact::Mapped { map, pages, .. }, Some(address)) = (fact, address) {
                member.maps.insert(map.clone(), (address, *pages));
            }
        }
        if *result != (StepResult::Ok {}) {
            return;
        }
        match op {
            Op::Unmap {
                map,
                offset: Size(0),
                length: None,
            } => {
                member.maps.remove(map);
            }
            Op::Mremap { map, .. } => {
                if let (Some(address), Some(m)) = (address, member.maps.get_mut(map)) {
                    m.0 = address;
                }
            }
            Op::Pin { pin, .. } => {
                member.pins.insert(pin.clone());
            }
            Op::Release { pin } => {
                member.pins.remove(pin);
            }
            Op::Fork { child } => {
                let maps = member.maps.clone();
                if let Some(child) = self.table.members.get_mut(child) {
                    child.maps = maps;
                }
            }
            _ => {}
        }
    }
}
