//! Every command that README.md, CONTRIBUTING.md and docs/ show is one that can be typed.

use clap::Parser;

use super::args::Cli;

#[path = "../../tests/docs_real/shown.rs"]
mod shown;

use shown::{commands, files, inline, pages};

#[test]
fn commands_are_found_where_they_stand() {
    let text = "a `zonedev x`\n```sh\n# says\nzonedev list cases   # all\njust a \\\n  b\n```\n\
                ```\n$ zonedev report latest\n1 cell failed\n  in a\n```\n```toml\na = 1\n```\n";
    let found = commands(text);
    let typed: Vec<_> = found.iter().map(|c| (c.line, c.typed.as_str())).collect();
    assert_eq!(
        typed,
        [
            (4, "zonedev list cases   # all"),
            (5, "just a b"),
            (9, "zonedev report latest")
        ]
    );
    assert_eq!(found[2].prints, ["1 cell failed", "  in a"]);
    assert_eq!(files(text, "toml"), [(14, "a = 1\n".to_owned())]);
}

#[test]
fn every_command_of_the_docs_can_be_typed() {
    let justfile = include_str!("../../../../Justfile");
    let recipes: Vec<&str> = (justfile.lines())
        .filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()) && l.contains(':'))
        .filter_map(|l| l.split([' ', ':']).next())
        .collect();
    let mut seen = 0;
    for page in pages() {
        for command in commands(&page.text) {
            let (page, command) = (&page.name, command.typed);
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

/// In words in capitals everything is right that somebody may put there.
#[test]
fn every_command_in_the_text_can_be_typed() {
    let mut wrong = Vec::new();
    for page in pages() {
        for (line, command) in inline(&page.text) {
            // What may be left out stands in brackets.
            let mut words = shlex::split(&command.replace(['[', ']'], "")).unwrap_or_default();
            // Its mere name.
            if words.len() == 2 {
                words.push("--help".to_owned());
            }
            if let Err(e) = Cli::try_parse_from(&words)
                && e.use_stderr()
            {
                wrong.push(format!("{}:{line}: `{command}`: {e}", page.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
