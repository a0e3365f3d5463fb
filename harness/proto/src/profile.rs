//! What a kernel that profiles itself (CONFIG_GCOV_KERNEL) has counted since its boot.

use serde::{Deserialize, Serialize};

/// The most bytes of all files together that a guest hands over: as text, they fit a frame.
pub const MAX_PROFILE: usize = 3 << 20;

/// The counts of all profiled objects of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// One for each profiled object.
    pub files: Vec<ProfileFile>,
    /// What could not be read or is too much, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The counts of one object, as the gcov of the compiler reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Below /sys/kernel/debug/gcov; it ends in the object's place in the kernel's tree.
    pub path: String,
    /// The bytes in hexadecimal.
    data: String,
}

impl ProfileFile {
    /// A file with these bytes.
    pub fn new(path: String, bytes: &[u8]) -> Self {
        let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or_default();
        let data = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
        ProfileFile {
            path,
            data: data.collect(),
        }
    }

    /// The bytes; `None` where the text is none of ours.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let pairs = self.data.as_bytes().chunks(2);
        pairs
            .map(|pair| {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                let [high, low] = pair else { return None };
                u8::try_from(digit(high)? << 4 | digit(low)?).ok()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentMessage, frame};

    #[test]
    fn all_bytes_come_back_and_other_text_does_not() {
        let bytes: Vec<u8> = (0..=255).collect();
        let file = ProfileFile::new("linux/mm/hmm.gcda".into(), &bytes);
        assert_eq!(file.bytes().unwrap(), bytes);
        for bad in ["0", "0g", "+1", "é"] {
            let file = ProfileFile {
                path: String::new(),
                data: bad.into(),
            };
            assert_eq!(file.bytes(), None, "{bad}");
        }
    }

    #[test]
    fn the_largest_profile_fits_a_frame() {
        let profile = Profile {
            files: vec![ProfileFile::new("x".repeat(4096), &vec![255; MAX_PROFILE])],
            left_out: Vec::new(),
        };
        assert!(frame::encode(&AgentMessage::Profile { profile }).is_ok());
    }
}
