//! Fixtures: the hardware and the state that a case needs. The host side gives
//! the machine, the agent provisions.

use camino::{Utf8Path, Utf8PathBuf};
use proto::{Op, Size};
use serde::Deserialize;

use super::case::folder;
use super::{SpecError, SpecFile};

/// An emulated NVDIMM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvdimmSpec {
    /// Whole size; the label area is taken from it.
    pub size: Size,
    /// The label area.
    #[serde(default = "labels")]
    pub labels: Size,
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
    /// What the agent does before the template is taken.
    pub provision: Vec<Op>,
    /// Why clones of it can't be made, where they can't: it boots for each case.
    pub boots_because: Option<String>,
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
    #[serde(default)]
    provision: Vec<Op>,
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

impl Fixture {
    /// Reads one fixture file.
    ///
    /// # Errors
    /// Names the file, the line and the remedy.
    pub fn parse(name: &str, file: &SpecFile) -> Result<Self, SpecError> {
        let f: FixtureFile = file.parse()?;
        if f.provision
            .iter()
            .any(|op| !op.by_init() || matches!(op, Op::Checkpoint { .. }))
        {
            return Err(file.error(
                0..0,
                "a provisioning operation is not one that PID 1 does by itself",
                "use create-namespace, mkfs, mount or run",
            ));
        }
        let mut provision = f.provision;
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
            provision,
            boots_because: f.boots_because,
        })
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

    /// Where they are.
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }
}
