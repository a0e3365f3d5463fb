//! `zonedev bisect-step`: one kernel, for `git bisect run`.

use camino::{Utf8Path, Utf8PathBuf};

use super::trial::{Built, Runs, Signature, Trier};
use crate::bisect::Tried;
use crate::cli::args::BisectStepArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::setup;
use crate::report::escape;

/// Good, bad, or can't tell. Whatever else goes wrong must end `git bisect run`: see `cli::main`.
pub(in crate::cli) async fn one_step(
    project: &Utf8Path,
    args: &BisectStepArgs,
) -> Result<Exit, Failure> {
    let dir = tempfile::tempdir()?;
    let dir = Utf8PathBuf::from_path_buf(dir.path().to_owned())
        .map_err(|p| Failure::harness(format!("{} is not UTF-8", p.display())))?;
    let trier = Trier {
        project,
        dir,
        case: setup::one_case(project, &args.case)?,
        tree_base: None,
    };
    let cannot = |reason: &str| {
        errln!("can't tell: {}", escape(reason));
        Ok(Exit::CannotTell)
    };
    match trier.build(&args.kernel).await? {
        Built::Kernel(_) => {}
        Built::Not(reason) => return cannot(&reason),
        Built::NoSuch(why) => {
            return Err(Failure::request(
                format!("{} can't be built: {why}", args.kernel),
                "run it in a kernel's tree, with --project DIR for the checkout of zonedev",
            ));
        }
    }
    let (runs, failed) = match trier.run(&args.kernel, args.trials.get(), true).await? {
        Runs::Ran { runs, failed, .. } => (runs, failed),
        Runs::Not(reason) => return cannot(&reason),
    };
    let signature = args
        .title
        .as_deref()
        .map_or(Signature::Any, Signature::Part);
    match signature.judge(runs, &failed) {
        Tried::Skipped { reason } => cannot(&reason),
        Tried::Ran { seen } if seen.shown == 0 => {
            errln!("good: {} passed {runs} times", args.case);
            Ok(Exit::Good)
        }
        Tried::Ran { .. } => {
            let reason = failed.iter().flatten().next();
            errln!("bad: {}", escape(reason.map_or("", String::as_str)));
            Ok(Exit::Regressed)
        }
    }
}
