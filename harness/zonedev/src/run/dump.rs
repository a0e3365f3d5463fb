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
    let raw = Part(dir.join("guest.core.new"));
    guest.dump(&raw.0).await.map_err(|e| e.to_string())?;
    let kept = dir.join(CORE);
    let to = kept.clone();
    tokio::task::spawn_blocking(move || compress(&raw.0, &to))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    Ok(kept)
}

/// A file on the way to the one that is kept; removed when dropped, and by its name swept where a
/// harness was killed.
struct Part(Utf8PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.0);
    }
}

fn compress(from: &Utf8Path, to: &Utf8Path) -> std::io::Result<()> {
    let source = fs_err::File::open(from)?;
    let part = to.with_extension("zst.new");
    // New: nobody's work is overwritten, the source least of all.
    let target = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&part)?;
    let part = Part(part);
    zstd::stream::copy_encode(source, target, LEVEL)?;
    fs_err::rename(&part.0, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_qemu_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let raw = dir.join("guest.core.raw");
        let kept = dir.join(CORE);
        let memory = b"\x7fELF and 2 GiB more".repeat(1000);
        fs_err::write(&raw, &memory).unwrap();
        compress(&raw, &kept).unwrap();
        let packed = fs_err::File::open(&kept).unwrap();
        assert_eq!(zstd::decode_all(packed).unwrap(), memory);
        // It never takes a file for its own that is there already.
        let other = kept.with_extension("zst.new");
        fs_err::write(&other, b"another's").unwrap();
        assert!(compress(&other, &kept).is_err());
        assert_eq!(fs_err::read(&other).unwrap(), b"another's");
    }
}
