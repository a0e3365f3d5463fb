//! A run that is disturbed, and what it means that it survived.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use zonedev::record::{CellVerdict, RunFolder, RunRecord};

use crate::common::{command, files, kernel, memory_of, project, qemus, said};

/// Whether it hit; the error is what was not survived.
pub(crate) type Fault = fn(&mut World) -> Result<bool, String>;

/// An error unless it holds.
macro_rules! ensure {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}
pub(crate) use ensure;

/// How long what has to end may take, on a busy host.
const SOON: Duration = Duration::from_secs(10);
/// How long a whole run may take.
const LONG: Duration = Duration::from_secs(600);

type Verdicts = BTreeMap<String, CellVerdict>;

/// What is the same in all rounds.
pub(crate) struct World {
    /// What a run that nobody disturbs comes to, and how long it takes.
    verdicts: Verdicts,
    pub(crate) took: Duration,
    /// Bytes of its folder.
    pub(crate) bytes: u64,
    /// From a signal to the end, each time.
    pub(crate) latencies: Vec<Duration>,
    random: u64,
    kernel: String,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut world = World {
            verdicts: Verdicts::new(),
            took: Duration::ZERO,
            bytes: 0,
            latencies: Vec::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            kernel: kernel(),
        };
        // The first builds what is not built yet.
        for _ in 0..2 {
            let place = Place::new();
            let began = Instant::now();
            let output = world.matrix(&place).output().unwrap();
            world.took = began.elapsed();
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            world.bytes = files(&place.run)
                .iter()
                .map(|f| f.metadata().unwrap().len())
                .sum();
            world.verdicts = verdicts(&place.record().unwrap());
        }
        assert!(world.verdicts.len() > 2, "{:?}", world.verdicts);
        world
    }

    /// A number below `most` (xorshift64).
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % most.max(1)
    }

    /// A moment of a run.
    pub(crate) fn moment(&mut self) -> Duration {
        let ms = self.took.as_millis() as u64;
        Duration::from_millis(self.below(ms))
    }

    /// A few cells of one kernel.
    pub(crate) fn matrix(&self, place: &Place) -> Command {
        self.matrix_in(&project(), place)
    }

    pub(crate) fn matrix_in(&self, project: &Utf8Path, place: &Place) -> Command {
        let args = ["matrix", "-k", &self.kernel, "-E", "fsdax-ext4/map-touch"];
        let mut command = command(project, &args);
        command.args(["--run-dir", place.run.as_str()]);
        command
    }

    /// The run is over, and came to what it comes to if nobody disturbs it.
    pub(crate) fn is_complete(&self, place: &Place, output: &Output) -> Result<(), String> {
        let text = said(output);
        ensure!(
            output.status.code() == Some(0),
            "it ended with {}: {text}",
            output.status
        );
        let record = place.record().ok_or("there is no record")?;
        ensure!(
            record.exit_code == 0,
            "the record has exit code {}",
            record.exit_code
        );
        ensure!(
            record.unfinished.is_empty(),
            "unfinished: {:?}",
            record.unfinished
        );
        let now = verdicts(&record);
        ensure!(now == self.verdicts, "its verdicts are {now:?}");
        self.is_tidy(place, &[])
    }

    /// Goes on with a run that was cut off: that completes it, and does nothing again that had finished.
    pub(crate) fn goes_on(&self, place: &Place) -> Result<(), String> {
        if !place.run.join("begun.json").exists() {
            // It was cut off before its first cell, and says so.
            let output = place.resume().output().unwrap();
            ensure!(
                output.status.code() == Some(2),
                "without a run: {}",
                said(&output)
            );
            return Ok(());
        }
        let report = place.report();
        ensure!(report.status.code() == Some(0), "report: {}", said(&report));
        if place
            .record()
            .is_some_and(|r| r.unfinished.is_empty() && r.exit_code == 0)
        {
            return Ok(());
        }
        let mut record = place.record().ok_or("report wrote no record")?;
        let before = place.finished(&record);
        ensure!(
            record.exit_code == 3,
            "cut off: exit code {}",
            record.exit_code
        );
        record
            .cells
            .retain(|(_, v)| !matches!(v, CellVerdict::Error { .. }));
        for (case, verdict) in verdicts(&record) {
            ensure!(
                self.verdicts.get(&case) == Some(&verdict),
                "cut off: {case} is {verdict:?}"
            );
        }
        let output = wait(spawn(&mut place.resume()))?;
        self.is_complete(place, &output)?;
        let after = place.finished(&place.record().ok_or("it wrote no record")?);
        for (cell, time) in before {
            // A machine is booted again for the cells that are left.
            ensure!(
                cell.contains("/boot/") || after.get(&cell) == Some(&time),
                "{cell} ran again"
            );
        }
        Ok(())
    }

    /// No QEMU, no temporary file, no memory of guests is left.
    pub(crate) fn is_tidy(&self, place: &Place, memory: &[PathBuf]) -> Result<(), String> {
        soon("QEMU ends with its harness", || {
            qemus(&place.run).is_empty()
        })?;
        for left in memory {
            ensure!(!left.exists(), "{} is left", left.display());
        }
        let new = files(&place.run)
            .into_iter()
            .find(|f| f.as_str().ends_with(".new"));
        ensure!(new.is_none(), "{} is left", new.unwrap_or_default());
        Ok(())
    }
}

/// What each case came to.
fn verdicts(record: &RunRecord) -> Verdicts {
    let cells = record.cells.iter();
    cells.map(|(id, v)| (id.case_path(), v.clone())).collect()
}

/// Where a run goes.
pub(crate) struct Place {
    _dir: tempfile::TempDir,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) run: Utf8PathBuf,
}

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path())
            .unwrap()
            .canonicalize_utf8()
            .unwrap();
        Place {
            _dir: dir,
            run: path.join("run"),
            dir: path,
        }
    }

    pub(crate) fn resume(&self) -> Command {
        command(&project(), &["matrix", "--resume", self.run.as_str()])
    }

    pub(crate) fn report(&self) -> Output {
        command(&project(), &["report", self.run.as_str()])
            .output()
            .unwrap()
    }

    pub(crate) fn record(&self) -> Option<RunRecord> {
        RunFolder::open(&self.run).read_record().ok()
    }

    /// The cells of a record that have finished, and when: not those that the host broke, which are
    /// done again.
    fn finished(&self, record: &RunRecord) -> BTreeMap<String, SystemTime> {
        let folder = RunFolder::open(&self.run);
        let finished = record.cells.iter().filter_map(|(id, _)| {
            folder.finished(id)?;
            let file = self.run.join(id.folder()).join("cell.json.zst");
            Some((id.folder(), file.metadata().ok()?.modified().ok()?))
        });
        finished.collect()
    }
}

/// A harness that runs, and the places of its guests' memory that it was seen with.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) memory: Vec<PathBuf>,
}

pub(crate) fn spawn(command: &mut Command) -> Running {
    // To files would do, too; these are read at the end, and they are short.
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Running {
        child,
        memory: Vec::new(),
    }
}

impl Running {
    /// Lets it run; whether it still does.
    pub(crate) fn runs_for(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            for seen in memory_of(self.child.id()) {
                if !self.memory.contains(&seen) {
                    self.memory.push(seen);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }
}

/// Waits for the end of a harness that ends by itself.
pub(crate) fn wait(mut running: Running) -> Result<Output, String> {
    if running.runs_for(LONG) {
        running.child.kill().unwrap();
        let output = running.child.wait_with_output().unwrap();
        return Err(format!("it did not end within {LONG:?}: {}", said(&output)));
    }
    Ok(running.child.wait_with_output().unwrap())
}

/// Waits for what must come about soon.
pub(crate) fn soon(what: &str, mut is: impl FnMut() -> bool) -> Result<(), String> {
    let until = Instant::now() + SOON;
    while !is() {
        ensure!(Instant::now() < until, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
