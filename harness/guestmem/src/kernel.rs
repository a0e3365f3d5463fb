//! What a vmlinux says about the kernel that the guest runs: addresses, types, build id.

use crate::btf::{Btf, BtfError};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};
use object::{Endianness, ReadCache, ReadRef, elf};
use std::collections::HashMap;
use std::path::Path;

/// The symbols that guestmem uses; others are not kept.
pub const SYMBOLS: [&str; 5] = [
    "init_top_pgt",
    "iomem_resource",
    "pgmap_array",
    "phys_base",
    "vmcoreinfo_note",
];

/// Why a vmlinux could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file could not be opened or isn't a vmlinux.
    #[error("read {path} as a vmlinux: {reason}; pass the uncompressed ELF file of the build")]
    File {
        /// Its path.
        path: String,
        /// What was wrong.
        reason: String,
    },
    /// It has no section of that name.
    #[error(
        "find section {name} in {path}; build the kernel with CONFIG_DEBUG_INFO_BTF and don't strip it"
    )]
    NoSection {
        /// The file's path.
        path: String,
        /// `.BTF` or `.symtab`.
        name: &'static str,
    },
    /// Its BTF doesn't parse.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

/// Addresses and types of one kernel build.
#[derive(Debug, Clone)]
pub struct KernelInfo {
    symbols: HashMap<String, u64>,
    btf: Btf,
    btf_bytes: usize,
    build_id: Option<Vec<u8>>,
}

impl KernelInfo {
    /// Reads a vmlinux: its symbol table for [`SYMBOLS`], `.BTF`, and the build id.
    ///
    /// # Errors
    /// If the file isn't a 64-bit ELF file with both.
    pub fn from_vmlinux(path: &Path) -> Result<KernelInfo, KernelError> {
        let shown = path.display().to_string();
        let bad = |reason: String| KernelError::File {
            path: shown.clone(),
            reason,
        };
        let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
        let cache = ReadCache::new(file);
        let parts = read_elf(&cache).map_err(|e| bad(e.to_string()))?;
        let missing = |name| KernelError::NoSection {
            path: shown.clone(),
            name,
        };
        let symbols = parts.symbols.ok_or_else(|| missing(".symtab"))?;
        let btf = parts.btf.ok_or_else(|| missing(".BTF"))?;
        Ok(KernelInfo::from_parts(symbols, btf, parts.build_id)?)
    }

    /// A kernel from what [`KernelInfo::from_vmlinux`] would have read, for recorded images.
    ///
    /// # Errors
    /// If the BTF doesn't parse.
    pub fn from_parts(
        symbols: HashMap<String, u64>,
        btf: Vec<u8>,
        build_id: Option<Vec<u8>>,
    ) -> Result<KernelInfo, BtfError> {
        Ok(KernelInfo {
            symbols,
            btf_bytes: btf.len(),
            btf: Btf::parse(btf)?,
            build_id,
        })
    }

    /// The link-time virtual address of one of [`SYMBOLS`].
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).copied()
    }

    /// All symbols kept.
    pub fn symbols(&self) -> &HashMap<String, u64> {
        &self.symbols
    }

    /// The kernel's types.
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// Bytes of the `.BTF` section.
    pub fn btf_bytes(&self) -> usize {
        self.btf_bytes
    }

    /// The GNU build id, if the kernel was linked with one.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }
}

#[derive(Default)]
struct Parts {
    symbols: Option<HashMap<String, u64>>,
    btf: Option<Vec<u8>>,
    build_id: Option<Vec<u8>>,
}

fn read_elf<'a, R: ReadRef<'a>>(data: R) -> object::read::Result<Parts> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut parts = Parts::default();
    if let Some((_, btf)) = sections.section_by_name(endian, b".BTF") {
        parts.btf = Some(btf.data(endian, data)?.to_vec());
    }
    for section in sections.iter() {
        let Some(mut notes) = section.notes(endian, data)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == b"GNU" && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                parts.build_id = Some(note.desc().to_vec());
            }
        }
    }
    let table = sections.symbols(endian, data, elf::SHT_SYMTAB)?;
    if !table.is_empty() {
        // The names as one slice: looking each up through the cache costs 100 ms.
        let strings = sections
            .section(table.string_section())?
            .data(endian, data)?;
        let mut symbols = HashMap::new();
        for symbol in table.iter() {
            let name = strings
                .get(symbol.st_name(endian) as usize..)
                .unwrap_or(&[]);
            let known = SYMBOLS.iter().find(|known| {
                let rest = name.strip_prefix(known.as_bytes());
                rest.is_some_and(|r| r.first() == Some(&0))
            });
            if let Some(known) = known {
                symbols.insert((*known).to_owned(), symbol.st_value(endian));
            }
            if symbols.len() == SYMBOLS.len() {
                break;
            }
        }
        parts.symbols = Some(symbols);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vmlinux in small: .BTF, .symtab, .strtab, a build id.
    fn vmlinux(btf: &[u8], with_symbols: bool) -> Vec<u8> {
        let strings = b"\0pgmap_array_not\0pgmap_array\0phys_base\0";
        let mut symbols = vec![0u8; 24];
        for (name, value) in [(1u32, 1u64), (17, 0xffff_ffff_8217_5a50), (29, 3)] {
            symbols.extend(name.to_le_bytes());
            symbols.extend([0, 0, 1, 0]);
            symbols.extend(value.to_le_bytes());
            symbols.extend([0; 8]);
        }
        let mut note = Vec::new();
        for word in [4u32, 4, 3] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"GNU\0\x01\x02\x03\x04");
        let names = b"\0.BTF\0.symtab\0.strtab\0.notes\0";
        let symtab = if with_symbols { 2 } else { 1 };
        // Name, type, link, entry size, content.
        let sections: [(u32, u32, u32, u64, &[u8]); 5] = [
            (1, 1, 0, 0, btf),
            (6, symtab, 3, 24, &symbols),
            (14, 3, 0, 0, strings),
            (22, 7, 0, 0, &note),
            (22, 3, 0, 0, names),
        ];
        let mut body = Vec::new();
        let mut headers = vec![0u8; 64];
        for (name, kind, link, entry, content) in sections {
            body.resize(body.len().next_multiple_of(8), 0);
            headers.extend(name.to_le_bytes());
            headers.extend(kind.to_le_bytes());
            for word in [0, 0, 64 + body.len() as u64, content.len() as u64] {
                headers.extend(word.to_le_bytes());
            }
            headers.extend(link.to_le_bytes());
            headers.extend([0; 4]);
            for word in [4, entry] {
                headers.extend(word.to_le_bytes());
            }
            body.extend(content);
        }
        body.resize(body.len().next_multiple_of(8), 0);
        let mut f = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        f.resize(16, 0);
        f.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0, 0, 64 + body.len() as u64] {
            f.extend(word.to_le_bytes());
        }
        f.extend([0; 4]);
        for half in [64u16, 0, 0, 64, 6, 5] {
            f.extend(half.to_le_bytes());
        }
        f.extend(body);
        f.extend(headers);
        f
    }

    #[test]
    fn a_vmlinux_gives_symbols_types_and_build_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmlinux");
        let btf = vec![0x9f, 0xeb, 1, 0]
            .into_iter()
            .chain([24, 0, 0, 0, 1u32].into_iter().flat_map(u32::to_le_bytes))
            .chain([0])
            .collect::<Vec<u8>>();
        std::fs::write(&path, vmlinux(&btf, true)).unwrap();
        let info = KernelInfo::from_vmlinux(&path).unwrap();
        assert_eq!(info.symbol("pgmap_array"), Some(0xffff_ffff_8217_5a50));
        assert_eq!(info.symbol("phys_base"), Some(3));
        assert_eq!(info.symbol("init_top_pgt"), None);
        assert_eq!(info.build_id(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(info.btf_bytes(), btf.len());

        std::fs::write(&path, vmlinux(&btf, false)).unwrap();
        let stripped = KernelInfo::from_vmlinux(&path);
        let told = stripped.map(|_| ()).unwrap_err().to_string();
        assert!(told.contains(".symtab"), "{told}");
        std::fs::write(&path, b"compressed").unwrap();
        assert!(KernelInfo::from_vmlinux(&path).is_err());
    }
}
