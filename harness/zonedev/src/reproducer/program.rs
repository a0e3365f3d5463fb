//! The whole program: what stands where in it.
//!
//! A program says `GPL-2.0` of itself. It is made to be posted with a patch and to become a kernel
//! selftest, whose licence that is; all of its text is ours to give, helpers included: structures
//! and numbers of kernel interfaces that no header has (test_hmm, gup_test) are written down from
//! what the interface is, not copied.

use std::collections::BTreeMap;

use proto::Op;

use super::actors::{self, Said, comment};
use super::error::CannotSay;
use super::step::{Line, Writer, wanted};
use super::text::{self, statement, within_comment, wrapped};
use super::{includes, machine, pieces, setup};
use crate::spec::{Contract, Fixture, PlannedStep};

/// Columns of the header comment.
const COMMENT: usize = 75;

/// What a program is to be made of.
#[derive(Clone, Copy, Debug)]
pub struct Reproduced<'a> {
    /// Of the case, for a file name.
    pub name: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// The kernel whose outcomes are expected.
    pub kernel: &'a str,
    /// Its contract: numbers of some commands depend on it.
    pub contract: &'a Contract,
    /// What it runs on.
    pub fixture: &'a Fixture,
    /// Its steps on that kernel and fixture.
    pub steps: &'a [PlannedStep],
}

/// Whether a step can stand among the commands that come first.
fn sets_up(step: &PlannedStep) -> bool {
    let op = matches!(
        step.op,
        Op::CreateNamespace { .. }
            | Op::Partition { .. }
            | Op::Mkfs { .. }
            | Op::Mount { .. }
            | Op::CreateRegion {}
            | Op::Insmod { .. }
            | Op::MountRoot {}
            | Op::Checkpoint { .. }
    );
    op && step.expected == "ok" && step.splats.is_empty()
}

/// The commands that come first, and how many steps they stand for.
fn set_up(of: &Reproduced<'_>, writer: &mut Writer<'_>) -> Result<(Vec<String>, usize), CannotSay> {
    let led = of.steps.iter().take_while(|s| sets_up(s)).count();
    // Checkpoints at the end of these are the program's.
    let is_checkpoint = |s: &PlannedStep| matches!(s.op, Op::Checkpoint { .. });
    let last = of.steps[..led].iter().rposition(|s| !is_checkpoint(s));
    let led = last.map_or(0, |last| last + 1);
    let mut out = Vec::new();
    let mut labelled = writer.devices.unlabelled();
    let steps = of.steps[..led].iter().map(|s| &s.op);
    for op in of.fixture.provision.iter().chain(steps) {
        if matches!(op, Op::CreateNamespace { .. }) && !labelled {
            // An empty NVDIMM is one namespace without labels.
            out.push("ndctl disable-region all".to_owned());
            out.push("ndctl init-labels -f all".to_owned());
            out.push("ndctl enable-region all".to_owned());
            labelled = true;
        }
        let commands = setup::commands(op, &writer.devices)?.ok_or_else(|| CannotSay {
            op: op.word(),
            why: "it is part of the set-up, and no command does it".into(),
        })?;
        out.extend(commands);
        setup::follow(op, &mut writer.devices);
    }
    let opens = of.steps.iter().filter_map(|s| match &s.op {
        Op::HmmOpen { device } => Some(device.unwrap_or(0)),
        _ => None,
    });
    if !of.contract.features.coherent && opens.clone().next().is_some() {
        // Kernels before 6.1 make no nodes.
        for n in 0..2 {
            out.push(format!(
                "mknod /dev/hmm_dmirror{n} c $(sed -n 's/ HMM_DMIRROR//p' /proc/devices) {n}"
            ));
        }
    }
    Ok((out, led))
}

/// The C program of a case.
///
/// # Errors
/// Where an operation can't be said in C, or the case refers to what it does not make.
pub fn c_program(of: &Reproduced<'_>) -> Result<String, CannotSay> {
    let mut writer = Writer::new(of);
    let (commands, led) = set_up(of, &mut writer)?;
    let mut steps = Vec::new();
    for (n, step) in of.steps.iter().enumerate().skip(led) {
        writer.n = n + 1;
        let lines = writer.step(step)?;
        steps.push(said(step, &lines));
    }
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    let holders: Vec<String> = writer.pins.keys().map(|(actor, _)| actor.clone()).collect();
    for actor in holders {
        let lines = writer.let_go(&actor);
        let text: String = lines.iter().map(|l| rendered(l, "0")).collect();
        ends.entry(actor).or_default().push_str(&text);
    }
    let begins: BTreeMap<String, String> = (writer.begins.iter())
        .map(|(actor, lines)| {
            let text = lines.iter().map(|l| rendered(l, "0")).collect();
            (actor.clone(), text)
        })
        .collect();
    let end = |actor: &str| ends.get(actor).cloned().unwrap_or_default();
    let processes = actors::deal(steps, &begins, &end)?;

    if writer.copy > 0 {
        let size = text::bytes(writer.copy);
        let copy = format!("static char copy[{size}] __attribute__((aligned(4096)));");
        writer.globals.push(copy);
    }
    let globals: String = writer.globals.iter().map(|g| format!("{g}\n")).collect();
    let functions: String = (writer.functions.iter().chain(&processes.functions))
        .map(|f| format!("\n{f}"))
        .collect();
    let mut begin = String::new();
    for (var, path) in &writer.disks {
        begin += &format!("\t{var} = make_disk(\"{path}\");\n");
    }
    let main = processes.main.trim_start_matches('\n');
    let body = format!("{globals}{functions}\nint main(void)\n{{\n{begin}{main}}}\n");
    let (defines, helpers) = pieces::needed(&body);
    // Handlers are there before anything else is.
    let body = match helpers.contains("catch_faults(") {
        true => body.replace(
            "int main(void)\n{\n",
            "int main(void)\n{\n\tcatch_faults();\n",
        ),
        false => body,
    };
    let globals = if body.starts_with('\n') { "" } else { "\n" };
    let code = format!("{defines}{helpers}{globals}{body}");
    let includes = includes::lines(&code);
    let header = header(of, &commands);
    Ok(format!("{header}\n#define _GNU_SOURCE\n{includes}\n{code}"))
}

fn said(step: &PlannedStep, lines: &[Line]) -> Said {
    let wanted = wanted(&step.expected, &step.op);
    Said {
        actor: step.actor.clone(),
        op: step.op.clone(),
        dies: step.expected == "died",
        text: lines.iter().map(|l| rendered(l, &wanted)).collect(),
    }
}

fn rendered(line: &Line, wanted: &str) -> String {
    match line {
        Line::Comment(text) => comment(text),
        Line::Plain(text) => statement(1, text),
        Line::Main(call) => statement(1, &format!("expect({call}, {wanted});")),
        Line::Also(call) => statement(1, &format!("expect({call}, 0);")),
    }
}

/// The comment that a program begins with.
fn header(of: &Reproduced<'_>, commands: &[String]) -> String {
    let mut out = String::from("// SPDX-License-Identifier: GPL-2.0\n/*\n");
    let mut line = |text: &str| {
        let text = within_comment(text);
        out.push_str(format!(" * {text}").trim_end());
        out.push('\n');
    };
    for l in wrapped(of.title, COMMENT) {
        line(&l);
    }
    line("");
    let mut told = format!(
        "Each call that comes to something else than on {} is printed, and the exit code is 1 then.",
        of.kernel
    );
    let is_checkpoint = |s: &PlannedStep| matches!(s.op, Op::Checkpoint { .. });
    if of.steps.iter().any(is_checkpoint) {
        told += " The comments name moments at which the pages' counts were read from outside; \
                 the program does not see these.";
    }
    for l in wrapped(&told, COMMENT) {
        line(&l);
    }
    let splats: Vec<&String> = of.steps.iter().flat_map(|s| &s.splats).collect();
    if !splats.is_empty() {
        line("");
        line("What the kernel reports there:");
        for splat in splats {
            line(&format!("  {splat}"));
        }
    }
    line("");
    line("The machine, in words of QEMU:");
    for l in machine::qemu(of.fixture) {
        line(&format!("  {l}"));
    }
    if let Some(parameters) = machine::parameters(of.fixture) {
        line(&format!("with the kernel's parameters {parameters}"));
    }
    let options = machine::options(of.fixture, of.steps.iter().map(|s| &s.op));
    if !options.is_empty() {
        for l in wrapped(&format!("and {}.", options.join(", ")), COMMENT) {
            line(&l);
        }
    }
    line("");
    if !commands.is_empty() {
        line("Set up:");
        for command in commands {
            line(&format!("  {command}"));
        }
        line("");
    }
    line("Build, and run as root:");
    let name = text::ident(of.name);
    line(&format!("  cc -O2 -pthread -o {name} {name}.c && ./{name}"));
    out.push_str(" */");
    out
}
