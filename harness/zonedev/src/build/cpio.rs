//! A writer of initramfs archives (cpio's "newc" form, as Linux's initramfs-buffer-format.rst
//! describes it). The same entries give the same bytes: sorted, all times 0, all owned by root.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

/// One file of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    /// Executable or not, and what it holds.
    File {
        executable: bool,
        bytes: Vec<u8>,
    },
    Link {
        target: String,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
}

/// The files of an archive, by their absolute paths in the guest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive(BTreeMap<Utf8PathBuf, Node>);

impl Archive {
    /// Adds a file, and the directories above it.
    pub(crate) fn add(&mut self, path: impl Into<Utf8PathBuf>, node: Node) {
        let path = path.into();
        for dir in path.ancestors().skip(1).filter(|d| d.parent().is_some()) {
            self.0.entry(dir.to_owned()).or_insert(Node::Directory);
        }
        self.0.insert(path, node);
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a file at `path`.
    pub(crate) fn contains(&self, path: &Utf8Path) -> bool {
        self.0.contains_key(path)
    }

    /// The archive's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (path, node)) in self.0.iter().enumerate() {
            let (mode, device, bytes): (u32, (u32, u32), &[u8]) = match node {
                Node::Directory => (0o040_755, (0, 0), b""),
                Node::File {
                    executable: true,
                    bytes,
                } => (0o100_755, (0, 0), bytes),
                Node::File {
                    executable: false,
                    bytes,
                } => (0o100_644, (0, 0), bytes),
                Node::Link { target } => (0o120_777, (0, 0), target.as_bytes()),
                Node::CharDevice { major, minor } => (0o020_600, (*major, *minor), b""),
            };
            // The kernel wants a directory before what is in it; the map's order gives that.
            let name = path.as_str().trim_start_matches('/');
            let links = if matches!(node, Node::Directory) {
                2
            } else {
                1
            };
            entry(&mut out, index + 1, mode, links, device, name, bytes);
        }
        entry(&mut out, 0, 0, 1, (0, 0), "TRAILER!!!", b"");
        out
    }
}

fn entry(
    out: &mut Vec<u8>,
    inode: usize,
    mode: u32,
    links: u32,
    (major, minor): (u32, u32),
    name: &str,
    bytes: &[u8],
) {
    let fields = [
        inode as u64,
        u64::from(mode),
        0,
        0,
        u64::from(links),
        0,
        bytes.len() as u64,
        0,
        0,
        u64::from(major),
        u64::from(minor),
        name.len() as u64 + 1,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(bytes);
    pad(out);
}

/// To a multiple of four, as both header and content must be.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_reads_what_we_write() {
        let mut archive = Archive::default();
        archive.add(
            "/init",
            Node::File {
                executable: true,
                bytes: b"hello".to_vec(),
            },
        );
        archive.add(
            "/bin/sh",
            Node::Link {
                target: "busybox".into(),
            },
        );
        archive.add("/dev/console", Node::CharDevice { major: 5, minor: 1 });
        archive.add("/proc", Node::Directory);
        let bytes = archive.to_bytes();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(bytes, archive.clone().to_bytes());
        let mut child = Command::new("cpio")
            .args(["-t", "-v", "--numeric-uid-gid", "--quiet"])
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        insta::assert_snapshot!(String::from_utf8(out.stdout).unwrap());
    }
}
