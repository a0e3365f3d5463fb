//! Reading the pages of a guest that stands still.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use guestmem::{KernelInfo, PagesReading, Problem, ProblemKind, ProcessMemory, Segment, Target};

use crate::vm::{Guest, Result};

/// Reads guests of one kernel. What VMCOREINFO says is found once and kept:
/// clones of a template share it.
#[derive(Clone, Debug)]
pub struct PageReader {
    kernel: Arc<KernelInfo>,
    target: Arc<Mutex<Option<Arc<Target>>>>,
}

impl PageReader {
    /// For guests of this kernel and template.
    pub fn new(kernel: Arc<KernelInfo>) -> Self {
        Self {
            kernel,
            target: Arc::default(),
        }
    }

    /// Pauses the guest, reads, and lets it go on. One that a debugger holds is read as it runs: to
    /// the debugger, a pause would be a stop.
    ///
    /// A memory that can't be understood gives a reading with a problem, which
    /// no verdict takes for a pass.
    ///
    /// # Errors
    /// Where QEMU does not do as it is told.
    pub async fn read(&self, guest: &Guest) -> Result<(PagesReading, Duration)> {
        let pauses = guest.gdb().is_none();
        if pauses {
            guest.pause().await?;
        }
        let started = Instant::now();
        let reading = self.read_paused(guest);
        let took = started.elapsed();
        if pauses {
            guest.resume().await?;
        }
        Ok((reading?, took))
    }

    /// The same for a guest in which somebody works, and which may have ended: then it stays as it
    /// is.
    ///
    /// # Errors
    /// Where QEMU does not do as it is told.
    pub async fn look(&self, guest: &Guest) -> Result<(PagesReading, Duration)> {
        if guest.end().is_none() {
            return self.read(guest).await;
        }
        let started = Instant::now();
        Ok((self.read_paused(guest)?, started.elapsed()))
    }

    /// Reads a guest that is paused already.
    ///
    /// # Errors
    /// Where its memory's place can't be found.
    pub fn read_paused(&self, guest: &Guest) -> Result<PagesReading> {
        let segments = guest
            .segments()?
            .iter()
            .map(|s| Segment {
                gpa: s.gpa,
                len: s.len,
                hva: s.hva,
            })
            .collect();
        let memory = match ProcessMemory::new(guest.pid() as i32, segments) {
            Ok(memory) => memory,
            Err(e) => return Ok(unreadable(format!("the guest's memory can't be read: {e}"))),
        };
        let mut kept = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let target = match &*kept {
            Some(target) => Arc::clone(target),
            None => match Target::attach(&memory, &self.kernel) {
                Ok(target) => Arc::clone(kept.insert(Arc::new(target))),
                Err(e) => {
                    return Ok(unreadable(format!(
                        "the kernel can't be found in its memory: {e}"
                    )));
                }
            },
        };
        drop(kept);
        Ok(target.read_pages(&memory))
    }
}

fn unreadable(what: String) -> PagesReading {
    PagesReading {
        regions: Vec::new(),
        problems: vec![Problem {
            kind: ProblemKind::PgmapList,
            pfn: None,
            pages: 0,
            what,
        }],
    }
}
