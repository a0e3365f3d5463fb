//! The corpus: consoles of kernels in trouble, as `just corpus` records them, with the records that
//! they must give. `tests/data/reports/KERNEL/CASE.log` is what the case of suites/trouble made that
//! kernel say; `CASE.expected`, beside it, was read by a person.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;
use regex::Regex;
use serde::Deserialize;

use super::tests::shown;
use super::*;
use crate::observe::console;

/// One log of the corpus.
struct Recorded {
    kernel: String,
    case: String,
    path: Utf8PathBuf,
    text: String,
}

static CORPUS: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
    let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reports");
    let mut out = Vec::new();
    for kernel in dir.read_dir_utf8().unwrap() {
        let kernel = kernel.unwrap();
        if !kernel.path().is_dir() {
            continue;
        }
        for log in kernel.path().read_dir_utf8().unwrap() {
            let path = log.unwrap().path().to_owned();
            if path.extension() != Some("log") {
                continue;
            }
            out.push(Recorded {
                kernel: kernel.file_name().to_owned(),
                case: path.file_stem().unwrap().to_owned(),
                text: fs_err::read_to_string(&path).unwrap(),
                path,
            });
        }
    }
    out.sort_by(|a, b| (&a.kernel, &a.case).cmp(&(&b.kernel, &b.case)));
    out
});

fn names(text: &str) -> Vec<(String, String)> {
    splats(&console(text.as_bytes()))
        .into_iter()
        .map(|s| (s.kind, s.title))
        .collect()
}

#[test]
fn each_log_gives_the_records_beside_it() {
    let update = std::env::var_os("ZONEDEV_UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for log in CORPUS.iter() {
        let lines = console(log.text.as_bytes());
        let mut got = String::new();
        for s in splats(&lines) {
            shown(&s, &lines, &mut got).unwrap();
        }
        let path = log.path.with_extension("expected");
        if update {
            fs_err::write(&path, &got).unwrap();
        }
        if fs_err::read_to_string(&path).unwrap() != got {
            wrong.push(format!("{path}:\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CORPUS.len() >= 60, "{} logs", CORPUS.len());
}

/// `differences.toml`: where eras name the same trouble differently.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    difference: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    case: String,
    reason: String,
}

#[test]
fn the_same_trouble_has_one_name_in_every_era() {
    let path =
        Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reports/differences.toml");
    let listed: Differences = toml::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    // The kernels that give a case's reports the same names, by these.
    type ByNames<'a> = BTreeMap<Vec<(String, String)>, Vec<&'a str>>;
    let mut by_case: BTreeMap<&str, ByNames> = BTreeMap::new();
    for log in CORPUS.iter() {
        let of_case = by_case.entry(&log.case).or_default();
        // What comes first of two processors' reports is a matter of time, and how often also.
        let mut names = names(&log.text);
        names.sort();
        names.dedup();
        of_case.entry(names).or_default().push(&log.kernel);
    }
    let differ: BTreeSet<&str> = by_case
        .iter()
        .filter(|(_, by_names)| by_names.len() > 1)
        .map(|(case, _)| *case)
        .collect();
    for d in &listed.difference {
        assert!(!d.reason.is_empty());
        assert!(
            differ.contains(d.case.as_str()),
            "{} is listed and does not differ",
            d.case
        );
    }
    let unlisted: Vec<_> = differ
        .iter()
        .filter(|c| !listed.difference.iter().any(|d| d.case == **c))
        .map(|c| (c, &by_case[c]))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:#?}");
}

/// What another build of the same kernel, another run and other processors would print.
fn other_build(text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            // Offset and size in a function, and what the compiler made of it.
            (
                r"(?<f>\b[a-zA-Z_]\w*)(?:\.(?:isra|constprop|part|cold)(?:\.\d+)?)*\+0x[0-9a-f]+/0x[0-9a-f]+",
                "$f.constprop.0.isra.3+0x1a7/0x9c1",
            ),
            // A place in the source.
            (r"(?<f>\w\.[ch]):\d+", "$f:4711"),
            // Addresses, and pointers as %p hides them.
            (r"\b(?<p>0x)?(?:[0-9a-f]{16})\b", "${p}ffff88800badcafe"),
            (r"\(____ptrval____\)", "00000000deadbeef"),
            // Tasks and processors.
            (r"\bPID: \d+", "PID: 4242"),
            (r"(?<c>[/:])\d+(?<e>\]$|\]\s*$|$)", "${c}4242$e"),
            (r"\bCPU: \d+", "CPU: 7"),
            (r"CPU#\d+", "CPU#7"),
        ]
        .map(|(regex, to)| (Regex::new(regex).unwrap(), to))
        .into()
    });
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if !line.contains("zonedev: ") {
            for (rule, to) in RULES.iter() {
                line = rule.replace_all(&line, *to).into_owned();
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[test]
fn titles_are_the_same_in_another_build() {
    let mut changed = 0;
    for log in CORPUS.iter() {
        let other = other_build(&log.text);
        changed += usize::from(other != log.text);
        assert_eq!(names(&other), names(&log.text), "{}", log.path);
    }
    assert!(changed > 50, "the rules changed {changed} logs");
}

#[test]
fn a_log_cut_at_any_line_has_no_more_reports_than_the_whole() {
    for log in CORPUS.iter() {
        let lines = console(log.text.as_bytes());
        let whole = splats(&lines).len();
        for end in 0..lines.len() {
            let found = splats(&lines[..end]);
            assert!(
                found.len() <= whole,
                "{} cut at line {end}: {} of {whole}",
                log.path,
                found.len()
            );
            for s in &found {
                assert!(s.lines.0 < s.lines.1 && s.lines.1 <= end, "{}", log.path);
            }
        }
    }
}

#[test]
fn what_is_said_three_times_counts_three_times() {
    for log in CORPUS.iter() {
        let mut once = names(&log.text);
        let mut thrice = names(&log.text.repeat(3));
        once = [once.clone(), once.clone(), once].concat();
        once.sort();
        thrice.sort();
        assert_eq!(thrice, once, "{}", log.path);
    }
}

/// The lines of two logs, in their own order each, with callers of their own.
fn mixed(a: &str, b: &str, mut dice: u64) -> String {
    static CALLER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?<t>\[ *\d+\.\d{6}\])\[ *(?<k>[TC])(?<n>\d+)\]").unwrap());
    let of_other = |line: &str| {
        let to = |c: &regex::Captures<'_>| {
            let n: u32 = c["n"].parse().unwrap();
            format!("{}[{:>6}]", &c["t"], format!("{}{}", &c["k"], n + 5000))
        };
        CALLER.replace(line, to).into_owned()
    };
    let b: Vec<String> = b
        .lines()
        .filter(|l| !l.contains("zonedev: "))
        .map(of_other)
        .collect();
    let mut a = a.lines().peekable();
    let mut b = b.iter().map(String::as_str).peekable();
    let mut out = String::new();
    while a.peek().is_some() || b.peek().is_some() {
        // xorshift: a run of this one, a run of that one.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let from: &mut dyn Iterator<Item = &str> = match dice & 1 {
            0 => &mut a,
            _ => &mut b,
        };
        for line in from.take(1 + (dice >> 8) as usize % 3) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn reports_of_two_processors_are_told_apart(
        a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), dice in 1..u64::MAX
    ) {
        let (a, b) = (a.get(&CORPUS), b.get(&CORPUS));
        // Who has other processors dumped gets their dumps by place: that is no matter of callers.
        // So does a person, by sysrq-l.
        let asks = |log: &Recorded| {
            names(&log.text).iter().any(|(kind, _)| ASKS.contains(&kind.as_str()))
                || log.text.contains("sysrq: Show backtrace of all active CPUs")
        };
        prop_assume!(!asks(a) && !asks(b));
        let text = mixed(&a.text, &b.text, dice);
        let mut both = [names(&a.text), names(&b.text)].concat();
        let mut got = names(&text);
        both.sort();
        got.sort();
        prop_assert_eq!(got, both, "{} and {}", a.path, b.path);
    }
}
