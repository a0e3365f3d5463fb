//! What a run observed is compared with another day's and made the accepted one, on real kernels.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use camino::{Utf8Path, Utf8PathBuf};
use common::{command, project, said, turn};

const CASE: &str = "fsdax/fsdax-ext4/pin-vmsplice";

/// A project whose one suite has no snapshot yet of the case that is run.
struct Place {
    _dir: tempfile::TempDir,
    dir: Utf8PathBuf,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        for part in [
            "kernels",
            "images",
            "harness",
            "target",
            "Cargo.toml",
            "Cargo.lock",
        ] {
            symlink(project().join(part), dir.join(part)).unwrap();
        }
        let suites = project().join("suites");
        std::fs::create_dir(dir.join("suites")).unwrap();
        for entry in suites.read_dir_utf8().unwrap().map(Result::unwrap) {
            if !["boot", "fsdax"].contains(&entry.file_name()) {
                let to = dir.join("suites").join(entry.file_name());
                symlink(entry.path(), to).unwrap();
            }
        }
        for suite in ["boot", "fsdax"] {
            let (from, to) = (suites.join(suite), dir.join("suites").join(suite));
            std::fs::create_dir_all(to.join("snapshots")).unwrap();
            for file in from.read_dir_utf8().unwrap().map(Result::unwrap) {
                if file.file_type().unwrap().is_file() {
                    symlink(file.path(), to.join(file.file_name())).unwrap();
                }
            }
        }
        for file in suites.join("boot/snapshots").read_dir_utf8().unwrap() {
            let file = file.unwrap();
            let to = dir.join("suites/boot/snapshots").join(file.file_name());
            std::fs::copy(file.path(), to).unwrap();
        }
        Place { _dir: temp, dir }
    }

    /// How a command ended, and what it said.
    fn zonedev(&self, args: &[&str]) -> (i32, String) {
        let output = command(&self.dir, args).output().unwrap();
        let said = said(&output);
        println!("$ zonedev {}\n{said}", args.join(" "));
        (output.status.code().unwrap(), said)
    }

    fn matrix(&self, run: &Utf8Path, kernels: &[&str]) -> (i32, String) {
        let mut args = vec![
            "matrix",
            "-E",
            "fsdax-ext4/pin-vmsplice",
            "--run-dir",
            run.as_str(),
        ];
        args.extend(kernels.iter().flat_map(|k| ["-k", k]));
        self.zonedev(&args)
    }

    /// The accepted ones by name.
    fn snapshots(&self) -> BTreeMap<String, String> {
        let dir = self.dir.join("suites/fsdax/snapshots");
        let files = dir.read_dir_utf8().unwrap().map(Result::unwrap);
        files
            .map(|f| {
                let text = std::fs::read_to_string(f.path()).unwrap();
                (f.file_name().to_owned(), text)
            })
            .collect()
    }
}

#[test]
fn differences_are_accepted_with_their_reason_and_broken_contracts_are_not() {
    let _turn = turn();
    let place = Place::new();
    let run = |name: &str| place.dir.join(name);
    let series = ["5.10", "5.10+zone-device-refcount"];
    let (code, _) = place.matrix(&run("first"), &series);
    assert_eq!(code, 1, "nobody has accepted it");

    let first = run("first");
    let accept = |run: &Utf8Path, more: &[&str]| {
        let mut args = vec!["accept", run.as_str()];
        args.extend(more);
        place.zonedev(&args)
    };
    let (code, said) = accept(&first, &["--reason", " "]);
    assert_eq!((code, said.contains("reason")), (2, true), "{said}");
    assert_eq!(accept(&first, &["-E", "no such", "--reason", "x"]).0, 4);
    assert_eq!(place.snapshots(), BTreeMap::new());
    let reason = ["--reason", "pins are refused"];
    let (code, said) = accept(&first, &reason);
    assert_eq!(code, 0, "{said}");
    // Just what the checkout has, with the reason beside it.
    let written = place.snapshots();
    // Two cases on two kernels.
    assert_eq!(written.len(), 4, "{written:?}");
    for (name, text) in &written {
        let ours = project().join("suites/fsdax/snapshots").join(name);
        let ours = std::fs::read_to_string(ours).unwrap();
        assert!(
            text.contains("\ndescription: \"pins are refused\"\n"),
            "{text}"
        );
        let contents = |text: &str| zonedev::verdict::decode(text).unwrap();
        assert_eq!(contents(text), contents(&ours), "{name}");
    }
    let (code, said) = place.matrix(&run("second"), &series);
    assert_eq!((code, said.contains("changed as accepted")), (0, true));

    // What was accepted is no more what is observed.
    let name = "fsdax__fsdax-ext4__pin-vmsplice@5.10.snap";
    let file = place.dir.join("suites/fsdax/snapshots").join(name);
    let wrong = written[name].replacen("at refcount 1", "at refcount 4", 1);
    assert_ne!(wrong, written[name]);
    std::fs::write(&file, wrong).unwrap();
    let (code, said) = place.matrix(&run("third"), &["5.10", "5.10"]);
    assert_eq!((code, said.contains("refcount 4")), (1, true), "{said}");
    assert_eq!(accept(&run("third"), &reason).0, 0);
    assert_eq!(place.snapshots(), written);

    // What breaks its contract stays so, whoever wants it.
    let patch = project().join("kernels/mutants/leak-vmsplice-5.10.patch");
    let broken_kernel = format!("5.10+{patch}");
    let (code, _) = place.matrix(&run("broken"), &["5.10", &broken_kernel]);
    assert_eq!(code, 1);
    let (code, said) = accept(&run("broken"), &reason);
    assert_eq!((code, said.contains("refused")), (1, true), "{said}");
    assert_eq!(place.snapshots(), written);

    let diff = |old: &str, new: &str| place.zonedev(&["diff", old, new]);
    let (first, second, broken) = (run("first"), run("second"), run("broken"));
    let (code, said) = diff(first.as_str(), second.as_str());
    assert_eq!((code, said.contains("no difference")), (0, true), "{said}");
    // Kernels of the same name; the series is of the first run only.
    let (code, said) = diff(first.as_str(), broken.as_str());
    assert_eq!(
        (code, said.contains("of the first run only")),
        (1, true),
        "{said}"
    );
    // `on 5.10` is a part of both kernels' names: the one that it is the end of is meant.
    let stock = format!("{first}:{CASE} on 5.10");
    let leaks = format!("{broken}:{CASE} on {}", broken_kernel);
    let (code, said) = diff(&stock, &leaks);
    assert_eq!((code, said.contains("now failing")), (1, true), "{said}");
    assert!(said.contains("expected 1"), "{said}");
    assert!(!said.contains("run only"), "{said}");
    assert_eq!(diff(&format!("{first}:no such"), &leaks).0, 4);
    assert_eq!(diff("no-such-run", &leaks).0, 2);
}
