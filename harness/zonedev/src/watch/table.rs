//! One look as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::sight::{Class, Row, Sight, SightRegion};

/// Rows of one range; what is behind them is counted.
const MAX_ROWS: usize = 200;

pub(super) const TITLES: [&str; 7] = [
    "pages", "use", "refcount", "idle", "mapcount", "pins", "state",
];

/// Writes what is not idle, by range.
pub fn table(sight: &Sight) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", heading(sight));
    for problem in &sight.problems {
        let _ = writeln!(out, "not read: {problem}");
    }
    if sight.regions.is_empty() {
        let _ = writeln!(out, "no ZONE_DEVICE pages");
    }
    for region in &sight.regions {
        let _ = writeln!(out, "\n{}", region_heading(region));
        let rows: Vec<&Row> = region
            .rows
            .iter()
            .filter(|r| r.class != Class::Idle)
            .collect();
        if rows.is_empty() {
            continue;
        }
        let cells: Vec<[String; 7]> = rows.iter().take(MAX_ROWS).map(|r| cells(r)).collect();
        let widths = widths(&cells);
        let titles = TITLES.map(str::to_owned);
        for line in std::iter::once(&titles).chain(&cells) {
            let _ = writeln!(out, "  {}", padded(line, &widths).trim_end());
        }
        let more: u64 = rows.iter().skip(MAX_ROWS).map(|r| r.pages).sum();
        if more > 0 {
            let _ = writeln!(out, "  … and {more} pages more");
        }
    }
    if sight.left_out > 0 {
        let _ = writeln!(out, "… and {} pages that are not told", sight.left_out);
    }
    out
}

/// Which guest, and how it was read.
pub(super) fn heading(sight: &Sight) -> String {
    let stands = match &sight.stands {
        Some(why) => format!("; it stands ({})", proto::text::excerpt(why, 40)),
        None => String::new(),
    };
    format!(
        "{}: look {}, read in {}.{} ms{stands}",
        proto::text::escape(&sight.about.words()),
        sight.number,
        sight.took_us / 1000,
        sight.took_us % 1000 / 100,
    )
}

pub(super) fn region_heading(region: &SightRegion) -> String {
    format!(
        "{}: {} pages from pfn {:#x}: {}",
        proto::text::escape(&region.name),
        region.pages,
        region.start_pfn,
        class_words(&region.classes)
    )
}

fn class_words(classes: &BTreeMap<Class, u64>) -> String {
    let parts: Vec<String> = classes
        .iter()
        .map(|(class, pages)| format!("{pages} {}", class.word()))
        .collect();
    parts.join(", ")
}

pub(super) fn cells(row: &Row) -> [String; 7] {
    let last = row.end().saturating_sub(1);
    let span = match row.pages {
        1 => row.offset.to_string(),
        _ => format!("{}-{last}", row.offset),
    };
    [
        span,
        row.class.word().to_owned(),
        row.refcount.to_string(),
        row.idle_refcount.map_or("?".to_owned(), |n| n.to_string()),
        row.mapcount.to_string(),
        row.pincount.map(|n| n.to_string()).unwrap_or_default(),
        proto::text::escape(&row.state),
    ]
}

/// How wide each column must be.
pub(super) fn widths(rows: &[[String; 7]]) -> [usize; 7] {
    let mut out = TITLES.map(str::len);
    for row in rows {
        for (width, cell) in out.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    out
}

pub(super) fn padded(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut out = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(out, "{cell:width$}  ");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{row, seen};
    use super::*;

    #[test]
    fn only_what_is_not_idle_is_told_row_by_row() {
        let mut held = row(16, 1, Class::Held, 2);
        held.state = "mapping".into();
        let mut sight = seen(vec![
            row(0, 16, Class::Idle, 1),
            held,
            row(17, 100, Class::Idle, 1),
        ]);
        sight.stands = Some("debug".into());
        sight.problems = vec!["a section is gone".into()];
        insta::assert_snapshot!(table(&sight), @r"
        shell 6.12 with fsdax-ext4 (process 42): look 1, read in 1.2 ms; it stands (debug)
        not read: a section is gone

        namespace0.0 FS_DAX: 117 pages from pfn 0x100200: 116 idle, 1 held
          pages  use   refcount  idle  mapcount  pins  state
          16     held  2         1     0               mapping
        ");
    }

    #[test]
    fn many_rows_are_cut_and_counted() {
        let rows = (0..300).map(|i| row(2 * i, 1, Class::Held, 2 + i as i64));
        let text = table(&seen(rows.collect()));
        assert!(text.contains("… and 100 pages more"), "{text}");
    }
}
