//! Text that somebody else wrote, made fit to be shown.

/// Whether a character steers a terminal, or turns the direction of what follows, instead of being
/// shown.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with such characters escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut out, c);
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
        assert_eq!(escape("a\u{1b}[2J\u{202e}b\u{9b}"), "a\\u{1b}[2J\\u{202e}b\\u{9b}");
        assert_eq!(excerpt("größer", 3), "grö…");
        assert_eq!(excerpt("gr\n", 3), "gr\\n");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(steers));
            prop_assert!(!excerpt(&text, 5).chars().any(steers));
        }
    }
}
