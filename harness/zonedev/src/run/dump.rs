//! The memory of a guest, kept: an ELF core, compressed by zstd.

use camino::{Utf8Path, Utf8PathBuf};

use crate::record::CORE;
use crate::vm::Guest;

/// zstd's level: most of a guest's memory is zeroes, and the guest waits.
const LEVEL: i32 = 1;

/// Keeps the guest's memory in `dir`, and gives the file.
///
/// # Errors
/// In words: QEMU is gone, or there is no space. What was begun is removed.
pub(super) async fn keep(guest: &Guest, dir: &Utf8Path) -> Result<Utf8PathBuf, String> {
    let raw = Raw(dir.join(format!("{CORE}.part")));
    guest.dump(&raw.0).await.map_err(|e| e.to_string())?;
    let kept = dir.join(CORE);
    let to = kept.clone();
    tokio::task::spawn_blocking(move || compress(&raw.0, &to))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    Ok(kept)
}

/// A core as QEMU writes it, of the size of the guest; removed when dropped.
struct Raw(Utf8PathBuf);

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.0);
    }
}

fn compress(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    let part = Raw(to.with_extension("zst.part"));
    let source = fs_err::File::open(from)?;
    let target = fs_err::File::create(&part.0)?;
    zstd::stream::copy_encode(source, target, LEVEL)?;
    fs_err::rename(&part.0, to)
}
