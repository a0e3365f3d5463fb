//! What reports look like: `reports.toml`, compiled in.

use std::sync::LazyLock;

use regex::{Captures, Regex, RegexSet};
use serde::Deserialize;

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    frames: Frames,
    report: Vec<Entry>,
    part: Vec<Part>,
    ignore: Vec<Ignore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frames {
    skip: Vec<String>,
    leaf: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: String,
    r#match: String,
    title: String,
    function: Option<Blame>,
    until: Option<String>,
    #[serde(default)]
    within: bool,
    #[serde(default)]
    alone: bool,
    #[serde(default)]
    untraced: bool,
    prologue: Option<usize>,
    r#where: Option<String>,
    continued: Option<String>,
}

/// Where a report's function stands, if its heading does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Blame {
    /// In RIP.
    Rip,
    /// In the first frame that is not of the machinery.
    Frame,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    r#match: String,
    #[allow(dead_code)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ignore {
    r#match: String,
    #[allow(dead_code)]
    reason: String,
    #[allow(dead_code)]
    until: String,
}

/// Lines from a heading to its stack dump, where an entry does not say.
const PROLOGUE: usize = 40;

/// One way of reporting.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) kind: String,
    regex: Regex,
    pub(super) title: String,
    pub(super) function: Option<Blame>,
    pub(super) until: Option<Regex>,
    pub(super) within: bool,
    pub(super) alone: bool,
    pub(super) untraced: bool,
    /// Lines that may stand between the heading and its stack dump.
    pub(super) prologue: usize,
    /// Another line of the report that names the function.
    pub(super) place: Option<Regex>,
    /// A line that would begin a report, and continues this one.
    pub(super) continued: Option<Regex>,
}

impl Pattern {
    pub(super) fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.regex.captures(text)
    }

    /// The function that another line of the report names.
    pub(super) fn place(&self, lines: &[&str]) -> Option<String> {
        let place = self.place.as_ref()?;
        let found = lines.iter().find_map(|l| place.captures(l))?;
        Some(found.name("function")?.as_str().to_owned())
    }
}

/// The whole of `reports.toml`.
#[derive(Debug)]
pub(super) struct Patterns {
    reports: Vec<Pattern>,
    set: RegexSet,
    parts: RegexSet,
    ignore: RegexSet,
    skip: RegexSet,
    leaf: RegexSet,
}

impl Patterns {
    /// The table that is compiled in.
    pub(super) fn get() -> &'static Patterns {
        static PATTERNS: LazyLock<Patterns> =
            LazyLock::new(|| Patterns::read(include_str!("reports.toml")).unwrap_or_default());
        &PATTERNS
    }

    fn read(text: &str) -> Result<Patterns, String> {
        let table: Table = toml::from_str(text).map_err(|e| e.to_string())?;
        let regex = |text: &str| Regex::new(text).map_err(|e| e.to_string());
        let set = |texts: Vec<&str>| RegexSet::new(texts).map_err(|e| e.to_string());
        let reports = table.report.iter().map(|e| {
            Ok(Pattern {
                kind: e.kind.clone(),
                regex: regex(&e.r#match)?,
                title: e.title.clone(),
                function: e.function,
                until: e.until.as_deref().map(regex).transpose()?,
                within: e.within,
                alone: e.alone,
                untraced: e.untraced,
                prologue: e.prologue.unwrap_or(PROLOGUE),
                place: e.r#where.as_deref().map(regex).transpose()?,
                continued: e.continued.as_deref().map(regex).transpose()?,
            })
        });
        Ok(Patterns {
            reports: reports.collect::<Result<_, String>>()?,
            set: set(table.report.iter().map(|e| e.r#match.as_str()).collect())?,
            parts: set(table.part.iter().map(|e| e.r#match.as_str()).collect())?,
            ignore: set(table.ignore.iter().map(|e| e.r#match.as_str()).collect())?,
            skip: set(table.frames.skip.iter().map(String::as_str).collect())?,
            leaf: set(table.frames.leaf.iter().map(String::as_str).collect())?,
        })
    }

    /// The patterns that a line matches, the first of the table first: those that begin a report
    /// (`within` false), or those that only name one.
    pub(super) fn of(&self, text: &str, within: bool) -> Option<usize> {
        if self.ignore.is_match(text) {
            return None;
        }
        let found = self.set.matches(text);
        found.iter().find(|i| self.reports[*i].within == within)
    }

    /// By its place in the table.
    pub(super) fn pattern(&self, index: usize) -> &Pattern {
        &self.reports[index]
    }

    /// Whether a line heads a dump that is no report of its own.
    pub(super) fn is_part(&self, text: &str) -> bool {
        self.parts.is_match(text)
    }

    /// Whether a function only reports or waits.
    pub(super) fn is_machinery(&self, function: &str) -> bool {
        self.skip.is_match(function)
    }

    /// Whether a function only does what it is told with the memory that it is given.
    pub(super) fn is_leaf(&self, function: &str) -> bool {
        self.leaf.is_match(function)
    }
}

impl Default for Patterns {
    /// None; a test sees to it that the table can be read.
    fn default() -> Patterns {
        Patterns {
            reports: Vec::new(),
            set: RegexSet::empty(),
            parts: RegexSet::empty(),
            ignore: RegexSet::empty(),
            skip: RegexSet::empty(),
            leaf: RegexSet::empty(),
        }
    }
}

/// Writes a title: `{word}` is what `word` gives for it, and a part in brackets is left out where
/// that is nothing.
pub(super) fn title(template: &str, word: &dyn Fn(&str) -> Option<String>) -> String {
    filled(template, word).trim().to_owned()
}

fn filled(template: &str, word: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['[', '{']) {
        let (text, tail) = rest.split_at(at);
        out.push_str(text);
        let close = if tail.starts_with('[') { ']' } else { '}' };
        let Some(end) = tail.find(close) else {
            rest = tail;
            break;
        };
        let inside = &tail[1..end];
        rest = &tail[end + 1..];
        if close == '}' {
            out.push_str(&word(inside).unwrap_or_default());
            continue;
        }
        let known = inside
            .split('{')
            .skip(1)
            .filter_map(|w| w.split('}').next())
            .all(|w| word(w).is_some_and(|v| !v.is_empty()));
        if known {
            out.push_str(&filled(inside, word));
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read_and_says_why() {
        let patterns = Patterns::read(include_str!("reports.toml")).unwrap();
        assert!(patterns.reports.len() > 40);
        let table: Table = toml::from_str(include_str!("reports.toml")).unwrap();
        for part in table.part {
            assert!(!part.reason.is_empty(), "{}", part.r#match);
        }
        for ignore in table.ignore {
            assert!(!ignore.reason.is_empty() && !ignore.until.is_empty());
        }
        for entry in &table.report {
            // Every word of a title is a group of its pattern, or the function.
            let names: Vec<String> = Regex::new(&entry.r#match)
                .unwrap()
                .capture_names()
                .flatten()
                .map(str::to_owned)
                .collect();
            for word in entry.title.split('{').skip(1) {
                let word = word.split('}').next().unwrap();
                let known = names.iter().any(|n| n == word);
                assert!(known || word == "function", "{}: {word}", entry.title);
            }
        }
    }

    #[test]
    fn a_title_leaves_out_what_is_not_known() {
        let word = |w: &str| (w == "a").then(|| "x".to_owned());
        assert_eq!(title("k: {a}[ in {b}]", &word), "k: x");
        assert_eq!(title("k[ in {a}] {b}.", &word), "k in x .");
        assert_eq!(title("open [ {a", &word), "open [ {a");
    }
}
