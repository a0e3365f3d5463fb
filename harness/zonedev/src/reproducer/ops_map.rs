//! Operations on mappings, and pins of what is mapped.

use proto::{Advice, AskHow, GupHow, Op, PinHow, Protection, Size};

use super::error::CannotSay;
use super::maps::{offset_of, var};
use super::step::{Held, Line, Writer};
use super::text::{bytes, ident};

/// Which words of a page a store writes.
fn ends(which: [bool; 2]) -> &'static str {
    match which {
        [true, false] => "HEAD",
        [false, true] => "TAIL",
        _ => "HEAD | TAIL",
    }
}

/// A store of the words that a number and a page give.
pub(super) fn store(at: &str, length: &str, store: u64, page: u64, which: [bool; 2]) -> String {
    format!(
        "store({at}, {length}, WORD({store}, {page}), {})",
        ends(which)
    )
}

/// The same of a file.
pub(super) fn write(path: &str, at: u64, length: u64, store: u64, which: [bool; 2]) -> String {
    format!(
        "write_file({path}, {}, {}, WORD({store}, {}), {})",
        bytes(at),
        bytes(length),
        at / Size::PAGE,
        ends(which)
    )
}

fn advice(advice: Advice) -> &'static str {
    match advice {
        Advice::Dontneed => "MADV_DONTNEED",
        Advice::Dontfork => "MADV_DONTFORK",
        Advice::Hwpoison => "MADV_HWPOISON",
        Advice::Remove => "MADV_REMOVE",
        Advice::PopulateRead => "MADV_POPULATE_READ",
        Advice::PopulateWrite => "MADV_POPULATE_WRITE",
        Advice::Free => "MADV_FREE",
        Advice::Pageout => "MADV_PAGEOUT",
        Advice::Cold => "MADV_COLD",
        Advice::SoftOffline => "MADV_SOFT_OFFLINE",
    }
}

impl Writer<'_> {
    pub(super) fn of_map(
        &mut self,
        actor: &str,
        op: &Op,
        expected: &str,
    ) -> Result<Vec<Line>, CannotSay> {
        let ok = expected == "ok" || expected == "blocked";
        let main = |call: String| Ok(vec![Line::Main(call)]);
        match op {
            Op::Touch {
                map,
                offset,
                length,
                write,
            } => {
                let (range, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                if !write {
                    return main(format!("load({at}, {bytes})"));
                }
                let first = self.view(actor, map, op)?.first_page;
                let n = self.words.next_store();
                let which = self.words.which(actor, map, range.start);
                // How far one gets that raises a signal, only the guest could tell; one page is
                // not stored to at all.
                if ok {
                    self.words
                        .stored((actor, map), range.clone(), Some(n), which);
                } else if range.end - range.start > 1 {
                    self.words.stored((actor, map), range.clone(), None, which);
                }
                main(store(&at, &bytes, n, first + range.start, which))
            }
            Op::Verify {
                map,
                offset,
                length,
            } => {
                let (range, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                if !ok {
                    return main(format!("load({at}, {bytes})"));
                }
                let runs = self.words.of(actor, map, range);
                let calls = Self::verified(&var(map), 0, &runs);
                let mut lines: Vec<Line> = calls.into_iter().map(Line::Main).collect();
                for run in runs.iter().filter(|r| !r.is_known()) {
                    let at = super::text::at(&var(map), run.page * Size::PAGE);
                    let length = super::text::pages(run.pages);
                    lines.push(Line::Main(format!("load({at}, {length})")));
                }
                Ok(lines)
            }
            Op::Unmap {
                map,
                offset,
                length,
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                if ok && offset.bytes() == 0 && length.is_none() {
                    self.words.unmapped(actor, map);
                }
                main(format!("unmap({at}, {bytes})"))
            }
            Op::Mprotect {
                map,
                offset,
                length,
                access,
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                let access = match access {
                    Protection::None => "PROT_NONE",
                    Protection::Read => "PROT_READ",
                    Protection::ReadWrite => "PROT_READ | PROT_WRITE",
                };
                main(format!("mprotect({at}, {bytes}, {access})"))
            }
            Op::WriteProtect {
                map,
                offset,
                length,
                undo,
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                self.uffds.insert(actor.to_owned());
                let mode = match undo {
                    true => "0",
                    false => "UFFDIO_WRITEPROTECT_MODE_WP",
                };
                main(format!("write_protect({at}, {bytes}, {mode})"))
            }
            Op::Mremap { map, align } => {
                let view = self.view(actor, map, op)?;
                main(format!(
                    "move_map(&{}, {}, {})",
                    var(map),
                    super::text::pages(view.pages),
                    offset_of(*align, view.first_page)
                ))
            }
            Op::Madvise {
                map,
                offset,
                length,
                advice: which,
            } => {
                let (range, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                if ok {
                    match which {
                        Advice::Dontneed => self.words.dropped(actor, map, range),
                        Advice::Remove => self.words.cut_behind(actor, map, range),
                        Advice::Dontfork
                        | Advice::Hwpoison
                        | Advice::PopulateRead
                        | Advice::PopulateWrite
                        | Advice::Free
                        | Advice::Pageout
                        | Advice::Cold
                        | Advice::SoftOffline => {}
                    }
                }
                let call = match which {
                    Advice::Hwpoison | Advice::SoftOffline => "advise",
                    _ => "madvise",
                };
                main(format!("{call}({at}, {bytes}, {})", advice(*which)))
            }
            Op::Mlock {
                map,
                offset,
                length,
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                main(format!("mlock({at}, {bytes})"))
            }
            Op::Ask {
                how,
                map,
                offset,
                length,
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                match how {
                    AskHow::MovePages => main(format!("ask_nodes({at}, {bytes})")),
                    AskHow::Mempolicy => main(format!("ask_node({at})")),
                    AskHow::Mincore => main(format!("ask_core({at}, {bytes})")),
                    AskHow::Smaps => Ok(["smaps", "smaps_rollup", "numa_maps"]
                        .map(|file| Line::Main(format!("read_whole(\"/proc/self/{file}\")")))
                        .into()),
                }
            }
            Op::Msync { map } => {
                let (_, at, bytes) = self.range(actor, (map, Size(0), None), op)?;
                main(format!("msync({at}, {bytes}, MS_SYNC)"))
            }
            op => Err(CannotSay {
                op: op.word(),
                why: "it is not about a mapping".into(),
            }),
        }
    }

    pub(super) fn of_pin(
        &mut self,
        actor: &str,
        op: &Op,
        ok: bool,
    ) -> Result<Vec<Line>, CannotSay> {
        match op {
            Op::Pin {
                pin,
                how,
                map,
                offset,
                length,
            } => self.pin(actor, op, ok, (pin, *how), (map, *offset, *length)),
            Op::Release { pin } => {
                let held = self.pins.remove(&(actor.to_owned(), pin.clone()));
                let held = held.ok_or_else(|| CannotSay {
                    op: op.word(),
                    why: format!("`{actor}` holds no pin `{pin}` when it comes"),
                })?;
                let var = &held.var;
                let call = match held.how {
                    PinHow::Vmsplice => format!("close({var}[0]) | close({var}[1])"),
                    PinHow::IoUring => format!("unregister_buffer({var})"),
                    PinHow::GupTest => format!("unpin_longterm({var})"),
                    PinHow::DirectWrite | PinHow::DirectRead => format!("let_go({var})"),
                };
                self.came(held);
                Ok(vec![Line::Main(call)])
            }
            Op::Gup {
                how,
                map,
                offset,
                length,
            } => {
                let (range, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                let pages = range.end - range.start;
                Ok(match how {
                    GupHow::ProcessVmReadv => {
                        let copy = self.buffer(pages);
                        let main = Line::Main(format!("copy_memory({at}, {bytes}, {copy})"));
                        let same = Line::Also(format!("same_memory({at}, {bytes}, {copy})"));
                        match ok {
                            true => vec![main, same],
                            false => vec![main],
                        }
                    }
                    GupHow::NvmeWrite => vec![Line::Main(format!("write_nvme({at}, {bytes})"))],
                    how => {
                        let (call, command) = self.gup_test(*how)?;
                        vec![Line::Main(format!("{call}({command}, {at}, {bytes})"))]
                    }
                })
            }
            op => Err(CannotSay {
                op: op.word(),
                why: "it is no pin".into(),
            }),
        }
    }

    /// gup_test's function and command, by what this kernel calls it.
    fn gup_test(&self, how: GupHow) -> Result<(&'static str, &'static str), CannotSay> {
        let (new, old) = match how {
            GupHow::GupFast => ("GUP_FAST_BENCHMARK", Some("OLD_GUP_FAST_BENCHMARK")),
            GupHow::PinFast => ("PIN_FAST_BENCHMARK", Some("OLD_PIN_FAST_BENCHMARK")),
            GupHow::PinLongterm => ("PIN_LONGTERM_BENCHMARK", Some("OLD_PIN_LONGTERM_BENCHMARK")),
            GupHow::GupBasic => ("GUP_BASIC_TEST", Some("OLD_GUP_BENCHMARK")),
            GupHow::PinBasic => ("PIN_BASIC_TEST", Some("OLD_PIN_BENCHMARK")),
            GupHow::DumpUserPages => ("DUMP_USER_PAGES_TEST", None),
            GupHow::ProcessVmReadv | GupHow::NvmeWrite => ("", None),
        };
        if self.of.contract.features.gup_test {
            return Ok(("gup", new));
        }
        old.map(|old| ("gup_bench", old)).ok_or_else(|| CannotSay {
            op: "gup",
            why: "gup_benchmark of such kernels has no mode for it".into(),
        })
    }

    fn pin(
        &mut self,
        actor: &str,
        op: &Op,
        ok: bool,
        (pin, how): (&str, PinHow),
        (map, offset, length): (&str, Size, Size),
    ) -> Result<Vec<Line>, CannotSay> {
        let (range, at, bytes) = self.range(actor, (map, offset, Some(length)), op)?;
        let view = self.view(actor, map, op)?;
        let mut lines = Vec::new();
        let mut coming = None;
        let name = ident(pin);
        let var = match how {
            PinHow::Vmsplice => {
                let var = format!("pipe_{name}");
                self.global(&format!("static int {var}[2];"));
                lines.push(Line::Main(format!("hold({var}, {at}, {bytes})")));
                var
            }
            PinHow::IoUring => {
                let var = format!("ring_{name}");
                self.global(&format!("static int {var};"));
                lines.push(Line::Main(format!(
                    "register_buffer(&{var}, {at}, {bytes})"
                )));
                var
            }
            PinHow::GupTest => {
                let var = format!("gup_{name}");
                self.global(&format!("static int {var};"));
                lines.push(Line::Main(format!("pin_longterm(&{var}, {at}, {bytes})")));
                var
            }
            PinHow::DirectWrite | PinHow::DirectRead => {
                let (var, path) = self.disk(&name);
                let opcode = match how {
                    PinHow::DirectRead => {
                        let n = self.words.next_store();
                        let data = format!("{var}->data");
                        let first = view.first_page + range.start;
                        let fill = store(&data, &bytes, n, first, [true; 2]);
                        lines.push(Line::Also(fill));
                        let of = format!("{actor}/{map}");
                        coming = Some((of, view.clone(), range.clone(), n));
                        "IOCB_CMD_PREAD"
                    }
                    _ => "IOCB_CMD_PWRITE",
                };
                lines.push(Line::Main(format!(
                    "transfer({var}, \"{path}\", {opcode}, {at}, {bytes})"
                )));
                if ok && how == PinHow::DirectWrite {
                    let runs = self.words.known(actor, map, range.clone());
                    let data = format!("{var}->data");
                    let calls = Self::verified(&data, range.start, &runs);
                    lines.extend(calls.into_iter().map(Line::Also));
                }
                var
            }
        };
        if ok {
            let held = Held { how, var, coming };
            self.pins.insert((actor.to_owned(), pin.to_owned()), held);
        }
        Ok(lines)
    }

    /// The network block device of a pin.
    fn disk(&mut self, pin: &str) -> (String, String) {
        let var = format!("disk_{pin}");
        if let Some(found) = self.disks.iter().find(|(name, _)| *name == var) {
            return found.clone();
        }
        let path = format!("/dev/nbd{}", self.disks.len());
        self.global(&format!("static struct disk *{var};"));
        self.disks.push((var.clone(), path.clone()));
        (var, path)
    }
}
