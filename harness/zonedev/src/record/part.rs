//! `part.json`: that a run is one part of several, and of what. It is there before `begun.json` is.

use serde::{Deserialize, Serialize};

use super::RECORD_VERSION;

/// What the parts of one run have in common, and which of them this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Such as `fixture:2/4`.
    pub partition: String,
    /// A hash of all specs that a run's cells and their verdicts come from, in hex.
    pub specs: String,
}

impl Part {
    /// One of this version.
    pub fn new(partition: String, specs: String) -> Self {
        Self {
            version: RECORD_VERSION,
            partition,
            specs,
        }
    }
}
