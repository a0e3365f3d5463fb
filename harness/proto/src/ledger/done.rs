//! What each operation that succeeded changes.

use std::collections::BTreeSet;

use super::{Ledger, LedgerError, Pin, namespace_of};
use crate::{Op, PageType, Protection};

impl Ledger {
    /// Follows an operation that succeeded.
    pub(super) fn done(&mut self, actor: &str, op: &Op) -> Result<(), LedgerError> {
        match op {
            Op::Create { file, .. } => {
                self.files.entry(file.clone()).or_default();
            }
            Op::Truncate { file, size } => {
                // truncate_pagecache() takes private copies as well (even_cows).
                self.cut(file, size.pages()..u64::MAX, true);
            }
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => self.fallocated(file, *mode, *offset, offset.bytes() + length.bytes()),
            Op::Clone {
                file,
                to,
                length,
                to_offset,
                ..
            } => self.cloned(file, to, *to_offset, *length),
            Op::Dedupe {
                file,
                to,
                length,
                to_offset,
                ..
            } => self.cloned(file, to, *to_offset, Some(*length)),
            Op::Unlink { file } => self.unlinked(file),
            Op::Rename { file, to } => self.renamed(file, to),
            Op::Unmap {
                map,
                offset,
                length,
            } => {
                let range = match (offset.bytes(), length) {
                    (0, None) => None,
                    _ => Some(self.range(actor, map, *offset, *length)?),
                };
                self.unmapped(actor, map, range)?;
            }
            Op::Mprotect {
                map,
                offset,
                length,
                access,
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                self.protected(actor, map, range, *access)?;
            }
            // Until then no store comes to it, whoever makes it, as after mprotect().
            Op::WriteProtect {
                map,
                offset,
                length,
                undo,
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                let access = match undo {
                    true => Protection::ReadWrite,
                    false => Protection::Read,
                };
                self.protected(actor, map, range, access)?;
            }
            Op::Mremap { map, align } => self.moved(actor, map, *align)?,
            Op::Madvise {
                map,
                offset,
                length,
                advice,
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                self.advised(actor, map, range, *advice)?;
            }
            Op::Fork { child } => self.fork(actor, child),
            Op::Exit {} => self.drop_actor(actor),
            Op::CopyFile { to, .. } => {
                self.files.entry(to.clone()).or_default();
            }
            Op::Poison {
                file,
                namespace,
                offset,
                undo,
            } => self.poison(file.as_deref(), namespace.as_deref(), *offset, *undo),
            // The file system goes with the last mapping of each of its files.
            Op::Umount {
                namespace,
                lazy: true,
            } => {
                let on_it: Vec<String> = self
                    .files
                    .iter()
                    .filter(|(file, f)| !f.unlinked && namespace_of(file) == namespace.as_deref())
                    .map(|(file, _)| file.clone())
                    .collect();
                for file in on_it {
                    self.unlinked(&file);
                }
            }
            Op::Umount { namespace, .. } => {
                let on_it: Vec<String> = self
                    .files
                    .keys()
                    .filter(|file| namespace_of(file) == namespace.as_deref())
                    .cloned()
                    .collect();
                self.forget_files(&on_it);
            }
            Op::Mkfs { fs, namespace, .. } => {
                self.file_systems.insert(namespace.clone(), fs.clone());
            }
            Op::DestroyDax { device } | Op::ResizeDax { device, .. } => self.device_gone(device),
            Op::Unbind {
                mode,
                namespace: Some(device),
            } if mode == "devdax" => self.device_gone(device),
            Op::UnbindPci { .. } => self.unmap_p2pmem(),
            // Nothing may be left that maps what is gone (kill_dev_dax(), and what a file system
            // does when its device is gone).
            Op::DestroyNamespace {} | Op::Unbind { .. } | Op::Rebind {} => {
                let files: Vec<String> = self.files.keys().cloned().collect();
                for file in files {
                    self.unmap_file(&file, 0..0);
                }
                self.files.clear();
                self.shares.clear();
                self.poisoned.clear();
                self.unmap_devices(None);
                self.devices.clear();
                // Where it didn't wait for them, they hold what is no page any more.
                self.pins
                    .retain(|_, pin| !matches!(pin.page_type, PageType::Fsdax | PageType::Devdax));
            }
            Op::Pin {
                pin,
                how,
                map,
                offset,
                length,
            } => {
                let from = offset.bytes() / 4096;
                let range = from..from + length.pages();
                if how.is_longterm() {
                    self.longterm(actor, map, &range)?;
                }
                let m = self.map(actor, map)?;
                let mut pin_of = Pin {
                    how: *how,
                    page_type: self.page_type(m),
                    file: m.file().map(str::to_owned),
                    pfns: range
                        .clone()
                        .filter_map(|p| self.pinned_pfn(m, p))
                        .collect(),
                    ids: BTreeSet::new(),
                    in_ram: 0,
                };
                if m.memory().is_some() {
                    pin_of.page_type = PageType::Coherent;
                    pin_of.pfns = range.clone().filter_map(|p| m.coherent_pfn(p)).collect();
                    pin_of.ids = range.clone().filter_map(|p| m.anon_id(p)).collect();
                    pin_of.in_ram = length.pages() - pin_of.pfns.len() as u64;
                }
                self.pins.insert((actor.to_owned(), pin.clone()), pin_of);
            }
            Op::Release { pin } => {
                self.pins.remove(&(actor.to_owned(), pin.clone()));
            }
            Op::Race { arm, .. } => self.raced(actor, arm)?,
            Op::Run { poisons: true, .. } => self.poison_unknown = true,
            Op::SwapOff {} => self.swapped_in(),
            Op::Fsync { file } => self.cleaned(file),
            Op::Msync { map } => {
                if let Some(file) = self.file_of(actor, map).map(str::to_owned) {
                    self.cleaned(&file);
                }
            }
            _ => self.asked(actor, op)?,
        }
        Ok(())
    }
}
