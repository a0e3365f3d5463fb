//! A text that fits a screen: sections, worst first, each with as many of its items as there is
//! room for.

use super::text::{Look, Paint, count};

/// A block of a text: a heading, and items of which the first ones matter most.
pub(super) struct Section {
    /// Painted.
    head: String,
    /// The lines of each item, wrapped.
    items: Vec<String>,
    /// What one item is called, as in `and 3 reasons more`.
    one: &'static str,
    paint: Paint,
}

impl Section {
    pub(super) fn new(paint: Paint, head: &str, one: &'static str, look: &Look) -> Section {
        Section {
            head: look.paint(paint, head),
            items: Vec::new(),
            one,
            paint,
        }
    }

    /// Adds an item: whole lines.
    pub(super) fn item(&mut self, lines: String) {
        self.items.push(lines);
    }

    /// Puts an item before the others.
    pub(super) fn first(&mut self, lines: String) {
        self.items.insert(0, lines);
    }

    pub(super) fn is_bad(&self) -> bool {
        self.paint == Paint::Bad
    }

    /// Whether headings alone stand under one another.
    fn is_open(&self, items: usize) -> bool {
        items > 0 || self.items.is_empty()
    }

    /// Lines under the heading.
    fn below(&self, items: usize) -> usize {
        let shown: usize = self.items.iter().take(items).map(|i| lines(i)).sum();
        shown + usize::from(items > 0 && items < self.items.len())
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// Lines of sections with so many items each; a blank one stands where one is open.
fn height(sections: &[Section], shown: &[usize]) -> usize {
    let mut after_open = true;
    let mut rows = 0;
    for (section, n) in sections.iter().zip(shown) {
        let open = section.is_open(*n);
        rows += usize::from(open || after_open) + 1 + section.below(*n);
        after_open = open;
    }
    rows
}

/// Writes sections into `rows` lines, or all there is where that is `None`; says whether items were
/// left out. Every section has its heading, where there is room for those, and its first item where
/// there is room for that; what is left goes to the first sections.
pub(super) fn fit(sections: &[Section], rows: Option<usize>, out: &mut String) -> bool {
    let mut told = sections;
    let mut shown: Vec<usize> = sections.iter().map(|s| s.items.len()).collect();
    if let Some(rows) = rows {
        shown.fill(0);
        while !told.is_empty() && height(told, &shown) > rows {
            told = &told[..told.len() - 1];
        }
        for (n, section) in told.iter().enumerate() {
            if !section.items.is_empty() {
                shown[n] = 1;
                if height(told, &shown) > rows {
                    shown[n] = 0;
                }
            }
        }
        for (n, section) in told.iter().enumerate() {
            // No item has less than a line.
            let most = section.items.len().min(rows);
            // The last one may stand where the number of those left out would.
            for items in (shown[n] + 1..=most).rev() {
                let before = std::mem::replace(&mut shown[n], items);
                if height(told, &shown) <= rows {
                    break;
                }
                shown[n] = before;
            }
        }
    }
    let mut after_open = true;
    for (section, n) in told.iter().zip(&shown) {
        let open = section.is_open(*n);
        if open || after_open {
            out.push('\n');
        }
        after_open = open;
        out.push_str(&section.head);
        out.push('\n');
        section.items.iter().take(*n).for_each(|i| out.push_str(i));
        let left = section.items.len() - n;
        if left > 0 && *n > 0 {
            out.push_str(&format!("  and {} more\n", count(left, section.one)));
        }
    }
    let mut all = sections.iter().zip(&shown);
    told.len() < sections.len() || all.any(|(section, n)| *n < section.items.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn section(items: &[usize]) -> Section {
        let mut section = Section::new(Paint::Bad, "head", "reason", &Look::plain(80));
        for n in items {
            section.item("  line\n".repeat(*n));
        }
        section
    }

    fn text(sections: &[Section], rows: usize) -> String {
        let mut out = String::new();
        fit(sections, Some(rows), &mut out);
        out
    }

    #[test]
    fn the_worst_gets_the_room_and_each_its_first_item() {
        let both = [section(&[1, 1, 1, 1]), section(&[2, 1, 1])];
        assert_eq!(
            text(&both, 10),
            "\nhead\n  line\n  line\n  and 2 reasons more\n\nhead\n  line\n  line\n  and 2 reasons more\n"
        );
        assert_eq!(text(&both, 3), "\nhead\nhead\n");
        assert_eq!(text(&both, 2), "\nhead\n");
    }

    #[test]
    fn the_last_item_stands_where_its_number_would() {
        let one = [section(&[1, 1, 1])];
        assert_eq!(text(&one, 5), "\nhead\n  line\n  line\n  line\n");
        assert_eq!(text(&one, 4), "\nhead\n  line\n  and 2 reasons more\n");
    }

    proptest! {
        #[test]
        fn it_fits_where_headings_do(
            items in prop::collection::vec(prop::collection::vec(1usize..5, 0..9), 0..7),
            rows in 0usize..60,
        ) {
            let sections: Vec<Section> = items.iter().map(|i| section(i)).collect();
            let mut out = String::new();
            let left_out = fit(&sections, Some(rows), &mut out);
            prop_assert!(lines(&out) <= rows, "{out}");
            let mut whole = String::new();
            prop_assert!(!fit(&sections, None, &mut whole));
            prop_assert_eq!(left_out, out != whole);
        }
    }
}
