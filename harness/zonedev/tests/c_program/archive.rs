//! An initramfs that has nothing of ours: a shell, the tools of the set-up commands with their
//! libraries, and compiled programs.

use std::collections::BTreeMap;
use std::process::Command;

/// The archive's files by their paths, with their modes.
#[derive(Default)]
pub(crate) struct Archive(BTreeMap<String, (u32, Vec<u8>)>);

impl Archive {
    pub(crate) fn add(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            let dir = path[..at].to_owned();
            self.0.entry(dir).or_insert((0o040_755, Vec::new()));
        }
        self.0.insert(path.to_owned(), (mode, bytes.to_vec()));
    }

    pub(crate) fn dir(&mut self, path: &str) {
        self.add(path, 0o040_755, b"");
    }

    /// A program of the host with the libraries that it is linked with.
    pub(crate) fn program(&mut self, path: &str) {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        self.add(path, 0o100_755, &bytes);
        let out = Command::new("ldd").arg(path).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        for word in text.split_whitespace().filter(|w| w.starts_with('/')) {
            let bytes = std::fs::read(word).unwrap_or_else(|e| panic!("{word}: {e}"));
            self.add(word, 0o100_755, &bytes);
        }
    }

    /// As the kernel takes it ("newc"), compressed.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, (mode, bytes)) in &self.0 {
            entry(&mut out, name, *mode, bytes);
        }
        entry(&mut out, "TRAILER!!!", 0, b"");
        zstd::encode_all(&out[..], 1).unwrap()
    }
}

fn entry(out: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let (size, named) = (bytes.len() as u32, name.len() as u32 + 1);
    out.extend_from_slice(b"070701");
    for field in [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, named, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}
