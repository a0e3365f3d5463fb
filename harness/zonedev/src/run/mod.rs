//! Runs cells: boots a template for each kernel and fixture, drives every case
//! in a clone of it, reads the pages at checkpoints, and emits events.

mod boot;
mod cell;
mod dump;
mod engine;
mod error;
mod hand;
mod hang;
mod kept;
mod pages;
mod profile;
mod progress;
mod repeat;
mod session;
mod stand;
mod times;
mod trust;
mod turns;

pub use engine::{Engine, EngineConfig, Isolation, Side};
pub use error::RunError;
pub use hand::{InHand, Launched, Stop, Stopped};
pub use pages::PageReader;
pub use progress::Silence;
pub use repeat::Repeat;
pub use session::{Session, SessionError};
pub use stand::Stand;
