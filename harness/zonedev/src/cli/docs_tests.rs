//! Every command that README.md, CONTRIBUTING.md and docs/ show is one that can be typed.

use camino::Utf8Path;
use clap::Parser;

use super::args::Cli;

/// Commands of a Markdown text: lines of ```sh blocks, and what stands after `$ ` in others. A line that
/// ends in a backslash goes on in the next.
pub(crate) fn commands(markdown: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut block: Option<&str> = None;
    let mut goes_on = false;
    for line in markdown.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(language.trim()),
                Some(_) => None,
            };
            continue;
        }
        let Some(language) = block else { continue };
        let line = line.trim();
        if let Some(last) = out.last_mut().filter(|_| goes_on) {
            last.push_str(line.trim_end_matches('\\'));
            goes_on = line.ends_with('\\');
            continue;
        }
        let command = match (language, line.strip_prefix("$ ")) {
            (_, Some(command)) => command,
            ("sh", None) => line,
            _ => continue,
        };
        if !command.is_empty() && !command.starts_with('#') {
            goes_on = command.ends_with('\\');
            out.push(command.trim_end_matches('\\').to_owned());
        }
    }
    out
}

/// The pages that show commands.
pub(crate) fn pages() -> Vec<(String, String)> {
    let project = Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let docs = project.join("docs").read_dir_utf8().unwrap();
    let docs = docs.map(|e| e.unwrap().into_path());
    let mut files: Vec<_> = docs.filter(|p| p.extension() == Some("md")).collect();
    files.extend(["README.md", "CONTRIBUTING.md"].map(|n| project.join(n)));
    files.sort();
    let text = |f: &Utf8Path| fs_err::read_to_string(f).unwrap();
    (files.iter())
        .map(|f| (f.strip_prefix(project).unwrap_or(f).to_string(), text(f)))
        .collect()
}

#[test]
fn commands_are_found_where_they_stand() {
    let text = "a `zonedev x`\n```sh\n# says\nzonedev list cases   # all\njust a \\\n  b\n```\n\
                ```\n$ zonedev report latest\n1 cell failed\n```\n";
    assert_eq!(
        commands(text),
        [
            "zonedev list cases   # all",
            "just a b",
            "zonedev report latest"
        ]
    );
}

#[test]
fn every_command_of_the_docs_can_be_typed() {
    let justfile = include_str!("../../../../Justfile");
    let recipes: Vec<&str> = (justfile.lines())
        .filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()) && l.contains(':'))
        .filter_map(|l| l.split([' ', ':']).next())
        .collect();
    let mut seen = 0;
    for (page, text) in pages() {
        for command in commands(&text) {
            let words = shlex::split(&command).unwrap_or_else(|| panic!("{page}: {command}"));
            // What stands before it sets variables; what stands after a pipe is another program's.
            let mut words: Vec<&str> = (words.iter())
                .map(String::as_str)
                .skip_while(|w| w.contains('=') && !w.starts_with('-'))
                .take_while(|w| !["|", "&&", ";", ">", "&"].contains(w))
                .collect();
            if words.first() == Some(&"sudo") {
                words.remove(0);
            }
            match words.first() {
                Some(&"zonedev") => {
                    seen += 1;
                    if let Err(e) = Cli::try_parse_from(&words)
                        && e.use_stderr()
                    {
                        panic!("{page}: `{command}`: {e}");
                    }
                }
                Some(&("just" | "./just")) => {
                    seen += 1;
                    let recipe = words.get(1).copied().unwrap_or("default");
                    assert!(recipes.contains(&recipe), "{page}: `{command}`");
                }
                _ => {}
            }
        }
    }
    assert!(seen > 50, "{seen}");
}
