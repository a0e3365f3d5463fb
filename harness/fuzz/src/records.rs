//! What a run's folder holds, after somebody changed it, and what is made of it.

use std::sync::LazyLock;

use camino::{Utf8Component, Utf8Path};
use zonedev::record::{
    Begun, CellId, CellRecord, CellVerdict, CheckpointRecord, End, Event, PairVerdict, RunRecord,
};
use zonedev::report::{Look, inspect, summary, trouble};
use zonedev::spec::{Contract, SpecFile};
use zonedev::verdict;

use crate::assert_shown_but;

/// The project's contracts.
pub(crate) static CONTRACTS: LazyLock<Vec<Contract>> = LazyLock::new(|| {
    let names = ["5.10", "5.10+zone-device-refcount", "6.1", "6.12", "7.3"];
    let load = |name: &str| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernels/contracts");
        let path = format!("{dir}/{name}.toml");
        let contract = SpecFile::read(Utf8Path::new(&path), "the contract")
            .and_then(|file| Contract::parse(&file));
        match contract {
            Ok(contract) => contract,
            Err(e) => panic!("{e}"),
        }
    };
    names.map(load).into()
});

/// A cell that is nothing but a checkpoint.
fn cell(checkpoint: &CheckpointRecord) -> CellRecord {
    CellRecord {
        id: CellId {
            suite: "s".into(),
            fixture: "f".into(),
            case: "c".into(),
            side: 0,
            kernel: "k".into(),
        },
        title: "t".into(),
        accel: "tcg".into(),
        isolation: "clone".into(),
        contract: "k".into(),
        end: End::Finished {},
        steps: Vec::new(),
        checkpoints: vec![checkpoint.clone()],
        log: Vec::new(),
        splats: Vec::new(),
        results: Vec::new(),
        known_failures: Vec::new(),
        fixture_pages: Vec::new(),
        left: None,
        before: None,
        hang: None,
        repeats: None,
        booted_in: None,
        took_ms: 0,
    }
}

/// What must hold of the judgement of a checkpoint, whatever was read and claimed.
pub(crate) fn judged(checkpoint: &CheckpointRecord, contract: &Contract) {
    let checked = verdict::check(checkpoint, contract);
    assert!(checked.violations.len() <= 257);
    assert!(checked.predicted <= checked.pages);
    predicted(checkpoint, contract);
    let cell = cell(checkpoint);
    let judged = verdict::judge_cell(&cell, contract);
    let whole = checked.violations.is_empty() && checked.predicted == checked.pages;
    assert_eq!(judged.verdict == CellVerdict::Pass {}, whole);
    written(&cell);
}

/// Every page has at most one prediction.
fn predicted(checkpoint: &CheckpointRecord, contract: &Contract) {
    let runs = verdict::predict(checkpoint, contract);
    assert!(runs.len() <= (1 << 19) + 1000, "{} runs", runs.len());
    let mut free = 0;
    for run in &runs {
        assert!(run.pages > 0 && run.pfn >= free, "{run:?}");
        free = run.pfn.saturating_add(run.pages);
        assert!(run.held_by.len() <= 20_000);
    }
    let text = inspect(&cell(checkpoint), checkpoint, &runs, &Look::plain(100));
    assert_shown_but(&text, "\n");
}

/// The text of a cell: of bounded length in what a guest says, and nothing in it steers a terminal.
fn written(cell: &CellRecord) -> String {
    let text = verdict::normalised(cell);
    assert_shown_but(&text, "\n");
    let snapshot = verdict::encode("s", "e", Some("r"), &text);
    let back = verdict::decode(&snapshot);
    assert!(back.is_some_and(|back| verdict::agrees(&back, &text)));
    assert_shown_but(&trouble(cell, &Look::plain(80)), "\n");
    text
}

/// A record as JSON: of a cell, of a run, of its beginning, or an event.
pub(crate) fn record(data: &[u8]) {
    if let Ok(cell) = serde_json::from_slice::<CellRecord>(data) {
        of_cell(&cell, &CONTRACTS[data.len() % CONTRACTS.len()]);
    } else if let Ok(run) = serde_json::from_slice::<RunRecord>(data) {
        assert_shown_but(&summary(&run, "latest", &Look::plain(100)), "\n");
        run.cells.iter().for_each(|(id, _)| folder(id));
        again(&run);
    } else if let Ok(begun) = serde_json::from_slice::<Begun>(data) {
        begun.cells.iter().for_each(folder);
        again(&begun);
    } else if let Ok(event) = serde_json::from_slice::<Event>(data) {
        again(&event);
    }
}

fn of_cell(cell: &CellRecord, contract: &Contract) {
    folder(&cell.id);
    again(cell);
    written(cell);
    for checkpoint in &cell.checkpoints {
        let runs = verdict::predict(checkpoint, contract);
        let text = inspect(cell, checkpoint, &runs, &Look::plain(100));
        assert_shown_but(&text, "\n");
    }
    let judged = verdict::judge_cell(cell, contract);
    assert!(judged.pages_predicted <= judged.pages_read);
    let pair = verdict::pair(cell, cell, &judged.verdict, &judged.verdict, None, None);
    let text = pair
        .differences
        .iter()
        .map(|d| d.text.as_str())
        .collect::<Vec<_>>();
    assert!(text.is_empty(), "a cell differs from itself: {text:?}");
    assert!(matches!(
        pair.verdict,
        PairVerdict::Same | PairVerdict::Incomparable
    ));
}

/// A cell's folder is one of the run's, whatever its names are.
fn folder(id: &CellId) {
    let folder = id.folder();
    let parts: Vec<Utf8Component<'_>> = Utf8Path::new(&folder).components().collect();
    assert!(
        parts.len() >= 5 && parts[0] == Utf8Component::Normal("cells"),
        "{folder}"
    );
    assert!(
        parts.iter().all(|p| matches!(p, Utf8Component::Normal(_))),
        "{folder}"
    );
}

/// What was read is written, and read again, as the same.
fn again<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let read = serde_json::to_vec(value).and_then(|json| serde_json::from_slice::<T>(&json));
    match read {
        Ok(read) => assert_eq!(read, *value),
        Err(e) => panic!("{e}"),
    }
}
