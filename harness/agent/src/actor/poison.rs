//! memory_failure() of a page that nobody needs to map, by hwpoison-inject.

use std::fs;

use proto::StepResult;

use super::access;
use crate::wire::{Context, Reply, failed, io_errno};

const DIR: &str = "/sys/kernel/debug/hwpoison";

/// Poisons the frame that PID 1 names, or takes that back.
pub(super) fn poison(undo: bool, context: &Context) -> Result<Reply, StepResult> {
    let pfn = context
        .pfn
        .ok_or_else(|| failed("poison a page: the file has no block there"))?;
    let file = if undo { "unpoison-pfn" } else { "corrupt-pfn" };
    // Who maps it gets a SIGBUS, which may be this process.
    let call = || fs::write(format!("{DIR}/{file}"), format!("{pfn:#x}"));
    let (done, came) = access::awaiting(call);
    if let Some(came) = came {
        return Err(came.result());
    }
    match done {
        Ok(()) => Ok(StepResult::Ok {}.into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(StepResult::Lacks {
            what: "hwpoison-inject: the kernel was built without it".into(),
        }),
        Err(e) => Err(io_errno("write", &e)),
    }
}
