//! VMCOREINFO: what a kernel tells the readers of its memory, as `KEY=value` lines.
//!
//! The kernel keeps an ELF note of it in a page of its own (kernel/vmcore_info.c, kernel/crash_core.c
//! up to 6.8).

use std::collections::HashMap;

/// Most bytes of text that are looked at; the kernel's own bound is one page (8192 from 7.x on).
pub(crate) const MAX_TEXT: usize = 16384;
const NOTE_NAME: &[u8] = b"VMCOREINFO\0";
/// Name size, description size, type, then the name padded to four bytes.
const NOTE_HEADER: usize = 12 + 12;

/// Why VMCOREINFO could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmCoreInfoError {
    /// The bytes aren't a note named VMCOREINFO.
    #[error("find the note VMCOREINFO; the kernel needs CONFIG_CRASH_CORE or CONFIG_VMCORE_INFO")]
    NotANote,
    /// The key isn't there.
    #[error("find {0} in VMCOREINFO; the kernel is too old or built without what it describes")]
    Missing(String),
    /// The key's value isn't a number.
    #[error("read {key}={value} in VMCOREINFO as a number; guest memory is corrupt")]
    BadValue {
        /// The key.
        key: String,
        /// What stands there.
        value: String,
    },
}

/// Parsed VMCOREINFO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmCoreInfo {
    values: HashMap<String, String>,
}

impl VmCoreInfo {
    /// Parses the text. Lines that aren't `KEY=value` are passed over; of a key given twice the
    /// first counts.
    pub fn parse(text: &str) -> VmCoreInfo {
        let mut values = HashMap::new();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                values
                    .entry(key.to_owned())
                    .or_insert_with(|| value.trim().to_owned());
            }
        }
        VmCoreInfo { values }
    }

    /// Parses an ELF note, as the kernel keeps it. Trailing bytes are passed over.
    ///
    /// # Errors
    /// If it isn't a note of that name.
    pub fn from_note(bytes: &[u8]) -> Result<VmCoreInfo, VmCoreInfoError> {
        let text = note_text(bytes).ok_or(VmCoreInfoError::NotANote)?;
        Ok(VmCoreInfo::parse(&String::from_utf8_lossy(text)))
    }

    /// A value as text.
    ///
    /// # Errors
    /// If the key isn't there.
    pub fn text(&self, key: &str) -> Result<&str, VmCoreInfoError> {
        let value = self.values.get(key).map(String::as_str);
        value.ok_or_else(|| VmCoreInfoError::Missing(key.to_owned()))
    }

    /// A value written in decimal: NUMBER, OFFSET, SIZE, LENGTH.
    ///
    /// # Errors
    /// If the key isn't there or isn't such a number.
    pub fn number(&self, key: &str) -> Result<i64, VmCoreInfoError> {
        let value = self.text(key)?;
        value.parse().map_err(|_| bad_value(key, value))
    }

    /// A value written in hexadecimal: SYMBOL, KERNELOFFSET.
    ///
    /// # Errors
    /// If the key isn't there or isn't such a number.
    pub fn address(&self, key: &str) -> Result<u64, VmCoreInfoError> {
        let value = self.text(key)?;
        let digits = value.strip_prefix("0x").unwrap_or(value);
        u64::from_str_radix(digits, 16).map_err(|_| bad_value(key, value))
    }

    /// The build id, if the kernel tells it.
    pub fn build_id(&self) -> Option<&str> {
        self.text("BUILD-ID").ok()
    }
}

fn bad_value(key: &str, value: &str) -> VmCoreInfoError {
    VmCoreInfoError::BadValue {
        key: key.to_owned(),
        value: value.chars().take(40).collect(),
    }
}

/// The text of a VMCOREINFO note that starts at `bytes`.
fn note_text(bytes: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    if word(0)? as usize != NOTE_NAME.len() || bytes.get(12..)?.get(..11)? != NOTE_NAME {
        return None;
    }
    let text = bytes.get(NOTE_HEADER..)?;
    let len = (word(4)? as usize).min(MAX_TEXT);
    text.get(..len.min(text.len()))
}

/// Whether `page` starts like the note.
pub(crate) fn starts_note(page: &[u8]) -> bool {
    page.get(..23)
        .is_some_and(|head| head[..4] == 11u32.to_le_bytes() && head[12..] == *NOTE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note(text: &str) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [11, text.len() as u32, 0] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"VMCOREINFO\0\0");
        note.extend(text.as_bytes());
        note
    }

    #[test]
    fn keys_have_text_numbers_and_addresses() {
        let text = "OSRELEASE=6.12.1\nSYMBOL(init_top_pgt)=ffffffff82a10000\nNUMBER(phys_base)=-4096\n\
                    junk\nKERNELOFFSET=0\nSIZE(page)=64\nSIZE(page)=63\nBUILD-ID=ab\n";
        let mut bytes = note(text);
        assert!(starts_note(&bytes));
        bytes.extend([0; 40]);
        let info = VmCoreInfo::from_note(&bytes).unwrap();
        assert_eq!(info.text("OSRELEASE"), Ok("6.12.1"));
        assert_eq!(
            info.address("SYMBOL(init_top_pgt)"),
            Ok(0xffff_ffff_82a1_0000)
        );
        assert_eq!(info.number("NUMBER(phys_base)"), Ok(-4096));
        assert_eq!(info.number("SIZE(page)"), Ok(64));
        assert_eq!(info.build_id(), Some("ab"));
        assert!(matches!(
            info.number("OSRELEASE"),
            Err(VmCoreInfoError::BadValue { .. })
        ));
        assert!(matches!(
            info.address("SYMBOL(x)"),
            Err(VmCoreInfoError::Missing(_))
        ));
    }

    #[test]
    fn other_notes_are_refused() {
        let mut other = note("A=1\n");
        other[12] = b'X';
        assert!(!starts_note(&other));
        assert_eq!(
            VmCoreInfo::from_note(&other),
            Err(VmCoreInfoError::NotANote)
        );
        assert_eq!(VmCoreInfo::from_note(&[]), Err(VmCoreInfoError::NotANote));
    }

    proptest! {
        #[test]
        fn junk_never_panics(mut junk in proptest::collection::vec(any::<u8>(), 0..100), len in any::<u32>()) {
            let _ = VmCoreInfo::from_note(&junk);
            let mut bytes = note("");
            bytes[4..8].copy_from_slice(&len.to_le_bytes());
            bytes.append(&mut junk);
            prop_assert!(VmCoreInfo::from_note(&bytes).is_ok());
        }
    }
}
