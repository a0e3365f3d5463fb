//! Text for people: escaped, coloured where wanted, wrapped.

pub use proto::text::escape;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Whether to use colours.
    pub colour: bool,
}

impl Look {
    /// For a terminal of `width` columns, or (`None`) for a file or a pipe. Colours only on a
    /// terminal, and not where NO_COLOR is set to anything (<https://no-color.org>).
    pub fn new(terminal: Option<usize>, no_color: Option<&std::ffi::OsStr>) -> Look {
        Look {
            width: terminal.unwrap_or(100).clamp(40, 160),
            colour: terminal.is_some() && no_color.is_none_or(|v| v.is_empty()),
        }
    }

    /// Without colours.
    pub fn plain(width: usize) -> Look {
        Look {
            width,
            colour: false,
        }
    }

    /// Text in a colour, where colours are wanted.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Bad => "31;1",
            Paint::Good => "32",
            Paint::Changed => "33",
            Paint::Head => "1",
            Paint::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Bad,
    Good,
    Changed,
    Head,
    Dim,
}

/// Breaks escaped text at blanks to lines of `width`; the first has `first` before it, the others
/// as many blanks.
pub(super) fn wrap(out: &mut String, first: &str, text: &str, width: usize) {
    let text = escape(text);
    let indent = first.chars().count();
    let room = width.saturating_sub(indent).max(20);
    let mut line = String::new();
    let mut lines = 0;
    let mut flush = |line: &mut String, out: &mut String| {
        if lines == 0 {
            out.push_str(first);
        } else {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        lines += 1;
        out.push_str(line.trim_end());
        out.push('\n');
        line.clear();
    };
    for word in text.split(' ') {
        let fits = line.chars().count() + word.chars().count() <= room;
        if !fits && !line.is_empty() {
            flush(&mut line, out);
        }
        line.push_str(word);
        line.push(' ');
    }
    if !line.trim().is_empty() || text.is_empty() {
        flush(&mut line, out);
    }
}

/// `1 case`, `3 cases`.
pub(super) fn count(n: usize, one: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {one}s")
    }
}

/// Milliseconds as people say them.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_color_and_pipes_have_none() {
        assert!(Look::new(Some(80), None).colour);
        assert!(Look::new(Some(80), Some("".as_ref())).colour);
        assert!(!Look::new(Some(80), Some("1".as_ref())).colour);
        assert!(!Look::new(None, None).colour);
    }

    #[test]
    fn long_text_is_wrapped_under_its_start() {
        let mut out = String::new();
        wrap(&mut out, "  - ", "one two three four five six seven", 24);
        assert_eq!(out, "  - one two three four\n    five six seven\n");
    }

    #[test]
    fn durations() {
        assert_eq!(
            [999, 1_250, 61_000].map(duration),
            ["999 ms", "1.2 s", "1m01s"]
        );
    }

    proptest! {
        #[test]
        fn nothing_that_steers_a_terminal_passes(text in any::<String>()) {
            let mut out = String::new();
            wrap(&mut out, "", &text, 40);
            prop_assert!(out.chars().all(|c| c == '\n' || !proto::text::steers(c)));
        }
    }
}
