//! Cuts BTF down to a few types, so that it can be checked in beside a recorded image.

use super::parse::{
    ARRAY, Btf, CONST, ENUM, ENUM64, FLOAT, FWD, INT, PTR, RESTRICT, STRUCT, TYPE_TAG, TYPEDEF,
    Type, UNION, VOLATILE,
};
use std::collections::HashMap;

/// BTF with only the structs and enums named in `roots` and what they embed. Pointers point to
/// `void`; what they pointed to is left out, unless named.
pub fn reduce(btf: &Btf, roots: &[&str]) -> Vec<u8> {
    let mut out = Reducer {
        btf,
        ids: HashMap::new(),
        unwritten: Vec::new(),
        types: Vec::new(),
        strings: vec![0],
        names: HashMap::new(),
    };
    for root in roots {
        if let Some(id) = btf.struct_id(root) {
            out.add(id);
        }
        if let Some(id) = btf.enum_id(root) {
            out.add(id);
        }
    }
    out.write();
    out.finish()
}

struct Reducer<'a> {
    btf: &'a Btf,
    /// Old id to new id, also of types not yet written.
    ids: HashMap<u32, u32>,
    unwritten: Vec<(u32, Type)>,
    /// Each type's words; its id is its index + 1.
    types: Vec<Vec<u32>>,
    strings: Vec<u8>,
    names: HashMap<u32, u32>,
}

impl Reducer<'_> {
    fn name(&mut self, old: u32) -> u32 {
        if let Some(&new) = self.names.get(&old) {
            return new;
        }
        let name = self.btf.name(old);
        if name.is_empty() {
            return 0;
        }
        let new = u32::try_from(self.strings.len()).unwrap_or(0);
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        self.names.insert(old, new);
        new
    }

    /// The new id of a type, which is written later: types may embed each other to any depth.
    fn add(&mut self, id: u32) -> u32 {
        if let Some(&new) = self.ids.get(&id) {
            return new;
        }
        let Some(t) = self.btf.get(id) else {
            return 0;
        };
        self.types.push(Vec::new());
        let new = u32::try_from(self.types.len()).unwrap_or(0);
        self.ids.insert(id, new);
        self.unwritten.push((new, t));
        new
    }

    fn write(&mut self) {
        while let Some((new, t)) = self.unwritten.pop() {
            let words = self.words(t);
            if let Some(slot) = self.types.get_mut((new as usize).saturating_sub(1)) {
                *slot = words;
            }
        }
    }

    fn words(&mut self, t: Type) -> Vec<u32> {
        let btf = self.btf;
        let info = u32::from(t.kind) << 24 | t.vlen as u32 | u32::from(t.kind_flag) << 31;
        let mut words = vec![self.name(t.name), info, t.size_or_type];
        match t.kind {
            STRUCT | UNION => {
                for i in 0..t.vlen {
                    let at = t.body + 12 * i;
                    words.push(self.name(btf.word(at)));
                    words.push(self.add(btf.word(at + 4)));
                    words.push(btf.word(at + 8));
                }
            }
            ENUM | ENUM64 => {
                let step = if t.kind == ENUM { 2 } else { 3 };
                for i in 0..t.vlen {
                    let at = t.body + step * 4 * i;
                    words.push(self.name(btf.word(at)));
                    words.extend((1..step).map(|w| btf.word(at + 4 * w)));
                }
            }
            TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => words[2] = self.add(t.size_or_type),
            ARRAY => {
                let element = self.add(btf.word(t.body));
                let index = self.add(btf.word(t.body + 4));
                words.extend([element, index, btf.word(t.body + 8)]);
            }
            INT => words.push(btf.word(t.body)),
            FLOAT => {}
            PTR => words = vec![0, u32::from(PTR) << 24, 0],
            // What can't be embedded has no size.
            _ => words = vec![0, u32::from(FWD) << 24, 0],
        }
        words
    }

    fn finish(self) -> Vec<u8> {
        let words: Vec<u32> = self.types.into_iter().flatten().collect();
        let types = u32::try_from(words.len() * 4).unwrap_or(u32::MAX);
        let strings = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        let mut out = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings].iter().chain(&words) {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.strings);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::tests::sample;
    use super::*;

    #[test]
    fn what_is_named_answers_as_before_and_the_rest_is_gone() {
        let whole = Btf::parse(sample()).unwrap();
        let small = Btf::parse(reduce(&whole, &["s"])).unwrap();
        for path in ["a", "in", "in.x", "b", "c", "arr", "bits", "gone"] {
            assert_eq!(small.field("s", path), whole.field("s", path), "{path}");
        }
        assert!(small.enumerators("e").is_err());
        let both = Btf::parse(reduce(&whole, &["s", "e"])).unwrap();
        assert_eq!(both.enumerators("e"), whole.enumerators("e"));
    }

    /// A struct in a struct in a struct: no stack is as deep as a file can be long.
    #[test]
    fn types_nested_to_any_depth_are_reduced() {
        let depth = 200_000u32;
        let mut words: Vec<u32> = Vec::new();
        for id in 1..=depth {
            words.extend([
                u32::from(id == 1),
                u32::from(STRUCT) << 24 | 1,
                8,
                0,
                id + 1,
                0,
            ]);
        }
        words.extend([0, u32::from(STRUCT) << 24, 8]);
        let mut data = vec![0x9f, 0xeb, 1, 0];
        let len = words.len() as u32 * 4;
        for word in [24, 0, len, len, 3].iter().chain(&words) {
            data.extend(word.to_le_bytes());
        }
        data.extend(b"\0s\0");
        let whole = Btf::parse(data).unwrap();
        let small = Btf::parse(reduce(&whole, &["s"])).unwrap();
        assert_eq!(small.size("s"), Ok(8));
    }
}
