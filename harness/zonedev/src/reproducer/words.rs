//! What each page holds at its start and its end, followed through a case: what the program's
//! loads and reads must find. As the agent does it, from the operations alone; where only the
//! guest could tell how far one came, a word is unknown and not compared.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::Size;

/// What one of the two words of a page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Word {
    /// Nobody stored there.
    #[default]
    Zero,
    /// A store's, for a page.
    Stored {
        /// Counted from 1.
        store: u64,
        /// The page of the file, device or mapping that it was made for.
        page: u64,
    },
    /// It may be one thing or another.
    Unknown,
}

impl Word {
    fn on(self, pages: u64) -> Word {
        match self {
            Word::Stored { store, page } => Word::Stored {
                store,
                page: page + pages,
            },
            other => other,
        }
    }

    /// When it was stored; later than all where that is unknown.
    fn when(self) -> u64 {
        match self {
            Word::Zero => 0,
            Word::Stored { store, .. } => store,
            Word::Unknown => u64::MAX,
        }
    }

    /// In C, at the start of a page.
    pub(super) fn head(self) -> String {
        match self {
            Word::Stored { store, page } => format!("WORD({store}, {page})"),
            _ => "0".to_owned(),
        }
    }

    /// In C, at the end of a page.
    pub(super) fn tail(self) -> String {
        match self {
            Word::Stored { .. } => format!("~{}", self.head()),
            _ => "0".to_owned(),
        }
    }
}

/// The words at a page's start and end.
pub(super) type Stored = [Word; 2];

/// Pages that go on from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first, within what was asked about.
    pub(super) page: u64,
    /// How many.
    pub(super) pages: u64,
    /// What the first holds.
    pub(super) words: Stored,
}

impl Run {
    /// Whether all of it can be compared.
    pub(super) fn is_known(&self) -> bool {
        !self.words.contains(&Word::Unknown)
    }
}

/// What stands behind a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// A file, by its identity, which outlives its name.
    File(u64),
    /// A device, by its name; of peer-to-peer memory, by who mapped it.
    Device(String),
    /// Memory of its own.
    Nothing,
}

/// One actor's mapping.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// What it is of.
    pub(super) behind: Behind,
    /// First page of the file or device.
    pub(super) first_page: u64,
    /// MAP_PRIVATE.
    pub(super) private: bool,
    /// How many.
    pub(super) pages: u64,
    own: BTreeMap<u64, Stored>,
}

impl View {
    pub(super) fn new(behind: Behind, first_page: u64, private: bool, pages: u64) -> Self {
        View {
            behind,
            first_page,
            private,
            pages,
            own: BTreeMap::new(),
        }
    }

    /// Whether a file of the fixture stands behind it.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.behind, Behind::File(_))
    }
}

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Words {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, BTreeMap<u64, Stored>>,
    devices: BTreeMap<String, BTreeMap<u64, Stored>>,
    views: BTreeMap<(String, String), View>,
    last_file: u64,
    stores: u64,
}

fn put(was: Option<Stored>, word: Word, which: [bool; 2]) -> Stored {
    let mut words = was.unwrap_or_default();
    for (at, stored) in words.iter_mut().zip(which) {
        if stored {
            *at = word;
        }
    }
    words
}

/// Runs of equal or consecutive words.
fn runs(pages: impl Iterator<Item = (u64, Stored)>) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::new();
    for (page, words) in pages {
        match out.last_mut() {
            Some(last)
                if last.page + last.pages == page
                    && last.words.map(|w| w.on(last.pages)) == words =>
            {
                last.pages += 1;
            }
            _ => out.push(Run {
                page,
                pages: 1,
                words,
            }),
        }
    }
    out
}

impl Words {
    /// The number of a store to come.
    pub(super) fn next_store(&mut self) -> u64 {
        self.stores += 1;
        self.stores
    }

    /// The identity of the file that has a name now.
    pub(super) fn id(&mut self, file: &str) -> u64 {
        if let Some(id) = self.names.get(file) {
            return *id;
        }
        self.last_file += 1;
        self.names.insert(file.to_owned(), self.last_file);
        self.last_file
    }

    /// The name that a file has now, where it has one.
    pub(super) fn name_of(&self, view: &View) -> Option<&str> {
        let Behind::File(id) = view.behind else {
            return None;
        };
        let mut names = self.names.iter();
        names
            .find(|(_, of)| **of == id)
            .map(|(name, _)| name.as_str())
    }

    pub(super) fn mapped(&mut self, actor: &str, map: &str, view: View) {
        self.views.insert((actor.to_owned(), map.to_owned()), view);
    }

    pub(super) fn view(&self, actor: &str, map: &str) -> Option<&View> {
        self.views.get(&(actor.to_owned(), map.to_owned()))
    }

    fn page(&self, view: &View, page: u64) -> Option<Stored> {
        let below = match &view.behind {
            Behind::File(id) => self.files.get(id),
            Behind::Device(name) => self.devices.get(name),
            Behind::Nothing => None,
        };
        let own = view.own.get(&page).copied();
        own.or_else(|| below?.get(&(view.first_page + page)).copied())
    }

    /// The word of two that was stored longer ago: stores write them in turn. Of a device nobody
    /// knows what it held before.
    fn older(was: Option<Stored>) -> [bool; 2] {
        let [head, tail] = was.unwrap_or_default();
        if [head, tail].contains(&Word::Unknown) {
            return [true; 2];
        }
        let first = head.when() <= tail.when();
        [first, !first]
    }

    /// Which words a store to a mapping writes.
    pub(super) fn which(&self, actor: &str, map: &str, page: u64) -> [bool; 2] {
        match self.view(actor, map) {
            Some(view) if !matches!(view.behind, Behind::Device(_)) => {
                Self::older(self.page(view, page))
            }
            _ => [true; 2],
        }
    }

    /// The same of a write to a file.
    pub(super) fn which_of_file(&mut self, file: &str, page: u64) -> [bool; 2] {
        let id = self.id(file);
        Self::older(self.files.get(&id).and_then(|w| w.get(&page)).copied())
    }

    /// A store to a range of a mapping; of one that may have stopped anywhere, unknown words.
    pub(super) fn stored(
        &mut self,
        (actor, map): (&str, &str),
        range: Range<u64>,
        store: Option<u64>,
        which: [bool; 2],
    ) {
        let Some(view) = self.view(actor, map).cloned() else {
            return;
        };
        self.stored_by(&view, range.clone(), store, which);
        if view.private {
            let pages: Vec<_> = self.made(&view, range, store, which);
            let at = (actor.to_owned(), map.to_owned());
            if let Some(view) = self.views.get_mut(&at) {
                view.own.extend(pages);
            }
        }
    }

    /// The same of a mapping that may be gone: to its file or device, where it is shared.
    pub(super) fn stored_by(
        &mut self,
        view: &View,
        range: Range<u64>,
        store: Option<u64>,
        which: [bool; 2],
    ) {
        if view.private {
            return;
        }
        let first = view.first_page;
        let pages = self.made(view, range, store, which);
        let words = match &view.behind {
            Behind::File(id) => self.files.entry(*id).or_default(),
            Behind::Device(name) => self.devices.entry(name.clone()).or_default(),
            Behind::Nothing => return,
        };
        words.extend(pages.into_iter().map(|(p, w)| (first + p, w)));
    }

    fn made(
        &self,
        view: &View,
        range: Range<u64>,
        store: Option<u64>,
        which: [bool; 2],
    ) -> Vec<(u64, Stored)> {
        let first = view.first_page;
        range
            .map(|p| {
                let word = store.map_or(Word::Unknown, |store| Word::Stored {
                    store,
                    page: first + p,
                });
                (p, put(self.page(view, p), word, which))
            })
            .collect()
    }

    pub(super) fn written(
        &mut self,
        file: &str,
        range: Range<u64>,
        store: Option<u64>,
        which: [bool; 2],
    ) {
        let id = self.id(file);
        let words = self.files.entry(id).or_default();
        for page in range {
            let word = store.map_or(Word::Unknown, |store| Word::Stored { store, page });
            let was = words.get(&page).copied();
            words.insert(page, put(was, word, which));
        }
    }

    /// What pages of a file hold.
    pub(super) fn of_file(&mut self, file: &str, range: Range<u64>) -> Vec<Run> {
        let id = self.id(file);
        let words = self.files.get(&id);
        runs(range.map(|p| {
            (
                p,
                words.and_then(|w| w.get(&p)).copied().unwrap_or_default(),
            )
        }))
    }

    /// What pages of a mapping hold.
    pub(super) fn of(&self, actor: &str, map: &str, range: Range<u64>) -> Vec<Run> {
        let Some(view) = self.view(actor, map) else {
            return Vec::new();
        };
        runs(range.map(|p| (p, self.page(view, p).unwrap_or_default())))
    }

    /// The same, without pages of a device that nobody stored to.
    pub(super) fn known(&self, actor: &str, map: &str, range: Range<u64>) -> Vec<Run> {
        let Some(view) = self.view(actor, map) else {
            return Vec::new();
        };
        let device = matches!(view.behind, Behind::Device(_));
        let pages = range.map(|p| (p, self.page(view, p)));
        let known = pages.filter(|(_, stored)| !device || stored.is_some());
        runs(known.map(|(p, stored)| (p, stored.unwrap_or_default())))
    }

    /// What lies at a page of a file and behind lies so many pages further on.
    pub(super) fn shifted(&mut self, file: &str, from: u64, by: i64) {
        let id = self.id(file);
        let words = self.files.entry(id).or_default();
        let behind = words.split_off(&from);
        words.extend(behind.into_iter().filter_map(|(page, word)| {
            let to = page.checked_add_signed(by)?;
            (to >= from).then_some((to, word))
        }));
    }

    pub(super) fn cloned(&mut self, file: &str, range: Range<u64>, to: &str, at: u64) {
        let (id, to) = (self.id(file), self.id(to));
        let of = self.files.get(&id).cloned().unwrap_or_default();
        let words = self.files.entry(to).or_default();
        let end = at.saturating_add(range.end - range.start);
        words.retain(|page, _| !(at..end).contains(page));
        let pages = of.range(range.clone());
        words.extend(pages.map(|(p, w)| (p - range.start + at, *w)));
    }

    pub(super) fn renamed(&mut self, file: &str, to: &str) {
        let id = self.id(file);
        self.names.remove(file);
        self.names.insert(to.to_owned(), id);
    }

    pub(super) fn dropped(&mut self, actor: &str, map: &str, range: Range<u64>) {
        let at = (actor.to_owned(), map.to_owned());
        if let Some(view) = self.views.get_mut(&at) {
            view.own.retain(|page, _| !range.contains(page));
        }
    }

    /// A hole was punched into the file below a range of a mapping.
    pub(super) fn cut_behind(&mut self, actor: &str, map: &str, range: Range<u64>) {
        let Some(view) = self.view(actor, map) else {
            return;
        };
        let first = view.first_page;
        if let Behind::File(id) = view.behind {
            let pages = first + range.start..first.saturating_add(range.end);
            if let Some(words) = self.files.get_mut(&id) {
                words.retain(|page, _| !pages.contains(page));
            }
        }
    }

    /// Pages of a file read as zeros again; with `copies`, private copies are gone as well.
    pub(super) fn cut(&mut self, file: &str, range: Range<u64>, copies: bool) {
        let id = self.id(file);
        if let Some(words) = self.files.get_mut(&id) {
            words.retain(|page, _| !range.contains(page));
        }
        for view in self.views.values_mut().filter(|_| copies) {
            if view.behind == Behind::File(id) {
                let first = view.first_page;
                view.own.retain(|page, _| !range.contains(&(first + page)));
            }
        }
    }

    pub(super) fn truncated(&mut self, file: &str, size: Size) {
        self.cut(file, size.pages()..u64::MAX, true);
        self.zeroed_edges(file, size.bytes()..u64::MAX);
    }

    /// Bytes of a file are zeros, but in private copies.
    pub(super) fn zeroed(&mut self, file: &str, bytes: Range<u64>) {
        let whole = bytes.start.div_ceil(Size::PAGE)..bytes.end / Size::PAGE;
        self.cut(file, whole, false);
        self.zeroed_edges(file, bytes);
    }

    fn zeroed_edges(&mut self, file: &str, bytes: Range<u64>) {
        let id = self.id(file);
        let Some(words) = self.files.get_mut(&id) else {
            return;
        };
        for page in [bytes.start / Size::PAGE, bytes.end / Size::PAGE] {
            let Some(stored) = words.get_mut(&page) else {
                continue;
            };
            for (word, at) in stored.iter_mut().zip([0, Size::PAGE - 8]) {
                let at = page * Size::PAGE + at;
                if bytes.start <= at && at + 8 <= bytes.end {
                    *word = Word::Zero;
                }
            }
        }
    }

    pub(super) fn unlinked(&mut self, file: &str) {
        self.names.remove(file);
    }

    pub(super) fn unmapped(&mut self, actor: &str, map: &str) {
        self.views.remove(&(actor.to_owned(), map.to_owned()));
    }

    pub(super) fn forked(&mut self, parent: &str, child: &str) {
        let of_parent = self.views.iter().filter(|((a, _), _)| a == parent);
        let copies: Vec<_> = of_parent
            .map(|((_, map), view)| ((child.to_owned(), map.clone()), view.clone()))
            .collect();
        self.views.extend(copies);
    }

    pub(super) fn gone(&mut self, actor: &str) {
        self.views.retain(|(a, _), _| a != actor);
    }

    /// What a device held is gone with it.
    pub(super) fn device_gone(&mut self, device: &str) {
        self.devices.remove(device);
    }

    /// Another file system, or none, is where the files were.
    pub(super) fn forget_files(&mut self) {
        self.names.clear();
        self.files.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_write_the_two_words_in_turn_and_runs_go_on() {
        let mut w = Words::default();
        let id = w.id("a");
        w.mapped("main", "m", View::new(Behind::File(id), 2, false, 8));
        for _ in 0..2 {
            let (store, which) = (w.next_store(), w.which("main", "m", 0));
            w.stored(("main", "m"), 0..4, Some(store), which);
        }
        let of = w.of("main", "m", 0..8);
        assert_eq!(of.len(), 2);
        assert_eq!((of[0].page, of[0].pages), (0, 4));
        assert_eq!(of[0].words[0].head(), "WORD(1, 2)");
        assert_eq!(of[0].words[1].tail(), "~WORD(2, 2)");
        assert_eq!(of[1].words, [Word::Zero; 2]);
        assert_eq!(w.of_file("a", 2..6)[0].words, of[0].words);
    }

    #[test]
    fn a_store_that_may_have_stopped_anywhere_is_not_compared() {
        let mut w = Words::default();
        w.mapped("main", "m", View::new(Behind::Nothing, 0, true, 4));
        w.stored(("main", "m"), 1..3, None, [true, false]);
        let of = w.of("main", "m", 0..4);
        assert_eq!(of.iter().filter(|r| r.is_known()).count(), 2);
        assert_eq!(w.which("main", "m", 1), [true; 2]);
    }
}
