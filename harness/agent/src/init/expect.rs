//! What each page must hold at its start and its end: the generation of the last
//! store there, of whichever actor. Files and the device have one truth; a
//! private mapping has its own copies on top of its file's.
//!
//! A store writes one of the two words, and the next store the other one, so that
//! what it does not write tells of the copy or the zeros that it was made upon.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::{Backing, Extent, Size};

use crate::wire::{ExpectedRun, TAIL, Word};

/// What a page holds at its start and its end.
type Stored = [Word; 2];

/// A page after a store to those of its words that `which` says.
fn store(was: Option<Stored>, generation: u64, index: u64, which: [bool; 2]) -> Stored {
    let mut words = was.unwrap_or_default();
    for (word, stored) in words.iter_mut().zip(which) {
        if stored {
            *word = Word { generation, index };
        }
    }
    words
}

/// The word that was stored to longer ago.
fn older(was: Option<Stored>) -> [bool; 2] {
    let [head, tail] = was.unwrap_or_default();
    let first = head.generation <= tail.generation;
    [first, !first]
}

/// By page.
type Words = BTreeMap<u64, Stored>;

#[derive(Clone, Debug)]
enum Behind {
    /// Identity of a file, which outlives its name.
    File(u64),
    /// By the name of its namespace; of peer-to-peer memory, by who mapped it.
    Device(String),
    Nothing,
}

#[derive(Clone, Debug)]
struct View {
    behind: Behind,
    first_page: u64,
    private: bool,
    /// Private copies, by page of the mapping.
    own: Words,
}

/// A store that a transfer makes when it is let go.
#[derive(Debug)]
pub(super) struct Coming {
    view: Option<View>,
    at: (String, String),
    range: Range<u64>,
    generation: u64,
}

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Expect {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Words>,
    devices: BTreeMap<String, Words>,
    views: BTreeMap<(String, String), View>,
    last_file: u64,
    /// Whether a mapping could have pages of its own.
    had_own_pages: bool,
    /// Where the blocks of files were last seen, by name.
    blocks: BTreeMap<String, Vec<Extent>>,
}

impl Expect {
    /// A mapping was made.
    pub(super) fn mapped(&mut self, actor: &str, map: &str, backing: &Backing) {
        let (behind, first_page, private) = match backing {
            Backing::File {
                file,
                first_page,
                private,
            } => (Behind::File(self.id(file)), *first_page, *private),
            Backing::Device {
                first_page,
                namespace,
            } => (Behind::Device(namespace.clone()), *first_page, false),
            // Pages of its own, which fork(2) shares.
            Backing::P2pmem {} => (Behind::Device(format!("{actor}/{map}")), 0, false),
            Backing::Anon { .. } => (Behind::Nothing, 0, true),
        };
        self.had_own_pages |= private;
        let view = View {
            behind,
            first_page,
            private,
            own: Words::new(),
        };
        self.views.insert((actor.to_owned(), map.to_owned()), view);
    }

    /// Whether any mapping could have pages of its own.
    pub(super) fn had_own_pages(&self) -> bool {
        self.had_own_pages
    }

    /// Which words of its pages a store to pages `range` of a mapping writes: in turn. Of a device
    /// nobody knows what it held before.
    pub(super) fn next(&self, actor: &str, map: &str, range: &Range<u64>) -> [bool; 2] {
        match self.views.get(&(actor.to_owned(), map.to_owned())) {
            Some(view) if !matches!(view.behind, Behind::Device(_)) => {
                older(self.page(view, range.start))
            }
            _ => [true; 2],
        }
    }

    /// The same of a write to a file.
    pub(super) fn next_of_file(&mut self, file: &str, page: u64) -> [bool; 2] {
        let id = self.id(file);
        older(self.files.get(&id).and_then(|w| w.get(&page)).copied())
    }

    /// What a page of a mapping holds.
    fn page(&self, view: &View, page: u64) -> Option<Stored> {
        let below = match &view.behind {
            Behind::File(id) => self.files.get(id),
            Behind::Device(name) => self.devices.get(name),
            Behind::Nothing => None,
        };
        let own = view.own.get(&page);
        own.or_else(|| below?.get(&(view.first_page + page)))
            .copied()
    }

    /// These words of pages `range` of a mapping were stored to.
    pub(super) fn stored(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<u64>,
        generation: u64,
        which: [bool; 2],
    ) {
        let at = (actor.to_owned(), map.to_owned());
        let Some(view) = self.views.get(&at) else {
            return;
        };
        let first = view.first_page;
        let pages: Vec<(u64, Stored)> = range
            .map(|p| {
                let was = self.page(view, p);
                (p, store(was, generation, first + p, which))
            })
            .collect();
        let files = |(p, stored)| (first + p, stored);
        match &view.behind {
            _ if view.private => {
                if let Some(view) = self.views.get_mut(&at) {
                    view.own.extend(pages);
                }
            }
            Behind::File(id) => {
                let words = self.files.entry(*id).or_default();
                words.extend(pages.into_iter().map(files));
            }
            Behind::Device(name) => {
                let words = self.devices.entry(name.clone()).or_default();
                words.extend(pages.into_iter().map(files));
            }
            Behind::Nothing => {}
        }
    }

    /// A file's blocks are here now.
    pub(super) fn blocks_are(&mut self, file: &str, extents: &[Extent]) {
        self.blocks.insert(file.to_owned(), extents.to_vec());
    }

    /// Where a file's blocks were last seen.
    pub(super) fn blocks(&self, file: &str) -> Vec<Extent> {
        self.blocks.get(file).cloned().unwrap_or_default()
    }

    /// The frame of a page of a file, where it has a block.
    pub(super) fn pfn(&self, file: &str, page: u64) -> Option<u64> {
        Extent::pfn_in(self.blocks.get(file)?, page)
    }

    /// These words of pages `range` of a file were written to.
    pub(super) fn written(
        &mut self,
        file: &str,
        range: Range<u64>,
        generation: u64,
        which: [bool; 2],
    ) {
        let id = self.id(file);
        let words = self.files.entry(id).or_default();
        for page in range {
            let was = words.get(&page).copied();
            words.insert(page, store(was, generation, page, which));
        }
    }

    /// What pages `range` of a file hold.
    pub(super) fn of_file(&mut self, file: &str, range: Range<u64>) -> Vec<ExpectedRun> {
        let id = self.id(file);
        let words = self.files.get(&id);
        runs(range.map(|p| (p, words.and_then(|w| w.get(&p)).copied())))
    }

    /// What lay at page `from` of a file and behind lies `by` pages further on; with a negative
    /// `by`, so many pages are gone there.
    pub(super) fn shifted(&mut self, file: &str, from: u64, by: i64) {
        let id = self.id(file);
        let Some(words) = self.files.get_mut(&id) else {
            return;
        };
        let behind = words.split_off(&from);
        words.extend(behind.into_iter().filter_map(|(page, word)| {
            let to = page.checked_add_signed(by)?;
            (to >= from).then_some((to, word))
        }));
    }

    /// Pages `range` of a file are pages of another one too, from `at` on.
    pub(super) fn cloned(&mut self, file: &str, range: Range<u64>, to: &str, at: u64) {
        let (id, to) = (self.id(file), self.id(to));
        let of = self.files.get(&id).cloned().unwrap_or_default();
        let words = self.files.entry(to).or_default();
        let end = at.saturating_add(range.end - range.start);
        words.retain(|page, _| !(at..end).contains(page));
        words.extend(
            of.range(range.clone())
                .map(|(p, w)| (p - range.start + at, *w)),
        );
    }

    /// A file has another name, and whose that was is gone.
    pub(super) fn renamed(&mut self, file: &str, to: &str) {
        // Also where nothing was stored yet: what had the name before has it no more.
        let id = self.id(file);
        self.names.remove(file);
        self.names.insert(to.to_owned(), id);
    }

    /// Private copies of a range of a mapping are gone.
    pub(super) fn dropped(&mut self, actor: &str, map: &str, range: Range<u64>) {
        if let Some(view) = self.views.get_mut(&(actor.to_owned(), map.to_owned())) {
            view.own.retain(|page, _| !range.contains(page));
        }
    }

    /// Both words of pages `range` were stored to, of anonymous memory only.
    pub(super) fn stored_if_own(
        &mut self,
        actor: &str,
        map: &str,
        range: Range<u64>,
        generation: u64,
    ) {
        let view = self.views.get(&(actor.to_owned(), map.to_owned()));
        if view.is_some_and(|v| matches!(v.behind, Behind::Nothing)) {
            self.stored(actor, map, range, generation, [true; 2]);
        }
    }

    /// Index in its file or device of a page of a mapping.
    pub(super) fn index(&self, actor: &str, map: &str, page: u64) -> u64 {
        let view = self.views.get(&(actor.to_owned(), map.to_owned()));
        view.map_or(0, |v| v.first_page) + page
    }

    /// Pages `range` of a mapping, as they are now, will be stored to later.
    pub(super) fn coming(
        &self,
        actor: &str,
        map: &str,
        range: Range<u64>,
        generation: u64,
    ) -> Coming {
        Coming {
            view: self.views.get(&(actor.to_owned(), map.to_owned())).cloned(),
            at: (actor.to_owned(), map.to_owned()),
            range,
            generation,
        }
    }

    /// It has been stored. A file gets it even where the mapping is gone since.
    pub(super) fn came(&mut self, coming: Coming) {
        let Coming {
            view,
            at,
            range,
            generation,
        } = coming;
        let Some(view) = view else { return };
        if view.private {
            return self.stored(&at.0, &at.1, range, generation, [true; 2]);
        }
        let now = self.views.insert(at.clone(), view);
        self.stored(&at.0, &at.1, range, generation, [true; 2]);
        match now {
            Some(now) => self.views.insert(at, now),
            None => self.views.remove(&at),
        };
    }

    /// What pages `range` of a mapping hold.
    pub(super) fn of(&self, actor: &str, map: &str, range: Range<u64>) -> Vec<ExpectedRun> {
        let Some(view) = self.views.get(&(actor.to_owned(), map.to_owned())) else {
            return Vec::new();
        };
        runs(range.map(|page| (page, self.page(view, page))))
    }

    /// The same, of those pages of which that is known: of a device those that were stored to.
    pub(super) fn known(&self, actor: &str, map: &str, range: Range<u64>) -> Vec<ExpectedRun> {
        let Some(view) = self.views.get(&(actor.to_owned(), map.to_owned())) else {
            return Vec::new();
        };
        let device = matches!(view.behind, Behind::Device(_));
        let pages = range.map(|page| (page, self.page(view, page)));
        runs(pages.filter(|(_, stored)| !device || stored.is_some()))
    }

    /// A hole was punched into the file below pages `range` of a mapping.
    pub(super) fn cut_behind(&mut self, actor: &str, map: &str, range: Range<u64>) {
        let Some(view) = self.views.get(&(actor.to_owned(), map.to_owned())) else {
            return;
        };
        if let Behind::File(id) = view.behind {
            let first = view.first_page;
            let pages = first + range.start..first.saturating_add(range.end);
            if let Some(words) = self.files.get_mut(&id) {
                words.retain(|page, _| !pages.contains(page));
            }
        }
    }

    /// Pages `range` of a file read as zeros again; with `copies`, private
    /// copies of them are gone as well (truncation, not a punched hole).
    pub(super) fn cut(&mut self, file: &str, range: Range<u64>, copies: bool) {
        let id = self.id(file);
        if let Some(words) = self.files.get_mut(&id) {
            words.retain(|page, _| !range.contains(page));
        }
        for view in self.views.values_mut().filter(|_| copies) {
            if matches!(view.behind, Behind::File(of) if of == id) {
                let first = view.first_page;
                view.own.retain(|page, _| !range.contains(&(first + page)));
            }
        }
    }

    /// A file ends at a byte: what lies behind, also of the page that it ends in, reads as zeros
    /// when it is longer again. Private copies of that page stay whole.
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

    /// The words that a range of zeros covers of the pages that it begins and ends in.
    fn zeroed_edges(&mut self, file: &str, bytes: Range<u64>) {
        let id = self.id(file);
        let Some(words) = self.files.get_mut(&id) else {
            return;
        };
        for page in [bytes.start / Size::PAGE, bytes.end / Size::PAGE] {
            let Some(stored) = words.get_mut(&page) else {
                continue;
            };
            for (word, at) in stored.iter_mut().zip([0, TAIL]) {
                let at = page * Size::PAGE + at;
                if bytes.start <= at && at + 8 <= bytes.end {
                    *word = Word::default();
                }
            }
        }
    }

    /// The name is free for another file.
    pub(super) fn unlinked(&mut self, file: &str) {
        self.names.remove(file);
    }

    /// A mapping went.
    pub(super) fn unmapped(&mut self, actor: &str, map: &str) {
        self.views.remove(&(actor.to_owned(), map.to_owned()));
    }

    /// A child has what its parent has.
    pub(super) fn forked(&mut self, parent: &str, child: &str) {
        let copies: Vec<_> = self
            .views
            .iter()
            .filter(|((actor, _), _)| actor == parent)
            .map(|((_, map), view)| ((child.to_owned(), map.clone()), view.clone()))
            .collect();
        self.views.extend(copies);
    }

    /// An actor is no more.
    pub(super) fn gone(&mut self, actor: &str) {
        self.views.retain(|(a, _), _| a != actor);
    }

    /// A device's memory may be another's.
    pub(super) fn device_gone(&mut self, device: &str) {
        self.devices.remove(device);
    }

    /// A new file system, or none.
    pub(super) fn forget_files(&mut self) {
        self.names.clear();
        self.files.clear();
    }

    fn id(&mut self, file: &str) -> u64 {
        if let Some(id) = self.names.get(file) {
            return *id;
        }
        self.last_file += 1;
        self.names.insert(file.to_owned(), self.last_file);
        self.last_file
    }
}

fn runs(words: impl Iterator<Item = (u64, Option<Stored>)>) -> Vec<ExpectedRun> {
    let mut out: Vec<ExpectedRun> = Vec::new();
    for (page, stored) in words {
        let words = stored.unwrap_or_default();
        match out.last_mut() {
            Some(l) if l.page + l.pages == page && l.words.map(|w| w.on(l.pages)) == words => {
                l.pages += 1;
            }
            _ => out.push(ExpectedRun {
                page,
                pages: 1,
                words,
            }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [bool; 2] = [true; 2];

    fn file(private: bool) -> Backing {
        Backing::File {
            file: "a".into(),
            first_page: 2,
            private,
        }
    }

    fn generations(e: &Expect, actor: &str, map: &str) -> Vec<u64> {
        e.of(actor, map, 0..4)
            .iter()
            .flat_map(|r| std::iter::repeat_n(r.words[0].generation, r.pages as usize))
            .collect()
    }

    #[test]
    fn zeros_that_begin_and_end_within_pages_leave_the_other_words() {
        let mut e = Expect::default();
        e.mapped("main", "s", &file(false));
        e.stored("main", "s", 0..4, 1, BOTH);
        // From within the file's page 2, the mapping's first, to within its page 4.
        e.zeroed("a", 2 * Size::PAGE + 1024..4 * Size::PAGE + 1024);
        let left = |e: &Expect, page| {
            let run = &e.of("main", "s", page..page + 1)[0];
            run.words.map(|w| w.generation)
        };
        assert_eq!(
            [0, 1, 2, 3].map(|p| left(&e, p)),
            [[1, 0], [0, 0], [0, 1], [1, 1]]
        );
        // Within one page, over neither of its words.
        e.zeroed("a", 5 * Size::PAGE + 1024..5 * Size::PAGE + 2048);
        assert_eq!(left(&e, 3), [1, 1]);
    }

    #[test]
    fn a_shared_store_shows_through_a_private_mapping_where_it_has_no_copy() {
        let mut e = Expect::default();
        e.mapped("main", "s", &file(false));
        e.mapped("main", "p", &file(true));
        e.stored("main", "s", 0..3, 1, BOTH);
        e.stored("main", "p", 1..2, 2, BOTH);
        e.forked("main", "child");
        e.stored("child", "p", 2..3, 3, BOTH);
        e.stored("child", "s", 0..4, 4, BOTH);
        assert_eq!(generations(&e, "main", "p"), [4, 2, 4, 4]);
        assert_eq!(generations(&e, "child", "p"), [4, 2, 3, 4]);
        e.cut("a", 3..4, false);
        assert_eq!(generations(&e, "main", "p"), [4, 2, 4, 4]);
        assert_eq!(generations(&e, "main", "s"), [4, 0, 4, 4]);
        e.cut("a", 3..u64::MAX, true);
        assert_eq!(generations(&e, "main", "p"), [4, 0, 0, 0]);
    }

    #[test]
    fn words_move_with_their_blocks() {
        let mut e = Expect::default();
        e.written("a", 0..8, 1, BOTH);
        e.shifted("a", 2, -2);
        let of = |e: &mut Expect| {
            e.of_file("a", 0..8)
                .iter()
                .map(|r| (r.page, r.pages, r.words[0].generation, r.words[0].index))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&mut e), [(0, 2, 1, 0), (2, 4, 1, 4), (6, 2, 0, 0)]);
        e.shifted("a", 0, 1);
        assert_eq!(of(&mut e)[..2], [(0, 1, 0, 0), (1, 2, 1, 0)]);
        e.renamed("a", "b");
        assert_eq!(e.of_file("a", 0..1)[0].words[0].generation, 0);
        assert_eq!(e.of_file("b", 1..2)[0].words[0].generation, 1);
    }

    #[test]
    fn a_name_used_again_is_another_file() {
        let mut e = Expect::default();
        e.mapped("main", "old", &file(false));
        e.stored("main", "old", 0..4, 1, BOTH);
        e.unlinked("a");
        e.mapped("main", "new", &file(false));
        assert_eq!(generations(&e, "main", "new"), [0; 4]);
        assert_eq!(generations(&e, "main", "old"), [1; 4]);
    }

    #[test]
    fn what_a_store_leaves_is_what_it_was_made_upon() {
        let mut e = Expect::default();
        e.mapped("main", "s", &file(false));
        e.mapped("main", "p", &file(true));
        let store = |e: &mut Expect, actor: &str, map: &str, generation| {
            let which = e.next(actor, map, &(0..2));
            e.stored(actor, map, 0..2, generation, which);
        };
        let of = |e: &Expect, actor: &str, map: &str| {
            let runs = e.of(actor, map, 0..2);
            assert_eq!(runs.len(), 1);
            runs[0].words.map(|w| w.generation)
        };
        store(&mut e, "main", "s", 1);
        assert_eq!(of(&e, "main", "p"), [1, 0]);
        store(&mut e, "main", "p", 2);
        e.forked("main", "child");
        store(&mut e, "main", "s", 3);
        store(&mut e, "child", "p", 4);
        assert_eq!(of(&e, "main", "s"), [1, 3]);
        assert_eq!(of(&e, "main", "p"), [1, 2]);
        assert_eq!(of(&e, "child", "p"), [4, 2]);
        let which = e.next_of_file("a", 2);
        e.written("a", 2..4, 5, which);
        assert_eq!(of(&e, "main", "s"), [5, 3]);
    }

    #[test]
    fn nothing_is_known_of_what_a_device_held_before() {
        let mut e = Expect::default();
        let device = Backing::Device {
            first_page: 0,
            namespace: "dax0.0".into(),
        };
        e.mapped("main", "d", &device);
        let both = e.next("main", "d", &(1..3));
        assert_eq!(both, BOTH);
        e.stored("main", "d", 1..3, 7, both);
        assert_eq!(e.next("main", "d", &(1..3)), BOTH);
        let known = e.known("main", "d", 0..4);
        assert_eq!(known.len(), 1);
        assert_eq!((known[0].page, known[0].pages), (1, 2));
        e.mapped("main", "s", &file(false));
        assert_eq!(e.known("main", "s", 0..4)[0].pages, 4);
    }
}
