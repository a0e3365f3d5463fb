//! What pages in Markdown show: commands with what they print, and files.
//!
//! Of the docs' own tests, both those that read them (`cli/docs_tests.rs`) and those that run them.

use camino::Utf8Path;

/// A command as it stands in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its first line in the page, from 1.
    pub(crate) line: usize,
    /// As typed, comments too.
    pub(crate) typed: String,
    /// What the page says that it prints.
    pub(crate) prints: Vec<String>,
}

/// A page, by its place in the project.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A block of code: its language, the line of its first line, its lines.
struct Block<'a> {
    language: &'a str,
    line: usize,
    lines: Vec<&'a str>,
}

fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut out: Vec<Block<'_>> = Vec::new();
    let mut inside = false;
    for (i, line) in markdown.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(language) if !inside => {
                inside = true;
                out.push(Block {
                    language: language.trim(),
                    line: i + 2,
                    lines: Vec::new(),
                });
            }
            Some(_) => inside = false,
            None if inside => out.last_mut().unwrap().lines.push(line),
            None => {}
        }
    }
    out
}

/// Commands of a page: lines of ```sh blocks, and what stands after `$ ` in others. A line that ends in a
/// backslash goes on in the next.
pub(crate) fn commands(markdown: &str) -> Vec<Shown> {
    let mut out: Vec<Shown> = Vec::new();
    for block in blocks(markdown) {
        let mut goes_on = false;
        let mut prints = false;
        for (i, whole) in block.lines.iter().enumerate() {
            let line = whole.trim();
            if let Some(last) = out.last_mut().filter(|_| goes_on) {
                last.typed.push_str(line.trim_end_matches('\\'));
                goes_on = line.ends_with('\\');
                continue;
            }
            let command = match (block.language, line.strip_prefix("$ ")) {
                (_, Some(command)) => command,
                ("sh", None) => line,
                _ => {
                    if let Some(last) = out.last_mut().filter(|_| prints) {
                        last.prints.push((*whole).to_owned());
                    }
                    continue;
                }
            };
            if !command.is_empty() && !command.starts_with('#') {
                prints = block.language != "sh";
                goes_on = command.ends_with('\\');
                out.push(Shown {
                    line: block.line + i,
                    typed: command.trim_end_matches('\\').to_owned(),
                    prints: Vec::new(),
                });
            }
        }
    }
    out
}

/// Commands of zonedev in the running text, each with the line where it begins; but those that leave
/// something out.
pub(crate) fn inline(markdown: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut inside = false;
    let mut text = String::new();
    for line in markdown.lines() {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            text.push_str(line.trim());
        }
        text.push('\n');
    }
    for (i, _) in text.match_indices("`zonedev ") {
        let span = text[i + 1..].split('`').next().unwrap_or_default();
        if !span.contains('…') {
            out.push((text[..i].lines().count(), span.replace('\n', " ")));
        }
    }
    out
}

/// The blocks of a language, each with the line where it begins.
pub(crate) fn files(markdown: &str, language: &str) -> Vec<(usize, String)> {
    let of = blocks(markdown)
        .into_iter()
        .filter(|b| b.language == language);
    of.map(|b| (b.line, b.lines.join("\n") + "\n")).collect()
}

/// The pages that show commands.
pub(crate) fn pages() -> Vec<Page> {
    let project = Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let docs = project.join("docs").read_dir_utf8().unwrap();
    let docs = docs.map(|e| e.unwrap().into_path());
    let mut files: Vec<_> = docs.filter(|p| p.extension() == Some("md")).collect();
    files.extend(["README.md", "CONTRIBUTING.md"].map(|n| project.join(n)));
    files.sort();
    let page = |f: &camino::Utf8PathBuf| Page {
        name: f.strip_prefix(project).unwrap_or(f).to_string(),
        text: fs_err::read_to_string(f).unwrap(),
    };
    files.iter().map(page).collect()
}
