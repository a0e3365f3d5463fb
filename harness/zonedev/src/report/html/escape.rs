//! How everything that is shown becomes HTML or data for the script.

use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::record::CellId;

/// askama's escaper of this report: what steers a terminal or turns the direction of text is told
/// as an escape, and then HTML's own characters are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown;

impl Escaper for Shown {
    fn write_escaped_str<W: Write>(&self, dest: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(dest, &proto::text::escape_lines(text))
    }
}

/// The same for every string of data that the script shows; it makes text nodes of them.
pub(super) fn shown(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(proto::text::escape_lines(&text)),
        Value::Array(list) => list.into_iter().map(shown).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (proto::text::escape_lines(&key), shown(value)))
            .collect(),
        other => other,
    }
}

/// What stands as it is in a fragment's values.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/')
    .remove(b':');

/// The fragment that opens a cell, and in it a checkpoint: `#cell=1:fsdax/fsdax-ext4/pin&checkpoint=after`.
pub(super) fn link(id: &CellId, place: Option<(&str, &str)>) -> String {
    // As the data have it: the script compares.
    let case = proto::text::escape_lines(&id.case_path());
    let mut out = format!("#cell={}:{}", id.side, utf8_percent_encode(&case, PLAIN));
    if let Some((key, value)) = place {
        let value = proto::text::escape_lines(value);
        let _ = write!(out, "&{key}={}", utf8_percent_encode(&value, PLAIN));
    }
    out
}

/// The place within a cell that a text names by its beginning: `at "after": …`, `"after"`, `step 3 pin`.
pub(super) fn place(text: &str) -> Option<(&'static str, &str)> {
    let quoted = text.strip_prefix("at ").unwrap_or(text).strip_prefix('"');
    if let Some(rest) = quoted {
        let end = rest.find("\":").or_else(|| rest.rfind('"'))?;
        return Some(("checkpoint", &rest[..end]));
    }
    let at = text.find("step ")?;
    let rest = &text[at + "step ".len()..];
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (digits > 0).then(|| ("step", &rest[..digits]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::cell;
    use proptest::prelude::*;

    #[test]
    fn places_are_found_where_texts_name_them() {
        assert_eq!(
            place("at \"a gone\": FS_DAX refcount of 1 page"),
            Some(("checkpoint", "a gone"))
        );
        assert_eq!(place("\"after\""), Some(("checkpoint", "after")));
        assert_eq!(place("WARNING in f at step 12 pin"), Some(("step", "12")));
        assert_eq!(place("step by step"), None);
        assert_eq!(place("at \""), None);
    }

    #[test]
    fn a_link_holds_any_name() {
        let mut id = cell("a b&c=\"<\u{202e}", 2, "6.12").id;
        assert_eq!(
            link(&id, Some(("checkpoint", "x+y #1"))),
            "#cell=2:fsdax/fsdax-ext4/a%20b%26c%3D%22%3C%5Cu%7B202e%7D&checkpoint=x%2By%20%231"
        );
        id.case = "pin".into();
        assert_eq!(link(&id, None), "#cell=2:fsdax/fsdax-ext4/pin");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_or_opens_a_tag_passes(text in any::<String>()) {
            let mut out = String::new();
            Shown.write_escaped_str(&mut out, &text).unwrap();
            prop_assert!(!out.contains(['<', '>', '"', '\'']));
            let steers = |c: char| proto::text::steers(c) && !matches!(c, '\n' | '\t');
            prop_assert!(!out.chars().any(steers));
            let value = shown(serde_json::json!({ text.clone(): [text] }));
            let steers = |c: char| proto::text::steers(c);
            prop_assert!(!value.to_string().chars().any(steers));
        }
    }
}
