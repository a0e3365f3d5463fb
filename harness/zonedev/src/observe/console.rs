//! Raw bytes of a console -> lines of the kernel log.
//!
//! The bytes come from the thing under test: they may hold anything, be torn anywhere and never
//! end. Lines and their length are bounded, and control characters are escaped.

use std::collections::VecDeque;

use crate::record::{LogLine, push_visible};

/// Characters kept of one line.
const MAX_LINE: usize = 1024;
/// Lines kept of one console, and bytes of their texts: half of each from the beginning, the other
/// half from the end.
const MAX_LINES: usize = 100_000;
const MAX_TEXT: usize = 4 << 20;
/// Steps that a case can have; a mark beyond is not one of ours.
const MAX_STEP: usize = 100_000;
/// The agent writes this and the step's index to /dev/kmsg before each operation.
const MARK: &str = "zonedev: step ";

/// Cuts a console's bytes into lines and tells which step each belongs to. Of a console that says
/// more than can be kept, the beginning and the end are: a kernel that spews may panic at last.
pub fn console(bytes: &[u8]) -> Vec<LogLine> {
    let mut kept = Kept::default();
    let mut step = None;
    for raw in bytes.split(|b| matches!(b, b'\n' | b'\r')) {
        if raw.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (time_us, caller, text) = timestamp(raw);
        let text = clean(text);
        if let Some(n) = mark(&text) {
            step = Some(n);
        }
        kept.add(LogLine {
            time_us,
            text,
            step,
            caller,
        });
    }
    kept.finish()
}

/// The first lines and the last.
#[derive(Default)]
struct Kept {
    head: Vec<LogLine>,
    tail: VecDeque<LogLine>,
    /// Bytes of the texts in `head`, and in `tail`.
    text: (usize, usize),
    left_out: usize,
}

impl Kept {
    fn add(&mut self, line: LogLine) {
        let bytes = line.text.len();
        let fits = self.head.len() < MAX_LINES / 2 && self.text.0 + bytes <= MAX_TEXT / 2;
        if fits && self.tail.is_empty() {
            self.text.0 += bytes;
            self.head.push(line);
            return;
        }
        self.text.1 += bytes;
        self.tail.push_back(line);
        while self.tail.len() > MAX_LINES / 2 || self.text.1 > MAX_TEXT / 2 {
            let Some(out) = self.tail.pop_front() else {
                break;
            };
            self.text.1 -= out.text.len();
            self.left_out += 1;
        }
    }

    fn finish(self) -> Vec<LogLine> {
        let mut out = self.head;
        if self.left_out > 0 {
            let text = format!(
                "zonedev: {} lines of the console were left out",
                self.left_out
            );
            let step = out.last().and_then(|l| l.step);
            out.push(LogLine {
                time_us: None,
                text,
                step,
                caller: None,
            });
        }
        out.extend(self.tail);
        out
    }
}

/// The step's index in a mark.
pub fn mark(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(MARK)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let after = &rest[end..];
    if !after.is_empty() && !after.starts_with([' ', ':']) {
        return None;
    }
    rest[..end].parse().ok().filter(|n| *n <= MAX_STEP)
}

/// `[    1.234567] text`, with or without the caller (`[    T1]`) that CONFIG_PRINTK_CALLER adds.
fn timestamp(raw: &[u8]) -> (Option<u64>, Option<String>, &[u8]) {
    let Some((inside, rest)) = bracketed(raw) else {
        return (None, None, raw);
    };
    let Some(time) = micros(inside) else {
        return (None, None, raw);
    };
    let (caller, rest) = match bracketed(rest) {
        Some((caller, after)) if is_caller(caller) => {
            (Some(String::from_utf8_lossy(caller).into_owned()), after)
        }
        _ => (None, rest),
    };
    (Some(time), caller, rest.strip_prefix(b" ").unwrap_or(rest))
}

fn bracketed(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let raw = raw.strip_prefix(b"[")?;
    let end = raw.iter().take(32).position(|b| *b == b']')?;
    Some((raw[..end].trim_ascii(), &raw[end + 1..]))
}

fn micros(text: &[u8]) -> Option<u64> {
    let (seconds, fraction) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() != 6 {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(fraction.parse().ok()?)
}

/// `T12` for a task, `C0` for a processor.
fn is_caller(text: &[u8]) -> bool {
    matches!(text.split_first(), Some((b'T' | b'C', n)) if !n.is_empty() && n.iter().all(u8::is_ascii_digit))
}

/// Text that can be shown: control characters escaped, the end cut where it is too long.
fn clean(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(MAX_LINE * 4)]);
    let mut out = String::with_capacity(text.len());
    for (kept, c) in text.trim_end().chars().enumerate() {
        if kept >= MAX_LINE {
            out.push('…');
            break;
        }
        match c {
            '\t' => out.push(' '),
            c => push_visible(&mut out, c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_callers_and_steps() {
        let raw = b"SeaBIOS\r\n[    0.000000] Linux version 7.3.4\r\n[    1.500001][    T1] zonedev: ready\r\n\
            [    1.600000] zonedev: step 0\r\n[    1.700000] pmem0: x\r\ncontinued\r\n[    2.000000] zonedev: step 12 touch\r\n";
        let got: Vec<_> = console(raw)
            .into_iter()
            .map(|l| (l.time_us, l.text, l.step))
            .collect();
        let want = [
            (None, "SeaBIOS", None),
            (Some(0), "Linux version 7.3.4", None),
            (Some(1_500_001), "zonedev: ready", None),
            (Some(1_600_000), "zonedev: step 0", Some(0)),
            (Some(1_700_000), "pmem0: x", Some(0)),
            (None, "continued", Some(0)),
            (Some(2_000_000), "zonedev: step 12 touch", Some(12)),
        ];
        assert_eq!(got, want.map(|(t, s, n)| (t, s.to_owned(), n)));
    }

    #[test]
    fn leading_blanks_stay_for_they_tell_a_stack_trace() {
        assert_eq!(console(b"[    0.1000000]  x\n")[0].time_us, None);
        assert_eq!(
            console(b"[    0.100000]  dump_stack+0x1/0x2\n")[0].text,
            " dump_stack+0x1/0x2"
        );
    }

    #[test]
    fn marks_that_are_not_ours() {
        for text in [
            "zonedev: step",
            "zonedev: step x",
            "zonedev: step 3x",
            "zonedev: step 99999999",
            " zonedev: step 1",
        ] {
            assert_eq!(mark(text), None, "{text}");
        }
        assert_eq!(mark("zonedev: step 3"), Some(3));
    }

    #[test]
    fn terminal_escapes_and_long_lines_are_tamed() {
        let lines = console(b"\x1b[31mred\x07 \xff\n");
        assert_eq!(lines[0].text, "\\u{1b}[31mred\\u{7} \u{fffd}");
        let lines = console(&[b'a'; 100_000]);
        assert_eq!(lines[0].text.chars().count(), MAX_LINE + 1);
    }

    #[test]
    fn of_a_kernel_that_spews_the_last_words_are_kept() {
        let mut bytes = b"first\n".to_vec();
        bytes.extend(b"x\n".repeat(MAX_LINES + 3));
        bytes.extend(b"Kernel panic - not syncing: x\n");
        let lines = console(&bytes);
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(lines[0].text, "first");
        assert!(
            lines[MAX_LINES / 2]
                .text
                .contains(" 5 lines of the console")
        );
        assert!(lines[MAX_LINES].text.starts_with("Kernel panic"));
        // Few lines, whose characters are all escaped.
        let spew = [&[0; 4 * MAX_LINE][..], b"\n"].concat().repeat(2000);
        let text: usize = console(&spew).iter().map(|l| l.text.len()).sum();
        assert!(
            (MAX_TEXT - 20_000..MAX_TEXT + 100).contains(&text),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_lines_that_can_be_shown(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for line in console(&bytes) {
                prop_assert!(!line.text.chars().any(char::is_control));
            }
        }
    }
}
