//! The operations as Markdown: what `zonedev list operations` prints, and docs/operations.md.

use std::fmt::Write as _;

use crate::spec::{Key, Operation};

/// Writes operations, each with its keys.
pub fn vocabulary(operations: &[Operation]) -> String {
    let mut out = String::new();
    for (n, op) in operations.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "## {}\n\n{}", op.word, op.about);
        if !op.keys.is_empty() {
            out.push('\n');
        }
        for key in &op.keys {
            self::key(key, &mut out);
        }
    }
    out
}

fn key(key: &Key, out: &mut String) {
    let needed = match &key.default {
        _ if key.needed => ", needed".to_owned(),
        Some(default) => format!(", else {default}"),
        None => String::new(),
    };
    let takes = match key.words.is_empty() {
        true => key.takes.clone(),
        false => {
            let words = key.words.iter().map(|(word, _)| format!("`{word}`"));
            words.collect::<Vec<_>>().join(" or ")
        }
    };
    let _ = writeln!(out, "- `{}` ({takes}{needed}): {}", key.name, key.about);
    for (word, about) in key.words.iter().filter(|(_, about)| !about.is_empty()) {
        let _ = writeln!(out, "  - `{word}`: {about}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::operations;

    const HEAD: &str = "# Operations

Made of their declaration in `harness/proto/src/op.rs`; `zonedev list operations -E TEXT` prints some of
them. [writing-a-case.md](writing-a-case.md) tells what a step may have besides.

";

    #[test]
    fn the_page_of_operations_is_what_there_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let is = format!("{HEAD}{}", vocabulary(&operations()));
        if std::env::var_os("ZONEDEV_UPDATE_EXPECTED").is_some() {
            fs_err::write(path, &is).unwrap();
        }
        let there = fs_err::read_to_string(path).unwrap_or_default();
        assert!(
            there == is,
            "docs/operations.md is not what proto::Op says; ZONEDEV_UPDATE_EXPECTED=1 makes it anew"
        );
    }
}
