use super::*;
use crate::record::testing::cell;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn events() -> Vec<Event> {
    let id = cell("pin", 1, "5.10").id;
    let build = |phase: &str, done| Event::BuildProgress {
        what: "5.10".into(),
        phase: phase.into(),
        done,
        total: Some(2000),
    };
    vec![
        Event::RunStarted {
            id: "r1".into(),
            cells: 2,
            accel: "tcg".into(),
        },
        Event::BuildStarted {
            what: "5.10".into(),
        },
        build("compile", 1),
        build("compile", 2),
        build("link", 2000),
        Event::BuildFinished {
            what: "5.10".into(),
            took_ms: 200_500,
            cached: false,
        },
        Event::Notice {
            message: "the locked version is gone".into(),
        },
        Event::BootStarted {
            what: "5.10, fsdax-ext4".into(),
        },
        Event::BootFinished {
            what: "5.10, fsdax-ext4".into(),
            took_ms: 2_200,
            cloneable: true,
            kept: false,
        },
        Event::CellStarted { cell: id.clone() },
        Event::CellStep {
            cell: id.clone(),
            step: 0,
            steps: 3,
            op: "create".into(),
        },
        Event::CellFinished {
            cell: id.clone(),
            verdict: CellVerdict::Pass {},
            took_ms: 90,
        },
        Event::CellFinished {
            cell: id,
            verdict: CellVerdict::Fail {
                reasons: vec!["the guest died: \u{1b}[2J".into()],
                violations: vec![],
                kinds: Vec::new(),
            },
            took_ms: 90,
        },
        Event::RunFinished {
            exit_code: 1,
            took_ms: 4_000,
        },
    ]
}

#[test]
fn plain_lines() {
    let sink = Sink::default();
    let mut progress = Progress::plain(Look::plain(100), Box::new(sink.clone()));
    for event in events() {
        progress.event(&event);
    }
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    insta::assert_snapshot!(text, @r"
    run r1: 2 cells with tcg
    build 5.10
    build 5.10: compile 1 of 2000 (0 %)
    build 5.10: link 2000 of 2000 (100 %)
    build 5.10: done in 3m20s
    note: the locked version is gone
    boot 5.10, fsdax-ext4
    boot 5.10, fsdax-ext4: ready in 2.2 s
    pass  [1/2] fsdax/fsdax-ext4/pin on 5.10 (90 ms)
    FAIL  [2/2] fsdax/fsdax-ext4/pin on 5.10 (90 ms): the guest died: \u{1b}[2J
    run ended in 4.0 s, exit code 1
    ");
}

/// What was drawn, as one text.
#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<String>>);

impl Screen {
    fn add(&self, text: &str) -> std::io::Result<()> {
        self.0.lock().unwrap().push_str(text);
        Ok(())
    }
}

impl indicatif::TermLike for Screen {
    fn width(&self) -> u16 {
        100
    }
    fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.add(&format!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.add(text)
    }
    fn clear_line(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn live_lines_show_what_goes_on() {
    let screen = Screen::default();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
    let mut progress = Progress::live(Look::plain(100), target);
    for event in events() {
        progress.event(&event);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let drawn = screen.0.lock().unwrap().clone();
    for text in [
        "0/2 cells",
        "fsdax/fsdax-ext4/pin on 5.10",
        "build 5.10: done in 3m20s",
        "FAIL  [2/2]",
    ] {
        assert!(drawn.contains(text), "{text} in {drawn}");
    }
    assert!(!drawn.contains("\u{1b}[2J"));
}

#[test]
fn how_long_it_takes_is_told_once_a_few_have_run() {
    let mut tally = Tally {
        cells: 20,
        passed: 2,
        skipped: 8,
        ..Tally::default()
    };
    let after = Duration::from_secs(30);
    assert_eq!(tally.left(after), None);
    tally.failed = 1;
    assert_eq!(tally.left(after), Some(Duration::from_secs(90)));
    assert_eq!(tally.words(), ", 1 failed, 8 skipped");
    tally.passed = 11;
    assert_eq!(tally.left(after), None, "nothing is left");
}

#[test]
fn a_long_build_says_how_far_it_is_now_and_then() {
    assert_eq!(far("compiling", 0, None), "compiling");
    assert_eq!(
        far("compiling", 430, Some(1451)),
        "compiling 430 of 1451 (29 %)"
    );
    let told = |total| {
        let sink = Sink::default();
        let mut progress = Progress::plain(Look::plain(80), Box::new(sink.clone()));
        for done in 0..=1451 {
            progress.event(&Event::BuildProgress {
                what: "6.12".into(),
                phase: "compiling".into(),
                done,
                total,
            });
        }
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().count()
    };
    assert_eq!(told(Some(1451)), 11);
    assert_eq!(told(None), 8);
}

#[test]
fn quiet_tells_failures_and_verbose_each_step() {
    let told = |verbosity| {
        let sink = Sink::default();
        let look = Look {
            verbosity,
            ..Look::plain(80)
        };
        let mut progress = Progress::plain(look, Box::new(sink.clone()));
        events().iter().for_each(|event| progress.event(event));
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    };
    let brief = told(Verbosity::Brief);
    assert_eq!(brief.lines().count(), 1, "{brief}");
    assert!(brief.starts_with("FAIL  [2/2]"), "{brief}");
    assert!(told(Verbosity::All).contains("on 5.10: 1/3 create\n"));
    assert!(!told(Verbosity::Screen).contains("1/3 create"));
}
