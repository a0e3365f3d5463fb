//! Mappings: what they are called in C, and how each is made.

use proto::{Memory, Op, Size};

use super::devices::path;
use super::error::CannotSay;
use super::step::{Line, Writer};
use super::text::{bytes, ident, literal};
use super::words::{Behind, View};

/// Names that mean something else in the program.
const TAKEN: &[&str] = &[
    "now", "load", "store", "copy", "room", "name", "came", "hold", "gup", "device", "run", "must",
    "put", "number", "share", "change", "create", "turn", "pass", "start", "poison", "unmap",
    "gone", "race", "racing", "answer", "serve", "transfer", "blocks", "ended", "uffd", "fault",
    "armed", "caught", "main", "index", "y0", "y1", "yn", "j0", "j1", "jn", "log", "exp", "read",
    "write", "open", "close", "int", "char", "long", "short", "static", "void", "for", "if", "do",
    "while", "else", "auto", "const", "double", "float", "return", "struct", "union", "unsigned",
    "signed", "switch", "case", "break", "continue", "default", "enum", "extern", "goto",
    "register", "sizeof", "typedef", "volatile", "inline", "restrict", "failures", "advise",
    "verify", "modified", "dedupe", "unbind", "physical", "delay", "time", "wait", "pause", "free",
];

/// The variable of a mapping.
pub(super) fn var(map: &str) -> String {
    let plain = ident(map);
    let starts = plain.starts_with(|c: char| c.is_ascii_lowercase());
    match starts && !TAKEN.contains(&plain.as_str()) {
        true => plain,
        false => format!("map_{plain}"),
    }
}

/// Where a mapping goes.
fn by(align: Size) -> &'static str {
    match align.bytes() {
        Size::PMD => "BY_PMDS",
        _ => "BY_PTES",
    }
}

/// Where it must lie from a multiple of 2M after a move.
pub(super) fn offset_of(align: Size, first_page: u64) -> String {
    let shift = match align.bytes() {
        Size::PMD => 0,
        _ => 1,
    };
    bytes((first_page + shift) % 512 * Size::PAGE)
}

impl Writer<'_> {
    /// Makes a mapping.
    pub(super) fn map(&mut self, actor: &str, op: &Op, ok: bool) -> Result<Vec<Line>, CannotSay> {
        let (map, length, call, behind, first_page, private) = match op {
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
                let mut flags = match (private, sync) {
                    (true, _) => "MAP_PRIVATE",
                    (false, true) => "MAP_SHARED_VALIDATE | MAP_SYNC",
                    (false, false) => "MAP_SHARED",
                }
                .to_owned();
                if *populate {
                    flags += " | MAP_POPULATE";
                }
                let call = format!(
                    "map_file(&{}, {}, {}, {}, {flags}, {})",
                    var(map),
                    literal(&path(file)),
                    bytes(offset.bytes()),
                    bytes(length.bytes()),
                    by(*align)
                );
                let behind = Behind::File(self.words.id(file));
                let first_page = offset.bytes() / Size::PAGE;
                (map, *length, call, behind, first_page, *private)
            }
            Op::MapDevice {
                map,
                namespace,
                offset,
                length,
                private,
                anywhere,
            } => {
                let device = self.devices.find("devdax", namespace.as_deref());
                let dev = device.map(|d| d.dev.clone()).ok_or_else(|| CannotSay {
                    op: op.word(),
                    why: "the case makes no such device".into(),
                })?;
                let flags = if *private {
                    "MAP_PRIVATE"
                } else {
                    "MAP_SHARED"
                };
                let (function, place) = match anywhere {
                    true => ("map_anywhere", ""),
                    false => ("map_file", ", BY_PMDS"),
                };
                let call = format!(
                    "{function}(&{}, {}, {}, {}, {flags}{place})",
                    var(map),
                    literal(&format!("/dev/{dev}")),
                    bytes(offset.bytes()),
                    bytes(length.bytes()),
                );
                let first_page = offset.bytes() / Size::PAGE;
                (map, *length, call, Behind::Device(dev), first_page, false)
            }
            Op::MapAnon {
                map,
                length,
                memory,
            } => {
                let (var, bytes) = (var(map), bytes(length.bytes()));
                let call = match memory {
                    Memory::File => format!("map_memfd(&{var}, {bytes})"),
                    memory => {
                        let (flags, advice) = match memory {
                            Memory::Shared => ("MAP_SHARED", "MADV_NOHUGEPAGE"),
                            Memory::Hugetlb => ("MAP_PRIVATE | MAP_HUGETLB", "MADV_NORMAL"),
                            Memory::Huge => ("MAP_PRIVATE", "MADV_HUGEPAGE"),
                            Memory::Private | Memory::File => ("MAP_PRIVATE", "MADV_NOHUGEPAGE"),
                        };
                        format!("map_memory(&{var}, {bytes}, {flags}, {advice})")
                    }
                };
                (map, *length, call, Behind::Nothing, 0, true)
            }
            Op::MapP2pmem { map, length } => {
                let call = format!(
                    "map_file(&{}, p2pmem(), 0, {}, MAP_SHARED, BY_PMDS)",
                    var(map),
                    bytes(length.bytes())
                );
                let behind = Behind::Device(format!("{actor}/{map}"));
                (map, *length, call, behind, 0, false)
            }
            op => {
                return Err(CannotSay {
                    op: op.word(),
                    why: "it makes no mapping".into(),
                });
            }
        };
        self.global(&format!("static char *{};", var(map)));
        if ok {
            let view = View::new(behind, first_page, private, length.pages());
            self.words.mapped(actor, map, view);
        }
        Ok(vec![Line::Main(call)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_takes_no_name_that_is_taken() {
        assert_eq!(var("m"), "m");
        assert_eq!(var("copy"), "map_copy");
        assert_eq!(var("2nd"), "map_2nd");
        assert_eq!(var("a-b"), "a_b");
    }
}
