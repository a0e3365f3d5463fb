//! Fixtures: the hardware and the state that a case needs. The host side gives
//! the machine, the agent provisions, tears down, and checks the teardown.
//!
//! | key | meaning |
//! |---|---|
//! | `title` | what it is |
//! | `full` | part of the full matrix only, or where a filter names it |
//! | `memory`, `cpus`, `cmdline` | RAM, vCPUs, further kernel parameters |
//! | `nodes` | NUMA nodes; the first has all CPUs and all RAM |
//! | `[[nvdimm]]` | `size`, `labels`, `node` |
//! | `qemu` | further arguments of QEMU, as they are |
//! | `qemu_devices` | devices that QEMU must have for it; elsewhere it is skipped |
//! | `pages` | the kinds of page that it gives, such as `fs_dax`: a boot without them fails |
//! | `hmm_device` | the test_hmm device that an operation means which names none; default 0 |
//! | `boots_because` | why it can't be cloned and boots for each case |
//! | `[[skip]]` | `when` (a condition on the contract) and `reason` |
//! | `[[provision]]`, `[[teardown]]` | operations of PID 1, see [`proto::Op`] |

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use guestmem::PageKind;
use proto::{Op, Size};
use serde::Deserialize;
use toml::Spanned;

use super::case::folder;
use super::{Contract, Facts, SpecError, SpecFile};

/// An emulated NVDIMM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvdimmSpec {
    /// Whole size; the label area is taken from it.
    pub size: Size,
    /// The label area.
    #[serde(default = "labels")]
    pub labels: Size,
    /// Its NUMA node.
    #[serde(default)]
    pub node: u32,
}

/// On which kernels a fixture can't be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipRule {
    /// A condition on the contract, such as `features.dax-reflink=false`.
    pub when: String,
    /// Told with every cell that is skipped for it.
    pub reason: String,
}

/// A fixture as its file under images/fixtures/ says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixture {
    /// The file's stem.
    pub name: String,
    /// What it is.
    pub title: String,
    /// RAM of the guest.
    pub memory: Size,
    /// vCPUs.
    pub cpus: u32,
    /// Further kernel parameters.
    pub cmdline: String,
    /// NVDIMMs.
    pub nvdimms: Vec<NvdimmSpec>,
    /// The root file system that its programs get, by its name under images/.
    pub root: Option<String>,
    /// NUMA nodes; 1: a machine that says nothing of nodes.
    pub nodes: u32,
    /// Further arguments of QEMU.
    pub qemu: Vec<String>,
    /// Devices that QEMU must have for it.
    pub qemu_devices: Vec<String>,
    /// The kinds of page that it gives.
    pub pages: Vec<PageKind>,
    /// Whether it is left out where neither the full matrix nor a filter asks for it.
    pub full: bool,
    /// The kernels that it can't be on.
    pub skip: Vec<SkipRule>,
    /// What the agent does before the template is taken.
    pub provision: Vec<Op>,
    /// What takes it away again.
    pub teardown: Vec<Op>,
    /// The test_hmm device that an operation means which names none.
    pub hmm_device: u8,
    /// Why clones of it can't be made, where they can't: it boots for each case.
    pub boots_because: Option<String>,
    /// The file, relative to the project.
    pub path: Utf8PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixtureFile {
    title: String,
    #[serde(default = "memory")]
    memory: Size,
    #[serde(default = "cpus")]
    cpus: u32,
    #[serde(default)]
    cmdline: String,
    #[serde(default)]
    nvdimm: Vec<NvdimmSpec>,
    root: Option<String>,
    #[serde(default = "one_node")]
    nodes: u32,
    #[serde(default)]
    qemu: Vec<String>,
    #[serde(default)]
    qemu_devices: Vec<String>,
    #[serde(default)]
    pages: Vec<PageKind>,
    #[serde(default)]
    full: bool,
    #[serde(default)]
    skip: Vec<SkipRule>,
    #[serde(default)]
    provision: Vec<Spanned<Op>>,
    #[serde(default)]
    teardown: Vec<Spanned<Op>>,
    #[serde(default)]
    hmm_device: u8,
    boots_because: Option<String>,
}

fn labels() -> Size {
    Size(128 << 10)
}

fn memory() -> Size {
    Size(512 << 20)
}

fn cpus() -> u32 {
    2
}

fn one_node() -> u32 {
    1
}

impl Fixture {
    /// Reads one fixture file.
    ///
    /// # Errors
    /// Names the file, the line and the remedy.
    pub fn parse(name: &str, file: &SpecFile) -> Result<Self, SpecError> {
        let f: FixtureFile = file.parse()?;
        for op in f.provision.iter().chain(&f.teardown) {
            if !op.get_ref().by_init() || matches!(op.get_ref(), Op::Checkpoint { .. }) {
                return Err(file.error(
                    op.span(),
                    format!("PID 1 does not do `{}` by itself", op.get_ref().word()),
                    "use create-namespace, mkfs, mount and what takes them away again",
                ));
            }
        }
        if !(1..=8).contains(&f.nodes) || f.nvdimm.iter().any(|n| n.node >= f.nodes) {
            return Err(file.error(
                0..0,
                format!("the machine has {} NUMA nodes", f.nodes),
                "give nodes a value from 1 to 8, and each NVDIMM a node below it",
            ));
        }
        let plain = |ops: Vec<Spanned<Op>>| ops.into_iter().map(Spanned::into_inner).collect();
        let mut provision: Vec<Op> = plain(f.provision);
        if f.root.is_some() {
            // First, so that programs of provisioning can be in it.
            provision.insert(0, Op::MountRoot {});
        }
        Ok(Fixture {
            name: name.into(),
            title: f.title,
            memory: f.memory,
            cpus: f.cpus,
            cmdline: f.cmdline,
            nvdimms: f.nvdimm,
            root: f.root,
            nodes: f.nodes,
            qemu: f.qemu,
            qemu_devices: f.qemu_devices,
            pages: f.pages,
            full: f.full,
            skip: f.skip,
            provision,
            teardown: plain(f.teardown),
            hmm_device: f.hmm_device,
            boots_because: f.boots_because,
            path: file.path().to_owned(),
        })
    }
}

impl Fixture {
    /// Why it can't be on a kernel of this contract, if it can't.
    ///
    /// # Errors
    /// Where a condition names a property that no contract has.
    pub fn skip_reason(&self, contract: &Contract) -> Result<Option<String>, SpecError> {
        let facts = Facts {
            contract,
            fixture: self,
        };
        for rule in &self.skip {
            if facts.hold(&rule.when, &self.path)? {
                return Ok(Some(rule.reason.clone()));
            }
        }
        Ok(None)
    }
}

/// The images/fixtures/ folder.
#[derive(Clone, Debug)]
pub struct FixtureStore {
    dir: Utf8PathBuf,
}

impl FixtureStore {
    /// The folder with one file a fixture.
    pub fn new(dir: impl Into<Utf8PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// One fixture by name.
    ///
    /// # Errors
    /// Where there is none of that name, or its file is wrong.
    pub fn load(&self, name: &str) -> Result<Fixture, SpecError> {
        let path = self.dir.join(format!("{name}.toml"));
        let file = SpecFile::read(&path, &format!("the fixture `{name}`"))?;
        Fixture::parse(name, &file)
    }

    /// Names of all.
    ///
    /// # Errors
    /// Where the folder can't be read.
    pub fn names(&self) -> Result<Vec<String>, SpecError> {
        Ok(folder(&self.dir)?
            .iter()
            .filter_map(|n| n.strip_suffix(".toml"))
            .map(str::to_owned)
            .collect())
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The first file that is wrong, with its line.
    pub fn all(&self) -> Result<BTreeMap<String, Fixture>, SpecError> {
        self.names()?
            .into_iter()
            .map(|name| Ok((name.clone(), self.load(&name)?)))
            .collect()
    }

    /// Where they are.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fixture, SpecError> {
        Fixture::parse(
            "x",
            &SpecFile::from_text(Utf8Path::new("images/fixtures/x.toml"), text),
        )
    }

    #[test]
    fn an_operation_that_needs_an_actor_is_refused_with_its_line() {
        let text = "title = \"x\"\n[[provision]]\ndo = \"mount\"\n[[teardown]]\ndo = \"exit\"\n";
        let e = parse(text).unwrap_err();
        assert!(e.to_string().contains("`exit`"), "{e}");
        assert_eq!(e.line(), Some(4));
    }

    #[test]
    fn an_nvdimm_needs_a_node_that_there_is() {
        let text = "title = \"x\"\nnodes = 2\n[[nvdimm]]\nsize = \"1G\"\nnode = 1\n";
        assert_eq!(parse(text).unwrap().nvdimms[0].node, 1);
        assert!(parse(&text.replace("nodes = 2\n", "")).is_err());
        assert!(parse(&text.replace("node = 1", "noode = 1")).is_err());
    }

    #[test]
    fn a_kernel_that_lacks_something_skips_a_fixture_with_its_reason() {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/contracts");
        let contract = |name: &str| {
            let path = dir.join(format!("{name}.toml"));
            Contract::parse(&SpecFile::read(&path, "the contract").unwrap()).unwrap()
        };
        let rule =
            "title = \"x\"\n[[skip]]\nwhen = \"features.dax-reflink=false\"\nreason = \"no\"\n";
        let fixture = parse(rule).unwrap();
        let reason = |name: &str| fixture.skip_reason(&contract(name)).unwrap();
        assert_eq!(reason("5.10").as_deref(), Some("no"));
        assert_eq!(reason("6.1"), None);
        let wrong = parse(&rule.replace("dax-reflink", "reflnk")).unwrap();
        assert!(wrong.skip_reason(&contract("6.1")).is_err());
    }

    #[test]
    fn every_fixture_can_be_torn_down() {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/fixtures");
        for (name, fixture) in FixtureStore::new(dir).all().unwrap() {
            let brings = |f: fn(&Op) -> bool| fixture.provision.iter().any(f);
            let takes = |f: fn(&Op) -> bool| fixture.teardown.iter().any(f);
            assert!(
                !brings(|op| matches!(op, Op::CreateNamespace { .. }))
                    || takes(|op| matches!(op, Op::DestroyNamespace {})),
                "{name}"
            );
        }
    }
}
