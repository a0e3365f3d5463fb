//! Text that somebody else wrote, made fit to be shown.

/// Whether a character steers a terminal, or turns the direction of what follows, instead of being
/// shown.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text with such characters escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out
}

/// A text of lines, escaped: line breaks and tabs stay.
pub fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c => push_escaped(&mut out, c),
        }
    }
    out
}

/// Adds a character, escaped where it steers.
pub fn push_escaped(out: &mut String, c: char) {
    if steers(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// The first `most` characters, escaped; `…` stands for those that are missing.
pub fn excerpt(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == most {
            out.push('…');
            break;
        }
        push_escaped(&mut out, c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_is_told_and_long_text_is_cut() {
        assert_eq!(
            escape("a\u{1b}[2J\u{202e}b\u{9b}"),
            "a\\u{1b}[2J\\u{202e}b\\u{9b}"
        );
        // OSC, a C1 CSI, NUL; in text of lines.
        let lines = "a\u{1b}]0;x\u{7}b\u{9b}2Jc\0\r\ne\r";
        let shown = "a\\u{1b}]0;x\\u{7}b\\u{9b}2Jc\\u{0}";
        assert_eq!(escape_lines(lines), format!("{shown}\ne\\r"));
        assert_eq!(excerpt("größer", 3), "grö…");
        assert_eq!(excerpt("gr\n", 3), "gr\\n");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(steers));
            prop_assert!(!excerpt(&text, 5).chars().any(steers));
            let lines = escape_lines(&text);
            prop_assert!(!lines.chars().any(|c| steers(c) && !matches!(c, '\n' | '\t')));
        }
    }
}
