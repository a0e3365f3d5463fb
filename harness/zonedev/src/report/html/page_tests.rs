use std::io::Read as _;

use base64::Engine as _;
use guestmem::{PageKind, PageRun};
use html5ever::tendril::TendrilSink as _;
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proto::{Op, ProgramOutput, StepResult};

use super::*;
use crate::record::testing::{cell, checkpoint, log, region, run, splat, state, step};
use crate::record::{
    AcceptState, CellRecord, CellVerdict, CheckpointRecord, Difference, End, FailureKind,
    FlakyRecord, Frame, Hang, KernelRecord, KnownFailure, KnownRecord, KnownWhat, PairRecord,
    PairVerdict, PredictedRun, SkipRecord, SourcePlace, TestResult, TestStatus, Violation,
};
use crate::report::html::cells::Broken;
use crate::report::html::testing::Plain;

/// Records by their ids, judged by [`Plain`].
struct Of(Vec<CellRecord>);

impl Cells for Of {
    fn record(&self, id: &CellId) -> Result<CellRecord, String> {
        let of_it = self.0.iter().find(|r| r.id == *id).cloned();
        of_it.ok_or_else(|| "failed to read it".to_owned())
    }

    fn predict(&self, c: &CellRecord, at: &CheckpointRecord) -> Result<Vec<PredictedRun>, String> {
        Plain.predict(c, at)
    }

    fn broken(&self, run: &PageRun, predicted: &PredictedRun) -> Vec<Broken> {
        Plain.broken(run, predicted)
    }

    fn operation(&self, op: &Op) -> String {
        Plain.operation(op)
    }
}

fn kernel(name: &str) -> KernelRecord {
    KernelRecord {
        name: name.into(),
        contract: "5.10".into(),
        provenance: [("release".to_owned(), "5.10.262".to_owned())].into(),
        build_key: "1a2b".into(),
    }
}

/// A case on two kernels; on the second one a page has one reference too many.
fn leaking(name: &str) -> (RunRecord, Of) {
    let mut records = Vec::new();
    for (side, kernel, refcount) in [(0, "5.10", 1), (1, "5.10+leak", 2)] {
        let mut c = cell(name, side, kernel);
        c.steps = vec![step(
            Op::Checkpoint {
                name: "after".into(),
            },
            StepResult::Ok {},
        )];
        let mut states = vec![state(1); 64];
        states[8..16].fill(state(refcount));
        let region = region(PageKind::FsDax, "namespace0.0", 0x100_000, &states);
        c.checkpoints = vec![checkpoint("after", vec![region], Vec::new())];
        c.log = vec![log("EXT4-fs (pmem0): mounted", Some(0))];
        records.push(c);
    }
    let reason = "at \"after\": namespace0.0 FS_DAX refcount of 8 pages from pfn 0x100008 (page 8): expected 1, found 2 (idle 1)";
    let failed = CellVerdict::Fail {
        reasons: vec![reason.into()],
        violations: Vec::new(),
        kinds: vec![FailureKind::ContractBroken],
    };
    let ids: Vec<CellId> = records.iter().map(|r| r.id.clone()).collect();
    let skipped = cell("reflink", 0, "5.10").id;
    let record = RunRecord {
        kernels: vec![kernel("5.10"), kernel("5.10+leak")],
        cells: vec![
            (ids[0].clone(), CellVerdict::Pass {}),
            (ids[1].clone(), failed),
            (
                skipped,
                CellVerdict::Skip {
                    reason: "ext4 has no reflink".into(),
                },
            ),
        ],
        unfinished: vec![cell("later", 1, "5.10+leak").id],
        pairs: vec![PairRecord {
            baseline: ids[0].clone(),
            other: ids[1].clone(),
            verdict: PairVerdict::Regressed,
            accepted: AcceptState::NoSnapshot {},
            differences: vec![Difference {
                rank: 4,
                kind: "pages".into(),
                at: Some("\"after\"".into()),
                pages: Some((8, 8)),
                text: "FS_DAX pages idle at 2, baseline 1".into(),
            }],
        }],
        skips: vec![SkipRecord {
            suite: "fsdax".into(),
            contract: "5.10".into(),
            reason: "ext4 has no reflink".into(),
            skips: 1,
        }],
        pages_read: 128,
        pages_predicted: 128,
        boots_kept: 0,
        cpu_ms: Default::default(),
        exit_code: 1,
        ..run()
    };
    (record, Of(records))
}

fn written(record: &RunRecord, begun: Option<&Begun>, cells: &dyn Cells) -> String {
    let mut out = Vec::new();
    html(record, "monday", begun, None, cells, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// An element as a browser would have it.
struct Element {
    depth: usize,
    tag: String,
    attributes: Vec<(String, String)>,
    /// Its own text, without that of its children.
    text: String,
}

impl Element {
    fn get(&self, name: &str) -> Option<&str> {
        let of_name = self.attributes.iter().find(|(n, _)| n == name);
        of_name.map(|(_, value)| value.as_str())
    }
}

fn elements(html: &str) -> Vec<Element> {
    fn walk(node: &Handle, depth: usize, out: &mut Vec<Element>) {
        if let NodeData::Element { name, attrs, .. } = &node.data {
            let children = node.children.borrow();
            let text = children.iter().map(|c| match &c.data {
                NodeData::Text { contents } => contents.borrow().to_string(),
                _ => String::new(),
            });
            out.push(Element {
                depth,
                tag: name.local.to_string(),
                attributes: attrs
                    .borrow()
                    .iter()
                    .map(|a| (a.name.local.to_string(), a.value.to_string()))
                    .collect(),
                text: text.collect(),
            });
        }
        for child in node.children.borrow().iter() {
            walk(child, depth + 1, out);
        }
    }
    let dom = html5ever::parse_document(RcDom::default(), Default::default()).one(html);
    assert!(dom.errors.borrow().is_empty(), "{:?}", dom.errors.borrow());
    let mut out = Vec::new();
    walk(&dom.document, 0, &mut out);
    out
}

/// The page as an outline: what there is, where it leads, what it says.
fn outline(html: &str) -> String {
    let mut out = String::new();
    let shown = |e: &&Element| !matches!(e.tag.as_str(), "style" | "script" | "meta" | "rect");
    for e in elements(html).iter().filter(shown) {
        out.push_str(&"  ".repeat(e.depth.saturating_sub(3)));
        out.push_str(&e.tag);
        for name in ["id", "class", "href", "open", "hidden"] {
            if let Some(value) = e.get(name).map(str::trim) {
                out.push_str(&format!(" {name}={value:?}"));
            }
        }
        let words: Vec<&str> = e.text.split_whitespace().collect();
        out.push_str(&format!(" {}\n", words.join(" ")));
    }
    out.lines()
        .map(|l| l.trim_end().to_owned() + "\n")
        .collect()
}

fn unpacked(packed: &str) -> serde_json::Value {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .unwrap();
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_page_that_is_broken_is_seen_at_once_and_leads_to_its_place() {
    let (record, cells) = leaking("pin");
    insta::assert_snapshot!(outline(&written(&record, None, &cells)));
}

#[test]
fn a_cells_data_hold_what_its_view_shows() {
    let (record, cells) = leaking("pin");
    let all = elements(&written(&record, None, &cells));
    let case = |name: &str| {
        let names = all.iter().find(|e| e.get("id") == Some("cases")).unwrap();
        let names: serde_json::Value = serde_json::from_str(&names.text).unwrap();
        let id = format!("case-{}", names[name]);
        unpacked(&all.iter().find(|e| e.get("id") == Some(&id)).unwrap().text)
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&case("fsdax/fsdax-ext4/pin")).unwrap());
    // What did not run says so, and why.
    let missing = &case("fsdax/fsdax-ext4/later")["cells"][0];
    assert_eq!(missing["verdict"], "unfinished");
    assert_eq!(missing["missing"], "the run ended before this cell did");
    // A record that is gone is told: nothing is made up for it.
    let skipped = &case("fsdax/fsdax-ext4/reflink")["cells"][0];
    assert_eq!(skipped["missing"], "failed to read it");
}

#[test]
fn only_our_own_script_and_style_may_run() {
    let (record, cells) = leaking("pin");
    let all = elements(&written(&record, None, &cells));
    let policy = all
        .iter()
        .find(|e| e.get("http-equiv") == Some("Content-Security-Policy"))
        .and_then(|e| e.get("content"))
        .unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let runs = |e: &&Element| e.tag == "style" || (e.tag == "script" && e.get("type").is_none());
    let allowed: Vec<_> = all.iter().filter(runs).collect();
    assert_eq!(allowed.len(), 2);
    for e in allowed {
        assert!(policy.contains(&policy_hash(&e.text)), "{}", e.tag);
    }
}

/// What a guest, a patch's name or a changed record may say.
const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>]]>-->\"'><b>\u{1b}[2J\u{1b}]0;x\u{7}\u{202e}\u{2066}\u{9b}31m&lt;\u{0}";

/// A run in which every word that may come from elsewhere is hostile.
fn hostile() -> (RunRecord, Begun, Of) {
    let (mut record, Of(mut records)) = leaking(HOSTILE);
    let h = || HOSTILE.to_owned();
    for k in &mut record.kernels {
        (k.name, k.contract, k.build_key) = (h(), h(), h());
        k.provenance.insert(h(), h());
    }
    (record.id, record.accel, record.qemu, record.accel_reason) = (h(), h(), h(), Some(h()));
    record.notices = vec![h()];
    for id in records
        .iter_mut()
        .map(|r| &mut r.id)
        .chain(record.cells.iter_mut().map(|c| &mut c.0))
    {
        (id.suite, id.fixture, id.kernel) = (h(), h(), h());
    }
    for p in &mut record.pairs {
        (p.baseline, p.other) = (records[0].id.clone(), records[1].id.clone());
        p.differences = ["log", "log-line"]
            .map(|kind| Difference {
                rank: 0,
                kind: kind.into(),
                at: Some(h()),
                pages: None,
                text: h(),
            })
            .to_vec();
    }
    record.cells[1].1 = CellVerdict::Fail {
        reasons: vec![h(), format!("at \"{HOSTILE}\": x")],
        violations: vec![Violation {
            checkpoint: h(),
            region: h(),
            pfn: None,
            offset: None,
            pages: 1,
            ranges: 1,
            what: h(),
            expected: h(),
            found: h(),
            because: h(),
        }],
        kinds: vec![FailureKind::KernelReported],
    };
    let known = KnownFailure {
        what: KnownWhat::Report { title: h() },
        sometimes: false,
        reason: h(),
    };
    record.known = vec![KnownRecord {
        cell: records[1].id.clone(),
        known: known.clone(),
    }];
    record.flaky = vec![FlakyRecord {
        cell: records[1].id.clone(),
        runs: 2,
        failed: 1,
        reason: h(),
    }];
    record.skips[0].reason = h();
    for r in &mut records {
        (r.title, r.contract, r.accel) = (h(), h(), h());
        r.end = End::HostError { message: h() };
        r.log = vec![log(HOSTILE, None), log(HOSTILE, Some(0))];
        r.splats = vec![splat(HOSTILE, HOSTILE, (0, 1), None)];
        r.results = vec![TestResult {
            name: h(),
            status: TestStatus::Fail,
            message: h(),
        }];
        r.known_failures = vec![known.clone()];
        r.steps[0].actor = h();
        r.steps[0].outcome.as_mut().unwrap().output = Some(ProgramOutput {
            text: h(),
            code: 1,
            cut: false,
        });
        r.checkpoints[0].name = h();
        r.checkpoints[0].pages.regions[0].owner = Some(h());
        r.splats[0].trace = vec![Frame {
            function: h(),
            offset: 16,
            size: 32,
            module: Some(h()),
            uncertain: true,
            rip: false,
            at: vec![SourcePlace {
                function: h(),
                file: h(),
                line: 7,
            }],
        }];
        let mut hang = Hang::default();
        hang.add(HOSTILE, Err(h()));
        hang.processors.push(h());
        r.hang = Some(hang);
    }
    let begun = Begun {
        version: 1,
        id: h(),
        zonedev: h(),
        started: h(),
        command: vec![h(), h()],
        directory: h(),
        accel: h(),
        accel_reason: None,
        qemu: h(),
        kernels: Vec::new(),
        cells: Vec::new(),
    };
    (record, begun, Of(records))
}

#[test]
fn nothing_that_a_guest_says_becomes_markup_or_steers() {
    let (record, begun, cells) = hostile();
    let html = written(&record, Some(&begun), &cells);
    let steers = |c: char| proto::text::steers(c) && !matches!(c, '\n' | '\t');
    assert!(!html.chars().any(steers));
    let known = [
        "html", "head", "meta", "title", "link", "style", "body", "a", "div", "header", "p",
        "span", "h1", "h2", "h3", "nav", "ul", "ol", "li", "b", "i", "main", "section", "svg",
        "rect", "strong", "details", "summary", "dl", "dt", "dd", "code", "pre", "form", "label",
        "input", "select", "option", "output", "noscript", "table", "thead", "tbody", "tr", "th",
        "td", "footer", "script",
    ];
    let all = elements(&html);
    for e in &all {
        // Within svg there is no style, no a, no script.
        assert!(known.contains(&e.tag.as_str()), "{}", e.tag);
        for (name, value) in &e.attributes {
            let fine = !name.starts_with("on") && name != "style" && name != "src";
            assert!(fine, "{} {name}={value}", e.tag);
            if name == "href" {
                assert!(value.starts_with('#') || value == "data:,", "{value}");
            }
        }
    }
    let scripts: Vec<_> = all.iter().filter(|e| e.tag == "script").collect();
    assert_eq!(
        scripts.iter().filter(|e| e.get("type").is_none()).count(),
        1
    );
    for e in scripts {
        match e.get("type") {
            Some("application/octet-stream") => {
                let data = unpacked(&e.text).to_string();
                assert!(!data.chars().any(proto::text::steers));
            }
            Some("application/json") => {
                serde_json::from_str::<serde_json::Value>(&e.text).unwrap();
            }
            other => assert_eq!(other, None),
        }
    }
    assert!(html.contains("\\u{1b}[2J"), "it is told, not left out");
}

/// As many cells as a full matrix has; every seventh case breaks on one kernel.
fn many() -> (RunRecord, Of) {
    let (template, Of(of)) = leaking("pin");
    let kernels: Vec<KernelRecord> = (0..6).map(|n| kernel(&format!("6.{n}"))).collect();
    let mut record = RunRecord {
        kernels,
        cells: Vec::new(),
        unfinished: Vec::new(),
        pairs: Vec::new(),
        ..template.clone()
    };
    let mut records = Vec::new();
    for n in 0..860 {
        for side in 0..6 {
            let broken = n % 7 == 0 && side == 3;
            let mut c = of[usize::from(broken)].clone();
            c.id = cell(&format!("case-{n}"), side, &format!("6.{side}")).id;
            c.id.fixture = format!("fixture-{}", n / 20);
            c.steps = (0..12).flat_map(|_| c.steps.clone()).collect();
            for line in 0..20 {
                c.log.push(log(
                    &format!("line {n} {side} {line} of pmem{line}"),
                    Some(0),
                ));
            }
            let verdict = template.cells[usize::from(broken)].1.clone();
            record.cells.push((c.id.clone(), verdict));
            if side > 0 {
                record.pairs.push(PairRecord {
                    baseline: cell(&format!("case-{n}"), 0, "6.0").id,
                    other: c.id.clone(),
                    verdict: match broken {
                        true => PairVerdict::Regressed,
                        false => PairVerdict::ChangedAsAccepted,
                    },
                    ..template.pairs[0].clone()
                });
            }
            records.push(c);
        }
    }
    (record, Of(records))
}

/// `just test-report` opens these in a browser; the folder is named in the environment.
#[test]
fn pages_for_the_browser_are_whole_and_not_too_large() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("ZONEDEV_REPORT_PAGES");
    let dir = dir.map_or_else(|| temporary.path().to_owned(), std::path::PathBuf::from);
    let (broken, hostile, many) = (leaking("pin"), hostile(), many());
    let pages = [
        ("broken.html", written(&broken.0, None, &broken.1)),
        (
            "hostile.html",
            written(&hostile.0, Some(&hostile.1), &hostile.2),
        ),
        ("many.html", written(&many.0, None, &many.1)),
    ];
    for (name, page) in pages {
        assert!(page.ends_with("</html>\n"), "{name}");
        assert!(page.len() < 15_000_000, "{name}: {} bytes", page.len());
        fs_err::write(dir.join(name), page).unwrap();
    }
}

#[test]
fn a_green_run_in_which_nothing_ran_is_not_green() {
    let mut record = RunRecord {
        kernels: vec![kernel("5.10")],
        ..run()
    };
    let title = |record: &RunRecord| {
        let all = elements(&written(record, None, &Of(Vec::new())));
        all.iter().find(|e| e.tag == "h1").unwrap().text.clone()
    };
    assert_eq!(title(&record), "Nothing ran");
    let one = cell("a", 0, "5.10");
    record.cells = vec![(one.id.clone(), CellVerdict::Pass {})];
    assert_eq!(title(&record), "Nothing regressed");
    // It passed without a page: the page says so.
    let html = written(&record, None, &Of(vec![one]));
    assert!(html.contains("1 of those that passed read no page"));
    assert!(html.contains("no pages</i>"));
}
