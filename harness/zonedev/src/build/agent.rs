//! The agent, as one static file: built by the cargo that built us, from the project's own tree.

use std::fs::File;

use camino::Utf8PathBuf;

use super::context::BuildCtx;
use super::error::BuildError;
use super::event::{BuildSink, Phase, Reporter};
use super::proc;

/// The only target that guests have.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The agent of a context: the one that was built before, or one that is built now.
pub(crate) fn of(ctx: &BuildCtx, sink: &dyn BuildSink) -> Result<Utf8PathBuf, BuildError> {
    build(ctx, &Reporter::new("agent", sink))
}

/// The same, told as a part of what is reported on. Cargo finds it where nothing changed.
pub(crate) fn build(ctx: &BuildCtx, report: &Reporter<'_>) -> Result<Utf8PathBuf, BuildError> {
    if let Some(path) = &ctx.agent {
        return Ok(path.clone());
    }
    let log_path = ctx
        .cache
        .path("logs", &format!("agent-{}.log", std::process::id()));
    let mut log = File::create(&log_path).map_err(|e| BuildError::io("write", &log_path, e))?;
    let target_dir = ctx.project.join("target/guest");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut cmd = proc::command(cargo);
    cmd.current_dir(&ctx.project)
        .args([
            "build",
            "--package",
            "agent",
            "--locked",
            "--profile",
            "agent",
            "--target",
            TARGET,
        ])
        .args(["--target-dir", target_dir.as_str()])
        // With --target these flags reach the agent alone, and not the macros that cargo runs.
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C strip=symbols",
        )
        .env("CARGO_TERM_COLOR", "never");
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cmd.env_remove(name);
    }
    let mut errors: Vec<String> = Vec::new();
    let mut told = false;
    let status = proc::stream(&mut cmd, &mut log, &log_path, |line| {
        if line.trim_start().starts_with("Compiling") && !told {
            told = true;
            report.started();
            report.phase(Phase::Compile, "the agent");
        }
        if line.starts_with("error") && errors.len() < 5 {
            errors.push(line.to_owned());
        }
    })?;
    if !status.success() {
        if errors.is_empty() {
            errors.push(format!("cargo ended with {status}"));
        }
        return Err(BuildError::Compile {
            what: "the agent".to_owned(),
            errors,
            log: log_path,
        });
    }
    super::cache::remove(&log_path)?;
    Ok(target_dir.join(TARGET).join("agent/agent"))
}
