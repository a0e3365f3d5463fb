//! Text for people: escaped, coloured where wanted, wrapped.

use std::ffi::OsString;

pub use proto::text::escape;

/// Lines of a summary in a file or a pipe.
const ROWS: usize = 60;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Lines that a summary may have, where there is no wish for all or for little.
    pub rows: usize,
    /// Whether to use colours.
    pub colour: bool,
    /// How much is told.
    pub verbosity: Verbosity,
}

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// What failed, and the verdict (`-q`).
    Brief,
    /// What fits a screen.
    #[default]
    Screen,
    /// All of it (`-v`).
    All,
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters of a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

impl Look {
    /// For a terminal, or (`None`) for a file or a pipe. Colours only on a terminal that can show
    /// them, and not where NO_COLOR is set to anything (<https://no-color.org>); where
    /// CLICOLOR_FORCE is set to anything but 0, everywhere else, too, such as in the log of a CI job.
    /// `env` is a variable of the environment.
    pub fn new(terminal: Option<Size>, env: impl Fn(&str) -> Option<OsString>) -> Look {
        let set = |name| env(name).is_some_and(|v| !v.is_empty());
        let forced = env("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0");
        let dumb = env("TERM").is_some_and(|v| v == "dumb");
        Look {
            width: terminal.map_or(100, |t| t.columns).clamp(40, 160),
            rows: terminal.map_or(ROWS, |t| t.rows.saturating_sub(1)).max(20),
            colour: !set("NO_COLOR") && (forced || (terminal.is_some() && !dumb)),
            verbosity: Verbosity::Screen,
        }
    }

    /// Without colours.
    pub fn plain(width: usize) -> Look {
        Look {
            width,
            rows: ROWS,
            colour: false,
            verbosity: Verbosity::Screen,
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

/// A word as a POSIX shell takes it, quoted only where it must be.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    // zsh takes a leading = for a program's path.
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('=') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
        let colour = |terminal, env: &'static [(&str, &str)]| {
            let size = Size {
                columns: 80,
                rows: 24,
            };
            let of = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            Look::new(Some(size).filter(|_| terminal), of).colour
        };
        assert!(colour(true, &[]));
        assert!(colour(true, &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "0")]));
        assert!(!colour(true, &[("NO_COLOR", "1")]));
        assert!(!colour(true, &[("TERM", "dumb")]));
        assert!(!colour(false, &[("TERM", "xterm")]));
        assert!(colour(false, &[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")]));
        assert!(!colour(
            false,
            &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]
        ));
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
