//! What a guest or a stranger wrote, as each form must have it. All of it goes through
//! [`proto::text::escape`] first: no form has a line break, a control character or a turn of
//! direction from a guest.

use proto::text::escape;

use crate::report::text::quoted;

/// XML also forbids two characters that steer nothing.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape(text).chars() {
        match c {
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Lines of ours with a guest's text in them that is escaped already.
pub(super) fn xml_lines(text: &str) -> String {
    text.lines().map(xml).collect::<Vec<_>>().join("\n")
}

/// What ends the input of the kernel's own reader of KTAP (tools/testing/kunit/kunit_parser.py),
/// wherever in a line it stands.
const ENDS_KTAP: [&str; 3] = [
    "List of all partitions:",
    "Kernel panic - not syncing: VFS:",
    "reboot: System halted",
];

/// A name or a reason in KTAP: `#` begins a directive and has no escape of its own.
pub(super) fn ktap(text: &str) -> String {
    let mut out = escape(text).replace('#', "\\u{23}");
    for end in ENDS_KTAP {
        if out.contains(end) {
            out = out.replace(end, &end.replace(':', "\\u{3a}"));
        }
    }
    out.trim().to_owned()
}

/// The value of a workflow command's message.
pub(super) fn command_data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// The value of a workflow command's property.
pub(super) fn command_property(text: &str) -> String {
    command_data(&escape(text))
        .replace(':', "%3A")
        .replace(',', "%2C")
}

/// A Markdown code span: what is in one is no link, no mention and no HTML. Not for a table, which
/// bars would end.
pub(super) fn code(text: &str) -> String {
    let text = escape(text);
    if text.is_empty() {
        return "(nothing)".to_owned();
    }
    let longest = text
        .split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let blank = text.starts_with([' ', '`']) || text.ends_with([' ', '`']);
    let pad = if blank { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A word for a POSIX shell.
pub(super) fn shell(word: &str) -> String {
    quoted(&escape(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shell_words_are_quoted_where_they_need_it() {
        assert_eq!(shell("6.12+./a.patch"), "6.12+./a.patch");
        assert_eq!(shell("=fsdax/x/y"), "'=fsdax/x/y'");
        assert_eq!(shell("it's $HOME"), "'it'\\''s $HOME'");
    }

    #[test]
    fn code_spans_hold_backticks() {
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(code(""), "(nothing)");
    }

    proptest! {
        #[test]
        fn no_name_in_ktap_is_more_than_a_name(text in "\\PC{0,20}[#\n:]{0,3}(reboot: System halted)?\\PC{0,9}") {
            let name = ktap(&text);
            prop_assert!(!name.contains(['#', '\n']));
            prop_assert!(!ENDS_KTAP.iter().any(|end| name.contains(end)));
        }

        #[test]
        fn a_property_ends_nowhere_within(text in any::<String>()) {
            let value = command_property(&text);
            prop_assert!(!value.contains([':', ',', '\n', '\r']));
        }
    }
}
