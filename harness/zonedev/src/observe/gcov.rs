//! gcov's JSON -> which lines of a source ran.

use serde::Deserialize;

use crate::record::SourceLines;

// Of gcov's own form, which has more keys than we use.
#[derive(Deserialize)]
struct Document {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    file: String,
    functions: Vec<Function>,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    start_line: u32,
    end_line: u32,
}

#[derive(Deserialize)]
struct Line {
    line_number: u32,
    // gcc writes counts as signed, and larger ones than fit in old forms as floats.
    count: serde_json::Number,
}

/// The lines of `source`, a path in the kernel's tree; what headers brought into its object is
/// left out. `None` where this is nothing of gcov's about that source.
pub fn source_lines(json: &str, source: &str) -> Option<SourceLines> {
    let document: Document = serde_json::from_str(json).ok()?;
    let end = format!("/{source}");
    let of = |f: &&File| f.file == source || f.file.ends_with(&end);
    let mut out = SourceLines::default();
    for file in document.files.iter().filter(of) {
        for line in &file.lines {
            let ran = line.count.as_f64().is_some_and(|n| n > 0.0);
            *out.lines.entry(line.line_number).or_default() |= ran;
        }
        for f in &file.functions {
            out.functions
                .insert(f.name.clone(), (f.start_line, f.end_line));
        }
    }
    (!out.lines.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    // As gcov 12 writes it, of a kernel's object: two copies of line 12, and a header's line.
    const JSON: &str = r#"{"gcc_version": "12.2.0", "files": [
        {"file": "../mm/hmm.c", "functions": [
            {"blocks": 4, "end_column": 1, "start_line": 10, "name": "f", "blocks_executed": 2,
             "execution_count": 3, "demangled_name": "f", "start_column": 12, "end_line": 14}],
         "lines": [
            {"branches": [], "count": 0, "line_number": 12, "unexecuted_block": true, "function_name": "g"},
            {"branches": [], "count": 3, "line_number": 12, "unexecuted_block": false, "function_name": "f"},
            {"branches": [], "count": 0, "line_number": 13, "unexecuted_block": true, "function_name": "f"}]},
        {"file": "../include/linux/hmm.h", "functions": [], "lines": [
            {"branches": [], "count": 9, "line_number": 12, "unexecuted_block": false}]}],
        "format_version": "1", "current_working_directory": "/linux", "data_file": "mm#hmm.gcda"}"#;

    #[test]
    fn a_line_ran_if_any_of_its_copies_ran() {
        let found = source_lines(JSON, "mm/hmm.c").unwrap();
        assert_eq!(found.lines, BTreeMap::from([(12, true), (13, false)]));
        assert_eq!(found.functions["f"], (10, 14));
        assert_eq!(found.ran(), 1);
    }

    #[test]
    fn what_tells_nothing_of_the_source_is_told_apart_from_a_source_that_never_ran() {
        for (json, source) in [(JSON, "mm/mm.c"), (JSON, "m/hmm.c"), ("", "mm/hmm.c")] {
            assert_eq!(source_lines(json, source), None, "{source}");
        }
    }

    #[test]
    fn counts_of_two_groups_add_up() {
        let mut one = source_lines(JSON, "mm/hmm.c").unwrap();
        let other = source_lines(&JSON.replace("\"count\": 0", "\"count\": 1"), "mm/hmm.c");
        one.add(&other.unwrap());
        assert_eq!(one.ran(), 2);
    }
}
