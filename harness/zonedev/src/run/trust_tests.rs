use super::*;

#[test]
fn a_reading_keeps_no_more_runs_than_are_left_and_says_so() {
    use crate::record::testing::{region, state};
    let states: Vec<_> = (0..100).map(state).collect();
    let pages = PagesReading {
        regions: vec![region(guestmem::PageKind::FsDax, "n\u{1b}[0m", 0, &states); 2],
        problems: Vec::new(),
    };
    let mut left = 200;
    let whole = reading(pages.clone(), &mut left);
    assert_eq!((left, whole.problems.len()), (0, 0));
    assert_eq!(whole.regions[0].owner.as_deref(), Some("n\\u{1b}[0m"));
    let mut left = 150;
    let cut = reading(pages, &mut left);
    assert_eq!((left, cut.regions[1].runs.len()), (0, 50));
    assert!(cut.problems[0].what.starts_with("50 runs"));
}
