//! Which lines of a kernel ran under our own suites and under the upstream tests, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::record::SourceLines;
use crate::spec::Unreachable;

/// Sources by path in the kernel's tree.
pub type Sources = BTreeMap<String, SourceLines>;

/// What ran of one kernel.
#[derive(Debug, Default)]
pub struct KernelLines {
    /// The kernel as it was typed.
    pub kernel: String,
    /// Under our own suites.
    pub own: Sources,
    /// Under the suite of upstream's tests alone.
    pub upstream: Sources,
    /// How many cells left counts: of our own suites, and of upstream's.
    pub cells: (usize, usize),
    /// Cells that ran and left none, since their guest ended before.
    pub without: Vec<String>,
}

/// For each kernel a table of its sources, without the functions that can't run, and then what
/// stayed dark in each.
pub fn lines(kernels: &[KernelLines], unreachable: &[Unreachable]) -> String {
    let mut out = String::new();
    for kernel in kernels {
        if !out.is_empty() {
            out.push('\n');
        }
        one(&mut out, kernel, unreachable);
    }
    out
}

fn one(out: &mut String, of: &KernelLines, unreachable: &[Unreachable]) {
    let mut both = of.own.clone();
    for (source, lines) in &of.upstream {
        both.entry(source.clone()).or_default().add(lines);
    }
    let left_out = leave_out(&mut both, unreachable);
    let _ = writeln!(
        out,
        "## Lines that ran on {}\n\n{} cells of own suites and {} of upstream's tests, each with \
         the boot and provisioning of its machine.",
        of.kernel, of.cells.0, of.cells.1
    );
    if !of.without.is_empty() {
        let names: Vec<String> = of.without.iter().map(|w| super::escape(w)).collect();
        let _ = writeln!(
            out,
            "Without counts, since their guest ended first: {}.",
            names.join(", ")
        );
    }
    *out += "\n| source | lines | own suites | upstream alone | together |\n\
             | --- | ---: | ---: | ---: | ---: |\n";
    let ran = |cells: usize, sources: &Sources, name: &str| {
        (cells > 0).then(|| sources.get(name).map_or(0, SourceLines::ran))
    };
    let mut sum = Row::default();
    for (name, lines) in &both {
        let row = Row {
            all: lines.lines.len(),
            ran: [
                ran(of.cells.0, &of.own, name),
                ran(of.cells.1, &of.upstream, name),
                Some(lines.ran()),
            ],
        };
        sum.all += row.all;
        for (sum, n) in sum.ran.iter_mut().zip(row.ran) {
            *sum = n.map(|n| n + sum.unwrap_or(0));
        }
        row.write(out, name);
    }
    sum.write(out, "all");
    *out += &left_out;
    *out += "\n### What stays dark\n";
    for (name, lines) in &both {
        let dark: Vec<String> = dark(lines).iter().map(Dark::words).collect();
        if dark.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{name}\n");
        for words in dark {
            let _ = writeln!(out, "- {words}");
        }
    }
    let mut missed = String::new();
    for (name, upstream) in &of.upstream {
        // As if what upstream alone reaches were all that is dark.
        let mut only = upstream.clone();
        let own = of.own.get(name);
        for (line, ran) in &mut only.lines {
            *ran = !*ran || own.is_some_and(|o| o.lines.get(line) == Some(&true));
        }
        for dark in dark(&only) {
            let _ = writeln!(missed, "- {name}: {}", dark.words());
        }
    }
    if !missed.is_empty() {
        let _ = write!(out, "\n### What only upstream's tests reach\n\n{missed}");
    }
}

/// Takes out what can't run, and tells what that was; what ran all the same stays.
fn leave_out(sources: &mut Sources, unreachable: &[Unreachable]) -> String {
    let mut out = String::new();
    for of in unreachable {
        let mut gone = Vec::new();
        for name in &of.functions {
            for lines in sources.values_mut() {
                let Some(&(first, last)) = lines.functions.get(name) else {
                    continue;
                };
                let within = lines.lines.range(first..=last);
                let (all, ran) = within.fold((0, 0), |(all, n), (_, ran)| {
                    (all + 1, n + usize::from(*ran))
                });
                let name = super::escape(name);
                if ran > 0 {
                    gone.push(format!("`{name}` ({ran} of {all} lines ran after all)"));
                } else if all > 0 {
                    lines.lines.retain(|line, _| !(first..=last).contains(line));
                    gone.push(format!("`{name}` ({all})"));
                }
            }
        }
        if !gone.is_empty() {
            let reason = super::escape(&of.reason);
            let _ = writeln!(out, "- {reason}: {}", gone.join(", "));
        }
    }
    match out.is_empty() {
        true => out,
        false => format!("\n### Left out, with their lines\n\n{out}"),
    }
}

/// One line of the table.
#[derive(Default)]
struct Row {
    /// Lines that there are.
    all: usize,
    /// Lines that ran, by group; `None` where no cell of the group left counts.
    ran: [Option<usize>; 3],
}

impl Row {
    fn write(&self, out: &mut String, name: &str) {
        let _ = write!(out, "| {name} | {} |", self.all);
        for ran in self.ran {
            let _ = match ran {
                Some(n) => write!(out, " {n} ({} %) |", n * 100 / self.all.max(1)),
                None => write!(out, " - |"),
            };
        }
        out.push('\n');
    }
}

/// Dark lines of one function.
struct Dark<'a> {
    /// `None`: of functions that are only inlined, of which gcov tells no ends.
    function: Option<&'a str>,
    /// None of it ran.
    whole: bool,
    /// First and last line of each stretch.
    stretches: Vec<(u32, u32)>,
    lines: usize,
}

impl Dark<'_> {
    fn words(&self) -> String {
        let stretches: Vec<String> = self
            .stretches
            .iter()
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        let of = match self.function {
            Some(name) => format!("`{}`", super::escape(name)),
            None => "inlined functions".to_owned(),
        };
        let lines = if self.lines == 1 { "line" } else { "lines" };
        let whole = if self.whole { ", all of it" } else { "" };
        format!(
            "{of}: {} ({} {lines}{whole})",
            stretches.join(", "),
            self.lines
        )
    }
}

/// The dark lines by function, in the order of the source. A stretch goes on over lines that have
/// no code, and ends at one that ran or at the end of its function.
fn dark(source: &SourceLines) -> Vec<Dark<'_>> {
    let mut functions: Vec<(&str, (u32, u32))> = source
        .functions
        .iter()
        .map(|(name, at)| (name.as_str(), *at))
        .collect();
    functions.sort_by_key(|(name, at)| (*at, *name));
    // Clones of one function, such as `f.part.0`, have its lines.
    functions.dedup_by_key(|(_, at)| *at);
    let mut out: Vec<Dark<'_>> = Vec::new();
    let mut open = false;
    for (line, ran) in &source.lines {
        let at = functions
            .iter()
            .find(|(_, (first, last))| (first..=last).contains(&line))
            .copied();
        let function = at.map(|(name, _)| name);
        if *ran {
            open = false;
            continue;
        }
        match out.last_mut() {
            Some(last) if last.function == function => {
                last.lines += 1;
                match last.stretches.last_mut() {
                    Some((_, end)) if open => *end = *line,
                    _ => last.stretches.push((*line, *line)),
                }
            }
            _ => out.push(Dark {
                function,
                whole: at.is_some_and(|(_, (first, last))| {
                    source.lines.range(first..=last).all(|(_, ran)| !ran)
                }),
                stretches: vec![(*line, *line)],
                lines: 1,
            }),
        }
        open = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(functions: &[(&str, u32, u32)], lines: &[(u32, bool)]) -> SourceLines {
        SourceLines {
            lines: lines.iter().copied().collect(),
            functions: functions
                .iter()
                .map(|(name, first, last)| ((*name).to_owned(), (*first, *last)))
                .collect(),
        }
    }

    #[test]
    fn a_table_and_what_is_dark() {
        let functions = [("entered", 10, 20), ("never", 22, 25), ("theirs", 30, 31)];
        let with = |theirs: bool| {
            let lines = [
                (10, true),
                (11, false),
                (13, false),
                (14, true),
                (19, false),
                (22, false),
                (24, false),
                (30, theirs),
                (40, false),
                (44, false),
            ];
            source(&functions, &lines)
        };
        let sources = |lines: SourceLines| BTreeMap::from([("mm/memremap.c".to_owned(), lines)]);
        let all = source(&[("f", 1, 2)], &[(1, true)]);
        let mut own = sources(with(false));
        own.insert("mm/hmm.c".to_owned(), all.clone());
        let mut upstream = sources(with(true));
        upstream.insert("mm/hmm.c".to_owned(), all);
        let kernel = KernelLines {
            kernel: "6.12:gcov".into(),
            own,
            upstream,
            cells: (2, 1),
            without: vec!["fsdax/fsdax-ext4/hang".into()],
        };
        let cannot = |function: &str| Unreachable {
            reason: "it never goes".into(),
            functions: vec![function.into(), "of another kernel".into()],
        };
        let text = lines(std::slice::from_ref(&kernel), &[cannot("never")]);
        assert!(text.contains("| mm/memremap.c | 8 | 2 (25 %) |"), "{text}");
        assert!(text.contains("- it never goes: `never` (2)\n"), "{text}");
        assert!(!text.contains("- `never`: 22"), "{text}");
        let text = lines(std::slice::from_ref(&kernel), &[cannot("entered")]);
        assert!(text.contains("(2 of 5 lines ran after all)"), "{text}");
        assert!(text.contains("| mm/memremap.c | 10 |"), "{text}");
        insta::assert_snapshot!(lines(&[kernel], &[]), @r"
        ## Lines that ran on 6.12:gcov

        2 cells of own suites and 1 of upstream's tests, each with the boot and provisioning of its machine.
        Without counts, since their guest ended first: fsdax/fsdax-ext4/hang.

        | source | lines | own suites | upstream alone | together |
        | --- | ---: | ---: | ---: | ---: |
        | mm/hmm.c | 1 | 1 (100 %) | 1 (100 %) | 1 (100 %) |
        | mm/memremap.c | 10 | 2 (20 %) | 3 (30 %) | 3 (30 %) |
        | all | 11 | 3 (27 %) | 4 (36 %) | 4 (36 %) |

        ### What stays dark

        mm/memremap.c

        - `entered`: 11-13, 19 (3 lines)
        - `never`: 22-24 (2 lines, all of it)
        - inlined functions: 40-44 (2 lines)

        ### What only upstream's tests reach

        - mm/memremap.c: `theirs`: 30 (1 line, all of it)
        ");
    }

    #[test]
    fn a_group_without_cells_has_no_figure() {
        let of = source(&[("f", 1, 2)], &[(1, false), (2, true)]);
        let kernel = KernelLines {
            kernel: "7.3:gcov".into(),
            own: BTreeMap::from([("mm/hmm.c".to_owned(), of)]),
            cells: (1, 0),
            ..KernelLines::default()
        };
        let text = lines(&[kernel], &[]);
        assert!(
            text.contains("| mm/hmm.c | 2 | 1 (50 %) | - | 1 (50 %) |"),
            "{text}"
        );
    }
}
