//! The boot of a group that an earlier run has done already, and keeping one for later runs.

use std::sync::{Arc, PoisonError};
use std::time::UNIX_EPOCH;

use super::boot::Place;
use super::engine::{Engine, Isolation};
use crate::record::{CellId, CellRecord, CellVerdict, Event};
use crate::spec::Fixture;
use crate::verdict;
use crate::vm::{Template, clock_parameters};

/// The record of the boot, beside its template.
const BOOT: &str = "boot.json";
/// What the guest said in it.
const CONSOLE: &str = "console.log";

impl Engine {
    /// What a template of this fixture is kept under: all that goes into it, and into what is recorded
    /// of its boot. None where none is kept.
    pub(super) fn kept_key(&self, side: usize, fixture: &Fixture) -> Option<String> {
        let ours = self.config.isolation == Isolation::Clone && fixture.boots_because.is_none();
        if self.config.shelf.is_none() || !ours {
            return None;
        }
        let mut machine = self.machine(side, fixture);
        // The clock's rate is measured: another digit of it is no other machine.
        machine.cmdline = machine.cmdline.replace(&clock_parameters(), "");
        let machine = machine.key(&self.config.launcher.qemu).ok()?;
        // A later build of this program may see other things of the same boot.
        let program = fs_err::metadata(std::env::current_exe().ok()?).ok()?;
        let made = program.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(machine.as_bytes());
        // The two sides of a pair never share one, also where the kernels are the same.
        hasher.update(&side.to_le_bytes());
        hasher.update(format!("{} {}", program.len(), made.as_nanos()).as_bytes());
        hasher.update(format!("{:?}", self.sides[side].contract).as_bytes());
        hasher.update(format!("{fixture:?}").as_bytes());
        Some(hasher.finalize().to_hex()[..32].to_owned())
    }

    /// A template that an earlier run kept, with the record of its boot as this run's.
    pub(super) fn take_kept(
        &self,
        key: &str,
        boot: &CellId,
        fixture: &Fixture,
        place: &Place,
    ) -> Option<(CellRecord, Template)> {
        let shelf = self.config.shelf.as_ref()?;
        let machine = self.machine(boot.side, fixture);
        let (template, dir) = shelf.take(key, &machine, &self.config.launcher)?;
        let record = fs_err::read(dir.join(BOOT)).ok()?;
        let mut record: CellRecord = serde_json::from_slice(&record).ok()?;
        fs_err::copy(dir.join(CONSOLE), place.dir.join(CONSOLE)).ok()?;
        record.id = boot.clone();
        Some((record, template))
    }

    /// Keeps a template whose boot was as it should be: one that was not is to be seen again. Goes on
    /// beside the cells.
    pub(super) fn keep(
        &self,
        key: String,
        record: &CellRecord,
        template: &Arc<Template>,
        place: &Place,
    ) {
        let Some(shelf) = self.config.shelf.clone() else {
            return;
        };
        let contract = &self.sides[record.id.side].contract;
        if verdict::judge_cell(record, contract).verdict != (CellVerdict::Pass {}) {
            return;
        }
        let run = self.config.folder.file_name().unwrap_or("a run");
        let record = CellRecord {
            booted_in: Some(run.to_owned()),
            ..record.clone()
        };
        let console = place.dir.join(CONSOLE);
        let (template, engine) = (Arc::clone(template), self.clone());
        let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        keeping.spawn_blocking(move || {
            let what = format!("{} with {}", record.id.kernel, record.id.fixture);
            let kept = shelf.keep(&key, &template, &what, |dir| {
                fs_err::write(dir.join(BOOT), serde_json::to_vec(&record)?)?;
                fs_err::copy(&console, dir.join(CONSOLE)).map(drop)
            });
            if let Err(e) = kept {
                engine.tell(Event::Notice {
                    message: format!("{what}: its template is not kept: failed to {e}"),
                });
            }
        });
    }

    /// Waits until all that is being kept is.
    pub(super) async fn all_kept(&self) {
        let mut keeping = {
            let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *keeping)
        };
        while keeping.join_next().await.is_some() {}
    }
}
