//! A run in the forms that other programs read, and in those that people paste elsewhere. All of
//! them tell how much ran, and none lets a guest's text be more than text.

mod escape;
mod findings;
#[cfg(test)]
mod forms_tests;
mod github;
mod json;
mod junit;
mod kcidb;
mod ktap;
mod mail;
mod markdown;
mod outcomes;
mod recorded;
mod reproduce;
#[cfg(test)]
mod sample;
mod totals;

pub use github::{Annotated, MAX_SUMMARY, github};
pub use json::{json, schema, to_json};
pub use junit::{JunitError, junit};
pub use kcidb::kcidb;
pub use ktap::ktap;
pub use mail::mail;
pub use markdown::{ISSUE, markdown};
pub use recorded::{Detail, Recorded};
