//! A reader of BTF: structs by field name, and enums.
//!
//! Mirrors include/uapi/linux/btf.h. The bytes come from a vmlinux and not from a guest, but are
//! checked as if they did.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
/// Typedefs, qualifiers and nested anonymous members followed before giving up.
const MAX_DEPTH: usize = 32;
/// Members looked at for one name: more than the largest kernel struct has with all that it embeds,
/// fewer than anonymous members that embed each other could make.
const MAX_MEMBERS: usize = 1 << 16;
/// Bytes of a name that is kept; the kernel's own have at most as many (KSYM_NAME_LEN). Names may
/// overlap in a file that somebody made up, and all of them together be larger than it.
const MAX_NAME: usize = 512;

pub(super) const INT: u8 = 1;
pub(super) const PTR: u8 = 2;
pub(super) const ARRAY: u8 = 3;
pub(super) const STRUCT: u8 = 4;
pub(super) const UNION: u8 = 5;
pub(super) const ENUM: u8 = 6;
pub(super) const FWD: u8 = 7;
pub(super) const TYPEDEF: u8 = 8;
pub(super) const VOLATILE: u8 = 9;
pub(super) const CONST: u8 = 10;
pub(super) const RESTRICT: u8 = 11;
pub(super) const FUNC: u8 = 12;
pub(super) const FUNC_PROTO: u8 = 13;
pub(super) const VAR: u8 = 14;
pub(super) const DATASEC: u8 = 15;
pub(super) const FLOAT: u8 = 16;
pub(super) const DECL_TAG: u8 = 17;
pub(super) const TYPE_TAG: u8 = 18;
pub(super) const ENUM64: u8 = 19;

/// Why BTF could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The bytes aren't BTF, or are cut off.
    #[error("parse BTF: {0}; build the kernel with CONFIG_DEBUG_INFO_BTF")]
    Malformed(String),
    /// This kernel has no type of that name.
    #[error("find {kind} {name} in BTF; the kernel was built without what needs it")]
    NoType {
        /// `struct` or `enum`.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The struct is there but has no such field: often how one era differs from another.
    #[error("find field {field} of struct {name} in BTF; this kernel lays it out differently")]
    NoField {
        /// The struct's name.
        name: String,
        /// The field asked for.
        field: String,
    },
}

impl BtfError {
    /// Whether the type or the field is missing, as opposed to BTF being unreadable.
    pub fn is_missing(&self) -> bool {
        !matches!(self, BtfError::Malformed(_))
    }
}

/// Where a field lies in its struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the struct's start.
    pub offset: u64,
    /// Bytes; 0 for a flexible array.
    pub size: u64,
}

/// Parsed BTF.
#[derive(Debug, Clone)]
pub struct Btf {
    data: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Where each type starts in `data`; index 0 is `void`.
    types: Vec<usize>,
    structs: HashMap<String, u32>,
    enums: HashMap<String, u32>,
}

#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) name: u32,
    pub(super) kind: u8,
    pub(super) kind_flag: bool,
    pub(super) vlen: usize,
    /// Size in bytes, or the type referred to.
    pub(super) size_or_type: u32,
    /// Where what follows the common part starts.
    pub(super) body: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) type_id: u32,
    pub(super) bit_offset: u32,
    pub(super) is_bitfield: bool,
}

fn malformed(what: &str) -> BtfError {
    BtfError::Malformed(what.to_owned())
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

impl Btf {
    /// Reads the content of a `.BTF` section.
    ///
    /// # Errors
    /// If it isn't little-endian BTF of version 1, or is cut off.
    pub fn parse(data: Vec<u8>) -> Result<Btf, BtfError> {
        let head = data
            .first_chunk::<4>()
            .ok_or_else(|| malformed("it is empty"))?;
        if u16::from_le_bytes([head[0], head[1]]) != MAGIC || head[2] != 1 {
            return Err(malformed("no magic number of little-endian BTF version 1"));
        }
        let word = |i: usize| {
            let value = u32_at(&data, i).ok_or_else(|| malformed("the header is cut off"));
            value.map(|v| v as usize)
        };
        let header = word(4)?;
        let section = |off: usize, len: usize| {
            let start = header.checked_add(off)?;
            let end = start.checked_add(len)?;
            (end <= data.len()).then_some(start..end)
        };
        let cut = || malformed("a section is cut off");
        let types = section(word(8)?, word(12)?).ok_or_else(cut)?;
        let strings = section(word(16)?, word(20)?).ok_or_else(cut)?;
        let mut btf = Btf {
            data,
            strings,
            types: vec![usize::MAX],
            structs: HashMap::new(),
            enums: HashMap::new(),
        };
        btf.index(types)?;
        Ok(btf)
    }

    fn index(&mut self, types: std::ops::Range<usize>) -> Result<(), BtfError> {
        let mut at = types.start;
        while at < types.end {
            let t = self
                .type_at(at)
                .ok_or_else(|| malformed("a type is cut off"))?;
            let id = u32::try_from(self.types.len()).map_err(|_| malformed("too many types"))?;
            self.types.push(at);
            let names = match t.kind {
                STRUCT | UNION => Some(&mut self.structs),
                ENUM | ENUM64 => Some(&mut self.enums),
                _ => None,
            };
            if let Some(names) = names
                && t.name != 0
                && let Some(name) = string(&self.data, &self.strings, t.name)
            {
                names.entry(name.to_owned()).or_insert(id);
            }
            let body = match t.kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * t.vlen,
                ENUM | FUNC_PROTO => 8 * t.vlen,
                PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
                kind => return Err(malformed(&format!("type {id} is of unknown kind {kind}"))),
            };
            at = t.body + body;
            if at > types.end {
                return Err(malformed("a type is cut off"));
            }
        }
        Ok(())
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = u32_at(&self.data, at + 4)?;
        Some(Type {
            name: u32_at(&self.data, at)?,
            kind: (info >> 24 & 0x1f) as u8,
            kind_flag: info >> 31 == 1,
            vlen: (info & 0xffff) as usize,
            size_or_type: u32_at(&self.data, at + 8)?,
            body: at + 12,
        })
    }

    pub(super) fn get(&self, id: u32) -> Option<Type> {
        self.type_at(*self.types.get(id as usize).filter(|_| id != 0)?)
    }

    pub(super) fn name(&self, offset: u32) -> &str {
        string(&self.data, &self.strings, offset).unwrap_or("")
    }

    pub(super) fn word(&self, at: usize) -> u32 {
        u32_at(&self.data, at).unwrap_or(0)
    }

    pub(super) fn struct_id(&self, name: &str) -> Option<u32> {
        self.structs.get(name).copied()
    }

    pub(super) fn enum_id(&self, name: &str) -> Option<u32> {
        self.enums.get(name).copied()
    }

    pub(super) fn members(&self, t: Type) -> impl Iterator<Item = Member> + '_ {
        (0..t.vlen).map(move |i| {
            let at = t.body + 12 * i;
            let offset = self.word(at + 8);
            let (bit_offset, width) = if t.kind_flag {
                (offset & 0xff_ffff, offset >> 24)
            } else {
                (offset, 0)
            };
            Member {
                name: self.word(at),
                type_id: self.word(at + 4),
                bit_offset,
                is_bitfield: width != 0,
            }
        })
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<(u32, Type)> {
        for _ in 0..MAX_DEPTH {
            let t = self.get(id)?;
            match t.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = t.size_or_type,
                _ => return Some((id, t)),
            }
        }
        None
    }

    fn size_of(&self, id: u32, depth: usize) -> Option<u64> {
        let (_, t) = self.resolve(id)?;
        match t.kind {
            PTR => Some(8),
            ARRAY if depth < MAX_DEPTH => {
                let count = u64::from(self.word(t.body + 8));
                self.size_of(self.word(t.body), depth + 1)?
                    .checked_mul(count)
            }
            INT | STRUCT | UNION | ENUM | ENUM64 | FLOAT => Some(u64::from(t.size_or_type)),
            _ => None,
        }
    }

    /// Bytes of `struct name` (or `union name`).
    ///
    /// # Errors
    /// If there is no such type.
    pub fn size(&self, name: &str) -> Result<u64, BtfError> {
        self.struct_id(name)
            .and_then(|id| self.get(id))
            .map(|t| u64::from(t.size_or_type))
            .ok_or_else(|| no_struct(name))
    }

    /// Where `path` (field names joined by dots; anonymous members are looked through) lies in
    /// `struct name`.
    ///
    /// # Errors
    /// [`BtfError::NoType`] or [`BtfError::NoField`] if this kernel doesn't have it; a bit field
    /// counts as missing, since it has no address.
    pub fn field(&self, name: &str, path: &str) -> Result<Field, BtfError> {
        let mut id = self.struct_id(name).ok_or_else(|| no_struct(name))?;
        let missing = || BtfError::NoField {
            name: name.to_owned(),
            field: path.to_owned(),
        };
        let mut offset = 0;
        for part in path.split('.') {
            let mut left = MAX_MEMBERS;
            let found = self.member(id, part, 0, &mut left);
            let (bits, type_id) = found.ok_or_else(missing)?;
            offset += bits / 8;
            id = type_id;
        }
        let size = self.size_of(id, 0).ok_or_else(missing)?;
        Ok(Field { offset, size })
    }

    /// Bit offset and type of a member, also of those in anonymous members.
    fn member(&self, id: u32, name: &str, depth: usize, left: &mut usize) -> Option<(u64, u32)> {
        let (_, t) = self.resolve(id)?;
        if !matches!(t.kind, STRUCT | UNION) || depth > MAX_DEPTH {
            return None;
        }
        for m in self.members(t) {
            *left = left.checked_sub(1)?;
            // One whose name can't be read has none; so `reduce` writes it.
            if self.name(m.name).is_empty() {
                if let Some((bits, id)) = self.member(m.type_id, name, depth + 1, left) {
                    return Some((u64::from(m.bit_offset) + bits, id));
                }
            } else if self.name(m.name) == name {
                let whole = !m.is_bitfield && m.bit_offset % 8 == 0;
                return whole.then_some((u64::from(m.bit_offset), m.type_id));
            }
        }
        None
    }

    /// The enumerators of `enum name`, in the order of the source.
    ///
    /// # Errors
    /// If there is no such enum.
    pub fn enumerators(&self, name: &str) -> Result<Vec<(&str, i64)>, BtfError> {
        let t = self.enum_id(name).and_then(|id| self.get(id));
        let t = t.ok_or_else(|| BtfError::NoType {
            kind: "enum",
            name: name.to_owned(),
        })?;
        let step = if t.kind == ENUM { 8 } else { 12 };
        Ok((0..t.vlen)
            .map(|i| {
                let at = t.body + step * i;
                let low = self.word(at + 4);
                let value = match (t.kind, t.kind_flag) {
                    (ENUM, true) => i64::from(low.cast_signed()),
                    (ENUM, false) => i64::from(low),
                    _ => (u64::from(self.word(at + 8)) << 32 | u64::from(low)).cast_signed(),
                };
                (self.name(self.word(at)), value)
            })
            .collect())
    }
}

fn no_struct(name: &str) -> BtfError {
    BtfError::NoType {
        kind: "struct",
        name: name.to_owned(),
    }
}

fn string<'a>(data: &'a [u8], strings: &std::ops::Range<usize>, offset: u32) -> Option<&'a str> {
    let bytes = data.get(strings.clone())?.get(offset as usize..)?;
    let end = bytes.iter().take(MAX_NAME + 1).position(|&b| b == 0)?;
    std::str::from_utf8(&bytes[..end]).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `enum e { A, B = 5 }` and
    /// `struct s { u32 a; struct { typedef struct { u64 x; } inner; union { u8 b; u32 c; }; }; u32 bits:3; u16 arr[3]; }`
    pub(crate) fn sample() -> Vec<u8> {
        let mut strings = vec![0u8];
        let mut s = |name: &str| {
            let at = strings.len() as u32;
            strings.extend(name.as_bytes());
            strings.push(0);
            at
        };
        let info =
            |kind: u8, vlen: u32, flag: bool| u32::from(kind) << 24 | vlen | u32::from(flag) << 31;
        let mut words: Vec<u32> = Vec::new();
        let int = |words: &mut Vec<u32>, name, bytes: u32| {
            words.extend([name, info(INT, 0, false), bytes, bytes * 8]);
        };
        int(&mut words, s("u32"), 4); // 1
        int(&mut words, s("u64"), 8); // 2
        int(&mut words, s("u8"), 1); // 3
        int(&mut words, s("u16"), 2); // 4
        words.extend([s("inner_t"), info(STRUCT, 1, false), 8, s("x"), 2, 0]); // 5
        words.extend([s("inner"), info(TYPEDEF, 0, false), 5]); // 6
        words.extend([0, info(UNION, 2, false), 4, s("b"), 3, 0, s("c"), 1, 0]); // 7
        words.extend([0, info(STRUCT, 2, false), 16, s("in"), 6, 0, 0, 7, 64]); // 8
        words.extend([0, info(ARRAY, 0, false), 0, 4, 1, 3]); // 9
        words.extend([s("s"), info(STRUCT, 4, true), 40]); // 10
        words.extend([s("a"), 1, 0, 0, 8, 64]);
        words.extend([s("bits"), 1, 3 << 24 | 192, s("arr"), 9, 224]);
        words.extend([s("e"), info(ENUM, 2, false), 4, s("A"), 0, s("B"), 5]); // 11
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([1, 0]);
        let types = words.len() as u32 * 4;
        for word in [24, 0, types, types, strings.len() as u32]
            .iter()
            .chain(&words)
        {
            out.extend(word.to_le_bytes());
        }
        out.extend(strings);
        out
    }

    #[test]
    fn fields_are_found_through_anonymous_members_and_typedefs() {
        let btf = Btf::parse(sample()).unwrap();
        let field = |offset, size| Ok(Field { offset, size });
        assert_eq!(btf.size("s"), Ok(40));
        assert_eq!(btf.field("s", "a"), field(0, 4));
        assert_eq!(btf.field("s", "in"), field(8, 8));
        assert_eq!(btf.field("s", "in.x"), field(8, 8));
        assert_eq!(btf.field("s", "c"), field(16, 4));
        assert_eq!(btf.field("s", "arr"), field(28, 6));
        assert_eq!(btf.enumerators("e").unwrap(), [("A", 0), ("B", 5)]);
    }

    fn of_types(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([1, 0]);
        let len = types.len() as u32 * 4;
        for word in [24, 0, len, len, strings.len() as u32].iter().chain(types) {
            out.extend(word.to_le_bytes());
        }
        out.extend(strings);
        out
    }

    /// Structs of two anonymous members, each of which is the next struct: as many ways as there are
    /// subsets.
    #[test]
    fn members_that_embed_each_other_are_searched_in_time() {
        let mut types = Vec::new();
        for id in 1..=31u32 {
            let name = if id == 1 { 1 } else { 0 };
            types.extend([name, u32::from(STRUCT) << 24 | 2, 8]);
            types.extend([0, id + 1, 0, 0, id + 1, 0]);
        }
        types.extend([0, u32::from(STRUCT) << 24, 8]);
        let btf = Btf::parse(of_types(&types, b"\0s\0")).unwrap();
        assert!(btf.field("s", "gone").unwrap_err().is_missing());
    }

    /// Each struct's name begins a byte later in the same long string.
    #[test]
    fn names_that_overlap_take_no_more_than_their_bytes() {
        let types: Vec<u32> = (1..=5000u32)
            .flat_map(|n| [n, u32::from(STRUCT) << 24, 0])
            .collect();
        let mut strings = vec![b'x'; 6000];
        (strings[0], strings[5999]) = (0, 0);
        let btf = Btf::parse(of_types(&types, &strings)).unwrap();
        assert!(btf.structs.keys().all(|name| name.len() <= MAX_NAME));
    }

    #[test]
    fn what_is_missing_is_told_apart_from_what_is_broken() {
        let btf = Btf::parse(sample()).unwrap();
        assert!(btf.field("s", "gone").unwrap_err().is_missing());
        assert!(btf.field("s", "bits").unwrap_err().is_missing());
        assert!(btf.field("t", "a").unwrap_err().is_missing());
        assert!(btf.enumerators("f").unwrap_err().is_missing());
        for n in 0..sample().len() {
            assert!(!Btf::parse(sample()[..n].to_vec()).unwrap_err().is_missing());
        }
    }

    proptest! {
        #[test]
        fn corrupt_btf_never_panics(at in 0usize..400, byte in any::<u8>(), more in 0usize..400) {
            let mut bytes = sample();
            for i in [at, more] {
                let i = i % bytes.len();
                bytes[i] = byte;
            }
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.field("s", "in.x");
                let _ = btf.field("s", "arr");
                let _ = btf.enumerators("e");
                let _ = super::super::reduce(&btf, &["s", "e"]);
            }
        }
    }
}
