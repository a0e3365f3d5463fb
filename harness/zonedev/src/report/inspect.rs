//! The pages of a checkpoint as a table, with their prediction beside them.

use std::fmt::Write as _;

use guestmem::{PageRun, Region};

use super::text::{Look, Paint, escape};
use crate::record::{CellRecord, CheckpointRecord, PredictedRun, part_words, region_name};

/// Rows of one region; what comes behind is counted.
const MAX_ROWS: usize = 200;

/// Writes every page of a checkpoint. `predicted` is what `verdict::predict` gives for it.
pub fn inspect(
    cell: &CellRecord,
    checkpoint: &CheckpointRecord,
    predicted: &[PredictedRun],
    look: &Look,
) -> String {
    let mut out = String::new();
    let title = format!(
        "{} at \"{}\", contract {}",
        cell.id, checkpoint.name, cell.contract
    );
    let _ = writeln!(out, "{}", look.paint(Paint::Head, &escape(&title)));
    if checkpoint.rereads > 0 {
        let _ = writeln!(
            out,
            "read {} times more until it agreed or stayed",
            checkpoint.rereads
        );
    }
    for problem in &checkpoint.pages.problems {
        let text = format!("not read: {}", escape(&problem.what));
        let _ = writeln!(out, "{}", look.paint(Paint::Bad, &text));
    }
    if checkpoint.pages.regions.is_empty() {
        let _ = writeln!(out, "no ZONE_DEVICE pages");
    }
    for region in &checkpoint.pages.regions {
        write_region(region, predicted, look, &mut out);
    }
    out
}

/// One line of the table: pages with the same observation and the same prediction.
#[derive(Clone, PartialEq, Eq)]
struct Row {
    /// Offset within the region.
    from: u64,
    pages: u64,
    cells: [String; 6],
    wrong: bool,
}

impl Row {
    /// Equal but for the place.
    fn like(&self, other: &Row) -> bool {
        self.pages == other.pages && self.cells == other.cells
    }
}

fn write_region(region: &Region, predicted: &[PredictedRun], look: &Look, out: &mut String) {
    let metadata = match region.metadata_pages {
        0 => String::new(),
        n => format!(", {n} of them metadata"),
    };
    let head = format!(
        "\n{}: {} pages from pfn {:#x}{metadata}",
        region_name(region),
        region.pages,
        region.start_pfn
    );
    // The first character is our own line break.
    let _ = writeln!(
        out,
        "\n{}",
        look.paint(Paint::Head, &escape(head.trim_start()))
    );
    let rows = rows(region, predicted);
    let titles = [
        "pages",
        "refcount",
        "predicted",
        "mapcount",
        "pins",
        "folio, mapping",
        "because; held by",
    ];
    let mut lines: Vec<(Vec<String>, bool)> = Vec::new();
    let mut i = 0;
    let mut left_out = 0u64;
    while let Some(row) = rows.get(i) {
        let repeats = repeats(&rows, i);
        if lines.len() >= MAX_ROWS {
            left_out += row.pages;
            i += 1;
            continue;
        }
        let last = row.from + row.pages.saturating_sub(1);
        let span = if row.pages == 1 {
            row.from.to_string()
        } else {
            format!("{}-{last}", row.from)
        };
        let mut line = vec![span];
        line.extend(row.cells.iter().map(|c| escape(c)));
        lines.push((line, row.wrong));
        i += 1;
        if repeats > 0 {
            if let Some(second) = rows.get(i) {
                let last = second.from + second.pages.saturating_sub(1);
                let mut line = vec![format!("{}-{last}", second.from)];
                line.extend(second.cells.iter().map(|c| escape(c)));
                lines.push((line, second.wrong));
            }
            let words = format!("… these two {repeats} times more");
            lines.push((vec![words], false));
            i += 1 + 2 * repeats;
        }
    }
    table(&titles, &lines, look, out);
    if left_out > 0 {
        let _ = writeln!(out, "… and {left_out} pages more");
    }
}

/// How often the two rows from `i` on come again right behind (a head and its tails do).
fn repeats(rows: &[Row], i: usize) -> usize {
    let Some([first, second]) = rows
        .get(i..i + 2)
        .and_then(|r| <&[Row; 2]>::try_from(r).ok())
    else {
        return 0;
    };
    rows[i + 2..]
        .chunks_exact(2)
        .take_while(|pair| pair[0].like(first) && pair[1].like(second))
        .count()
}

fn rows(region: &Region, predicted: &[PredictedRun]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut p = predicted.partition_point(|e| e.pfn.saturating_add(e.pages) <= region.start_pfn);
    for run in &region.runs {
        let end = run.pfn.saturating_add(run.pages);
        let mut at = run.pfn;
        while at < end {
            while predicted
                .get(p)
                .is_some_and(|e| e.pfn.saturating_add(e.pages) <= at)
            {
                p += 1;
            }
            let e = predicted.get(p).filter(|e| e.pfn <= at);
            let to = match (e, predicted.get(p)) {
                (Some(e), _) => e.pfn.saturating_add(e.pages).min(end),
                (None, Some(next)) => next.pfn.min(end),
                (None, None) => end,
            };
            let row = row(region, run, e, at, to - at);
            match rows.last_mut() {
                Some(last) if last.from + last.pages == row.from && last.cells == row.cells => {
                    last.pages += row.pages;
                }
                _ => rows.push(row),
            }
            at = to;
        }
    }
    rows
}

fn row(region: &Region, run: &PageRun, e: Option<&PredictedRun>, at: u64, pages: u64) -> Row {
    let s = &run.state;
    let from = at.saturating_sub(region.start_pfn);
    if s.absent {
        let mut cells = <[String; 6]>::default();
        cells[0] = "absent".into();
        return Row {
            from,
            pages,
            cells,
            wrong: true,
        };
    }
    let mapping = if s.mapping_set { ", mapping" } else { "" };
    let share = s
        .share
        .map(|n| format!(", shared by {n}"))
        .unwrap_or_default();
    let wrong = e.is_none_or(|e| {
        e.refcount != i64::from(s.refcount)
            || e.mapcount != i64::from(s.mapcount)
            || e.mapping.is_some_and(|m| m != s.mapping_set)
            || e.part.is_some_and(|p| (p, e.order) != (s.part, s.order))
    });
    let because = match e {
        None => "no prediction".into(),
        Some(e) if e.held_by.is_empty() => e.because.clone(),
        Some(e) => format!("{}; {}", e.because, e.held_by),
    };
    let cells = [
        s.refcount.to_string(),
        e.map_or_else(|| "?".into(), |e| e.refcount.to_string()),
        s.large_mapcount.unwrap_or(s.mapcount).to_string(),
        s.pincount.map(|n| n.to_string()).unwrap_or_default(),
        format!("{}{mapping}{share}", part_words(s.part, s.order)),
        because,
    ];
    Row {
        from,
        pages,
        cells,
        wrong,
    }
}

/// Columns as wide as they need; a row that is not as predicted is marked.
fn table(titles: &[&str], lines: &[(Vec<String>, bool)], look: &Look, out: &mut String) {
    let full = |line: &&(Vec<String>, bool)| line.0.len() == titles.len();
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(i, title)| {
            let cells = lines.iter().filter(full).map(|(l, _)| l[i].chars().count());
            cells.max().unwrap_or(0).max(title.len())
        })
        .collect();
    let pad = |cells: &[String]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.trim_end().to_owned()
    };
    let titles: Vec<String> = titles.iter().map(|t| (*t).to_owned()).collect();
    let _ = writeln!(out, "  {}", look.paint(Paint::Dim, &pad(&titles)));
    for (cells, wrong) in lines {
        let mark = if *wrong { "! " } else { "  " };
        let text = format!("{mark}{}", pad(cells));
        let text = if *wrong {
            look.paint(Paint::Bad, &text)
        } else {
            text
        };
        let _ = writeln!(out, "{text}");
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
