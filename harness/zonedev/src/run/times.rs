//! How long cells took, and what memory their guests came to use, so that the next run can begin with
//! what takes longest.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::record::CellId;
use crate::vm::Accel;

/// What a guest is taken to use where none like it has run: about what one of 512 MiB does, bytes.
const MEMORY: u64 = 192 << 20;
/// What a cell is taken to take where none like it has run, in milliseconds.
const CELL: u64 = 2_000;
/// As many cells as are kept; some five thousand are in a run of everything on six kernels.
const MOST: usize = 50_000;

/// What is known of cells, by accelerator, suite, fixture and case; of all kernels together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    #[serde(default)]
    cells: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    ms: u64,
    #[serde(default)]
    memory: u64,
}

fn name(accel: Accel, patience: u32, id: &CellId) -> String {
    format!("{accel} x{patience} {}", id.case_path())
}

impl Times {
    /// What is in a file; nothing where it can't be read, since nothing depends on it but the order.
    pub(super) fn load(path: Option<&Utf8PathBuf>) -> Self {
        let text = path.and_then(|path| fs_err::read(path).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Writes it at once, so that another run reads the old or the new.
    pub(super) fn save(&self, path: &Utf8Path) -> std::io::Result<()> {
        let new = path.with_extension(format!("{}.new", std::process::id()));
        fs_err::write(&new, serde_json::to_vec(self)?)?;
        fs_err::rename(&new, path)
    }

    /// Milliseconds that a cell may take.
    pub(super) fn ms(&self, accel: Accel, patience: u32, id: &CellId) -> u64 {
        let seen = self.cells.get(&name(accel, patience, id));
        seen.map_or(CELL * u64::from(patience), |seen| seen.ms)
    }

    /// Bytes that its guest may come to use.
    pub(super) fn memory(&self, accel: Accel, patience: u32, id: &CellId) -> u64 {
        let seen = self.cells.get(&name(accel, patience, id));
        seen.map_or(MEMORY, |seen| seen.memory).max(MEMORY / 4)
    }

    /// Takes note of a cell that ran: half of what is known is of it, so that a busy host is forgotten.
    pub(super) fn learn(
        &mut self,
        accel: Accel,
        patience: u32,
        id: &CellId,
        ms: u64,
        memory: Option<u64>,
    ) {
        let full = self.cells.len() >= MOST;
        let name = name(accel, patience, id);
        match self.cells.get_mut(&name) {
            Some(seen) => {
                seen.ms = seen.ms.midpoint(ms);
                // Too little is worse than too much.
                seen.memory = seen
                    .memory
                    .midpoint(memory.unwrap_or(seen.memory))
                    .max(memory.unwrap_or_default());
            }
            None if full => {}
            None => {
                let memory = memory.unwrap_or(MEMORY);
                self.cells.insert(name, Seen { ms, memory });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(case: &str) -> CellId {
        CellId {
            suite: "fsdax".into(),
            fixture: "fsdax-ext4".into(),
            case: case.into(),
            side: 0,
            kernel: "5.10".into(),
        }
    }

    #[test]
    fn what_was_learnt_is_known_of_every_kernel_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("times.json");
        let mut times = Times::load(Some(&path));
        assert_eq!(times, Times::default());
        let unknown = times.ms(Accel::Tcg, 1, &id("pin"));
        times.learn(Accel::Tcg, 1, &id("pin"), 8000, Some(300 << 20));
        times.learn(Accel::Tcg, 1, &id("pin"), 4000, Some(200 << 20));
        times.save(&path).unwrap();
        let read = Times::load(Some(&path));
        assert_eq!(read, times);
        let other = CellId {
            side: 1,
            kernel: "6.12".into(),
            ..id("pin")
        };
        assert_eq!(read.ms(Accel::Tcg, 1, &other), 6000);
        assert_eq!(read.memory(Accel::Tcg, 1, &other), 250 << 20);
        assert_eq!(read.ms(Accel::Kvm, 1, &other), unknown);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Times::load(Some(&path)), Times::default());
    }
}
