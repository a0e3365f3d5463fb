//! The counters of a kernel that profiles itself: the compiler's notes on its objects, kept with
//! the kernel, and that compiler's gcov, which makes counts of lines of the two.

use camino::{Utf8Path, Utf8PathBuf};
use proto::Profile;

use super::artifact;
use super::cache::{Cache, create_dir, remove};
use super::error::BuildError;
use super::{proc, worktree};

/// Where a kernel's notes are kept beside it, as in its tree.
pub(crate) const NOTES: &str = "gcov";

/// Magic, version and stamp: what notes and counts of one compilation begin with.
const HEAD: usize = 12;

/// Keeps the notes of the profiled objects of a build; most kernels have none.
pub(crate) fn keep_notes(build: &Utf8Path, place: &Utf8Path) -> Result<(), BuildError> {
    worktree::walk(build, &mut |path, entry| {
        if path.extension() == Some("gcno") {
            let to = place.join(path);
            if let Some(dir) = to.parent() {
                create_dir(dir)?;
            }
            std::fs::copy(entry.path(), &to).map_err(|e| BuildError::io("copy to", &to, e))?;
        }
        Ok(true)
    })
}

/// One profiled object of a kernel.
#[derive(Debug)]
struct Note {
    /// `mm/memremap`, in the kernel's tree.
    object: Utf8PathBuf,
    file: Utf8PathBuf,
    head: [u8; HEAD],
}

/// What gcov says of one object, as JSON.
#[derive(Debug)]
pub struct ObjectCounts {
    /// The object's source, such as `mm/memremap.c`.
    pub source: String,
    /// gcov's words.
    pub json: String,
}

/// Sums of counts of one kernel.
#[derive(Debug)]
pub struct Gcov {
    notes: Vec<Note>,
    gcov: String,
    tool: String,
}

impl Gcov {
    /// For the kernel of the cache with this key, called `name`.
    ///
    /// # Errors
    /// Where it is not there, was built without counters, or its compiler's gcov is missing.
    pub fn of(cache: &Cache, name: &str, key: &str) -> Result<Self, BuildError> {
        let dir = cache.path("kernels", key);
        let toolchain = artifact::toolchain(&dir).ok_or_else(|| BuildError::Request {
            message: format!("the kernel {name} that ran is no longer in the cache"),
            remedy: "run it again".to_owned(),
        })?;
        let mut notes = Vec::new();
        let kept = dir.join(NOTES);
        if kept.is_dir() {
            worktree::walk(&kept, &mut |path, entry| {
                if path.extension() == Some("gcno") {
                    let file = entry.path().to_owned();
                    let bytes =
                        std::fs::read(&file).map_err(|e| BuildError::io("read", &file, e))?;
                    if let Some(head) = bytes.first_chunk() {
                        notes.push(Note {
                            object: path.with_extension(""),
                            head: *head,
                            file,
                        });
                    }
                }
                Ok(true)
            })?;
        }
        if notes.is_empty() {
            return Err(BuildError::Request {
                message: format!("the kernel {name} was built without counters"),
                remedy: "run one of the flavour gcov, such as 6.12:gcov".to_owned(),
            });
        }
        notes.sort_by(|a, b| a.object.cmp(&b.object));
        // `gcc` is `gcov`'s, `gcc-12` `gcov-12`'s.
        let program = |name: &str| toolchain.cc.replacen("gcc", name, 1);
        let (gcov, tool) = (program("gcov"), program("gcov-tool"));
        for program in [&gcov, &tool] {
            if !proc::exists(program) {
                return Err(BuildError::MissingTool {
                    program: program.clone(),
                    package: toolchain.cc.clone(),
                });
            }
        }
        let said = proc::run(
            proc::command(&gcov).arg("--version"),
            format!("ask {gcov} for its version"),
        )?;
        let found = version(said.lines().next().unwrap_or_default());
        let built = version(&toolchain.cc_version);
        if found != built {
            return Err(BuildError::Request {
                message: format!(
                    "the counters of {name} are those of gcc {built}, and {gcov} is of {found}"
                ),
                remedy: "install that compiler's, or build the kernel again".to_owned(),
            });
        }
        Ok(Self { notes, gcov, tool })
    }

    /// Adds profiles up and has gcov count lines: one answer for each profiled object, also where
    /// no profile has it.
    ///
    /// # Errors
    /// Where a profile is not this kernel's, or a program fails.
    pub fn count<E>(
        &self,
        profiles: impl Iterator<Item = Result<Profile, E>>,
    ) -> Result<Vec<ObjectCounts>, E>
    where
        E: From<BuildError>,
    {
        let temp = tempfile::tempdir().map_err(|e| temporary(&e))?;
        let temp = Utf8Path::from_path(temp.path()).ok_or_else(|| BuildError::Command {
            what: "make a temporary directory".to_owned(),
            detail: "its name is no text".to_owned(),
        })?;
        let (sum, one, next) = (temp.join("sum"), temp.join("one"), temp.join("next"));
        create_dir(&sum)?;
        for (i, profile) in profiles.enumerate() {
            let profile = profile?;
            let into = if i == 0 { &sum } else { &one };
            create_dir(into)?;
            self.unpack(&profile, into)?;
            if i > 0 {
                let mut merge = proc::command(&self.tool);
                merge
                    .arg("merge")
                    .args([&sum, &one])
                    .args(["-o", next.as_str()]);
                proc::run(&mut merge, "add profiles up")?;
                remove(&sum)?;
                remove(&one)?;
                std::fs::rename(&next, &sum).map_err(|e| BuildError::io("move to", &sum, e))?;
            }
        }
        let mut out = Vec::new();
        for note in &self.notes {
            let to = sum.join(format!("{}.gcno", flat(&note.object)));
            std::fs::copy(&note.file, &to).map_err(|e| BuildError::io("copy to", &to, e))?;
            let mut gcov = proc::command(&self.gcov);
            gcov.current_dir(&sum)
                .args(["--json-format", "--stdout"])
                .arg(format!("{}.gcda", flat(&note.object)));
            out.push(ObjectCounts {
                source: note.object.with_extension("c").into_string(),
                json: proc::run(&mut gcov, format!("count the lines of {}", note.object))?,
            });
        }
        Ok(out)
    }

    /// Writes the counts of one guest for the objects that we know, under names of our own.
    fn unpack(&self, profile: &Profile, into: &Utf8Path) -> Result<(), BuildError> {
        for note in &self.notes {
            let name = note.object.with_extension("gcda");
            let path = |p: &&proto::ProfileFile| Utf8Path::new(&p.path).ends_with(&name);
            let Some(file) = profile.files.iter().find(path) else {
                continue;
            };
            let bytes = file.bytes().unwrap_or_default();
            if !is_of(&note.head, &bytes) {
                // gcov would leave them out, and count nothing.
                return Err(BuildError::Command {
                    what: format!("use the counts of {name}"),
                    detail: "they are not of the kernel that the run names".to_owned(),
                });
            }
            let to = into.join(format!("{}.gcda", flat(&note.object)));
            fs_err::write(&to, bytes).map_err(|e| BuildError::io("write", &to, e))?;
        }
        Ok(())
    }
}

/// Whether counts are of the compilation that notes with this head are of: gcc writes `gcno` and
/// `gcda` as 32-bit words, then its version and a stamp that both have.
fn is_of(note: &[u8; HEAD], counts: &[u8]) -> bool {
    counts.starts_with(b"adcg") && note.starts_with(b"oncg") && counts.get(4..HEAD) == note.get(4..)
}

/// One name for an object in one directory.
fn flat(object: &Utf8Path) -> String {
    object.as_str().replace('/', "#")
}

/// `12.2.0` of `gcc (Debian 12.2.0-14+deb12u1) 12.2.0`.
fn version(line: &str) -> &str {
    line.rsplit(' ').next().unwrap_or_default()
}

fn temporary(e: &std::io::Error) -> BuildError {
    BuildError::Command {
        what: "make a temporary directory".to_owned(),
        detail: e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_notes_are_kept_and_in_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        for file in ["mm/hmm.gcno", "mm/hmm.o", "drivers/dax/bus.gcno"] {
            let path = root.join("build").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        keep_notes(&root.join("build"), &root.join("kept")).unwrap();
        assert!(root.join("kept/mm/hmm.gcno").is_file());
        assert!(root.join("kept/drivers/dax/bus.gcno").is_file());
        assert!(!root.join("kept/mm/hmm.o").exists());
    }

    #[test]
    fn counts_of_another_compilation_are_known() {
        let note = b"oncg*22Bstmp";
        assert!(is_of(note, b"adcg*22Bstmp...."));
        for other in [
            &b"adcg*22Bother"[..],
            b"adcg*31Bstmp",
            b"oncg*22Bstmp",
            b"adcg",
        ] {
            assert!(!is_of(note, other));
        }
    }

    #[test]
    fn the_version_is_the_last_word() {
        let version = version("gcov (Debian 12.2.0-14+deb12u1) 12.2.0");
        assert_eq!(version, "12.2.0");
    }
}
