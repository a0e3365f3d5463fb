//! A case as a C program that needs nothing of ours: its operations as system calls, what PID 1
//! does before the first of them as commands in its header comment. It is what goes to a mailing
//! list. Pure.

mod actors;
mod devices;
mod error;
mod includes;
mod machine;
mod maps;
mod ops_device;
mod ops_file;
mod ops_map;
mod pieces;
mod program;
mod race;
mod setup;
mod step;
mod text;
mod words;

pub use error::CannotSay;
pub use program::{Reproduced, c_program};

#[cfg(test)]
mod all_tests;
#[cfg(test)]
mod text_tests;
