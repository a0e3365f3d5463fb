//! Why a case can't be said in C.

use thiserror::Error;

/// An operation that no C can be written for, and why.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{op}` can't be said in C: {why}")]
pub struct CannotSay {
    /// The operation's word.
    pub op: &'static str,
    /// A fragment for people.
    pub why: String,
}
