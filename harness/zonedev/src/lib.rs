//! The host program: boots kernels, drives cases, judges what happened.
//! The rooms and who may import whom are in ARCHITECTURE.md.
pub mod bisect;
pub mod build;
pub mod cli;
pub mod cluster;
pub mod history;
pub mod minimise;
pub mod observe;
pub mod plan;
pub mod record;
pub mod report;
pub mod reproducer;
pub mod run;
pub mod spec;
pub mod verdict;
pub mod vm;
pub mod watch;
