//! Operations on files.

use proto::{FallocateMode, Op, ReadBy, Size};

use super::devices::{namespace_of, path};
use super::error::CannotSay;
use super::ops_map::write;
use super::step::{Line, Writer};
use super::text::{bytes, ident, literal};
use super::words::Run;

impl Writer<'_> {
    pub(super) fn of_file(&mut self, op: &Op, ok: bool) -> Result<Vec<Line>, CannotSay> {
        let of = |file: &str| literal(&path(file));
        let main = |call: String| Ok(vec![Line::Main(call)]);
        match op {
            Op::Create { file, size } => {
                main(format!("create({}, {})", of(file), bytes(size.bytes())))
            }
            Op::Truncate { file, size } => {
                if ok {
                    self.words.truncated(file, *size);
                }
                main(format!("truncate({}, {})", of(file), bytes(size.bytes())))
            }
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => {
                if ok {
                    self.fallocated(file, *mode, *offset, *length);
                }
                main(format!(
                    "change({}, {}, {}, {})",
                    of(file),
                    fallocate_flags(*mode),
                    bytes(offset.bytes()),
                    bytes(length.bytes())
                ))
            }
            Op::Clone {
                file,
                to,
                offset,
                length,
                to_offset,
            } => {
                if ok {
                    let from = offset.bytes() / Size::PAGE;
                    let pages = length.map_or(u64::MAX, |l| from.saturating_add(l.pages()));
                    let at = to_offset.bytes() / Size::PAGE;
                    self.words.cloned(file, from..pages, to, at);
                }
                main(format!(
                    "share({}, {}, {}, {}, {})",
                    of(file),
                    bytes(offset.bytes()),
                    bytes(length.map_or(0, Size::bytes)),
                    of(to),
                    bytes(to_offset.bytes())
                ))
            }
            Op::Dedupe {
                file,
                to,
                offset,
                length,
                to_offset,
            } => main(format!(
                "dedupe({}, {}, {}, {}, {})",
                of(file),
                bytes(offset.bytes()),
                bytes(length.bytes()),
                of(to),
                bytes(to_offset.bytes())
            )),
            Op::Rename { file, to } => {
                if ok {
                    self.words.renamed(file, to);
                }
                main(format!("rename({}, {})", of(file), of(to)))
            }
            Op::Write {
                file,
                offset,
                length,
            } => {
                let first = offset.bytes() / Size::PAGE;
                let range = first..first + length.pages();
                let n = self.words.next_store();
                let which = self.words.which_of_file(file, first);
                self.words.written(file, range, ok.then_some(n), which);
                let (from, length) = (first * Size::PAGE, length.pages() * Size::PAGE);
                main(write(&of(file), from, length, n, which))
            }
            Op::Read {
                file,
                offset,
                length,
                by,
            } => {
                let first = offset.bytes() / Size::PAGE;
                let runs = self.words.of_file(file, first..first + length.pages());
                self.read(op, (file, first, length.pages()), *by, (ok, &runs))
            }
            Op::CopyFile { file, to, length } => {
                if ok {
                    self.words.cloned(file, 0..length.pages(), to, 0);
                }
                main(format!(
                    "copy_file({}, {}, {})",
                    of(file),
                    of(to),
                    bytes(length.bytes())
                ))
            }
            Op::Poison {
                file,
                namespace,
                offset,
                undo,
            } => self.poison(op, (file.as_deref(), namespace.as_deref()), *offset, *undo),
            Op::Fsync { file } => main(format!("sync_file({})", of(file))),
            Op::Unlink { file } => {
                if ok {
                    self.words.unlinked(file);
                }
                main(format!("unlink({})", of(file)))
            }
            Op::Mtime { file, later } => {
                let var = format!("seen_{}", ident(file));
                self.global(&format!("static struct timespec {var};"));
                let when = match later {
                    None => "AT_ANY_TIME",
                    Some(true) => "LATER",
                    Some(false) => "NOT_LATER",
                };
                main(format!("modified({}, &{var}, {when})", of(file)))
            }
            op => Err(CannotSay {
                op: op.word(),
                why: "it is not about a file".into(),
            }),
        }
    }

    fn fallocated(&mut self, file: &str, mode: FallocateMode, offset: Size, length: Size) {
        let (from, pages) = (offset.pages(), length.pages() as i64);
        match mode {
            FallocateMode::PunchHole | FallocateMode::ZeroRange => {
                let range = offset.bytes()..offset.bytes() + length.bytes();
                self.words.zeroed(file, range);
            }
            FallocateMode::CollapseRange => self.words.shifted(file, from, -pages),
            FallocateMode::InsertRange => self.words.shifted(file, from, pages),
            FallocateMode::UnshareRange => {}
        }
    }

    fn read(
        &mut self,
        op: &Op,
        (file, first, pages): (&str, u64, u64),
        by: ReadBy,
        (ok, runs): (bool, &[Run]),
    ) -> Result<Vec<Line>, CannotSay> {
        let path = literal(&path(file));
        let copy = self.buffer(pages);
        let what = format!(
            "{}, {}, {copy}",
            bytes(first * Size::PAGE),
            bytes(pages * Size::PAGE)
        );
        let mut lines = Vec::new();
        let call = match by {
            ReadBy::Pread => format!("read_file({path}, {what})"),
            ReadBy::Sendfile => format!("send_file({path}, {what})"),
            ReadBy::Device => {
                let namespace = namespace_of(file);
                let device = self.devices.block(namespace).ok_or_else(|| CannotSay {
                    op: op.word(),
                    why: "the case makes no such device".into(),
                })?;
                let node = literal(&device.node());
                // Where its file system is not mounted, they were looked up before that.
                if !self.unmounted.contains(&namespace.map(str::to_owned)) {
                    lines.push(self.look_up(file));
                }
                format!("read_blocks({node}, {}, {what})", self.blocks(file))
            }
        };
        lines.push(Line::Main(call));
        if ok {
            let calls = Self::verified(copy, first, runs);
            lines.extend(calls.into_iter().map(Line::Also));
        }
        Ok(lines)
    }

    /// The variable that says where a file's blocks are.
    fn blocks(&mut self, file: &str) -> String {
        let var = format!("blocks_{}", ident(file));
        self.global(&format!("static struct fiemap *{var};"));
        var
    }

    /// Sees where a file's blocks are.
    pub(super) fn look_up(&mut self, file: &str) -> Line {
        let var = self.blocks(file);
        Line::Also(format!("look_up({}, &{var})", literal(&path(file))))
    }

    fn poison(
        &mut self,
        op: &Op,
        (file, namespace): (Option<&str>, Option<&str>),
        offset: Size,
        undo: bool,
    ) -> Result<Vec<Line>, CannotSay> {
        let lacks = || CannotSay {
            op: op.word(),
            why: "the case makes no such device".into(),
        };
        let to = match undo {
            true => "/sys/kernel/debug/hwpoison/unpoison-pfn",
            false => "/sys/kernel/debug/hwpoison/corrupt-pfn",
        };
        let Some(file) = file else {
            let device = self.devices.find("devdax", namespace).ok_or_else(lacks)?;
            let resource = format!("/sys/bus/dax/devices/{}/resource", device.dev);
            return Ok(vec![Line::Main(format!(
                "poison(\"{to}\", number(\"{resource}\"), {})",
                bytes(offset.bytes())
            ))]);
        };
        let device = self.devices.block(namespace_of(file)).ok_or_else(lacks)?;
        let (dev, partition) = (device.dev.clone(), device.partition);
        let mut base = format!("number(\"/sys/block/{dev}/device/resource\")");
        if partition {
            base += &format!(" + number(\"/sys/block/{dev}/{dev}p1/start\") * 512");
        }
        let look = self.look_up(file);
        let blocks = self.blocks(file);
        Ok(vec![
            look,
            Line::Main(format!(
                "poison(\"{to}\", {base}, physical({blocks}, {}))",
                bytes(offset.bytes())
            )),
        ])
    }
}

/// The words of fallocate(2).
pub(super) fn fallocate_flags(mode: FallocateMode) -> &'static str {
    match mode {
        FallocateMode::PunchHole => "FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE",
        FallocateMode::ZeroRange => "FALLOC_FL_ZERO_RANGE",
        FallocateMode::CollapseRange => "FALLOC_FL_COLLAPSE_RANGE",
        FallocateMode::InsertRange => "FALLOC_FL_INSERT_RANGE",
        FallocateMode::UnshareRange => "FALLOC_FL_UNSHARE_RANGE",
    }
}
