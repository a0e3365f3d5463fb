//! A reader of Kconfig files that is good enough to say why an option got lost: where it is
//! defined, what it depends on, and which symbol of that is not set. It never fails: what it does
//! not understand it leaves out.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::kconfig_expr::{Expr, parse_expr};
use crate::spec::nearest;

/// One definition of a symbol; a symbol may have several.
#[derive(Debug, Clone, Default)]
struct Definition {
    place: String,
    /// What it depends on, enclosing `if` and `menu` included.
    depends: Vec<Expr>,
    /// The condition of its prompt: none if it has no prompt at all.
    prompt: Option<Option<Expr>>,
    /// The choice that it is one of, by its place.
    choice: Option<String>,
}

/// All definitions of a tree.
#[derive(Debug, Default)]
pub(crate) struct Kconfig {
    symbols: BTreeMap<String, Vec<Definition>>,
    /// Who selects a symbol: `(selector, condition)`.
    selects: BTreeMap<String, Vec<(String, Option<Expr>)>>,
}

#[derive(Clone)]
struct Block {
    kind: &'static str,
    place: String,
    depends: Vec<Expr>,
}

struct Reader<'a> {
    tree: &'a Utf8Path,
    arch: &'a str,
    found: Kconfig,
    seen: BTreeSet<Utf8PathBuf>,
}

impl Kconfig {
    /// Reads the Kconfig files of `tree` for one architecture.
    pub(crate) fn read(tree: &Utf8Path, arch: &str) -> Self {
        let mut reader = Reader {
            tree,
            arch,
            found: Self::default(),
            seen: BTreeSet::new(),
        };
        reader.file("Kconfig", &mut Vec::new());
        reader.found
    }

    /// Why `symbol` has not the value that was asked for, in words that follow its name.
    pub(crate) fn why_lost(
        &self,
        symbol: &str,
        wanted: &str,
        config: &BTreeMap<String, String>,
    ) -> String {
        let Some(definitions) = self.symbols.get(symbol) else {
            let near = nearest(symbol, self.symbols.keys().map(String::as_str));
            let hint = near
                .map(|n| format!("; did you mean {n}?"))
                .unwrap_or_default();
            return format!("no such option in this tree{hint}");
        };
        if wanted == "n" {
            let selectors = self.selectors(symbol, config);
            if selectors.is_empty() {
                return format!("its default sets it ({})", definitions[0].place);
            }
            return format!("it is selected by {}", selectors.join(", "));
        }
        let mut reasons = Vec::new();
        for definition in definitions {
            let unmet = definition.depends.iter().find(|e| !e.is_true(config));
            if let Some(expr) = unmet {
                reasons.push(format!(
                    "it depends on `{expr}` ({}), and {}",
                    definition.place,
                    self.why_false(expr, config)
                ));
                continue;
            }
            match &definition.prompt {
                None => reasons.push(format!(
                    "it can't be asked for, only selected by others ({})",
                    definition.place
                )),
                Some(Some(condition)) if !condition.is_true(config) => reasons.push(format!(
                    "it can be asked for only if `{condition}` ({}), and {}",
                    definition.place,
                    self.why_false(condition, config)
                )),
                Some(_) if definition.choice.is_some() => reasons.push(format!(
                    "another option of the same choice is set ({})",
                    definition.place
                )),
                Some(_) => reasons.push(format!(
                    "{wanted} is not a value that it takes ({})",
                    definition.place
                )),
            }
        }
        reasons.dedup();
        reasons.join("; ")
    }

    /// The symbols that decide whether this one can be set, and those that it selects.
    pub(super) fn needs(&self, symbol: &str) -> BTreeSet<String> {
        let mut names = Vec::new();
        for definition in self.symbols.get(symbol).into_iter().flatten() {
            definition
                .depends
                .iter()
                .for_each(|e| e.symbols(&mut names));
            if let Some(Some(condition)) = &definition.prompt {
                condition.symbols(&mut names);
            }
        }
        for (selected, by) in &self.selects {
            if by.iter().any(|(selector, _)| selector == symbol) {
                names.push(selected.clone());
            }
        }
        names.into_iter().collect()
    }

    /// The choice that a symbol is one of, by its place.
    pub(super) fn choice(&self, symbol: &str) -> Option<&str> {
        let mut definitions = self.symbols.get(symbol)?.iter();
        definitions.find_map(|d| d.choice.as_deref())
    }

    fn why_false(&self, expr: &Expr, config: &BTreeMap<String, String>) -> String {
        let value = |name: &str| match config.get(name) {
            Some(value) => format!("{name} is {value}"),
            None if self.symbols.contains_key(name) => format!("{name} is n"),
            None => format!("{name} is n (no such option in this tree)"),
        };
        let blamed = expr.blame(config);
        if blamed.is_empty() {
            return "that is not so".to_owned();
        }
        blamed
            .iter()
            .map(|name| value(name))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn selectors(&self, symbol: &str, config: &BTreeMap<String, String>) -> Vec<String> {
        let active = |(selector, condition): &&(String, Option<Expr>)| {
            config.get(selector).is_some_and(|v| v != "n")
                && condition.as_ref().is_none_or(|c| c.is_true(config))
        };
        let mut names: Vec<String> = self
            .selects
            .get(symbol)
            .into_iter()
            .flatten()
            .filter(active)
            .map(|(selector, _)| selector.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Reader<'_> {
    fn file(&mut self, name: &str, blocks: &mut Vec<Block>) {
        let name = name
            .replace("$(SRCARCH)", self.arch)
            .replace("$SRCARCH", self.arch);
        let path = self.tree.join(&name);
        // Each file once: a file that sources itself must not keep us here.
        if name.contains("..") || name.contains('$') || !self.seen.insert(path.clone()) {
            return;
        }
        let Ok(bytes) = std::fs::read(&path) else {
            return;
        };
        let text = String::from_utf8_lossy(&bytes).replace("\\\n", " ");
        let depth = blocks.len();
        self.lines(&name, &text, blocks);
        blocks.truncate(depth);
    }

    fn lines(&mut self, name: &str, text: &str, blocks: &mut Vec<Block>) {
        let mut current: Option<(String, Definition)> = None;
        let mut help: Option<usize> = None;
        for (index, raw) in text.lines().enumerate() {
            let indent = indent_of(raw);
            let line = raw.trim();
            if let Some(least) = &mut help {
                // A help text ends where a line is indented less than its first line.
                if line.is_empty() || indent >= *least && *least > 0 {
                    continue;
                }
                if *least == 0 && indent > 0 {
                    *least = indent;
                    continue;
                }
                help = None;
            }
            let line = strip_comment(line);
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            match word {
                "config" | "menuconfig" => {
                    self.close(&mut current);
                    let place = format!("{name}:{}", index + 1);
                    let depends = blocks.iter().flat_map(|b| b.depends.clone()).collect();
                    let choice = blocks.iter().rfind(|b| b.kind == "choice");
                    current = Some((
                        rest.to_owned(),
                        Definition {
                            place,
                            depends,
                            prompt: None,
                            choice: choice.map(|b| b.place.clone()),
                        },
                    ));
                }
                "help" | "---help---" => help = Some(0),
                "if" | "menu" | "choice" => {
                    self.close(&mut current);
                    let depends = if word == "if" {
                        parse_expr(rest).into_iter().collect()
                    } else {
                        Vec::new()
                    };
                    let kind = match word {
                        "if" => "if",
                        "menu" => "menu",
                        _ => "choice",
                    };
                    blocks.push(Block {
                        kind,
                        place: format!("{name}:{}", index + 1),
                        depends,
                    });
                }
                "endif" | "endmenu" | "endchoice" => {
                    self.close(&mut current);
                    if blocks
                        .last()
                        .is_some_and(|b| word.strip_prefix("end") == Some(b.kind))
                    {
                        blocks.pop();
                    }
                }
                "comment" | "mainmenu" => self.close(&mut current),
                "source" | "rsource" | "osource" | "orsource" => {
                    self.close(&mut current);
                    self.file(rest.trim_matches('"'), blocks);
                }
                "depends" => {
                    let expr = rest.strip_prefix("on").and_then(|e| parse_expr(e.trim()));
                    match (&mut current, blocks.last_mut()) {
                        (Some((_, definition)), _) => definition.depends.extend(expr),
                        (None, Some(block)) => block.depends.extend(expr),
                        (None, None) => {}
                    }
                }
                "bool" | "tristate" | "string" | "int" | "hex" | "prompt" => {
                    if let (Some((_, definition)), true) =
                        (&mut current, rest.starts_with(['"', '\'']))
                    {
                        let condition = rest
                            .rsplit_once(" if ")
                            .filter(|(text, _)| text.ends_with(['"', '\'']));
                        definition.prompt = Some(condition.and_then(|(_, e)| parse_expr(e)));
                    }
                }
                "select" => {
                    if let Some((selector, _)) = &current {
                        let (target, condition) = match rest.split_once(" if ") {
                            Some((target, e)) => (target.trim(), parse_expr(e)),
                            None => (rest, None),
                        };
                        let entry = (selector.clone(), condition);
                        self.found
                            .selects
                            .entry(target.to_owned())
                            .or_default()
                            .push(entry);
                    }
                }
                _ => {}
            }
        }
        self.close(&mut current);
    }

    fn close(&mut self, current: &mut Option<(String, Definition)>) {
        if let Some((symbol, definition)) = current.take() {
            self.found
                .symbols
                .entry(symbol)
                .or_default()
                .push(definition);
        }
    }
}

fn indent_of(line: &str) -> usize {
    line.chars()
        .take_while(|c| c.is_whitespace())
        .fold(0, |n, c| if c == '\t' { n / 8 * 8 + 8 } else { n + 1 })
}

fn strip_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return line[..at].trim_end(),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            _ => {}
        }
    }
    line
}

#[cfg(test)]
#[path = "kconfig_tests.rs"]
mod tests;
