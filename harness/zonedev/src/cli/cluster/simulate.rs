//! `zonedev simulate-cluster`: how long a recorded run would take on how many nodes.

use camino::Utf8Path;
use clap::Args;

use super::*;
use crate::cli::inspect;
use crate::cluster::Model;
use crate::plan::Plan;

/// Clusters that are told.
const NODES: [usize; 8] = [1, 2, 5, 10, 20, 50, 100, 1000];
/// Of a cell that has no time: it was skipped, in no time.
const UNKNOWN: f64 = 0.0;

/// `zonedev simulate-cluster`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SimulateArgs {
    /// A run's folder, or its name
    run: String,
    /// Tasks at a time on a node
    #[arg(long, value_name = "N", default_value = "4")]
    places: usize,
    /// Guests at a time in a task
    #[arg(short, value_name = "N", default_value = "2")]
    jobs: usize,
    /// Seconds from a task's turn to its first guest, and from its last guest to its end
    #[arg(long, value_name = "SECONDS", default_value = "2.5")]
    start: f64,
    /// Tasks that the controller starts in a second
    #[arg(long, value_name = "TASKS", default_value = "16")]
    rate: f64,
}

pub(in crate::cli) fn simulate(project: &Utf8Path, args: &SimulateArgs) -> Result<Exit, Failure> {
    let folder = RunFolder::open(&inspect::run_path(project, &args.run));
    let times = folder.times()?;
    let job = Job::of(project, matrix::command(&matrix::begun(&folder)?)?)?;
    let seconds = |id: &CellId| times.get(id).map_or(UNKNOWN, |ms| *ms as f64 / 1000.0);
    let groups = |plan: &Plan| -> Vec<(f64, Vec<f64>)> {
        let cells = |g: &crate::plan::Group| g.cells.iter().map(|c| seconds(&c.id)).collect();
        let groups = plan.groups.iter();
        groups.map(|g| (seconds(&g.boot), cells(g))).collect()
    };
    let sum = |groups: &[(f64, Vec<f64>)]| -> (f64, f64) {
        let boots = groups.iter().map(|(boot, _)| boot).sum();
        (boots, groups.iter().flat_map(|(_, cells)| cells).sum())
    };
    let (boots, cells) = sum(&groups(&job.plan));
    outln!(
        "{} cells, {cells:.0} s in cases and {boots:.0} s in boots; {} tasks of {} guests at a time on a node; a \
         task takes {} s beside its guests, and {} begin in a second",
        job.plan.cells(),
        args.places,
        args.jobs,
        args.start,
        args.rate
    );
    outln!("");
    outln!(
        "| nodes | tasks | takes | longest task | in boots | as fast as one node | of what is there |"
    );
    outln!("|---|---|---|---|---|---|---|");
    let mut one = None;
    for nodes in NODES {
        let model = Model {
            places: nodes * args.places,
            jobs: args.jobs,
            start: args.start,
            rate: args.rate,
        };
        // However many there are, the best number of tasks is looked for.
        let tries = [1, 2, 3, 4].map(|times| (times * model.places).min(MAX_PARTS));
        let tries = tries.into_iter().chain([50, 100, 200, 300, 500]);
        let mut best: Option<(f64, usize, f64, f64)> = None;
        for tasks in tries {
            let parts = job.plan.clone().parts(partition(tasks)?);
            let parts = parts.iter().filter(|p| !p.groups.is_empty());
            let parts: Vec<_> = parts.map(&groups).collect();
            let in_boots = parts.iter().map(|p| sum(p).0).sum();
            let work: Vec<f64> = parts.iter().map(|p| model.task(p)).collect();
            let longest = work.iter().copied().fold(0.0, f64::max);
            let number = work.len();
            let takes = model.run(work);
            // Of equals the fewest.
            let better =
                |(least, fewest, ..): (f64, usize, f64, f64)| (takes, number) < (least, fewest);
            if best.is_none_or(better) {
                best = Some((takes, number, longest, in_boots));
            }
        }
        let Some((takes, tasks, longest, in_boots)) = best else {
            continue;
        };
        let first = *one.get_or_insert(takes);
        let faster = first / takes;
        outln!(
            "| {nodes} | {tasks} | {takes:.0} s | {longest:.0} s | {in_boots:.0} s | {faster:.1} times | {:.0} % |",
            100.0 * faster / nodes as f64
        );
    }
    Ok(Exit::Good)
}
