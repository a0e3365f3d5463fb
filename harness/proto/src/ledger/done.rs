//! What each operation that succeeded changes.

use std::collections::BTreeSet;

use super::{Ledger, LedgerError, Pin, namespace_of};
use crate::{Op, PageType};

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
                ..
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                self.protected(actor, map, range)?;
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
            // Nothing may be left that maps what is gone (kill_dev_dax(), and what a file system
            // does when its device is gone).
            Op::DestroyNamespace {} | Op::Unbind { .. } => {
                let files: Vec<String> = self.files.keys().cloned().collect();
                for file in files {
                    self.unmap_file(&file, 0..0);
                }
                self.files.clear();
                self.shares.clear();
                self.poisoned.clear();
                self.unmap_device();
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
                let m = self.map(actor, map)?;
                let mut pfns = Vec::new();
                for page in offset.bytes() / 4096..offset.bytes() / 4096 + length.pages() {
                    pfns.extend(self.dax_pfn(m, page));
                }
                let page_type = self.page_type(m);
                let file = m.file().map(str::to_owned);
                self.pins.insert(
                    (actor.to_owned(), pin.clone()),
                    Pin {
                        how: *how,
                        page_type,
                        file,
                        pfns,
                    },
                );
            }
            Op::Release { pin } => {
                self.pins.remove(&(actor.to_owned(), pin.clone()));
            }
            Op::HmmMigrate {
                map,
                offset,
                length,
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                self.migrate(actor, map, range);
            }
            Op::HmmRead {
                map,
                offset,
                length,
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                self.fault_anon(&(actor.to_owned(), map.clone()), range, false);
            }
            Op::HmmWrite {
                map,
                offset,
                length,
            } => {
                let range = self.range(actor, map, *offset, *length)?;
                self.fault_anon(&(actor.to_owned(), map.clone()), range, true);
            }
            Op::Race { arm, .. } => self.raced(actor, arm)?,
            Op::HmmOpen { device } => {
                // Opening again closes what was open.
                self.close_mirror(actor);
                let of = BTreeSet::from([actor.to_owned()]);
                self.mirrors.push((device.unwrap_or(0), of));
            }
            Op::HmmClose {} => self.close_mirror(actor),
            _ => {}
        }
        Ok(())
    }
}
