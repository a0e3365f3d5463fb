//! What each page must hold: the generation of the last store to it, of
//! whichever actor. Files and the device have one truth; a private mapping
//! has its own copies on top of its file's.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::Backing;

use crate::wire::ExpectedRun;

type Words = BTreeMap<u64, u64>;

#[derive(Clone, Debug)]
enum Behind {
    /// Identity of a file, which outlives its name.
    File(u64),
    /// By the name of its namespace.
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
            Backing::Anon {} => (Behind::Nothing, 0, true),
        };
        let view = View {
            behind,
            first_page,
            private,
            own: Words::new(),
        };
        self.views.insert((actor.to_owned(), map.to_owned()), view);
    }

    /// Pages `range` of a mapping were stored to.
    pub(super) fn stored(&mut self, actor: &str, map: &str, range: Range<u64>, generation: u64) {
        let Some(view) = self.views.get_mut(&(actor.to_owned(), map.to_owned())) else {
            return;
        };
        let words = match &view.behind {
            _ if view.private => {
                view.own.extend(range.map(|p| (p, generation)));
                return;
            }
            Behind::File(id) => self.files.entry(*id).or_default(),
            Behind::Device(name) => self.devices.entry(name.clone()).or_default(),
            Behind::Nothing => return,
        };
        words.extend(range.map(|p| (view.first_page + p, generation)));
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
            return self.stored(&at.0, &at.1, range, generation);
        }
        let now = self.views.insert(at.clone(), view);
        self.stored(&at.0, &at.1, range, generation);
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
        let below = match &view.behind {
            Behind::File(id) => self.files.get(id),
            Behind::Device(name) => self.devices.get(name),
            Behind::Nothing => None,
        };
        let mut out: Vec<ExpectedRun> = Vec::new();
        for page in range {
            let generation = view
                .own
                .get(&page)
                .or_else(|| below?.get(&(view.first_page + page)))
                .copied()
                .unwrap_or(0);
            match out.last_mut() {
                Some(l) if l.generation == generation => l.pages += 1,
                _ => out.push(ExpectedRun {
                    page,
                    pages: 1,
                    generation,
                }),
            }
        }
        out
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

#[cfg(test)]
mod tests {
    use super::*;

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
            .flat_map(|r| std::iter::repeat_n(r.generation, r.pages as usize))
            .collect()
    }

    #[test]
    fn a_shared_store_shows_through_a_private_mapping_where_it_has_no_copy() {
        let mut e = Expect::default();
        e.mapped("main", "s", &file(false));
        e.mapped("main", "p", &file(true));
        e.stored("main", "s", 0..3, 1);
        e.stored("main", "p", 1..2, 2);
        e.forked("main", "child");
        e.stored("child", "p", 2..3, 3);
        e.stored("child", "s", 0..4, 4);
        assert_eq!(generations(&e, "main", "p"), [4, 2, 4, 4]);
        assert_eq!(generations(&e, "child", "p"), [4, 2, 3, 4]);
        e.cut("a", 3..4, false);
        assert_eq!(generations(&e, "main", "p"), [4, 2, 4, 4]);
        assert_eq!(generations(&e, "main", "s"), [4, 0, 4, 4]);
        e.cut("a", 3..u64::MAX, true);
        assert_eq!(generations(&e, "main", "p"), [4, 0, 0, 0]);
    }

    #[test]
    fn a_name_used_again_is_another_file() {
        let mut e = Expect::default();
        e.mapped("main", "old", &file(false));
        e.stored("main", "old", 0..4, 1);
        e.unlinked("a");
        e.mapped("main", "new", &file(false));
        assert_eq!(generations(&e, "main", "new"), [0; 4]);
        assert_eq!(generations(&e, "main", "old"), [1; 4]);
    }
}
