//! What happens, as it happens: live lines on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::{Look, Paint, count, duration, escape};
use crate::record::{CellVerdict, Event};

/// Feeds on a run's events.
pub struct Progress {
    look: Look,
    way: Way,
    /// Phase last told of each build, for plain lines.
    phases: HashMap<String, String>,
    done: usize,
    cells: usize,
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
            done: 0,
            cells: 0,
        }
    }

    /// Tells one event. Where the output can't be written, the run goes on without it.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { cells, .. } => self.cells = *cells,
            Event::CellFinished { .. } => self.done += 1,
            _ => {}
        }
        let line = self.line(event);
        match &mut self.way {
            Way::Plain(to) => {
                if let Some(line) = line {
                    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
                }
            }
            Way::Live {
                bars,
                whole,
                running,
            } => {
                live(event, bars, whole, running);
                if let Some(line) = line.filter(|_| keeps(event)) {
                    let _ = bars.println(line);
                }
                if let Some(whole) = whole {
                    whole.set_position(self.done as u64);
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
            Event::BuildProgress { what, phase, .. } => {
                if self.phases.insert(what.clone(), phase.clone()).as_ref() == Some(phase) {
                    return None;
                }
                format!("build {what}: {phase}")
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
            } => {
                let how = if *cloneable {
                    ""
                } else {
                    "; each case boots for itself"
                };
                format!("boot {what}: ready in {}{how}", duration(*took_ms))
            }
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
                    self.done,
                    self.cells,
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

/// Events whose line stays above the live ones.
fn keeps(event: &Event) -> bool {
    match event {
        Event::BuildFinished { cached, .. } => !cached,
        Event::BuildFailed { .. } | Event::Notice { .. } => true,
        Event::CellFinished { verdict, .. } => {
            !matches!(verdict, CellVerdict::Pass {} | CellVerdict::Skip { .. })
        }
        _ => false,
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
            bar.set_style(style("{elapsed:>5} [{bar:30}] {pos}/{len} cells"));
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
                let far = match total {
                    Some(total) => format!("{done}/{total}"),
                    None => done.to_string(),
                };
                bar.set_message(escape(&format!("build {what}: {phase} {far}")));
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
