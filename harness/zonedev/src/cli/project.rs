//! Finding the checkout.

use camino::{Utf8Path, Utf8PathBuf};

use super::exit::Failure;

/// The folder that has kernels/, images/ and suites/: `given`, or the nearest around the
/// working directory.
pub(super) fn find(given: Option<&Utf8Path>) -> Result<Utf8PathBuf, Failure> {
    let is_project = |dir: &Utf8Path| {
        ["kernels", "images", "suites"]
            .iter()
            .all(|d| dir.join(d).is_dir())
    };
    if let Some(dir) = given {
        if is_project(dir) {
            return Ok(dir.canonicalize_utf8()?);
        }
        return Err(Failure::request(
            format!("{dir} has no kernels/, images/ and suites/"),
            "name a checkout of zonedev",
        ));
    }
    let here = Utf8PathBuf::from_path_buf(std::env::current_dir()?).map_err(|p| {
        Failure::request(
            format!("{} is not UTF-8", p.display()),
            "work in another folder",
        )
    })?;
    here.ancestors()
        .find(|d| is_project(d))
        .map(Utf8Path::to_owned)
        .ok_or_else(|| {
            Failure::request(
                "the working directory is in no checkout of zonedev",
                "change into one, or name it with --project DIR",
            )
        })
}
