//! One kernel with one fixture, booted once, on which cases are tried that no plan has.

use std::time::Duration;

use camino::Utf8PathBuf;
use std::sync::Arc;

use super::boot::{Place, Start};
use super::engine::Engine;
use super::error::RunError;
use super::pages::PageReader;
use super::repeat::Repeat;
use crate::plan::{Group, PlannedCell};
use crate::record::{CellRecord, End};
use crate::spec::{Fixture, PlannedStep};

/// A template that is kept, where its fixture allows one; where not, each trial boots.
pub struct Stand {
    engine: Engine,
    fixture: Fixture,
    start: Start,
    reader: PageReader,
    cell: PlannedCell,
}

impl Engine {
    /// Boots the machine of a group. Trials are of its first cell, with other steps.
    ///
    /// # Errors
    /// Where the folder can't be written. The other one: how the boot ended, where no case can be
    /// tried.
    pub async fn stand(&self, group: &Group) -> Result<Result<Stand, End>, RunError> {
        let side = &self.sides[group.side];
        let reader = PageReader::new(Arc::clone(&side.info));
        let Some(cell) = group.cells.first() else {
            return Err(RunError::Task("a stand without a cell".to_owned()));
        };
        let (_, start) = self
            .template(&group.boot, &group.fixture, &reader, 0)
            .await?;
        if let Start::Failed(end) = start {
            return Ok(Err(end));
        }
        Ok(Ok(Stand {
            engine: self.clone(),
            fixture: group.fixture.clone(),
            start,
            reader,
            cell: cell.clone(),
        }))
    }
}

impl Stand {
    /// The cell whose steps are changed.
    pub fn cell(&self) -> &PlannedCell {
        &self.cell
    }

    /// How long an operation may take from now on, where that is less than usual: one that hangs is
    /// waited for so long.
    pub fn hurry(&mut self, limit: Option<Duration>) {
        self.engine.step_limit = limit;
    }

    /// Runs steps once, in a guest of their own; what it leaves goes to `dir`. The `n`th trial of a
    /// race takes the `n`th seed after its own. What the host broke is tried once more.
    ///
    /// # Errors
    /// Where `dir` can't be made.
    pub async fn trial(
        &self,
        steps: &[PlannedStep],
        n: u32,
        dir: Utf8PathBuf,
    ) -> Result<CellRecord, RunError> {
        let need = self.engine.need(&self.cell.id);
        let _guest = self.engine.guests.take(need).await?;
        let mut cell = self.cell.clone();
        cell.steps = Repeat::ONCE.steps(steps, n);
        fs_err::create_dir_all(&dir).map_err(crate::record::RunFolderError::from)?;
        for again in [false, true] {
            let place = Place::new(dir.clone());
            let record = self
                .engine
                .attempt(&cell, &self.fixture, &self.start, &self.reader, place)
                .await;
            if again || !self.engine.try_again(&record) {
                return Ok(record);
            }
        }
        Err(RunError::Task("a trial had no run".to_owned()))
    }
}
