//! Replays the checked-in corpus: seeds, what fuzzing found to reach further, and every input that
//! once broke something (`found-…`).

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fuzzing::{TARGETS, Target};

/// How long one input may take, in a build without optimisation on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

fn corpus(name: &str) -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let target = Target::named(name).unwrap();
    let files = corpus(name);
    assert!(files.len() >= 3, "{name} has {} files only", files.len());
    for file in files {
        let data = std::fs::read(&file).unwrap();
        let start = Instant::now();
        let done = std::panic::catch_unwind(|| target.check(&data));
        assert!(
            done.is_ok(),
            "{} broke it; the words are above",
            file.display()
        );
        let took = start.elapsed();
        assert!(took < LIMIT, "{} took {took:?}", file.display());
    }
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed_and_has_a_program() {
            let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("libfuzzer");
            let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
            for name in names {
                let program = format!("targets/{name}.rs");
                assert!(manifest.contains(&format!("path = \"{program}\"")), "{name}");
                let text = std::fs::read_to_string(dir.join(program)).unwrap();
                assert!(text.contains(&format!("fuzzing::check(\"{name}\", data)")), "{name}");
            }
        }
    };
}

replayed! {
    frame claims console ktap gcov vmcoreinfo btf vmlinux dump pagetable pages specs series record
}
