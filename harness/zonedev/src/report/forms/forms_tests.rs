//! One run in every form: as it looks, what is always told, and what a hostile guest can't do.
//! Readers that are not ours look at the same text in `just test-formats`.

use super::sample::{HOSTILE, recorded, well};
use super::*;
use crate::record::{CellVerdict, RunRecord};
use proto::text::steers;

/// Each form by its flag.
fn forms(of: &Recorded) -> Vec<(&'static str, String)> {
    let told = github(of, MAX_SUMMARY, &|_| Some("suites/fsdax/a.toml".to_owned()));
    vec![
        ("junit", junit(of).unwrap()),
        ("ktap", ktap(of)),
        ("json", json(&of.run).unwrap()),
        ("github", told.commands),
        ("summary", told.summary),
        ("kcidb", kcidb(of, "zonedev").unwrap()),
        ("markdown", markdown(of, ISSUE)),
        ("mail", mail(of)),
    ]
}

#[test]
fn one_of_everything() {
    let of = recorded();
    for (name, text) in forms(&of) {
        if name != "summary" {
            insta::assert_snapshot!(name, text);
        }
    }
    // For readers that are not ours.
    if let Some(dir) = std::env::var_os("ZONEDEV_FORMS") {
        for (kind, of) in [("sample", of), ("well", well())] {
            for (name, text) in forms(&of) {
                let path = std::path::Path::new(&dir).join(kind).join(name);
                fs_err::write(path, text).unwrap();
            }
        }
    }
}

#[test]
fn where_all_is_well_it_is_told_how_much_ran() {
    for (name, text) in forms(&well()) {
        match name {
            "json" => assert!(text.contains("\"pages_predicted\": 4096")),
            "kcidb" => assert_eq!(text.matches("\"status\": \"PASS\"").count(), 2 + 2 + 1),
            _ => {
                let flat = text.replace('\n', " ");
                for words in [
                    "2 of 2 cells passed",
                    "all 4096 pages read were predicted",
                    "tcg",
                ] {
                    let told = flat.contains(words) || (name == "github" && words == "tcg");
                    assert!(told, "{name} lacks `{words}`:\n{text}");
                }
                assert!(
                    !flat.contains("not ok") && !flat.contains("::error"),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn what_did_not_run_is_no_pass() {
    // All skipped, all cut off, nothing at all: by the record's own code each is 0.
    let mut skipped = well();
    for (_, verdict) in &mut skipped.run.cells {
        *verdict = CellVerdict::Skip {
            reason: "no".into(),
        };
    }
    let mut cut = well();
    cut.run.unfinished = cut.run.cells.drain(1..).map(|(id, _)| id).collect();
    let mut nothing = well();
    (nothing.run.cells, nothing.run.pairs) = (Vec::new(), Vec::new());
    let mut unpredicted = well();
    unpredicted.run.pages_predicted = 5;
    for of in [skipped, cut, nothing, unpredicted] {
        for (name, text) in forms(&of) {
            let told = match name {
                "junit" => text.contains("<failure") || text.contains("<error"),
                "ktap" => text.contains("\nnot ok"),
                "github" => text.contains("::error "),
                "markdown" | "summary" => text.contains('❌'),
                "mail" => !text.contains("regressed.\n") || text.contains("only 5"),
                _ => true,
            };
            assert!(told, "{name}:\n{text}");
        }
    }
    let mut of = well();
    of.run.unfinished = of.run.cells.drain(1..).map(|(id, _)| id).collect();
    assert!(kcidb(&of, "zonedev").unwrap().contains("\"MISS\""));
}

#[test]
fn nothing_of_a_guest_steers_any_form() {
    for (name, text) in forms(&recorded()) {
        assert!(
            !text.chars().any(|c| (steers(c) && c != '\n') || c == '\t'),
            "{name}"
        );
    }
}

#[test]
fn workflow_commands_are_ours_alone_and_no_more_than_are_shown() {
    let of = recorded();
    let ours = ["::error ", "::warning ", "::notice "];
    let commands = github(&of, MAX_SUMMARY, &|_| None).commands;
    for line in commands.lines() {
        assert!(ours.iter().any(|o| line.starts_with(o)), "{line}");
        // The rest has no second command, and no property but ours.
        let (properties, _) = line[2..].split_once("::").unwrap();
        assert_eq!(properties.matches("title=").count(), 1, "{line}");
    }
    assert!(commands.contains("::error file=mm/gup.c,line=133,title="));
    assert!(!commands.contains("%0Ay") && commands.contains("%250A"));
    let mut many = of;
    for (n, (id, verdict)) in many.run.cells.iter_mut().enumerate() {
        id.case = format!("case-{n}");
        *verdict = CellVerdict::Fail {
            reasons: vec![format!("reason {n}")],
            violations: Vec::new(),
            kinds: Vec::new(),
        };
    }
    many.run.notices = (0..40).map(|n| format!("notice {n}")).collect();
    let commands = github(&many, MAX_SUMMARY, &|_| None).commands;
    for word in ["::error ", "::warning "] {
        let lines = commands.lines().filter(|l| l.starts_with(word));
        assert_eq!(lines.count(), 10, "{commands}");
    }
    assert!(commands.contains(" more, in the job's summary"));
}

#[test]
fn markdown_keeps_within_its_bounds_and_counts_the_rest() {
    let mut of = recorded();
    let reasons: Vec<String> = (0..9000).map(|n| format!("{n}: {HOSTILE}")).collect();
    of.run.cells[3].1 = CellVerdict::Fail {
        reasons,
        violations: Vec::new(),
        kinds: Vec::new(),
    };
    for most in [ISSUE, MAX_SUMMARY, 20_000] {
        let text = markdown(&of, most);
        assert!(text.len() <= most, "{} of {most}", text.len());
        assert!(text.contains("more.\n") && text.contains("### To see it again"));
    }
}

#[test]
fn a_mail_is_narrow_and_begins_no_line_with_a_guests_words() {
    let text = mail(&recorded());
    for line in text.lines() {
        let wide = line.chars().count() > 72 && line.trim().contains(' ');
        assert!(!wide, "{line}");
        assert!(!line.starts_with(['>', '-', '\t']) && !line.starts_with("From "));
    }
    assert!(text.contains("6.12+./my.mbox against 6.12: REGRESSED"));
    assert!(text.contains("tcg"));
    assert!(text.contains("zonedev matrix"));
}

#[test]
fn the_commands_to_see_it_again_name_the_cases_and_both_kernels() {
    let text = mail(&recorded());
    let at = text.find("zonedev matrix").unwrap();
    let command = &text[at..];
    assert!(
        command.contains("-k 6.12 \\\n      -k 6.12+./my.mbox \\\n"),
        "{command}"
    );
    assert!(command.contains("-E '=fsdax/fsdax-ext4/"), "{command}");
}

#[test]
fn no_reader_of_our_own_json_is_fooled() {
    let of = recorded();
    let back: RunRecord = serde_json::from_str(&json(&of.run).unwrap()).unwrap();
    assert_eq!(back, of.run);
}
