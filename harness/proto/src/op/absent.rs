//! What the keys of operations mean that are absent.

use std::num::NonZero;

use crate::{Memory, Size};

pub(super) fn map_mem() -> String {
    "mem".into()
}

pub(super) fn pmd() -> Size {
    Size(Size::PMD)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
pub(super) fn is_private(memory: &Memory) -> bool {
    *memory == Memory::Private
}

pub(super) const fn once() -> NonZero<u32> {
    NonZero::<u32>::MIN
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
pub(super) fn is_once(turns: &NonZero<u32>) -> bool {
    *turns == once()
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

pub(super) fn page() -> Size {
    Size(Size::PAGE)
}
