//! A race: an arm is a function, a race a table of them.

use std::collections::BTreeSet;

use proto::{Op, Size};

use super::error::CannotSay;
use super::maps::var;
use super::ops_device::{device_of, quoted, size_var};
use super::ops_file::fallocate_flags;
use super::ops_map::store;
use super::step::{Line, Writer};
use super::text::{bytes, pages, statement};
use super::words::Behind;

impl Writer<'_> {
    pub(super) fn race(&mut self, actor: &str, op: &Op) -> Result<Vec<Line>, CannotSay> {
        let Op::Race {
            rounds,
            turns,
            seed,
            arm,
        } = op
        else {
            return Err(CannotSay {
                op: op.word(),
                why: "it is no race".into(),
            });
        };
        let n = self.n;
        let store = self.words.next_store();
        let mut table = format!("static const struct arm race_{n}[] = {{\n");
        for (i, arm) in arm.iter().enumerate() {
            let name = format!("arm_{n}_{i}");
            let call = self.arm(actor, arm, &name, store)?;
            self.functions.push(format!(
                "static int {name}(void)\n{{\n{}}}\n",
                statement(1, &format!("return {call};"))
            ));
            table += &self.row(actor, arm, &name)?;
        }
        table += "};\n";
        self.functions.push(table);
        let maps: BTreeSet<&str> = arm.iter().filter_map(Op::map).collect();
        let mut files: BTreeSet<String> = BTreeSet::new();
        for map in &maps {
            let view = self.view(actor, map, op)?;
            files.extend(self.words.name_of(&view).map(str::to_owned));
        }
        files.extend(arm.iter().filter_map(Op::file).map(str::to_owned));
        let mut lines: Vec<Line> = files
            .iter()
            .map(|f| {
                Line::Plain(format!(
                    "off_t {} = size_of({});",
                    size_var(f, n),
                    quoted(f)
                ))
            })
            .collect();
        lines.push(Line::Main(format!(
            "race(race_{n}, {}, {rounds}, {turns}, {seed})",
            arm.len()
        )));
        lines.push(Line::Comment("leave it as it is known to be".into()));
        for file in &files {
            let path = quoted(file);
            lines.push(Line::Also(format!("truncate({path}, 0)")));
            lines.push(Line::Also(format!(
                "truncate({path}, {})",
                size_var(file, n)
            )));
        }
        let zap = arm.iter().any(Op::is_coherent);
        for map in &maps {
            let view = self.view(actor, map, op)?;
            let length = pages(view.pages);
            let at = var(map);
            let dontneed = Line::Also(format!("madvise({at}, {length}, MADV_DONTNEED)"));
            if view.behind != Behind::Nothing {
                lines.push(dontneed);
                continue;
            }
            lines.extend(zap.then_some(dontneed));
            let all = super::ops_map::store(&at, &length, store, 0, [true; 2]);
            lines.push(Line::Also(all));
        }
        self.raced(actor, arm, store);
        Ok(lines)
    }

    /// What pages hold after it.
    fn raced(&mut self, actor: &str, arms: &[Op], store: u64) {
        for file in arms.iter().filter_map(Op::file) {
            self.words.cut(file, 0..u64::MAX, true);
        }
        for map in arms.iter().filter_map(Op::map) {
            let Some(view) = self.words.view(actor, map) else {
                continue;
            };
            let (own, pages) = (view.behind == Behind::Nothing, view.pages);
            self.words.cut_behind(actor, map, 0..u64::MAX);
            if own {
                let at = (actor, map);
                self.words.stored(at, 0..pages, Some(store), [true; 2]);
            }
        }
    }

    /// What a thread does once.
    fn arm(&mut self, actor: &str, op: &Op, name: &str, n: u64) -> Result<String, CannotSay> {
        if let (Some(command), Some(of)) = (self.hmm_command(op), op.device_range()) {
            let (range, at, bytes) = self.range(actor, (&of.map, of.offset, of.length), op)?;
            let copy = self.own_copy(name, range.end - range.start);
            let fd = device_of(of);
            return Ok(format!("device({fd}, {command}, {at}, {bytes}, {copy})"));
        }
        Ok(match op {
            Op::Touch {
                map,
                offset,
                length,
                write,
            } => {
                let (range, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                let first = self.view(actor, map, op)?.first_page + range.start;
                match write {
                    false => format!("load({at}, {bytes})"),
                    // Other words in each round.
                    true => store(&at, &bytes, n, first, [true; 2]).replace(
                        &format!(", {first})"),
                        &format!(", {first} + (race_round << 20))"),
                    ),
                }
            }
            Op::Truncate { file, size } => {
                format!("truncate({}, {})", quoted(file), bytes(size.bytes()))
            }
            Op::Fallocate {
                file,
                mode,
                offset,
                length,
            } => format!(
                "change({}, {}, {}, {})",
                quoted(file),
                fallocate_flags(*mode),
                bytes(offset.bytes()),
                bytes(length.bytes())
            ),
            Op::Fsync { file } => format!("sync_file({})", quoted(file)),
            Op::Madvise {
                map,
                offset,
                length,
                ..
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                format!("madvise({at}, {bytes}, MADV_DONTNEED)")
            }
            Op::Pin {
                map,
                offset,
                length,
                ..
            } => {
                let (_, at, bytes) = self.range(actor, (map, *offset, Some(*length)), op)?;
                format!("splice_once({at}, {bytes})")
            }
            Op::Gup {
                map,
                offset,
                length,
                ..
            } => {
                let (range, at, bytes) = self.range(actor, (map, *offset, *length), op)?;
                let copy = self.own_copy(name, range.end - range.start);
                format!("copy_memory({at}, {bytes}, {copy})")
            }
            op => {
                return Err(CannotSay {
                    op: op.word(),
                    why: "no thread of a race does it".into(),
                });
            }
        })
    }

    /// A buffer for one thread.
    fn own_copy(&mut self, name: &str, pages: u64) -> String {
        let copy = format!("copy_of_{name}");
        let length = bytes(pages * Size::PAGE);
        self.global(&format!("static char {copy}[{length}];"));
        copy
    }

    /// Its line of the table.
    fn row(&mut self, actor: &str, op: &Op, name: &str) -> Result<String, CannotSay> {
        let mut fields = vec![format!(".once = {name}")];
        let (map, offset, length) = match op {
            Op::Touch {
                map,
                offset,
                length,
                ..
            }
            | Op::Madvise {
                map,
                offset,
                length,
                ..
            }
            | Op::Gup {
                map,
                offset,
                length,
                ..
            } => (map, *offset, *length),
            Op::Pin {
                map,
                offset,
                length,
                ..
            } => (map, *offset, Some(*length)),
            Op::HmmRead(of) | Op::HmmReadUnlocked(of) => {
                // Also the device must see the same.
                let (_, at, bytes) = self.range(actor, (&of.map, of.offset, of.length), op)?;
                self.functions.push(format!(
                    "static int look_{name}(void)\n{{\n{}}}\n",
                    statement(
                        1,
                        &format!(
                            "return {name}() ? 0 : device_sees({at}, {bytes}, copy_of_{name});"
                        )
                    )
                ));
                fields.push(format!(".look = look_{name}"));
                return Ok(format!("\t{{ {} }},\n", fields.join(", ")));
            }
            _ => return Ok(format!("\t{{ {} }},\n", fields.join(", "))),
        };
        let view = self.view(actor, map, op)?;
        let range = super::setup::range(offset, length, view.pages);
        fields.push(format!(".map = &{}", var(map)));
        if range.start > 0 {
            fields.push(format!(".offset = {}", pages(range.start)));
        }
        fields.push(format!(".length = {}", pages(range.end - range.start)));
        if view.is_file() {
            fields.push(format!(".of_file = {}", pages(view.pages)));
        }
        let row = statement(1, &format!("{{ {} }},", fields.join(", ")));
        Ok(row)
    }
}
