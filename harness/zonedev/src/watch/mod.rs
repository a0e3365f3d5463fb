//! The pages of a guest in which somebody works, as they are now: who has the guest serves them over
//! a socket ([`serve`]), since only its parent may read its memory; whoever wants to see them asks
//! ([`guests`], [`Client`]). What is shown of them is here, too: a table, and a screen that is live.

mod change;
mod find;
mod screen;
mod serve;
mod sight;
mod table;
#[cfg(test)]
mod testing;
mod wire;

pub use change::{Change, changes};
pub use find::{Client, Found, guests};
pub use screen::{Key, Screen};
pub use serve::{Served, serve};
pub use sight::{Class, Row, Sight, SightRegion, sight};
pub use table::table;
pub use wire::{About, WatchError};
