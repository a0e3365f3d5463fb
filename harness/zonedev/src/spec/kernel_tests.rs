use super::*;

fn kernel(text: &str) -> Result<KernelSpec, SpecError> {
    parse_kernel(
        "x",
        &SpecFile::from_text(Utf8Path::new("kernels/x.toml"), text),
    )
}

const HEAD: &str = "title = \"t\"\ncontract = \"5.10\"\nconfig = [\"base\"]\n";

#[test]
fn errors_of_a_kernels_file() {
    let cases = [
        ("unknown key", format!("{HEAD}sourec = 1\n")),
        ("no source", HEAD.to_owned()),
        (
            "unknown kind",
            format!("{HEAD}[[source]]\nkind = \"debain\"\n"),
        ),
        (
            "missing field",
            format!("{HEAD}[[source]]\nkind = \"debian\"\nsuite = \"bookworm\"\n"),
        ),
        (
            "foreign field",
            format!("{HEAD}[[source]]\nkind = \"git\"\nurl = \"u\"\nsuite = \"s\"\n"),
        ),
        (
            "bad checksum",
            format!("{HEAD}[[source]]\nkind = \"tarball\"\nurl = \"u\"\nsha256 = \"12\"\n"),
        ),
        (
            "option as value",
            format!("{HEAD}[[source]]\nkind = \"git\"\nurl = \"--x\"\ntag = \"t\"\n"),
        ),
        (
            "outside",
            "title = \"t\"\ncontract = \"c\"\nconfig = [\n  \"../../etc/passwd\"]\n".to_owned(),
        ),
        (
            "empty config",
            "title = \"t\"\ncontract = \"c\"\nconfig = []\n".to_owned(),
        ),
        ("wrong type", "title = 5\n".to_owned()),
    ];
    let mut seen = String::new();
    for (what, text) in cases {
        let e = kernel(&text).expect_err(what);
        seen.push_str(&format!(
            "{what}\n  {e}\n  help: {}\n",
            e.remedy().unwrap_or("none")
        ));
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn several_sources_keep_their_order() {
    let spec = kernel(&format!(
        "{HEAD}[[source]]\nkind = \"debian\"\nsuite = \"s\"\npackage = \"p\"\n\
         [[source]]\nkind = \"tree\"\npath = \"../linux\"\n"
    ))
    .unwrap();
    assert!(matches!(spec.sources[0], SourceSpec::Debian { .. }));
    assert_eq!(
        spec.sources[1],
        SourceSpec::Tree {
            path: "../linux".into(),
            rev: None
        }
    );
}

fn store_of_the_project() -> KernelStore {
    KernelStore::new(Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels"))
}

#[test]
fn the_projects_own_kernels_are_sound() {
    let store = store_of_the_project();
    assert_eq!(
        store.names().unwrap(),
        ["5.10", "6.1", "6.12", "7.2", "7.3"]
    );
    for name in store.names().unwrap() {
        let resolved = store.resolve(&KernelName::parse(&name).unwrap()).unwrap();
        assert!(
            matches!(resolved.sources[0], SourceSpec::Debian { .. }),
            "{name}"
        );
        // 7.2 counts as 7.3 does.
        let keeps = if name == "7.2" { "7.3" } else { &name };
        assert_eq!(resolved.contract, keeps);
    }
    let up = store
        .resolve(&KernelName::parse("5.10:up").unwrap())
        .unwrap();
    assert_eq!(up.fragments.last().unwrap().name, "up");
    assert_eq!(up.contract, "5.10");
    let up = store
        .resolve(&KernelName::parse("5.10:up+zone-device-refcount").unwrap())
        .unwrap();
    assert_eq!(up.contract, "5.10+zone-device-refcount:up");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let store = store_of_the_project();
    let e = store
        .resolve(&KernelName::parse("6.13").unwrap())
        .unwrap_err();
    assert!(
        e.remedy().unwrap().contains("5.10, 6.1, 6.12, 7.2, 7.3"),
        "{e:?}"
    );
    let e = store
        .resolve(&KernelName::parse("5.10:upp").unwrap())
        .unwrap_err();
    assert!(e.message().contains("no flavour `upp`"), "{e}");
    let e = store
        .resolve(&KernelName::parse("5.10+./not-here.mbox").unwrap())
        .unwrap_err();
    assert!(e.message().contains("no such series"), "{e}");
}

fn small_store() -> (tempfile::TempDir, KernelStore) {
    let dir = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    for (path, text) in [
        (
            "5.10.toml",
            format!("{HEAD}[[source]]\nkind = \"tree\"\npath = \"/l\"\n"),
        ),
        (
            "6.12.toml",
            format!(
                "{}[[source]]\nkind = \"tree\"\npath = \"/l\"\n",
                HEAD.replace("5.10", "6.12")
            ),
        ),
        (
            "config/base.config",
            "CONFIG_A=y\n# CONFIG_B is not set\n\n# words\n".to_owned(),
        ),
        (
            "series/s/series.toml",
            "title = \"t\"\nbase = [\"5.10\"]\ncontract = \"5.10+s\"\n".to_owned(),
        ),
        (
            "series/lost/series.toml",
            "title = \"t\"\nbase = [\"4.19\"]\n".to_owned(),
        ),
    ] {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    (dir, KernelStore::new(root))
}

#[test]
fn a_series_may_name_another_contract_and_only_fits_its_base() {
    let (_dir, store) = small_store();
    let resolve = |text: &str| store.resolve(&KernelName::parse(text).unwrap());
    assert_eq!(resolve("5.10").unwrap().contract, "5.10");
    assert_eq!(resolve("5.10+s").unwrap().contract, "5.10+s");
    assert!(
        resolve("6.12+s")
            .unwrap_err()
            .message()
            .contains("not written for 6.12")
    );
    let e = resolve("5.10+lost").unwrap_err();
    assert_eq!(
        (e.line(), e.message()),
        (Some(2), "there is no kernel `4.19`")
    );
}

#[test]
fn a_tree_takes_after_the_nearest_listed_kernel_that_is_not_newer() {
    let (_dir, store) = small_store();
    let name = KernelName::parse("tree:/src@HEAD").unwrap();
    let at = |text: &str| store.resolve_tree(&name, Era::parse(text).unwrap());
    assert_eq!(at("6.1").unwrap().contract, "5.10");
    assert_eq!(at("7.0").unwrap().contract, "6.12");
    assert!(at("7.0").unwrap().notices[0].contains("config of 6.12"));
    assert!(
        at("4.19")
            .unwrap_err()
            .message()
            .contains("older than every listed kernel")
    );
}

#[test]
fn a_line_of_a_fragment_that_is_no_option_is_told() {
    let (_dir, store) = small_store();
    std::fs::write(
        store.dir().join("config/base.config"),
        "CONFIG_A=y\nCONFIG_B\n",
    )
    .unwrap();
    let e = store
        .resolve(&KernelName::parse("5.10").unwrap())
        .unwrap_err();
    assert_eq!(
        (e.line(), e.message()),
        (Some(2), "this is no config option")
    );
}

#[test]
fn a_release_is_its_listed_kernel_from_other_sources() {
    let (_dir, store) = small_store();
    let sources = "[[source]]\nkind = \"debian\"\nsuite = \"s\"\npackage = \"p\"\n\
        [[source]]\nkind = \"git\"\nurl = \"u\"\ntag = \"v5.10.9\"\n\
        [[source]]\nkind = \"tree\"\npath = \"/l\"\n";
    std::fs::write(store.dir().join("5.10.toml"), format!("{HEAD}{sources}")).unwrap();
    let resolve = |text: &str| store.resolve(&KernelName::parse(text).unwrap());
    let found = resolve("5.10.7+s").unwrap();
    assert_eq!(found.contract, "5.10+s");
    let from: Vec<String> = found.sources.iter().map(ToString::to_string).collect();
    assert_eq!(from, ["Debian's p of s, Linux 5.10.7", "u at v5.10.7"]);
    for none in ["5.11.7", "5.10.x", "5.10.7.1"] {
        let e = resolve(none).unwrap_err();
        assert!(
            e.message().contains("there is no kernel"),
            "{none}: {}",
            e.message()
        );
    }
}

#[test]
fn a_config_fragment_may_stand_for_a_flavour() {
    let (dir, store) = small_store();
    let path = Utf8Path::from_path(dir.path()).unwrap().join("my.config");
    let resolve = || store.resolve(&KernelName::parse(&format!("5.10:{path}")).unwrap());
    assert_eq!(resolve().unwrap_err().file(), path);
    std::fs::write(&path, "CONFIG_B=y\n").unwrap();
    let found = resolve().unwrap();
    assert_eq!((found.plain, found.fragments.len()), (1, 2));
    assert_eq!(found.fragments[1].text, "CONFIG_B=y\n");
    std::fs::write(&path, "B=y\n").unwrap();
    assert_eq!(resolve().unwrap_err().line(), Some(1));
}

#[test]
fn a_kernel_lacks_features_of_its_contract_by_name() {
    let text =
        format!("{HEAD}lacks = [\"coherent\"]\n[[source]]\nkind = \"tree\"\npath = \"/a\"\n");
    let lacks = kernel(&text).unwrap().lacks;
    let all = Features {
        coherent: true,
        populate: true,
        ..Features::default()
    };
    let has = all.without(&lacks);
    assert_eq!((has.coherent, has.populate), (false, true));
    let e = kernel(&text.replace("coherent", "coherant")).unwrap_err();
    assert_eq!(
        (e.line(), e.message()),
        (Some(4), "there is no feature `coherant`")
    );
}
