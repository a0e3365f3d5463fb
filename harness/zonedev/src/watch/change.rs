//! What changed between two looks.

use super::sight::{Class, Row, Sight};

/// Pages that were otherwise at the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// First pfn of the range in which they lie.
    pub region: u64,
    /// The first page, from the range's start.
    pub offset: u64,
    /// One past the last.
    pub end: u64,
    /// What they were used for.
    pub was: Class,
    /// Their `_refcount` then.
    pub refcount: i64,
    /// Their mappings then.
    pub mapcount: i64,
}

/// The stretches of pages that are not as before; ranges that came or went have none.
pub fn changes(before: &Sight, now: &Sight) -> Vec<Change> {
    let mut out: Vec<Change> = Vec::new();
    for region in &now.regions {
        let mut old = before.regions.iter();
        let Some(old) = old.find(|r| (r.start_pfn, &r.name) == (region.start_pfn, &region.name))
        else {
            continue;
        };
        let mut from = 0;
        for row in &region.rows {
            while old.rows.get(from).is_some_and(|o| o.end() <= row.offset) {
                from += 1;
            }
            let over = old.rows[from..].iter();
            for was in over.take_while(|o| o.offset < row.end()) {
                if was.like(row) {
                    continue;
                }
                let change = Change {
                    region: region.start_pfn,
                    offset: was.offset.max(row.offset),
                    end: was.end().min(row.end()),
                    was: was.class,
                    refcount: was.refcount,
                    mapcount: was.mapcount,
                };
                out.push(change);
            }
        }
    }
    out
}

/// A row, cut where changes begin and end: each piece with the change that it is all of.
pub(super) fn cut<'a>(
    row: &Row,
    region: u64,
    changes: &[&'a Change],
) -> Vec<(Row, Option<&'a Change>)> {
    let within = |c: &&&Change| {
        c.region == region && c.offset < row.end() && c.end > row.offset && c.offset < c.end
    };
    let mut within: Vec<&'a Change> = changes.iter().filter(within).copied().collect();
    within.sort_by_key(|c| c.offset);
    let mut out = Vec::new();
    let mut at = row.offset;
    let mut piece = |from: u64, to: u64, change| {
        if from < to {
            let row = Row {
                offset: from,
                pages: to - from,
                ..row.clone()
            };
            out.push((row, change));
        }
    };
    for change in within {
        let from = change.offset.max(at);
        piece(at, from, None);
        let to = change.end.min(row.end());
        piece(from, to, Some(change));
        at = at.max(to);
    }
    piece(at, row.end(), None);
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{about, row, seen};
    use super::*;

    #[test]
    fn what_is_otherwise_is_told_with_what_it_was() {
        let before = seen(vec![row(0, 100, Class::Idle, 1)]);
        let now = seen(vec![
            row(0, 10, Class::Idle, 1),
            row(10, 2, Class::Held, 2),
            row(12, 88, Class::Idle, 1),
        ]);
        let told = changes(&before, &now);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].offset, told[0].end), (10, 12));
        assert_eq!((told[0].was, told[0].refcount), (Class::Idle, 1));
        let back = changes(&now, &before);
        assert_eq!(back.len(), 1);
        assert_eq!((back[0].offset, back[0].end), (10, 12));
        assert_eq!(changes(&now, &now), []);
    }

    #[test]
    fn a_range_that_is_new_has_no_changes() {
        let mut before = seen(vec![row(0, 100, Class::Idle, 1)]);
        let now = before.clone();
        before.regions[0].start_pfn += 1;
        assert_eq!(changes(&before, &now), []);
        assert_eq!(before.about, about());
    }

    #[test]
    fn a_row_is_cut_at_changes_and_nothing_of_it_is_lost() {
        let row = row(0, 100, Class::Idle, 1);
        let change = |offset, end| Change {
            region: 7,
            offset,
            end,
            was: Class::Held,
            refcount: 2,
            mapcount: 0,
        };
        let (one, two, other) = (change(10, 12), change(95, 120), change(0, 0));
        let all = [&one, &two, &other];
        let pieces = cut(&row, 7, &all);
        let ends: Vec<_> = pieces
            .iter()
            .map(|(r, c)| (r.offset, r.end(), c.is_some()))
            .collect();
        let expected = [
            (0, 10, false),
            (10, 12, true),
            (12, 95, false),
            (95, 100, true),
        ];
        assert_eq!(ends, expected);
        assert_eq!(cut(&row, 8, &all).len(), 1);
        // Two looks in a row changed the same page.
        assert_eq!(cut(&row, 7, &[&one, &one]).len(), 3);
    }
}
