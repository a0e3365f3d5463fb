//! A contract: what the counts of each kind of page must be on a kernel.
//!
//! Together with the agent's claims it gives every ZONE_DEVICE page one predicted count;
//! see `verdict::check`. The files are `kernels/contracts/*.toml`.

use proto::{Behaviour, PageType, PinHow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SpecError, SpecFile};

/// What the counts must be on one kernel, by kind of page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Contract {
    /// The file's stem.
    #[serde(skip)]
    pub name: String,
    /// One line for people: which kernels behave so.
    pub title: String,
    /// MEMORY_DEVICE_FS_DAX.
    pub fsdax: PageRules,
    /// MEMORY_DEVICE_GENERIC of device-dax.
    pub devdax: PageRules,
    /// MEMORY_DEVICE_PRIVATE.
    pub private: PageRules,
    /// MEMORY_DEVICE_COHERENT, where the kernel has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coherent: Option<PageRules>,
    /// MEMORY_DEVICE_PCI_P2PDMA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p2pdma: Option<PageRules>,
    /// What kernels of this contract have; fixtures ask for it.
    #[serde(default)]
    pub features: Features,
    /// Behaviours from which the agent's ledger predicts.
    #[serde(default)]
    pub behaviour: Behaviour,
}

/// What a kernel has or lacks, as far as fixtures differ by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Features {
    /// xfs mounts a file system with reflink with `-o dax` (from 6.0 on).
    #[serde(default)]
    pub dax_reflink: bool,
    /// gup_test has all of its modes (from 5.11 on; before, it was called gup_benchmark).
    #[serde(default)]
    pub gup_test: bool,
    /// madvise(2) knows MADV_POPULATE_READ and MADV_POPULATE_WRITE (from 5.14 on).
    #[serde(default)]
    pub populate: bool,
    /// test_hmm gives device-coherent memory (from 6.0 on).
    #[serde(default)]
    pub coherent: bool,
    /// test_hmm can take memory for a device's exclusive access, and give pages back when asked
    /// (from 5.14 on).
    #[serde(default)]
    pub hmm_exclusive: bool,
    /// test_hmm migrates a huge page as one (from 6.19 on).
    #[serde(default)]
    pub hmm_huge: bool,
    /// Regions of persistent CXL memory can be made (from 6.0 on).
    #[serde(default)]
    pub cxl: bool,
    /// Processes can map peer-to-peer memory of a PCI device (from 6.2 on).
    #[serde(default)]
    pub p2pmem_map: bool,
    /// A device-dax instance can have pages as file systems want them (fsdev_dax, in 7.2 and 7.3).
    #[serde(default)]
    pub fsdev: bool,
    /// A device can fault by hmm_range_fault_unlocked_timeout() (in 7.3).
    #[serde(default)]
    pub hmm_unlocked: bool,
    /// nr_page_table_pages of vmstat counts the kernel's own tables too, which come and go without
    /// a process (from 6.16 on).
    #[serde(default)]
    pub kernel_page_tables_counted: bool,
}

impl Features {
    /// Their names, as contracts and kernels write them.
    pub fn names() -> Vec<String> {
        match serde_json::to_value(Features::default()) {
            Ok(serde_json::Value::Object(all)) => all.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// These without some, by name.
    #[must_use]
    pub fn without(self, lacks: &[String]) -> Features {
        let Ok(mut all) = serde_json::to_value(self) else {
            return self;
        };
        for name in lacks {
            all[name] = false.into();
        }
        serde_json::from_value(all).unwrap_or(self)
    }
}

/// The rules of one kind of page. All numbers are references as `_refcount` counts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PageRules {
    /// `_refcount` of a page, or of the head of a folio, that nothing holds.
    pub idle: i32,
    /// Added by one page-table entry, to the page or to the head of its folio.
    pub pte: i32,
    /// Added by one PMD entry: to each of its pages, or once to the head of their folio.
    pub pmd: i32,
    /// On which page the holds count.
    pub folio: FolioRule,
    /// `_refcount` of every tail, whatever holds the folio.
    #[serde(default)]
    pub tail: i32,
    /// Whether the idle reference goes with what holds the page: whoever hands a page out lets it
    /// go, and the end of the last holder gives it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle_handed_over: bool,
    /// When `mapping` is set.
    pub mapping: MappingRule,
    /// How a page tells that entries of blocks that files share name it; absent where there are
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedRule>,
    /// Whether entries in page tables count in `_mapcount`.
    pub mapcount: MapcountRule,
    /// Whether a page can be pinned.
    pub pins: PinRule,
    /// What vmsplice takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmsplice: Option<PinKind>,
    /// What an O_DIRECT write from the page takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_write: Option<PinKind>,
    /// What an O_DIRECT read into the page takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_read: Option<PinKind>,
    /// What io_uring's registered buffers take; absent where it registers no memory of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_uring: Option<PinKind>,
    /// What gup_test takes and holds; absent where it holds nothing, or is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gup_test: Option<PinKind>,
}

/// On which page the holds of a folio count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FolioRule {
    /// Each page is its own.
    None,
    /// A DAX entry of order 9 makes its pages one folio; other pages are their own.
    Entry,
    /// Static compound pages of the namespace's alignment.
    Align,
    /// Each page is its own while it is held; a free one may still look like a part of the folio
    /// that it last belonged to (zone_device_page_init() clears that when it is handed out again).
    Stale,
}

/// When `mapping` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MappingRule {
    /// Exactly while a DAX entry holds the page.
    Entry,
    /// From the first fault on: set on a mapped page, unknown on others.
    SinceFault,
    /// An anonymous page's: set while processes map the page, cleared when it is free.
    Mapped,
    /// Nothing is said.
    Unchecked,
}

/// How a page tells that DAX entries of shared blocks name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SharedRule {
    /// `mapping` is a constant, and `share` (`index`) counts them.
    Constant,
    /// `mapping` is NULL, and `share` counts them.
    Null,
}

/// Whether entries in page tables count in `_mapcount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MapcountRule {
    /// It stays as it was made: no entry counts.
    None,
    /// Each entry counts: in the page's `_mapcount`, and for a folio in its `_large_mapcount`.
    Counted,
}

/// Whether a page can be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PinRule {
    /// A pin succeeds and counts.
    Allowed,
    /// The call fails, and no page is ever held by a pin.
    Refused,
    /// The caller dies of a kernel bug, and no page is ever held by a pin.
    Bug,
    /// Pinning brings the page back to RAM first, so that no such page is ever held by a pin.
    MovesBack,
}

/// The kind of reference that a pin takes on each page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PinKind {
    /// FOLL_GET: one reference.
    Get,
    /// FOLL_PIN: 1024 references on a single page; on a folio one reference and one in `_pincount`.
    Pin,
}

impl PageRules {
    /// What a pin of this sort takes on each page; FOLL_GET where the contract doesn't say,
    /// which [`Contract::parse`] allows only where pins are never held.
    pub fn pin(&self, how: PinHow) -> PinKind {
        match how {
            PinHow::Vmsplice => self.vmsplice,
            PinHow::DirectWrite => self.direct_write,
            PinHow::DirectRead => self.direct_read,
            PinHow::IoUring => self.io_uring,
            PinHow::GupTest => self.gup_test,
        }
        .unwrap_or(PinKind::Get)
    }

    fn lacks(&self) -> Option<&'static str> {
        if self.pins != PinRule::Allowed {
            return None;
        }
        [
            (self.vmsplice, "vmsplice"),
            (self.direct_write, "direct-write"),
            (self.direct_read, "direct-read"),
        ]
        .into_iter()
        .find(|(kind, _)| kind.is_none())
        .map(|(_, name)| name)
    }
}

impl Contract {
    /// Reads a contract's file.
    ///
    /// # Errors
    /// With the place in the file: what TOML or the types refuse, a kind of page whose pins are
    /// allowed but not all described, counts that no page can have.
    pub fn parse(file: &SpecFile) -> Result<Contract, SpecError> {
        let mut contract: Contract = file.parse()?;
        contract.name = file.path().file_stem().unwrap_or_default().to_owned();
        for (name, rules) in contract.sections() {
            if let Some(key) = rules.lacks() {
                return Err(file.error(
                    section_span(file.text(), name),
                    format!("[{name}] allows pins and does not say what {key} takes"),
                    format!("add a line `{key} = \"get\"` or `{key} = \"pin\"`"),
                ));
            }
            let counts = [rules.idle, rules.pte, rules.pmd, rules.tail];
            if counts.iter().any(|n| !(0..=512).contains(n)) {
                return Err(file.error(
                    section_span(file.text(), name),
                    format!("[{name}] has a count that no page has"),
                    "give idle, pte, pmd and tail values from 0 to 512",
                ));
            }
        }
        Ok(contract)
    }

    fn sections(&self) -> impl Iterator<Item = (&'static str, &PageRules)> {
        [
            ("fsdax", Some(&self.fsdax)),
            ("devdax", Some(&self.devdax)),
            ("private", Some(&self.private)),
            ("coherent", self.coherent.as_ref()),
            ("p2pdma", self.p2pdma.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, rules)| Some((name, rules?)))
    }

    /// The rules of a kind of page; `None` where kernels of this contract have no such page.
    pub fn rules(&self, page_type: PageType) -> Option<&PageRules> {
        match page_type {
            PageType::Fsdax => Some(&self.fsdax),
            PageType::Devdax => Some(&self.devdax),
            PageType::Private => Some(&self.private),
            PageType::Coherent => self.coherent.as_ref(),
            PageType::P2pdma => self.p2pdma.as_ref(),
        }
    }
}

/// The bytes of a section's header, for an error about the section as a whole.
fn section_span(text: &str, name: &str) -> std::ops::Range<usize> {
    let header = format!("[{name}]");
    let start = text.find(&header).unwrap_or(0);
    start..(start + header.len()).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;

    const ERAS: [&str; 5] = ["5.10", "5.10+zone-device-refcount", "6.1", "6.12", "7.3"];

    fn file(name: &str) -> SpecFile {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/contracts");
        SpecFile::read(&dir.join(format!("{name}.toml")), "the contract").unwrap()
    }

    fn contract(name: &str) -> Contract {
        Contract::parse(&file(name)).unwrap_or_else(|e| panic!("{e}: {:?}", e.remedy()))
    }

    #[test]
    fn the_table_of_idle_and_mapped_counts() {
        let of = |name| {
            let c = contract(name);
            [&c.fsdax, &c.devdax, &c.private].map(|r| (r.idle, r.idle + r.pte))
        };
        assert_eq!(of("5.10"), [(1, 1), (1, 1), (1, 2)]);
        assert_eq!(of("5.10+zone-device-refcount"), [(0, 0), (0, 0), (0, 1)]);
        assert_eq!(of("6.1"), [(1, 1), (1, 1), (0, 1)]);
        assert_eq!(of("6.12"), [(1, 1), (1, 1), (0, 1)]);
        assert_eq!(of("7.3"), [(0, 1), (1, 2), (0, 1)]);
    }

    #[test]
    fn coherent_and_p2pdma_counts() {
        let of = |name| {
            let c = contract(name);
            let held = |r: &PageRules| if r.idle_handed_over { 0 } else { r.idle };
            let counts = |r: &PageRules| (r.idle, held(r) + r.pte);
            (
                c.coherent.as_ref().map(counts),
                c.p2pdma.as_ref().map(counts),
            )
        };
        assert_eq!(of("5.10"), (None, Some((1, 1))));
        assert_eq!(of("5.10+zone-device-refcount"), (None, Some((0, 0))));
        assert_eq!(of("6.1"), (Some((0, 1)), Some((1, 1))));
        assert_eq!(of("6.12"), (Some((0, 1)), Some((1, 1))));
        assert_eq!(of("7.3"), (Some((0, 1)), Some((0, 1))));
        assert!(
            ERAS.iter()
                .all(|n| contract(n).features.coherent == contract(n).coherent.is_some())
        );
    }

    #[test]
    fn who_pins_how() {
        let of = |name| {
            let r = contract(name).fsdax;
            (r.pin(PinHow::Vmsplice), r.pin(PinHow::DirectWrite))
        };
        assert_eq!(of("5.10"), (PinKind::Get, PinKind::Get));
        assert_eq!(of("6.1"), (PinKind::Get, PinKind::Get));
        assert_eq!(of("6.12"), (PinKind::Get, PinKind::Pin));
        assert_eq!(of("7.3"), (PinKind::Get, PinKind::Pin));
    }

    #[test]
    fn all_but_5_10_evict_on_close() {
        let evicts: Vec<_> = ERAS
            .iter()
            .filter(|n| contract(n).behaviour.hmm_close_evicts)
            .collect();
        assert_eq!(evicts, [&"6.1", &"6.12", &"7.3"]);
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        let text = file("5.10").text().to_owned();
        let parse = |text: String| {
            Contract::parse(&SpecFile::from_text(Utf8Path::new("c.toml"), text)).unwrap_err()
        };
        let e = parse(text.replacen("\nidle", "\nidel", 1));
        assert!(e.to_string().contains("unknown field `idel`"), "{e}");
        assert_eq!(e.remedy(), Some("did you mean `idle`?"));
        let e = parse(text.replacen("vmsplice = \"get\"\n", "", 1));
        assert!(e.to_string().contains("what vmsplice takes"), "{e}");
        assert!(e.line().is_some_and(|l| l > 1));
        let e = parse(text.replacen("idle = 1", "idle = -1", 1));
        assert!(e.to_string().contains("no page has"), "{e}");
    }
}
