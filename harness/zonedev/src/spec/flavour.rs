//! `kernels/flavours/NAME.toml`: another way to build any kernel, as in `5.10:up`.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::Deserialize;
use toml::Spanned;

use super::error::{SpecError, SpecFile};

/// A flavour as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavour {
    /// The file's stem.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Fragments under `kernels/config/`, on top of the kernel's own.
    pub config: Vec<String>,
    /// More fragments by listed kernel, where the eras name options differently.
    pub config_of: BTreeMap<String, Vec<String>>,
    /// `VARIABLE=VALUE` for every run of make.
    pub make: Vec<String>,
    /// Named series that it needs, applied before those of the kernel's name.
    pub series: Vec<String>,
    /// By contract: the one that a kernel keeps instead in this flavour.
    pub contract: BTreeMap<String, String>,
    /// Factor on every time limit in the guest.
    pub patience: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    title: String,
    #[serde(default)]
    config: Vec<String>,
    #[serde(default)]
    config_of: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    make: Vec<Spanned<String>>,
    #[serde(default)]
    series: Vec<String>,
    #[serde(default)]
    contract: BTreeMap<String, String>,
    patience: Option<Spanned<u32>>,
}

impl Flavour {
    pub(super) fn read(path: &Utf8Path, name: &str) -> Result<Self, SpecError> {
        let file = SpecFile::read(path, &format!("the flavour `{name}`"))?;
        let raw: Raw = file.parse()?;
        for word in &raw.make {
            let is_variable = word
                .get_ref()
                .split_once('=')
                .is_some_and(|(name, _)| !name.is_empty() && !name.starts_with('-'));
            if !is_variable {
                return Err(file.error(
                    word.span(),
                    "this sets no variable of make",
                    "write VARIABLE=VALUE",
                ));
            }
        }
        let patience = raw.patience.as_ref().map_or(1, |p| *p.get_ref());
        if let Some(p) = &raw.patience
            && !(1..=100).contains(&patience)
        {
            return Err(file.error(
                p.span(),
                "no time limit can be scaled so",
                "give patience a value from 1 to 100",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            title: raw.title,
            config: raw.config,
            config_of: raw.config_of,
            make: raw.make.into_iter().map(Spanned::into_inner).collect(),
            series: raw.series,
            contract: raw.contract,
            patience,
        })
    }
}
