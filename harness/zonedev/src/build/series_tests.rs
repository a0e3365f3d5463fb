use super::*;

const OLD: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n";

/// A source of two files, below a repository of somebody else's, as a cache in a home may be.
fn source() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    std::fs::create_dir(root.join(".git")).unwrap();
    std::fs::create_dir_all(root.join("src/mm")).unwrap();
    std::fs::write(root.join("src/mm/a.c"), OLD).unwrap();
    std::fs::write(root.join("src/mm/b.c"), OLD).unwrap();
    std::fs::create_dir(root.join("scratch")).unwrap();
    (dir, root)
}

fn diff(file: &str, from: &str, to: &str) -> String {
    format!(
        "diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n\
         @@ -1,4 +1,4 @@ first\n one\n-{from}\n+{to}\n three\n four\n\
         @@ -8,3 +8,3 @@ second\n eight\n-nine\n+NINE\n ten\n"
    )
}

fn mail(subject: &str, body: &str) -> String {
    format!(
        "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n\
         From: A <a@example.org>\nDate: Thu, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH] {subject}\n\n\
         Words.\n---\n{body}-- \n2.39\n\n"
    )
}

fn run(root: &Utf8Path, series: &Utf8Path, onto: &Overlay) -> Result<Applied, BuildError> {
    let files = SeriesFiles::read(series)?;
    apply(
        &[files],
        &root.join("src"),
        onto,
        &root.join("scratch"),
        "5.10",
        |_| {},
    )
}

fn text(applied: &Applied, path: &str) -> Option<String> {
    match applied.overlay.get(path.into())? {
        Change::File { bytes, .. } => Some(String::from_utf8(bytes.clone()).unwrap()),
        _ => None,
    }
}

#[test]
fn a_directory_applies_in_the_order_of_names() {
    let (_dir, root) = source();
    let series = root.join("series");
    std::fs::create_dir(&series).unwrap();
    let new = "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1 @@\n+new\n";
    let gone = "diff --git a/mm/b.c b/mm/c.c\nsimilarity index 100%\nrename from mm/b.c\nrename to mm/c.c\n";
    std::fs::write(series.join("0002-b.patch"), mail("second", new)).unwrap();
    std::fs::write(
        series.join("0001-a.patch"),
        mail("first", &diff("mm/a.c", "two", "TWO")),
    )
    .unwrap();
    std::fs::write(series.join("0003-c.diff"), gone).unwrap();
    std::fs::write(series.join("series.toml"), "title = \"t\"\n").unwrap();
    let applied = run(&root, &series, &Overlay::default()).unwrap();
    assert_eq!(
        applied.patches,
        [
            "0001-a.patch (“first”)",
            "0002-b.patch (“second”)",
            "0003-c.diff"
        ]
    );
    assert_eq!(
        text(&applied, "mm/a.c").unwrap(),
        OLD.replace("two", "TWO").replace("nine", "NINE")
    );
    assert_eq!(text(&applied, "mm/new.c").as_deref(), Some("new\n"));
    assert_eq!(text(&applied, "mm/c.c").as_deref(), Some(OLD));
    assert_eq!(applied.overlay.get("mm/b.c".into()), Some(&Change::Remove));
    assert_eq!(
        std::fs::read_to_string(root.join("src/mm/a.c")).unwrap(),
        OLD,
        "the source stays"
    );
    assert!(!root.join("scratch").exists());
}

#[test]
fn an_mbox_may_hold_a_cover_letter_and_replies() {
    let (_dir, root) = source();
    let mbox = root.join("my.mbox");
    let second = diff("mm/b.c", "two", "ZWEI");
    let text_of = mail("0/2 cover", "No change here.\n")
        + &mail("one", &diff("mm/a.c", "two", "TWO"))
        + &mail("Re: one", "> diff --git a/mm/a.c b/mm/a.c\n> +two\n")
        + &mail("two", &second);
    std::fs::write(&mbox, text_of).unwrap();
    let applied = run(&root, &mbox, &Overlay::default()).unwrap();
    assert_eq!(applied.patches, ["my.mbox (“one”)", "my.mbox (“two”)"]);
    assert!(text(&applied, "mm/b.c").unwrap().contains("ZWEI"));
}

#[test]
fn a_failing_hunk_is_named_and_nothing_is_left_changed() {
    let (_dir, root) = source();
    let mbox = root.join("bad.mbox");
    // The second patch's second hunk finds what the first made of the file.
    let first = mail("fine", &diff("mm/a.c", "two", "TWO"));
    let second = mail("does not fit", &diff("mm/a.c", "TWO", "2"));
    std::fs::write(&mbox, first + &second).unwrap();
    let e = run(&root, &mbox, &Overlay::default()).unwrap_err();
    let BuildError::Patch(failure) = &e else {
        panic!("{e}")
    };
    assert_eq!(failure.patch, "bad.mbox (“does not fit”)");
    assert_eq!(failure.file.as_deref(), Some("mm/a.c"));
    assert_eq!(
        failure.hunk.as_deref(),
        Some("hunk 2 of 2 (`@@ -8,3 +8,3 @@ second`)")
    );
    assert!(
        e.to_string()
            .contains("does not apply to 5.10: mm/a.c, hunk 2 of 2"),
        "{e}"
    );
    assert_eq!(
        std::fs::read_to_string(root.join("src/mm/a.c")).unwrap(),
        OLD
    );
}

#[test]
fn a_patch_to_a_file_that_is_not_there_names_it() {
    let (_dir, root) = source();
    std::fs::write(root.join("x.patch"), diff("mm/none.c", "a", "b")).unwrap();
    let e = run(&root, &root.join("x.patch"), &Overlay::default()).unwrap_err();
    let BuildError::Patch(failure) = &e else {
        panic!("{e}")
    };
    assert_eq!(failure.file.as_deref(), Some("mm/none.c"));
    assert!(failure.detail.contains("no such file"), "{failure}");
}

#[test]
fn what_is_no_patch_is_refused() {
    let (_dir, root) = source();
    std::fs::write(root.join("x.patch"), "Subject: hello\n\njust words\n").unwrap();
    let e = run(&root, &root.join("x.patch"), &Overlay::default()).unwrap_err();
    assert!(e.to_string().contains("holds no patch"), "{e}");
    std::fs::create_dir(root.join("empty")).unwrap();
    let e = run(&root, &root.join("empty"), &Overlay::default()).unwrap_err();
    assert!(e.to_string().contains("holds no patch"), "{e}");
}

#[test]
fn a_patch_that_would_leave_the_tree_does_not_apply() {
    let (_dir, root) = source();
    let evil = "diff --git a/../evil b/../evil\nnew file mode 100644\n--- /dev/null\n+++ b/../evil\n@@ -0,0 +1 @@\n+x\n";
    std::fs::write(root.join("x.patch"), evil).unwrap();
    assert!(run(&root, &root.join("x.patch"), &Overlay::default()).is_err());
    assert!(!root.join("scratch/evil").exists() && !root.join("evil").exists());
}

#[test]
fn a_dirty_tree_is_patched_as_it_is_and_what_is_put_back_stays_old() {
    let (_dir, root) = source();
    let mut onto = Overlay::default();
    let dirty = OLD.replace("two", "DIRTY").into_bytes();
    onto.set(
        "mm/a.c".into(),
        Change::File {
            bytes: dirty,
            executable: false,
        },
    )
    .unwrap();
    let there = diff("mm/b.c", "two", "TWO");
    let back = there
        .replace("-two\n+TWO", "-TWO\n+two")
        .replace("-nine\n+NINE", "-NINE\n+nine");
    std::fs::write(
        root.join("x.mbox"),
        mail("1", &diff("mm/a.c", "DIRTY", "TWO")) + &mail("2", &there) + &mail("3", &back),
    )
    .unwrap();
    let applied = run(&root, &root.join("x.mbox"), &onto).unwrap();
    assert!(text(&applied, "mm/a.c").unwrap().contains("TWO"));
    assert_eq!(applied.overlay.get("mm/b.c".into()), None);
}
