use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::watch::testing::{row, seen};

/// What stands on a screen of this size, and where it stands out.
fn drawn(screen: &mut Screen, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let mut out = String::new();
    for y in 0..height {
        let cells = (0..width).map(|x| &buffer[(x, y)]);
        let line: String = cells.clone().map(|c| c.symbol()).collect();
        let reversed = cells
            .clone()
            .any(|c| c.modifier.contains(Modifier::REVERSED));
        let mark = if reversed { '*' } else { ' ' };
        out.push_str(format!("{mark}{}", line.trim_end()).trim_end());
        out.push('\n');
    }
    out
}

fn before() -> Sight {
    seen(vec![row(0, 64512, Class::Idle, 1)])
}

/// 16 pages of it are pinned.
fn after() -> Sight {
    let mut pinned = row(32256, 16, Class::Held, 2);
    pinned.state = "mapping".into();
    let mut now = seen(vec![
        row(0, 32256, Class::Idle, 1),
        pinned,
        row(32272, 32240, Class::Idle, 1),
    ]);
    (now.number, now.at_ms) = (2, 3000);
    now
}

#[test]
fn a_count_that_moved_stands_out_with_what_it_was() {
    let mut screen = Screen::new(true);
    screen.seen(before());
    insta::assert_snapshot!(drawn(&mut screen, (72, 10)), @r"
     shell 6.12 with fsdax-ext4 (process 42): look 1, read in 1.2 ms
     namespace0.0 FS_DAX: 64512 pages from pfn 0x100200: 64512 idle
     ········································································
     pages  use  refcount  idle  mapcount  pins  state
     every page is idle


     kernel log
     [    9.4] EXT4-fs (pmem0): mounted
     q quit  space pause  a all pages  f filter  l log  ↑↓ PgUp PgDn scroll
    ");
    screen.seen(after());
    insta::assert_snapshot!(drawn(&mut screen, (100, 10)), @r"
     shell 6.12 with fsdax-ext4 (process 42): look 2, read in 1.2 ms
     namespace0.0 FS_DAX: 64512 pages from pfn 0x100200: 64496 idle, 16 held
     ··················································▓·················································
     pages        use   refcount  idle  mapcount  pins  state
    *32256-32271  held  2         1     0               mapping  (was idle, refcount 1)


     kernel log
     [    9.4] EXT4-fs (pmem0): mounted
     q quit  space pause  a all pages  f filter  l log  ↑↓ PgUp PgDn scroll
    ");
    // It stands out for a while, and not for ever.
    let mut later = after();
    (later.number, later.at_ms) = (12, 8000);
    screen.seen(later);
    assert!(!drawn(&mut screen, (72, 10)).contains("(was"));
}

#[test]
fn what_went_back_to_idle_is_shown_for_a_while() {
    let mut screen = Screen::new(true);
    screen.seen(after());
    let mut back = before();
    back.at_ms = 4000;
    screen.seen(back);
    let text = drawn(&mut screen, (72, 10));
    assert!(text.contains("*32256-32271  idle  1"), "{text}");
    assert!(text.contains("(was held, refcount 2)"), "{text}");
}

#[test]
fn keys_do_what_the_last_line_says() {
    let mut screen = Screen::new(false);
    screen.seen(before());
    screen.seen(after());
    assert!(screen.key(Key::All));
    assert!(drawn(&mut screen, (72, 12)).contains("0-32255"));
    assert!(screen.key(Key::Scroll(1)));
    assert!(screen.key(Key::Pause) && screen.paused());
    assert!(drawn(&mut screen, (72, 9)).contains("GO ON"));
    // The only class that is not idle, and then every one again.
    assert!(screen.key(Key::Filter));
    let text = drawn(&mut screen, (72, 12));
    assert!(
        text.contains("32256-32271") && !text.contains("0-32255 "),
        "{text}"
    );
    assert!(screen.key(Key::Filter) && screen.filter.is_none());
    assert!(screen.key(Key::Log));
    assert!(!drawn(&mut screen, (72, 12)).contains("kernel log"));
    assert!(!screen.key(Key::Quit));
}

#[test]
fn a_small_terminal_and_a_guest_that_is_gone_are_no_trouble() {
    let mut screen = Screen::new(true);
    assert!(drawn(&mut screen, (40, 2)).contains("awaited"));
    screen.seen(after());
    drawn(&mut screen, (1, 1));
    drawn(&mut screen, (10, 3));
    screen.failed("reach the guest: it is gone".into());
    assert!(drawn(&mut screen, (72, 10)).contains("it is gone"));
}

#[test]
fn what_a_guest_says_steers_no_terminal() {
    let mut screen = Screen::new(true);
    let mut sight = after();
    sight.log = vec!["\u{1b}[2Jgone\u{202e}".into()];
    sight.regions[0].name = "\u{9b}2J".into();
    sight.regions[0].rows[1].state = "\u{7}".into();
    screen.seen(sight);
    let text = drawn(&mut screen, (72, 12));
    assert!(text.contains("\\u{1b}[2Jgone"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !proto::text::steers(c)));
}
