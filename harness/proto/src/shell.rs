//! What goes through the port of a guest's shell, as frames: a terminal at the host's end, a shell
//! at the guest's. The agent has no part in it but to fork who serves the port, so that a shell
//! answers also where the agent waits for an operation that hangs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes that either side puts into one frame.
pub const MAX_CHUNK: usize = 16 << 10;

/// Bytes, as a text in which each character is one of them: most of a terminal's are ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|b| char::from(*b)).collect();
        to.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |c| u8::try_from(u32::from(c)).map_err(serde::de::Error::custom);
        text.chars().map(byte).collect::<Result<_, _>>().map(Bytes)
    }
}

/// A shell to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellStart {
    /// The terminal that it gets; `None`: pipes.
    pub terminal: Option<Terminal>,
    /// One command instead of what is typed.
    pub command: Option<String>,
    /// What it prompts with.
    pub prompt: String,
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// What TERM says of it.
    pub name: String,
    /// Its size.
    pub size: WindowSize,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Host to guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToShell {
    /// Start one. While another one runs, it ends that.
    Start(ShellStart),
    /// What was typed.
    Typed {
        /// It.
        bytes: Bytes,
    },
    /// The terminal has another size now.
    Resized {
        /// Which.
        size: WindowSize,
    },
    /// Nothing more is typed.
    Close {},
}

/// Guest to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromShell {
    /// It runs.
    Started {},
    /// What it wrote.
    Shown {
        /// It.
        bytes: Bytes,
        /// Whether to standard error; a terminal knows no difference.
        error: bool,
    },
    /// It has ended, and everything that it wrote was told.
    Ended {
        /// Its exit code; 128 and the signal's number where one ended it.
        code: u8,
    },
    /// It can't be started.
    Failed {
        /// Why.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn a_character_that_is_no_byte_is_refused() {
        let text = "{\"msg\":\"typed\",\"bytes\":\"a\u{100}\"}";
        assert!(frame::decode::<ToShell>(text.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn all_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let typed = ToShell::Typed { bytes: Bytes(bytes) };
            let sent = frame::encode(&typed).unwrap();
            prop_assert_eq!(frame::read::<ToShell>(&mut &sent[..]).unwrap(), typed);
        }
    }
}
