//! Each command that README.md, CONTRIBUTING.md and docs/ show is typed, in a project of its own, and must do
//! what its page says. Where it wants kernels that are not at hand, 5.10 or what `just test` makes of it
//! takes their place, and its cells are listed under the names that the page gives (`rules/`).
//!
//! As the other tests on real kernels this needs `ZONEDEV_TEST_KERNEL` (which `just test` sets), and says so
//! where it does nothing.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod place;
mod rules;
#[allow(dead_code)]
mod shown;
mod terminal;
mod world;

use std::collections::BTreeSet;

use common::{project, turn};
use rules::{FILES, How, Is, rule, rules};
use shown::{Page, Shown, files, pages};
use world::World;

/// A command, or a line of a file, without the comment behind it.
fn without_comment(typed: &str) -> &str {
    typed.split(" # ").next().unwrap_or_default().trim()
}

/// The pages, README.md last: what it shows builds on what the others explain.
fn in_order() -> Vec<Page> {
    let (last, mut first): (Vec<_>, _) = pages().into_iter().partition(|p| p.name == "README.md");
    first.extend(last);
    first
}

/// All commands, and where they stand. Those that need the guest that hangs come last, since that takes its
/// time.
fn commands() -> Vec<(String, Shown)> {
    let of = |page: Page| {
        let commands = shown::commands(&page.text);
        commands.into_iter().map(move |c| (page.name.clone(), c))
    };
    let mut all: Vec<_> = in_order().into_iter().flat_map(of).collect();
    all.sort_by_key(|(_, c)| rules::waits_for_a_hang(without_comment(&c.typed)));
    all
}

#[test]
fn there_is_a_rule_for_each_command_and_a_command_for_each_rule() {
    let commands = commands();
    let typed: BTreeSet<&str> = commands
        .iter()
        .map(|(_, c)| without_comment(&c.typed))
        .collect();
    let mut wrong = Vec::new();
    for (page, command) in &commands {
        if rule(without_comment(&command.typed)).is_none() {
            wrong.push(format!(
                "{page}:{}: no rule for `{}`",
                command.line, command.typed
            ));
        }
    }
    for (i, (of, _)) in rules().enumerate() {
        if !typed.contains(of) {
            wrong.push(format!("rules: no page shows `{of}`"));
        }
        if rules().take(i).any(|(other, _)| other == of) {
            wrong.push(format!("rules: `{of}` has two rules"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What another test does is named by its file and its words.
#[test]
fn what_is_done_elsewhere_is_there() {
    for (of, hows) in rules() {
        for how in hows {
            let (file, texts): (&str, Vec<String>) = match how {
                How::Elsewhere(file, texts) => {
                    (file, texts.iter().map(|t| (*t).to_owned()).collect())
                }
                How::Recipe(line) => {
                    let recipe = of.split_whitespace().nth(1).unwrap();
                    let justfile = std::fs::read_to_string(project().join("Justfile")).unwrap();
                    let mut lines = justfile.lines().skip_while(|l| {
                        !l.strip_prefix(recipe)
                            .is_some_and(|rest| rest.starts_with([' ', ':']))
                    });
                    lines.next();
                    let body: Vec<&str> = lines.take_while(|l| l.starts_with(' ')).collect();
                    assert!(
                        body.iter().any(|l| l.contains(line)),
                        "{recipe} is {body:?}"
                    );
                    continue;
                }
                _ => continue,
            };
            let text = std::fs::read_to_string(project().join(file));
            let text = text.unwrap_or_else(|e| panic!("`{of}`: {file}: {e}"));
            for words in texts {
                assert!(text.contains(&words), "`{of}`: {file} has no `{words}`");
            }
        }
    }
}

/// Each file that a page shows is one that is tried, or a part of one.
#[test]
fn there_is_a_rule_for_each_file() {
    let mut known = 0;
    for page in pages() {
        for (line, text) in files(&page.text, "toml") {
            let first = text.lines().next().unwrap_or_default();
            let file = (FILES.iter()).find(|f| f.page == page.name && text.contains(f.has));
            let Some(file) = file else {
                panic!("{}:{line}: nothing tries this file: {first}", page.name);
            };
            if let Is::PartOf(whole) = file.is {
                let whole = std::fs::read_to_string(project().join(whole)).unwrap();
                let mut there = whole.lines().map(without_comment);
                for wanted in text.lines().map(without_comment).filter(|l| !l.is_empty()) {
                    let found = there.any(|l| l == wanted);
                    assert!(
                        found,
                        "{}:{line}: the file has no `{wanted}` there",
                        page.name
                    );
                }
            }
            known += 1;
        }
    }
    assert_eq!(
        known,
        FILES.len(),
        "the rules name files that no page shows"
    );
}

#[test]
fn what_the_pages_say_is_what_happens() {
    if std::env::var_os("ZONEDEV_TEST_KERNEL").is_none() {
        eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
        return;
    }
    let _turn = turn();
    let mut world = World::new(&in_order());
    let mut wrong = Vec::new();
    for (page, command) in commands() {
        let typed = without_comment(&command.typed);
        // Another test tells which have none.
        for how in rule(typed).unwrap_or_default() {
            let began = std::time::Instant::now();
            let said = world.serve(typed, how, &command.prints);
            let took = began.elapsed();
            println!(
                "{page}:{}: {typed} ({took:.1?}, {})",
                command.line,
                how.kind()
            );
            if let Err(e) = said {
                wrong.push(format!("{page}:{}: `{typed}`: {e}", command.line));
            }
        }
    }
    wrong.extend(world.end());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
