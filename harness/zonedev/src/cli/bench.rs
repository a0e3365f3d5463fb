//! `zonedev bench`: the figures, as ratios measured in one run, into target/bench.json.

mod builds;
mod guest;
mod peers;
mod runs;

use std::process::Command;
use std::time::Duration;

use camino::Utf8Path;
use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure};

/// One line of target/bench.json.
#[derive(Debug, Serialize)]
struct Figure {
    /// What was measured.
    name: String,
    /// How much.
    value: f64,
    /// Of what.
    unit: &'static str,
    /// What it is compared with, measured in the same run.
    against: String,
    /// The other's divided by this one's: how many times less this takes, or more of it there is.
    ratio: f64,
    /// What keeps it from being better.
    limit: &'static str,
}

/// What was measured, and what was not.
#[derive(Debug, Default, Serialize)]
struct Figures {
    figures: Vec<Figure>,
    left_out: Vec<String>,
}

/// `zonedev bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// The kernel that is measured
    #[arg(short, long, default_value = "6.12")]
    pub(super) kernel: String,
    /// Leave the builds out: a clean one takes minutes
    #[arg(long)]
    pub(super) no_build: bool,
    /// Leave out the programs that are compared with and would be installed
    #[arg(long)]
    pub(super) no_peers: bool,
}

pub(super) async fn run(project: &Utf8Path, args: BenchArgs) -> Result<Exit, Failure> {
    let mut out = Figures::default();
    guest::measure(project, &args, &mut out).await?;
    runs::measure(project, &args, &mut out)?;
    if args.no_peers {
        out.left_out.push("other programs (--no-peers)".to_owned());
    } else {
        peers::measure(project, &args, &mut out).await?;
    }
    if args.no_build {
        out.left_out.push("builds (--no-build)".to_owned());
    } else {
        builds::measure(project, &args.kernel, &mut out).await?;
    }
    for f in &out.figures {
        outln!("{}: {:.2} {}", f.name, f.value, f.unit);
        outln!("    {:.2} x  {}", f.ratio, f.against);
        outln!("    limited by {}", f.limit);
    }
    for what in &out.left_out {
        outln!("left out: {what}");
    }
    let path = project.join("target/bench.json");
    fs_err::create_dir_all(project.join("target"))?;
    let text = serde_json::to_vec_pretty(&out).map_err(std::io::Error::from)?;
    fs_err::write(&path, text)?;
    outln!("written to {path}");
    Ok(Exit::Good)
}

/// What a program prints; the error is its last line.
fn sh(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let last = said
        .lines()
        .rev()
        .find(|l| !l.trim().is_empty())
        .unwrap_or_default();
    Err(format!("{:?} failed: {last}", command.get_program()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
