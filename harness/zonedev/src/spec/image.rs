//! `images/NAME.toml`: what goes into a guest.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use toml::Spanned;

use super::error::{SpecError, SpecFile};

/// A program of the host that the guest gets, with the libraries that it needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where the guest finds it, an absolute path; the host's own is looked up by its last part.
    pub path: String,
    /// The package that has it, for the error where it is missing.
    pub package: String,
}

/// One program that is many, by links.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applets {
    /// Where the guest finds the program.
    pub path: String,
    /// The package that has it.
    pub package: String,
    /// Where the links go.
    pub dir: String,
    /// The links' names.
    pub names: Vec<String>,
}

/// A character device that must be there before devtmpfs is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceNode {
    /// Its path.
    pub path: String,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

/// A small text file that is written into the image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Its path.
    pub path: String,
    /// What it says.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawImage {
    title: String,
    directories: Vec<Spanned<String>>,
    #[serde(default)]
    program: Vec<Spanned<Program>>,
    applets: Option<Spanned<Applets>>,
    #[serde(default)]
    device: Vec<Spanned<DeviceNode>>,
    #[serde(default)]
    file: Vec<Spanned<ImageFile>>,
}

/// An initramfs: the agent as `/init`, and these.
#[derive(Debug, Clone)]
pub struct ImageSpec {
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Directories that are there and empty.
    pub directories: Vec<String>,
    /// Programs with their libraries.
    pub programs: Vec<Program>,
    /// The program behind a shell's commands.
    pub applets: Option<Applets>,
    /// Device nodes.
    pub devices: Vec<DeviceNode>,
    /// Small text files.
    pub files: Vec<ImageFile>,
}

impl ImageSpec {
    /// Reads `DIR/NAME.toml`.
    pub fn load(dir: &Utf8Path, name: &str) -> Result<Self, SpecError> {
        let path: Utf8PathBuf = dir.join(format!("{name}.toml"));
        let file = SpecFile::read(&path, &format!("the image `{name}`"))?;
        Self::parse(name, &file)
    }

    /// Checks the text of an image.
    pub fn parse(name: &str, file: &SpecFile) -> Result<Self, SpecError> {
        let raw: RawImage = file.parse()?;
        let mut paths: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
        paths.extend(
            raw.directories
                .iter()
                .map(|d| (d.get_ref().as_str(), d.span())),
        );
        paths.extend(
            raw.program
                .iter()
                .map(|p| (p.get_ref().path.as_str(), p.span())),
        );
        paths.extend(
            raw.device
                .iter()
                .map(|d| (d.get_ref().path.as_str(), d.span())),
        );
        paths.extend(
            raw.file
                .iter()
                .map(|f| (f.get_ref().path.as_str(), f.span())),
        );
        if let Some(applets) = &raw.applets {
            paths.push((&applets.get_ref().path, applets.span()));
            paths.push((&applets.get_ref().dir, applets.span()));
            if let Some(bad) = applets
                .get_ref()
                .names
                .iter()
                .find(|n| n.contains('/') || n.is_empty())
            {
                return Err(file.error(
                    applets.span(),
                    format!("`{bad}` is no name of an applet"),
                    "name applets without a directory",
                ));
            }
        }
        for (index, (path, span)) in paths.iter().enumerate() {
            let plain = path
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(|p| !matches!(p, "" | "." | "..")));
            if !plain {
                return Err(file.error(
                    span.clone(),
                    format!("`{path}` is no plain absolute path"),
                    "write it from the guest's root, without `.`, `..` or `//`",
                ));
            }
            let again = paths[..index].iter().any(|(other, _)| other == path);
            // The applets' directory may well be listed as a directory too.
            if again
                && raw
                    .applets
                    .as_ref()
                    .is_none_or(|a| a.get_ref().dir != *path)
            {
                return Err(file.error(
                    span.clone(),
                    format!("`{path}` is in the image twice"),
                    "remove one of them",
                ));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            title: raw.title,
            directories: raw
                .directories
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            programs: raw.program.into_iter().map(Spanned::into_inner).collect(),
            applets: raw.applets.map(Spanned::into_inner),
            devices: raw.device.into_iter().map(Spanned::into_inner).collect(),
            files: raw.file.into_iter().map(Spanned::into_inner).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_guest_is_refused_at_its_line() {
        let text = "title = \"t\"\ndirectories = [\n  \"/proc\",\n  \"/../etc\",\n]\n";
        let file = SpecFile::from_text(Utf8Path::new("images/x.toml"), text);
        let e = ImageSpec::parse("x", &file).unwrap_err();
        assert_eq!(
            e.to_string(),
            "images/x.toml:4: `/../etc` is no plain absolute path"
        );
    }

    #[test]
    fn the_projects_own_images_are_sound() {
        let dir = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        let image = ImageSpec::load(&dir, "initramfs").unwrap();
        assert!(image.programs.iter().any(|p| p.path.ends_with("/ndctl")));
    }
}
