//! What PID 1 and its actors say to each other, as frames over a unix socket.

use std::io::{self, Read};

use nix::errno::Errno;
use proto::frame::{self, FrameError};
use proto::{Fact, NamespaceInfo, Op, ProgramOutput, Size, StepResult};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where actors find PID 1.
pub(crate) const SOCKET: &str = "/run/agent.sock";
/// Where the root file system for programs is mounted.
pub(crate) const ROOT: &str = "/root";

/// Where the file system of a namespace is mounted.
pub(crate) fn mount_point(namespace: Option<&str>) -> String {
    match namespace {
        None => "/mnt".to_owned(),
        Some(name) => format!("/run/mnt-{name}"),
    }
}

/// An actor's first frame on its connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Announce {
    /// Its name in the case.
    pub(crate) name: String,
    /// Its process id.
    pub(crate) pid: i32,
}

/// PID 1 to an actor: one operation, and what it needs to know for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to do.
    pub(crate) op: Op,
    /// What PID 1 knows.
    pub(crate) context: Context,
}

/// What PID 1 knows and an operation may need.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Context {
    /// The namespaces there are now.
    pub(crate) namespaces: Vec<NamespaceInfo>,
    /// The generation that a storing operation writes.
    pub(crate) generation: u64,
    /// Which words of each page `touch` and `write` store, of those at its start and its end.
    #[serde(default)]
    pub(crate) stores: [bool; 2],
    /// With `verify`, `read` and `hmm-read`: what each page of the range holds.
    pub(crate) expected: Vec<ExpectedRun>,
    /// With `touch`: the file has blocks there, so that its extents need not be asked for. They
    /// can't be while a truncate of it waits.
    #[serde(default)]
    pub(crate) has_blocks: bool,
    /// With `read` of a device: where the file's blocks were last seen.
    #[serde(default)]
    pub(crate) blocks: Vec<proto::Extent>,
    /// With `poison`: the frame.
    #[serde(default)]
    pub(crate) pfn: Option<u64>,
    /// With a direct pin: the network block device to use.
    pub(crate) nbd: Option<String>,
}

impl Context {
    /// The namespace that an operation means: of this mode and name; without a name, the one
    /// that has none, or the only one. A device-dax instance is one whoever has its pages.
    pub(crate) fn namespace(
        &self,
        mode: &str,
        name: Option<&str>,
    ) -> Result<&NamespaceInfo, StepResult> {
        let is =
            |n: &&NamespaceInfo| n.mode == mode || (mode, n.mode.as_str()) == ("devdax", "fsdev");
        let mut of = self.namespaces.iter().filter(is);
        let found = match name {
            Some(name) => of.find(|n| n.name == name),
            None => of
                .clone()
                .find(|n| n.name.is_empty())
                .or_else(|| of.next().filter(|_| of.next().is_none())),
        };
        found.ok_or_else(|| {
            failed(match name {
                Some(name) => {
                    format!("find the {mode} namespace `{name}`: there is none of that name")
                }
                None => {
                    format!("find the {mode} namespace: create one first, or name one of several")
                }
            })
        })
    }
}

/// What one of the two words of a page was last stored by, and for which page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    /// Of the store that wrote it; 0: nobody stored, or it was zeroed since.
    pub(crate) generation: u64,
    /// Index of the page that it was written for.
    pub(crate) index: u64,
}

impl Word {
    /// The same store's word, so many pages on.
    pub(crate) fn on(self, pages: u64) -> Word {
        match self.generation {
            0 => self,
            generation => Word {
                generation,
                index: self.index.saturating_add(pages),
            },
        }
    }
}

/// Pages of a mapping that hold words of one store at their starts, and of one at their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExpectedRun {
    /// First 4K page within the mapping.
    pub(crate) page: u64,
    /// 4K pages.
    pub(crate) pages: u64,
    /// The words at the first page's start and end; those of the others go on from them.
    pub(crate) words: [Word; 2],
}

impl ExpectedRun {
    /// Whether a page is one of these.
    pub(crate) fn has(&self, page: u64) -> bool {
        page >= self.page && page - self.page < self.pages
    }

    /// The words that `page` must hold at its start and end, as one of these runs says; 0 where
    /// none does.
    fn words_at(runs: &[ExpectedRun], page: u64) -> [u64; 2] {
        let Some(run) = runs.iter().find(|r| r.has(page)) else {
            return [0; 2];
        };
        let [head, tail] = run.words.map(|w| w.on(page - run.page));
        [
            words(head.generation, head.index)[0],
            words(tail.generation, tail.index)[1],
        ]
    }

    /// What is wrong with what `page` holds at its start and end, if anything is.
    pub(crate) fn wrong(runs: &[ExpectedRun], page: u64, found: [u64; 2]) -> Option<StepResult> {
        let expected = Self::words_at(runs, page);
        let which = (0..2).find(|i| found[*i] != expected[*i])?;
        Some(StepResult::WrongData {
            offset: page * Size::PAGE + [0, TAIL][which],
            expected: expected[which],
            found: found[which],
        })
    }
}

/// An actor's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// How it ended.
    pub(crate) result: StepResult,
    /// What was learnt.
    pub(crate) facts: Vec<Fact>,
    /// Of a program.
    pub(crate) output: Option<ProgramOutput>,
    /// Where a mapping was put.
    pub(crate) address: Option<u64>,
}

impl From<StepResult> for Reply {
    fn from(result: StepResult) -> Self {
        Reply {
            result,
            facts: Vec::new(),
            output: None,
            address: None,
        }
    }
}

/// The word that a store of `generation` writes at the start of the 4K page
/// with index `page` in its file, device or anonymous mapping.
fn word(generation: u64, page: u64) -> u64 {
    if generation == 0 {
        0
    } else {
        generation << 32 | (page & 0xffff_ffff)
    }
}

/// Where a page's second word lies: its last 8 bytes.
pub(crate) const TAIL: u64 = Size::PAGE - 8;

/// What a store writes to a page: its word at the start, the complement at the end. A copy that
/// moves less than all of a page, or not to the same place, is found.
pub(crate) fn words(generation: u64, page: u64) -> [u64; 2] {
    match word(generation, page) {
        0 => [0; 2],
        word => [word, !word],
    }
}

/// The words of [`words`] that `which` says, each with its place in the page.
pub(crate) fn placed(
    generation: u64,
    page: u64,
    which: [bool; 2],
) -> impl Iterator<Item = (u64, u64)> {
    let words = [0, TAIL].into_iter().zip(words(generation, page));
    words
        .zip(which)
        .filter_map(|(word, stored)| stored.then_some(word))
}

/// A system call that failed.
pub(crate) fn errno(call: &str, e: Errno) -> StepResult {
    StepResult::Errno {
        errno: format!("{e:?}"),
        call: call.to_owned(),
    }
}

/// A system call made by the standard library that failed.
pub(crate) fn io_errno(call: &str, e: &io::Error) -> StepResult {
    match e.raw_os_error() {
        Some(n) => errno(call, Errno::from_raw(n)),
        None => failed(format!("{call}: {e}")),
    }
}

/// A failure in words.
pub(crate) fn failed(message: impl Into<String>) -> StepResult {
    StepResult::Failed {
        message: message.into(),
    }
}

/// Puts frames together from a non-blocking stream.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
}

/// What a turn of reading found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// All that was there.
    Drained,
    /// The other side is gone, or not yet there.
    Closed,
}

impl Inbox {
    /// Takes what the stream has now.
    pub(crate) fn fill(&mut self, from: &mut impl Read) -> io::Result<Filled> {
        let mut chunk = [0; 16 << 10];
        loop {
            // A frame that is too long is told by `next`, not gathered here.
            if self.bytes.len() > frame::MAX_FRAME + 4 {
                return Ok(Filled::Drained);
            }
            match from.read(&mut chunk) {
                Ok(0) => return Ok(Filled::Closed),
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Filled::Drained),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next whole message, if there is one.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let end = 4 + frame::body_len(*header)?;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let message = frame::decode(&self.bytes[4..end]);
        self.bytes.drain(..end);
        message.map(Some)
    }

    /// Forgets half a frame.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_found_by_name_or_where_only_one_can_be_meant() {
        let one = |dev: &str, name: &str| NamespaceInfo {
            ranges: Vec::new(),
            dev: dev.into(),
            name: name.into(),
            mode: "fsdax".into(),
            resource: 0,
            size: 0,
            align: 0,
        };
        let of = |list: &[(&str, &str)], name: Option<&str>| {
            let context = Context {
                namespaces: list.iter().map(|(dev, name)| one(dev, name)).collect(),
                ..Context::default()
            };
            context.namespace("fsdax", name).map(|n| n.dev.clone()).ok()
        };
        let both = [("pmem0", "second"), ("pmem1", "first")];
        assert_eq!(of(&both, Some("first")).as_deref(), Some("pmem1"));
        assert_eq!(of(&both, Some("third")), None);
        assert_eq!(of(&both, None), None);
        assert_eq!(of(&both[..1], None).as_deref(), Some("pmem0"));
        assert_eq!(
            of(&[("pmem0", "b"), ("pmem1", "")], None).as_deref(),
            Some("pmem1")
        );
        assert_eq!(of(&[], None), None);
    }

    #[test]
    fn frames_come_out_whole_however_they_were_cut() {
        let bytes = [
            frame::encode(&ExpectedRun {
                page: 1,
                pages: 2,
                words: [Word::default(); 2],
            })
            .unwrap(),
            frame::encode(&ExpectedRun {
                page: 4,
                pages: 5,
                words: [Word::default(); 2],
            })
            .unwrap(),
        ]
        .concat();
        for cut in 0..bytes.len() {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for mut part in [&bytes[..cut], &bytes[cut..]] {
                assert_eq!(inbox.fill(&mut part).unwrap(), Filled::Closed);
                while let Some(run) = inbox.next::<ExpectedRun>().unwrap() {
                    got.push(run.page);
                }
            }
            assert_eq!(got, [1, 4]);
        }
    }

    #[test]
    fn a_giant_is_refused_by_its_header() {
        let mut inbox = Inbox::default();
        inbox.fill(&mut &[0xff; 4][..]).unwrap();
        assert!(matches!(
            inbox.next::<ExpectedRun>(),
            Err(FrameError::TooLong(_))
        ));
    }
}
