//! The kernel's own account of its types: BTF.

mod parse;
mod reduce;

pub use parse::{Btf, BtfError, Field};
pub use reduce::reduce;
