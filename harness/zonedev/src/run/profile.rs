//! What a kernel that profiles itself has counted, kept beside its cell.

use std::time::Duration;

use crate::record::{CellId, RunFolder};
use crate::vm::Guest;

use super::session::Session;

/// The option of a kernel that profiles itself.
pub(super) const OPTION: &str = "GCOV_KERNEL";

/// Takes the counts at the end of a cell. Hands back what there is to tell of it: a cell without
/// counts is told again where lines are.
pub(super) async fn keep(
    session: &mut Session,
    guest: &Guest,
    limit: Duration,
    folder: &RunFolder,
    id: &CellId,
) -> Option<String> {
    let profile = match session.profile(guest, limit).await {
        Ok(profile) => profile,
        Err(e) => return Some(format!("{id}: the kernel's profile was not had: {e}")),
    };
    if let Err(e) = folder.write_profile(id, &profile) {
        return Some(format!("{id}: the kernel's profile was not kept: {e}"));
    }
    let left_out = profile.left_out.first()?;
    Some(format!(
        "{id}: {} files of the kernel's profile were left out, the first: {left_out}",
        profile.left_out.len()
    ))
}
