//! What happens, as it happens: live lines on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::{Look, Paint, Verbosity, count, duration, escape};
use crate::record::{CellVerdict, Event};

/// Cells that have run before it is said how long the others may take.
const ENOUGH: usize = 3;
/// Plain lines told while one kernel compiles, where it is known how much there is.
const PARTS: u64 = 10;
/// Objects compiled from one plain line to the next, where it is not.
const OBJECTS: u64 = 200;

/// Feeds on a run's events.
pub struct Progress {
    look: Look,
    way: Way,
    /// What was last told of each build, for plain lines.
    phases: HashMap<String, (String, u64)>,
    tally: Tally,
}

/// How far a run is.
#[derive(Debug, Default)]
struct Tally {
    cells: usize,
    passed: usize,
    failed: usize,
    errors: usize,
    skipped: usize,
    /// Since when guests run.
    began: Option<Instant>,
}

impl Tally {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { cells, .. } => self.cells = *cells,
            Event::BootStarted { .. } | Event::CellStarted { .. } => {
                self.began.get_or_insert_with(Instant::now);
            }
            Event::CellFinished { verdict, .. } => match verdict {
                CellVerdict::Pass {} => self.passed += 1,
                CellVerdict::Fail { .. } => self.failed += 1,
                CellVerdict::Skip { .. } => self.skipped += 1,
                CellVerdict::Error { .. } => self.errors += 1,
            },
            _ => {}
        }
    }

    fn ran(&self) -> usize {
        self.passed + self.failed + self.errors
    }

    fn done(&self) -> usize {
        self.ran() + self.skipped
    }

    /// How long the rest takes, if it takes as long as what has run.
    fn left(&self, after: Duration) -> Option<Duration> {
        let rest = self.cells.checked_sub(self.done()).filter(|n| *n > 0)?;
        (self.ran() >= ENOUGH).then(|| after.mul_f64(rest as f64 / self.ran() as f64))
    }

    /// What did not pass, and how long it may still take: `, 1 failed, about 2m10s left`.
    fn words(&self) -> String {
        let mut out = String::new();
        for (n, word) in [
            (self.failed, "failed"),
            (self.errors, "broken by the host or the harness"),
            (self.skipped, "skipped"),
        ] {
            if n > 0 {
                out.push_str(&format!(", {n} {word}"));
            }
        }
        if let Some(left) = self.began.and_then(|b| self.left(b.elapsed())) {
            // Tenths of a second would say that it is known.
            let seconds = left.as_secs().max(1);
            out.push_str(&match seconds {
                0..60 => format!(", about {seconds} s left"),
                _ => format!(", about {}m{:02}s left", seconds / 60, seconds % 60),
            });
        }
        out
    }
}

/// How far a build is: `compiling 430 of 1451 (29 %)`.
fn far(phase: &str, done: u64, total: Option<u64>) -> String {
    match total {
        Some(total @ 1..) => format!("{phase} {done} of {total} ({} %)", 100 * done / total),
        _ if done > 0 => format!("{phase} {done}"),
        _ => phase.to_owned(),
    }
}

enum Way {
    /// One line for each thing that goes on, and one for the whole.
    Live {
        bars: MultiProgress,
        whole: Option<ProgressBar>,
        running: HashMap<String, ProgressBar>,
    },
    /// A line for each event that matters.
    Plain(Box<dyn Write + Send>),
}

impl Progress {
    /// Draws live lines; `target` is where, such as standard error.
    pub fn live(look: Look, target: ProgressDrawTarget) -> Progress {
        let bars = MultiProgress::with_draw_target(target);
        Progress::new(
            look,
            Way::Live {
                bars,
                whole: None,
                running: HashMap::new(),
            },
        )
    }

    /// Writes plain lines.
    pub fn plain(look: Look, to: Box<dyn Write + Send>) -> Progress {
        Progress::new(look, Way::Plain(to))
    }

    fn new(look: Look, way: Way) -> Progress {
        Progress {
            look,
            way,
            phases: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// Tells one event. Where the output can't be written, the run goes on without it.
    pub fn event(&mut self, event: &Event) {
        self.tally.event(event);
        let line = self.line(event);
        let verbosity = self.look.verbosity;
        match &mut self.way {
            Way::Plain(to) => {
                let told = verbosity != Verbosity::Brief || fails(event);
                if let Some(line) = line.filter(|_| told) {
                    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
                }
            }
            Way::Live {
                bars,
                whole,
                running,
            } => {
                live(event, bars, whole, running);
                if let Some(line) = line.filter(|_| keeps(event, verbosity)) {
                    let _ = bars.println(line);
                }
                if let Some(whole) = whole {
                    whole.set_position(self.tally.done() as u64);
                    whole.set_message(self.tally.words());
                }
                if let Event::RunFinished { .. } = event {
                    for (_, bar) in running.drain() {
                        bar.finish_and_clear();
                    }
                    if let Some(whole) = whole.take() {
                        whole.finish_and_clear();
                    }
                    let _ = bars.clear();
                }
            }
        }
    }

    /// The plain line of an event, where it has one.
    fn line(&mut self, event: &Event) -> Option<String> {
        let look = self.look;
        let text = match event {
            Event::RunStarted { id, cells, accel } => {
                format!("run {id}: {} with {accel}", count(*cells, "cell"))
            }
            Event::BuildStarted { what } => format!("build {what}"),
            Event::BuildProgress {
                what,
                phase,
                done,
                total,
            } => {
                let part = match total {
                    Some(total @ 1..) => PARTS * done / total,
                    _ => done / OBJECTS,
                };
                let now = (phase.clone(), part);
                if self.phases.get(what) == Some(&now) {
                    return None;
                }
                self.phases.insert(what.clone(), now);
                format!("build {what}: {}", far(phase, *done, *total))
            }
            Event::BuildFinished {
                what, cached: true, ..
            } => format!("build {what}: in the cache"),
            Event::BuildFinished {
                what,
                took_ms,
                cached: false,
            } => {
                format!("build {what}: done in {}", duration(*took_ms))
            }
            Event::BuildFailed { what, message } => {
                let text = format!("build {what}: FAILED: {message}");
                return Some(look.paint(Paint::Bad, &escape(&text)));
            }
            Event::Notice { message } => {
                return Some(look.paint(Paint::Changed, &escape(&format!("note: {message}"))));
            }
            Event::BootStarted { what } => format!("boot {what}"),
            Event::BootFinished {
                what,
                took_ms,
                cloneable,
                kept,
            } => {
                let how = match (cloneable, kept) {
                    (_, true) => ", kept by an earlier run",
                    (true, false) => "",
                    (false, false) => "; each case boots for itself",
                };
                format!("boot {what}: ready in {}{how}", duration(*took_ms))
            }
            Event::CellStep {
                cell,
                step,
                steps,
                op,
            } if look.verbosity == Verbosity::All => format!("{cell}: {}/{steps} {op}", step + 1),
            Event::CellStarted { .. } | Event::CellStep { .. } => return None,
            Event::CellFinished {
                cell,
                verdict,
                took_ms,
            } => {
                let (word, paint, why) = match verdict {
                    CellVerdict::Pass {} => ("pass ", Paint::Good, String::new()),
                    CellVerdict::Fail { reasons, .. } => (
                        "FAIL ",
                        Paint::Bad,
                        reasons.first().cloned().unwrap_or_default(),
                    ),
                    CellVerdict::Skip { reason } => ("skip ", Paint::Dim, reason.clone()),
                    CellVerdict::Error { reason, .. } => ("ERROR", Paint::Bad, reason.clone()),
                };
                let why = if why.is_empty() {
                    why
                } else {
                    format!(": {why}")
                };
                let text = format!(
                    "[{}/{}] {cell} ({}){why}",
                    self.tally.done(),
                    self.tally.cells,
                    duration(*took_ms)
                );
                return Some(format!("{} {}", look.paint(paint, word), escape(&text)));
            }
            Event::RunFinished { exit_code, took_ms } => {
                format!("run ended in {}, exit code {exit_code}", duration(*took_ms))
            }
        };
        Some(escape(&text))
    }
}

/// Events that nobody asks to be spared.
fn fails(event: &Event) -> bool {
    match event {
        Event::BuildFailed { .. } => true,
        Event::CellFinished { verdict, .. } => {
            !matches!(verdict, CellVerdict::Pass {} | CellVerdict::Skip { .. })
        }
        _ => false,
    }
}

/// Events whose line stays above the live ones.
fn keeps(event: &Event, verbosity: Verbosity) -> bool {
    match event {
        Event::BuildFinished { cached, .. } => !cached,
        Event::Notice { .. } => true,
        Event::BootFinished { .. } | Event::CellFinished { .. } if verbosity == Verbosity::All => {
            true
        }
        event => fails(event),
    }
}

fn live(
    event: &Event,
    bars: &MultiProgress,
    whole: &mut Option<ProgressBar>,
    running: &mut HashMap<String, ProgressBar>,
) {
    match event {
        Event::RunStarted { cells, .. } => {
            let bar = bars.add(ProgressBar::new(*cells as u64));
            bar.set_style(style("{elapsed:>5} [{bar:24}] {pos}/{len} cells{msg}"));
            bar.enable_steady_tick(Duration::from_millis(250));
            *whole = Some(bar);
        }
        Event::BuildStarted { what } => start(bars, running, &format!("build {what}")),
        Event::BuildProgress {
            what,
            phase,
            done,
            total,
        } => {
            if let Some(bar) = running.get(&format!("build {what}")) {
                let far = far(phase, *done, *total);
                bar.set_message(escape(&format!("build {what}: {far}")));
            }
        }
        Event::BuildFinished { what, .. } | Event::BuildFailed { what, .. } => {
            end(running, &format!("build {what}"));
        }
        Event::BootStarted { what } => start(bars, running, &format!("boot {what}")),
        Event::BootFinished { what, .. } => end(running, &format!("boot {what}")),
        Event::CellStarted { cell } => start(bars, running, &format!("{} {cell}", cell.side)),
        Event::CellStep {
            cell,
            step,
            steps,
            op,
        } => {
            if let Some(bar) = running.get(&format!("{} {cell}", cell.side)) {
                bar.set_message(escape(&format!("{cell}: {}/{steps} {op}", step + 1)));
            }
        }
        Event::CellFinished { cell, .. } => end(running, &format!("{} {cell}", cell.side)),
        Event::Notice { .. } | Event::RunFinished { .. } => {}
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn start(bars: &MultiProgress, running: &mut HashMap<String, ProgressBar>, key: &str) {
    let bar = bars.insert(0, ProgressBar::new_spinner());
    bar.set_style(style("{elapsed:>5} {spinner} {wide_msg}"));
    bar.set_message(escape(
        key.trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start(),
    ));
    bar.enable_steady_tick(Duration::from_millis(250));
    running.insert(key.to_owned(), bar);
}

fn end(running: &mut HashMap<String, ProgressBar>, key: &str) {
    if let Some(bar) = running.remove(key) {
        bar.finish_and_clear();
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
