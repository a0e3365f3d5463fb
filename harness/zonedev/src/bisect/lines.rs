//! A file of JSON lines that is only appended to: what a search leaves behind and goes on with.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file, to be appended to.
#[derive(Clone, Debug)]
pub(crate) struct JsonLines {
    path: Utf8PathBuf,
}

impl JsonLines {
    /// Begins one in a folder, which is made, with its first line. Fails where there is one already.
    pub(crate) fn begin(
        dir: &Utf8Path,
        name: &str,
        first: &impl Serialize,
    ) -> std::io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(name);
        fs::File::create_new(&path)?;
        let lines = JsonLines { path };
        lines.tell(first)?;
        Ok(lines)
    }

    /// Opens one to go on with: its lines, but for one that is torn, which goes.
    pub(crate) fn resume<L: DeserializeOwned>(
        dir: &Utf8Path,
        name: &str,
    ) -> std::io::Result<(Self, Vec<L>)> {
        let path = dir.join(name);
        let text = fs::read_to_string(&path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines: Vec<L> = text[..whole]
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        if whole < text.len() {
            fs::OpenOptions::new()
                .write(true)
                .open(&path)?
                .set_len(whole as u64)?;
        }
        Ok((JsonLines { path }, lines))
    }

    /// Appends a line.
    pub(crate) fn tell(&self, line: &impl Serialize) -> std::io::Result<()> {
        use std::io::Write;
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = fs::OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(&text)
    }
}
