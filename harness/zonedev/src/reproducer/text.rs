//! Words of C: sizes, names, statements that are not too long.

use proto::Size;

/// Columns of a line.
const WIDTH: usize = 80;
/// Columns of a tab.
const TAB: usize = 8;

/// A number of bytes, as a person writes it.
pub(super) fn bytes(n: u64) -> String {
    for (shift, unit) in [(30, "GB"), (20, "MB"), (10, "KB")] {
        let one = 1u64 << shift;
        if n >= one && n.is_multiple_of(one) {
            return format!("{} * {unit}", n >> shift);
        }
    }
    n.to_string()
}

/// A place in a mapping.
pub(super) fn at(map: &str, offset: u64) -> String {
    match offset {
        0 => map.to_owned(),
        _ => format!("{map} + {}", bytes(offset)),
    }
}

/// The same of pages.
pub(super) fn pages(n: u64) -> String {
    bytes(n * Size::PAGE)
}

/// What a name of a case is called in C.
pub(super) fn ident(name: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c,
        false => '_',
    };
    name.chars().map(plain).collect()
}

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\{:03o}", u32::from(c))),
            // What a trigraph would begin with.
            '?' => out.push_str("\\?"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Text within a comment, which can't end it.
pub(super) fn within_comment(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.replace("*/", "* /").replace("/*", "/ *")
}

/// A statement with its indentation, cut after commas where it is too long.
pub(super) fn statement(indent: usize, text: &str) -> String {
    let tabs = "\t".repeat(indent);
    let mut out = tabs.clone();
    let mut column = indent * TAB;
    let mut rest = text;
    while column + rest.len() > WIDTH {
        let room = WIDTH.saturating_sub(column);
        let Some(cut) = cut(rest, room) else { break };
        out.push_str(rest[..cut].trim_end());
        out.push('\n');
        out.push_str(&tabs);
        out.push_str("       ");
        column = indent * TAB + 7;
        rest = rest[cut..].trim_start();
    }
    out.push_str(rest);
    out.push('\n');
    out
}

/// Where a line may be cut: behind the last comma, or before the last operator, that is in reach
/// and in no string.
fn cut(text: &str, room: usize) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    let mut last = None;
    for (i, c) in text.char_indices() {
        if i >= room && last.is_some() {
            break;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' | '|' if !quoted && text[i + 1..].starts_with(' ') => last = Some(i + 1),
            _ => {}
        }
    }
    last
}

/// Lines of a comment of at most so many columns.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match out.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => out.push(word.to_owned()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(bytes(64 << 10), "64 * KB");
        assert_eq!(bytes(3 << 20), "3 * MB");
        assert_eq!(bytes(4095), "4095");
        assert_eq!(at("m", 0), "m");
        assert_eq!(at("m", 2 << 20), "m + 2 * MB");
    }

    #[test]
    fn a_name_and_a_text_of_a_case_can_do_no_harm() {
        assert_eq!(ident("fork-child; exit(1)"), "fork_child__exit_1_");
        assert_eq!(literal("a\"b\\c\n??/"), r#""a\"b\\c\n\?\?/""#);
        assert_eq!(within_comment("a */ b\n"), "a * / b ");
    }

    #[test]
    fn a_long_statement_is_cut_where_an_argument_ends() {
        let text =
            "expect(map_file(&m, \"/mnt/a, b\", 0, 64 * KB, MAP_SHARED, BY_PTES_AND_MORE), 0);";
        let cut = statement(1, text);
        assert!(cut.lines().all(|l| l.len() < 76), "{cut}");
        assert_eq!(cut.lines().count(), 2);
        assert!(cut.contains("\"/mnt/a, b\""));
        assert_eq!(statement(1, "return 0;"), "\treturn 0;\n");
    }
}
