//! Text that a guest wrote, safe to keep and to show.

/// Whether a character would steer a terminal, or change the direction of what follows on it.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Adds a character, escaped where it would steer a terminal.
pub fn push_visible(out: &mut String, c: char) {
    if steers(c) {
        out.extend(c.escape_default());
    } else {
        out.push(c);
    }
}

/// A text whose characters steer no terminal: line breaks are escaped too.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_visible(&mut out, c));
    out
}

/// The same, of at most so many characters; what is longer ends in `…`.
pub fn clip(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n >= most {
            out.push('…');
            break;
        }
        push_visible(&mut out, c);
    }
    out
}

/// A text of lines: line breaks and tabs stay.
pub fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
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
    fn what_steers_is_shown_and_not_done() {
        // OSC, a C1 CSI, right-to-left override, NUL.
        let text = "a\u{1b}]0;x\u{7}b\u{9b}2Jc\u{202e}d\0\r\ne\r";
        let shown = "a\\u{1b}]0;x\\u{7}b\\u{9b}2Jc\\u{202e}d\\u{0}";
        assert_eq!(escape(text), format!("{shown}\\r\\ne\\r"));
        assert_eq!(escape_lines(text), format!("{shown}\ne\\r"));
        assert_eq!(clip("äbc", 2), "äb…");
        assert_eq!(clip("äb", 2), "äb");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in any::<String>(), most in 0usize..40) {
            prop_assert!(!escape(&text).chars().any(steers));
            prop_assert!(!clip(&text, most).chars().any(steers));
            let lines = escape_lines(&text);
            prop_assert!(!lines.chars().any(|c| steers(c) && !matches!(c, '\n' | '\t')));
        }
    }
}
