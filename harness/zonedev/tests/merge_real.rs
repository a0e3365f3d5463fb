//! Parts of a run on a real kernel: merged, they are the run that was not cut into parts; what is missing,
//! cut off or not of the same run is never green.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::process::Output;

use camino::{Utf8Path, Utf8PathBuf};
use zonedev::record::{CellVerdict, PairRecord, RunFolder, RunRecord};

use common::{command, files, kernel, observations, project, said, turn};

fn zonedev(args: &[&str]) -> Output {
    command(&project(), args).output().unwrap()
}

fn matrix(run: &Utf8Path, more: &[&str]) -> Output {
    let kernel = kernel();
    let mut args = vec![
        "matrix",
        "-k",
        &kernel,
        "-k",
        &kernel,
        "-E",
        "map-touch",
        "-s",
        "fsdax",
    ];
    args.extend(["--run-dir", run.as_str()]);
    args.extend(more);
    zonedev(&args)
}

fn merge(parts: &[&Utf8PathBuf], to: &Utf8Path) -> Output {
    let mut args = vec!["merge", "--run-dir", to.as_str()];
    args.extend(parts.iter().map(|p| p.as_str()));
    zonedev(&args)
}

fn record(run: &Utf8Path) -> RunRecord {
    RunFolder::open(run).read_record().unwrap()
}

/// The pairs, without what no verdict depends on: how a boot was timed is in the log.
fn pairs(of: &RunRecord) -> Vec<PairRecord> {
    let mut pairs = of.pairs.clone();
    for pair in &mut pairs {
        pair.differences.retain(|d| d.kind != "log-line");
    }
    pairs
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    let done = std::process::Command::new("cp")
        .args(["-r", from.as_str(), to.as_str()])
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn merged_parts_are_the_whole_run_and_less_is_not_green() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| Utf8PathBuf::from_path_buf(dir.path().join(name)).unwrap();
    let whole = place("whole");
    let ran = matrix(&whole, &[]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    // By hash, so that a fixture is booted in more than one part.
    let parts: Vec<Utf8PathBuf> = (1..=3).map(|n| place(&format!("part{n}"))).collect();
    for (n, part) in parts.iter().enumerate() {
        let ran = matrix(
            part,
            &["--partition", &format!("hash:{}/3", n + 1), "-j", "2"],
        );
        assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    }
    let cells = |run: &Utf8Path| record(run).cells.len();
    assert!(
        parts.iter().map(|p| cells(p)).sum::<usize>() > cells(&whole),
        "no boot is in both parts"
    );

    // In whatever order, and to the same bytes but for its name.
    let (a, b) = (place("a"), place("b"));
    for (to, order) in [
        (&a, [&parts[0], &parts[1], &parts[2]]),
        (&b, [&parts[2], &parts[0], &parts[1]]),
    ] {
        let merged = merge(&order, to);
        assert_eq!(merged.status.code(), Some(0), "{}", said(&merged));
    }
    assert_eq!(observations(&a), observations(&whole));
    let (merged, ran) = (record(&a), record(&whole));
    assert_eq!(merged.cells, ran.cells);
    assert_eq!(pairs(&merged), pairs(&ran));
    assert_eq!(merged.pages_read, ran.pages_read);
    assert!(merged.unfinished.is_empty());
    let notices = merged.notices.join(
        "
",
    );
    assert!(!notices.contains("hash:"), "{notices}");
    let of = |run: &Utf8Path| -> BTreeMap<String, Vec<u8>> {
        let id = record(run).id;
        let read = |f: Utf8PathBuf| {
            let bytes = std::fs::read(&f).unwrap();
            let bytes = match String::from_utf8(bytes) {
                Ok(text) => text.replace(&id, "ID").into_bytes(),
                Err(e) => e.into_bytes(),
            };
            (f.strip_prefix(run).unwrap().to_string(), bytes)
        };
        files(run).into_iter().map(read).collect()
    };
    assert_eq!(of(&a), of(&b));

    // A part that is lost.
    let lost = place("lost");
    let merged = merge(&[&parts[1], &place("nothing"), &parts[2]], &lost);
    assert_eq!(merged.status.code(), Some(3), "{}", said(&merged));
    let record_of_lost = record(&lost);
    assert!(!record_of_lost.unfinished.is_empty());
    let notices = record_of_lost.notices.join("\n");
    assert!(
        notices.contains("the part hash:1/3 is missing"),
        "{notices}"
    );
    // It is gone on with, and then it is whole.
    let resumed = zonedev(&["matrix", "--resume", lost.as_str()]);
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    assert_eq!(observations(&lost), observations(&whole));

    // A cell whose record is torn, as of a part that was cut off.
    let cut = place("cut");
    copy(&parts[0], &cut);
    let id = record(&cut)
        .cells
        .iter()
        .map(|(id, _)| id.clone())
        .find(|id| id.suite != "boot");
    let id = id.unwrap();
    let packed = cut.join(id.folder()).join("cell.json.zst");
    let bytes = std::fs::read(&packed).unwrap();
    std::fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    let merged = merge(&[&cut, &parts[1], &parts[2]], &place("torn"));
    assert_eq!(merged.status.code(), Some(3), "{}", said(&merged));
    assert_eq!(record(&place("torn")).unfinished, [id]);

    // A boot that went wrong in one of two parts.
    let broken = place("broken");
    copy(&parts[0], &broken);
    let (ids_a, ids_b) = (record(&parts[0]).cells, record(&parts[1]).cells);
    let (boot, _) = ids_a
        .iter()
        .find(|(id, _)| ids_b.iter().any(|(b, _)| b == id))
        .unwrap();
    let folder = RunFolder::open(&broken);
    let mut cell = folder.read_cell(boot).unwrap();
    cell.end = zonedev::record::End::HarnessError {
        message: "as in a test".into(),
    };
    folder.write_cell(&cell).unwrap();
    let merged = merge(&[&broken, &parts[1], &parts[2]], &place("worst"));
    assert_eq!(merged.status.code(), Some(3), "{}", said(&merged));
    let verdicts = record(&place("worst")).cells;
    let verdict = verdicts
        .iter()
        .find(|(id, _)| id == boot)
        .map(|(_, v)| v)
        .unwrap();
    assert!(matches!(verdict, CellVerdict::Error { .. }), "{verdict:?}");

    // What is not of one run.
    let refused = |parts: &[&Utf8PathBuf], says: &str| {
        let to = place("refused");
        let merged = merge(parts, &to);
        let said = said(&merged);
        assert_eq!(merged.status.code(), Some(2), "{said}");
        assert!(said.replace("\n  │ ", " ").contains(says), "{said}");
        assert!(!to.join("record.json").exists());
    };
    refused(&[&whole], "was made without --partition");
    refused(&[&parts[0], &cut], "are both the part");
    let change = |name: &str, file: &str, from: &str, to: &str| {
        let path = place(name);
        copy(&parts[0], &path);
        let file = path.join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        path
    };
    let key = &record(&whole).kernels[0].build_key;
    let other = change("kernel", "begun.json", key, "0123");
    refused(&[&other, &parts[1]], "the kernels differs");
    let other = change("asked", "begun.json", "\"map-touch\"", "\"map\"");
    refused(&[&other, &parts[1]], "what was asked for differs");
    let other = change("of3", "part.json", "hash:1/3", "hash:1/4");
    refused(&[&other, &parts[1]], "the number of parts differs");
    let other = change("specs", "part.json", "\"specs\": \"", "\"specs\": \"0");
    refused(&[&other], "are not those of the parts");
    refused(
        &[&other, &parts[1]],
        "the suites, images and contracts differs",
    );
    let other = change("place", "part.json", "hash:1/3", "hash:2/3");
    refused(&[&other], "is not what this zonedev makes the part");
}
