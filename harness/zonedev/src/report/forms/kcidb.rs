//! kcidb's report data, version 5.3 (<https://github.com/kernelci/kcidb-io>): kernels as builds, cells
//! and pairs as test runs.

use serde::Serialize;
use serde_json::{Map, Value, json};

use proto::text::escape;

use super::json::to_json;
use super::outcomes::Outcome;
use super::recorded::Recorded;
use super::{outcomes, totals};
use crate::record::{CellId, KernelRecord, PairVerdict};

/// Characters of a log's excerpt that its schema takes.
const MAX_EXCERPT: usize = 16_384;

/// A report.
#[derive(Debug, Serialize)]
struct Kcidb {
    version: Version,
    checkouts: Vec<Value>,
    builds: Vec<Value>,
    tests: Vec<Value>,
}

#[derive(Debug, Serialize)]
struct Version {
    major: u32,
    minor: u32,
}

/// Writes the run as data of `origin`, which is the name of the CI system that submits it: small
/// letters, digits and `_`. A cell that did not finish is `MISS`, one that says nothing of the kernel
/// `ERROR`; neither is a pass.
///
/// # Errors
/// Never, as far as serde goes.
pub fn kcidb(of: &Recorded, origin: &str) -> serde_json::Result<String> {
    let run = &of.run;
    let mut out = Kcidb {
        version: Version { major: 5, minor: 3 },
        checkouts: Vec::new(),
        builds: Vec::new(),
        tests: Vec::new(),
    };
    for kernel in &run.kernels {
        let (checkout, build) = kernel_objects(kernel, origin);
        // Two sides of a run may be one build.
        if !out.builds.iter().any(|b| b["id"] == build["id"]) {
            out.checkouts.push(checkout);
            out.builds.push(build);
        }
    }
    for (id, verdict) in &run.cells {
        let test = outcomes::cell(of, id, verdict);
        out.tests
            .push(cell(of, origin, id, &test, status(&test.outcome)));
    }
    for id in &run.unfinished {
        let test = outcomes::unfinished(id);
        out.tests.push(cell(of, origin, id, &test, "MISS"));
    }
    for record in &run.pairs {
        let test = outcomes::pair(record);
        let id = &record.other;
        let mut value = cell(of, origin, id, &test, status(&test.outcome));
        let compared = format!("compared.{}", path(id));
        value["id"] = json!(format!(
            "{origin}:{}/{}/compared/{}",
            run.id,
            id.side,
            id.case_path()
        ));
        value["path"] = json!(format!("zonedev.{compared}"));
        let base = of.kernel(&record.baseline);
        value["comment"] = json!(escape(&format!("compared with {base}")));
        value["misc"]["baseline"] = json!(escape(&base));
        value["misc"]["verdict"] = json!(match record.verdict {
            PairVerdict::Same => "same",
            PairVerdict::ChangedAsAccepted => "changed as accepted",
            PairVerdict::Regressed => "regressed",
            PairVerdict::Fixed => "fixed",
            PairVerdict::Incomparable => "not comparable",
        });
        if let Some(object) = value.as_object_mut() {
            // The cell has it.
            object.remove("duration");
        }
        out.tests.push(value);
    }
    to_json(&out)
}

fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail { .. } => "FAIL",
        Outcome::Skip { .. } => "SKIP",
        Outcome::Error { .. } => "ERROR",
    }
}

fn kernel_objects(kernel: &KernelRecord, origin: &str) -> (Value, Value) {
    let key = escape(&kernel.build_key);
    let name = escape(&kernel.name);
    let says = kernel.provenance.iter();
    let misc: Map<String, Value> = says
        .map(|(k, v)| (escape(k), Value::from(escape(v))))
        .collect();
    let checkout = json!({
        "id": format!("{origin}:{key}"),
        "origin": origin,
        "comment": name,
        "valid": true,
        "misc": misc,
    });
    let mut build = json!({
        "id": format!("{origin}:{key}"),
        "checkout_id": format!("{origin}:{key}"),
        "origin": origin,
        "comment": name,
        "architecture": "x86_64",
        "status": "PASS",
        "misc": { "contract": escape(&kernel.contract) },
    });
    if let Some(compiler) = kernel.provenance.get("compiler") {
        build["compiler"] = json!(escape(compiler));
    }
    (checkout, build)
}

/// `fsdax.fsdax-ext4.map-touch`: what kcidb's paths have no letter for becomes `_`.
fn path(id: &CellId) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let parts = id.case_path();
    let parts = parts.split('/').map(|part| {
        let part: String = part
            .chars()
            .map(|c| if keep(c) { c } else { '_' })
            .collect();
        if part.is_empty() {
            "_".to_owned()
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join(".")
}

fn cell(
    of: &Recorded,
    origin: &str,
    id: &CellId,
    test: &outcomes::Test<'_>,
    status: &str,
) -> Value {
    let run = &of.run;
    let build = run.kernels.get(id.side).map(|k| escape(&k.build_key));
    let mut out = json!({
        "id": format!("{origin}:{}/{}/{}", escape(&run.id), id.side, escape(&id.case_path())),
        "build_id": format!("{origin}:{}", build.unwrap_or_default()),
        "origin": origin,
        "path": format!("zonedev.{}", path(id)),
        "status": status,
        "environment": {
            "comment": escape(&totals::machine(run)),
            "misc": { "accel": escape(&run.accel), "qemu": escape(&run.qemu) },
        },
        "misc": { "kernel": escape(&id.kernel), "run": escape(&run.id) },
    });
    let (comment, mut lines) = match &test.outcome {
        Outcome::Pass => (None, Vec::new()),
        Outcome::Skip { reason } => (Some(reason.clone()), Vec::new()),
        Outcome::Fail { kind, reasons } => (Some(kind.clone()), reasons.clone()),
        Outcome::Error { kind, reason } => (Some((*kind).to_owned()), vec![reason.clone()]),
    };
    if let Some(comment) = comment {
        out["comment"] = json!(escape(&comment));
    }
    lines.extend(test.trouble.lines().map(str::to_owned));
    if !lines.is_empty() {
        let text: Vec<String> = lines.iter().map(|l| escape(l)).collect();
        let text: String = text.join("\n").chars().take(MAX_EXCERPT).collect();
        out["log_excerpt"] = json!(text);
    }
    if !test.notes.is_empty() {
        let notes: Vec<String> = test.notes.iter().map(|n| escape(n)).collect();
        out["misc"]["notes"] = json!(notes);
    }
    if let Some(ms) = test.took_ms {
        out["duration"] = json!(ms as f64 / 1000.0);
    }
    out
}
