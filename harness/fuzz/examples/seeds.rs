//! Writes the corpus's seeds (`corpus/TARGET/seed-…`) from the project's own data: logs and memories
//! of real kernels, specs, patches, and messages and records as the harness writes them now.
//!
//! `cargo run -p fuzzing --example seeds`, after a change of a format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use guestmem::PagesReading;
use proto::{
    AgentMessage, Backing, Behaviour, Checkpoint, Extent, Fact, Hold, HoldBy, HostMessage, Memory,
    Mismatch, NamespaceInfo, Op, Outcome, PROTOCOL_VERSION, PageType, PagemapRun, PagemapState,
    PinHow, Profile, ProfileFile, ProgramOutput, Request, Size, Standing, StepResult, frame,
};
use zonedev::observe;
use zonedev::record::{
    Begun, CellId, CellRecord, CellVerdict, CheckpointRecord, End, Event, Hang, KernelRecord,
    LogLine, RECORD_VERSION, RunRecord, StepRecord,
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn seed(target: &str, name: &str, data: &[u8]) -> Result {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    std::fs::create_dir_all(&dir)?;
    Ok(std::fs::write(dir.join(format!("seed-{name}")), data)?)
}

fn main() -> Result {
    messages()?;
    claims()?;
    logs()?;
    kernels()?;
    specs()?;
    records()
}

fn hold(pfn: u64, pages: u64, by: HoldBy, who: &str) -> Hold {
    Hold {
        pfn,
        pages,
        page_type: PageType::Fsdax,
        by,
        who: who.into(),
    }
}

fn outcome() -> Outcome {
    let runs = vec![
        PagemapRun {
            page: 0,
            pages: 2,
            state: PagemapState::Present { pfn: 7 },
        },
        PagemapRun {
            page: 2,
            pages: 1,
            state: PagemapState::SwapPfn { kind: 3, pfn: 9 },
        },
        PagemapRun {
            page: 3,
            pages: 1,
            state: PagemapState::None {},
        },
    ];
    let file = Backing::File {
        file: "a".into(),
        first_page: 0,
        private: false,
    };
    let device = Backing::Device {
        first_page: 0,
        namespace: "n".into(),
    };
    let touched = Fact::Touched {
        map: "m".into(),
        page: 0,
        pages: 4,
        write: true,
        faults: 1,
        neighbours: Some(true),
    };
    Outcome {
        result: StepResult::Errno {
            errno: "ENOMEM".into(),
            call: "vmsplice".into(),
        },
        facts: vec![
            Fact::Mapped {
                map: "m".into(),
                backing: file,
                pages: 4,
            },
            Fact::Mapped {
                map: "d".into(),
                backing: device,
                pages: 4,
            },
            Fact::Mapped {
                map: "r".into(),
                backing: Backing::Anon {
                    memory: Memory::default(),
                },
                pages: 1,
            },
            touched,
            Fact::Extents {
                file: "a".into(),
                extents: vec![Extent {
                    page: 0,
                    pages: 4,
                    pfn: 7,
                }],
            },
            Fact::Large {
                map: "m".into(),
                pages: vec![0],
            },
            Fact::Snapshot {
                map: "m".into(),
                page: 0,
                permissions: vec![1, 3, 0],
            },
            Fact::Signalled {
                map: "m".into(),
                code: 4,
                page: 1,
                lsb: 12,
            },
            Fact::Pagemap {
                map: "m".into(),
                runs,
            },
        ],
        output: Some(ProgramOutput {
            text: "ok 1 a\n".into(),
            code: 0,
            cut: false,
        }),
        took_us: 5,
    }
}

fn checkpoint() -> Checkpoint {
    let pin = HoldBy::Pin {
        how: PinHow::Vmsplice,
    };
    Checkpoint {
        holds: vec![
            hold(0x1000, 16, HoldBy::Entry { order: 0 }, "a"),
            hold(0x1000, 16, HoldBy::Pte {}, "main/a"),
            hold(0x1000, 4, pin, "p"),
            hold(0x1200, 512, HoldBy::Pmd {}, "main/b"),
            hold(0x1000, 1, HoldBy::Shared { count: 2 }, "s"),
            hold(0x1001, 1, HoldBy::Poison {}, "x"),
            hold(0x1200, 512, HoldBy::Folio { order: 9 }, "b"),
        ],
        pins_in_ram: [(PinHow::DirectRead, 3)].into(),
        poison_unknown: false,
        mismatches: vec![Mismatch {
            what: "pagemap".into(),
            who: "main/a".into(),
            page: 0,
            pages: 1,
            predicted: "present".into(),
            found: "nothing".into(),
        }],
        counters: BTreeMap::from([
            ("nr_foll_pin_acquired".into(), 8),
            ("nr_foll_pin_released".into(), 4),
        ]),
        namespaces: vec![NamespaceInfo {
            dev: "dax0.0".into(),
            name: "n".into(),
            mode: "devdax".into(),
            resource: 0x10_0000_0000,
            size: 64 << 20,
            align: 2 << 20,
            ranges: vec![(0x10_0000_0000, 32 << 20), (0x20_0000_0000, 32 << 20)],
        }],
    }
}

fn standing() -> Standing {
    Standing {
        pid: 77,
        state: "D".into(),
        wchan: "dax_break_layout".into(),
        stack: vec![
            "dax_break_layout+0x10/0x20".into(),
            "do_syscall_64+0x1/0x2".into(),
        ],
        pins: vec![hold(
            7,
            1,
            HoldBy::Pin {
                how: PinHow::IoUring,
            },
            "p",
        )],
    }
}

fn messages() -> Result {
    let profile = Profile {
        files: vec![ProfileFile::new("linux/mm/hmm.gcda".into(), b"adcg")],
        left_out: vec!["too much".into()],
    };
    let said = [
        (
            "ready",
            AgentMessage::Ready {
                version: PROTOCOL_VERSION,
                release: "6.12.117".into(),
                uptime_ms: 900,
            },
        ),
        (
            "done",
            AgentMessage::Done {
                id: 1,
                outcome: outcome(),
                checkpoint: Some(Box::new(checkpoint())),
            },
        ),
        (
            "alive",
            AgentMessage::Alive {
                id: 1,
                standing: Box::new(standing()),
            },
        ),
        ("profile", AgentMessage::Profile { profile }),
        (
            "fatal",
            AgentMessage::Fatal {
                message: "no /dev/kmsg".into(),
            },
        ),
    ];
    let mut all = Vec::new();
    for (name, message) in &said {
        let bytes = frame::encode(message)?;
        seed("frame", name, &bytes)?;
        all.extend(bytes);
    }
    seed("frame", "several", &all)?;
    let asked = [
        (
            "hello",
            HostMessage::Hello {
                version: PROTOCOL_VERSION,
                behaviour: Behaviour::default(),
            },
        ),
        (
            "run",
            HostMessage::Run(Request {
                id: 1,
                actor: "main".into(),
                op: Op::Create {
                    file: "a".into(),
                    size: Size(2 << 20),
                },
                blocked_after_ms: Some(250),
                mark: "zonedev: step 1".into(),
            }),
        ),
    ];
    for (name, message) in &asked {
        seed("frame", name, &serde_json::to_vec(message)?)?;
    }
    Ok(())
}

fn claims() -> Result {
    // Bytes as the target takes them: contract, regions, holds.
    let devdax = [
        4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 246, 255, 255, 255, 255, 255, 0, 0, 0, 0, 1, 0, 2,
    ];
    seed("claims", "devdax", &devdax)?;
    for contract in 0..5u8 {
        let mut data = vec![contract, 3];
        data.extend((0..120u8).map(|n| n.wrapping_mul(contract * 2 + 1) >> 2));
        seed("claims", &format!("mixed-{contract}"), &data)?;
    }
    Ok(())
}

fn logs() -> Result {
    let dir = root().join("harness/zonedev/tests/data/console");
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "log") {
            continue;
        }
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let log = std::fs::read(&path)?;
        for (n, part) in log.chunks(6000).take(2).enumerate() {
            seed("console", &format!("{name}-{n}"), part)?;
        }
    }
    let tasks = "[    9.000000] sysrq: Show Blocked State\n[    9.000001][   T77] task:agent           state:D stack:0 pid:77 tgid:77 ppid:1\n\
        [    9.000002][   T77] Call Trace:\n[    9.000003][   T77]  <TASK>\n[    9.000004][   T77]  __schedule+0x1/0x2\n\
        [    9.000005][   T77]  dax_break_layout+0x10/0x20\n[    9.000006][   T77]  do_syscall_64+0x1/0x2\n\
        [    9.000007][    T1] zonedev: step 3\n[    9.000008][    C1] BUG: soft lockup - CPU#1 stuck for 22s! [agent:77]\n";
    seed("console", "tasks", tasks.as_bytes())?;
    let outputs = [
        (
            "harness",
            1,
            "TAP version 13\n1..2\n#  RUN           hmm.a.b ...\n# hmm-tests.c:17:b:Expected ret (-16) == 0 (0)\n#          FAIL  hmm.a.b\nnot ok 1 hmm.a.b\n#  RUN           hmm.a.c ...\n#            OK  hmm.a.c\nok 2 hmm.a.c\n# Totals: pass:1 fail:1\n",
        ),
        (
            "skip",
            4,
            "TAP version 13\n1..0 # SKIP no test_hmm device\n",
        ),
        (
            "nested",
            0,
            "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: outer\n    1..2\n    ok 1 one\n    not ok 2 two\nnot ok 1 outer\n    KTAP version 1\n    # Subtest: other\n    1..1\nnot ok 2 other # broke\n",
        ),
        (
            "titled",
            0,
            "TAP version 13\n1..2\n# [RUN] R/W longterm GUP pin ... with memfd\nok 1 Should have worked\n# [RUN] other\nok 2 # SKIP need more free huge pages\nBail out! gone\n",
        ),
        (
            "fstests",
            1,
            "FSTYP         -- ext4\n\ngeneric/413 5s ...  3s\next4/031       [not run] mount failed\ngeneric/462 - output mismatch (see /x)\n    --- tests/generic/462.out\n    +++ results\ngeneric/470       [failed, exit status 1]- output mismatch\nRan: generic/413\n",
        ),
        ("words", 139, "some words\n+ exit\n"),
    ];
    for (name, code, text) in outputs {
        let mut data = vec![code];
        data.extend(text.as_bytes());
        seed("ktap", name, &data)?;
    }
    let gcov = r#"{"gcc_version": "12.2.0", "files": [{"file": "../mm/hmm.c", "functions": [{"start_line": 10, "name": "f", "end_line": 14}], "lines": [{"count": 3, "line_number": 12}, {"count": 0, "line_number": 13}]}, {"file": "h.h", "functions": [], "lines": [{"count": 1e9, "line_number": 1}]}]}"#;
    seed("gcov", "two-files", gcov.as_bytes())?;
    seed("gcov", "none", br#"{"files": []}"#)?;
    seed("gcov", "negative", gcov.replace("3,", "-3,").as_bytes())
}

fn kernels() -> Result {
    let text = "OSRELEASE=6.12.1\nBUILD-ID=ab\nPAGESIZE=4096\nSYMBOL(init_top_pgt)=ffffffff82a10000\n\
        NUMBER(phys_base)=-4096\nKERNELOFFSET=0\nSIZE(page)=64\nOFFSET(page.flags)=0\nLENGTH(mem_section)=2048\n";
    let mut note = Vec::new();
    for word in [11, text.len() as u32, 0] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"VMCOREINFO\0\0");
    note.extend(text.as_bytes());
    seed("vmcoreinfo", "note", &note)?;
    seed("vmcoreinfo", "text", text.as_bytes())?;
    seed("vmcoreinfo", "cut", &note[..40])?;
    for (i, name) in ["5.10", "6.12", "7.3"].iter().enumerate() {
        let dir = root().join("harness/guestmem/tests/recorded").join(name);
        let btf = zstd::decode_all(&std::fs::read(dir.join("btf.zst"))?[..])?;
        seed("btf", name, &btf)?;
        for attach in 0..2u8 {
            let mut data = vec![i as u8, i as u8 + 2, attach];
            // Some of each kind of change.
            data.extend((0..90u8).map(|n| n.wrapping_mul(37) >> (n % 5)));
            seed("pages", &format!("{name}-{attach}"), &data)?;
            seed("pages", &format!("{name}-{attach}-whole"), &data[..3])?;
        }
    }
    // Two levels that lead to the data, and addresses in it.
    let mut tables = vec![5u8];
    for (table, index, to) in [
        (0u8, 273u16, 1u8),
        (1, 0, 2),
        (2, 0, 3),
        (3, 5, 8),
        (2, 1, 9),
    ] {
        tables.push(table);
        tables.extend(index.to_le_bytes());
        tables.push(to);
        tables.extend([0x83, 0]);
    }
    for va in [0xffff_8880_0000_5010u64, 0xffff_8880_0020_0000, 0x7fff] {
        tables.extend(va.to_le_bytes());
    }
    seed("pagetable", "leaves", &tables)?;
    seed(
        "pagetable",
        "loop",
        &[
            1, 0, 0, 0, 0, 3, 16, 0, 0, 0, 0, 0, 0, 0x23, 1, 0, 0, 0, 0, 0, 0,
        ],
    )?;
    seed("pagetable", "none", &[0, 1, 2, 3, 4, 5, 6, 7, 8])?;
    elves()
}

/// A header of ELF of so many program headers, or section headers at an offset.
fn elf(kind: u16, phnum: u16, shoff: u64, shnum: u16) -> Vec<u8> {
    let mut f = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    f.resize(16, 0);
    for half in [kind, 62, 1, 0] {
        f.extend(half.to_le_bytes());
    }
    for word in [0, if phnum > 0 { 64 } else { 0 }, shoff] {
        f.extend(u64::to_le_bytes(word));
    }
    f.extend([0; 4]);
    for half in [64u16, 56, phnum, 64, shnum, shnum.saturating_sub(1)] {
        f.extend(half.to_le_bytes());
    }
    f
}

fn elves() -> Result {
    let mut dump = elf(4, 3, 0, 0);
    for (kind, offset, paddr) in [(4u32, 0u64, 0u64), (1, 300, 0x1000), (1, 316, 0x8000)] {
        dump.extend(kind.to_le_bytes());
        dump.extend([0; 4]);
        for word in [offset, 0, paddr, 16, 16, 0] {
            dump.extend(word.to_le_bytes());
        }
    }
    dump.resize(300, 0);
    dump.extend(0..32);
    seed("dump", "two-loads", &dump)?;
    seed("dump", "truncated", &dump[..320])?;
    let image =
        guestmem::SparseImage::new(vec![(0x1000, vec![3; 200]), (0x9000, (0..100).collect())])?;
    seed("dump", "image", &image.encode())?;

    let btf = zstd::decode_all(
        &std::fs::read(root().join("harness/guestmem/tests/recorded/7.3/btf.zst"))?[..],
    )?;
    let strings = b"\0pgmap_array\0phys_base\0";
    let mut symbols = vec![0u8; 24];
    for (name, value) in [(1u32, 0xffff_ffff_8217_5a50u64), (13, 3)] {
        symbols.extend(name.to_le_bytes());
        symbols.extend([0, 0, 1, 0]);
        symbols.extend(value.to_le_bytes());
        symbols.extend([0; 8]);
    }
    let note = b"\x04\0\0\0\x04\0\0\0\x03\0\0\0GNU\0\x01\x02\x03\x04";
    let names = b"\0.BTF\0.symtab\0.strtab\0.notes\0";
    let sections: [(u32, u32, u32, u64, &[u8]); 5] = [
        (1, 1, 0, 0, &btf[..btf.len().min(500)]),
        (6, 2, 3, 24, &symbols),
        (14, 3, 0, 0, strings),
        (22, 7, 0, 0, note),
        (22, 3, 0, 0, names),
    ];
    let (mut body, mut headers) = (Vec::new(), vec![0u8; 64]);
    for (name, kind, link, entry, content) in sections {
        body.resize(body.len().next_multiple_of(8), 0);
        headers.extend(name.to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for word in [0, 0, 64 + body.len() as u64, content.len() as u64] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(link.to_le_bytes());
        headers.extend([0; 4]);
        for word in [4, entry] {
            headers.extend(word.to_le_bytes());
        }
        body.extend(content);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let mut vmlinux = elf(2, 0, 64 + body.len() as u64, 6);
    vmlinux.extend(&body);
    vmlinux.extend(&headers);
    seed("vmlinux", "small", &vmlinux)?;
    seed("vmlinux", "truncated", &vmlinux[..vmlinux.len() - 100])?;
    seed("vmlinux", "empty", &elf(2, 0, 0, 0))
}

fn specs() -> Result {
    let of = |which: u8, path: &str| -> Result {
        let text = std::fs::read(root().join(path))?;
        let name = path.replace(['/', '+'], "-");
        seed(
            "specs",
            name.trim_end_matches(".toml"),
            &[&[which], &text[..]].concat(),
        )
    };
    for name in ["5.10", "7.3"] {
        of(b'c', &format!("kernels/contracts/{name}.toml"))?;
    }
    for name in [
        "fsdax-xfs-reflink",
        "devdax-2m",
        "cxl-ext4",
        "hmm-module",
        "two-nvdimms",
        "nfit",
    ] {
        of(b'f', &format!("images/fixtures/{name}.toml"))?;
    }
    for path in [
        "fsdax/truncate-pinned",
        "devdax/race-zap-fault",
        "devdax/sub-devices",
        "upstream/hmm-tests",
    ] {
        let path = format!("suites/{path}.toml");
        if root().join(&path).exists() {
            of(b's', &path)?;
        }
    }
    of(b'i', "images/initramfs.toml")?;
    of(b'r', "images/rootfs.toml")?;
    of(b't', "images/selftests.toml")?;
    of(b'k', "suites/fsdax/skips.toml")?;
    of(b'u', "suites/unreachable.toml")?;
    of(b'K', "kernels/7.2.toml")?;
    of(b'F', "kernels/flavours/up.toml")?;
    of(b'S', "kernels/series/zone-device-refcount/series.toml")?;
    of(b'M', "kernels/mutants/mutants.toml")?;
    for (name, text) in [
        ("listed", "n5.10:up,debug+zone-device-refcount+./my.mbox"),
        ("tree", "ntree:../linux@HEAD~3:up+x"),
        ("size", "z2M"),
        (
            "condition",
            "?fsdax.pins=refused & fixture.align!=4K & behaviour.hmm_close_evicts=true",
        ),
    ] {
        seed("specs", name, text.as_bytes())?;
    }
    let dir = root().join("kernels/mutants");
    for name in ["leak-fsdax-6.12.patch", "lost-wakeup-6.12.patch"] {
        let mut patch = std::fs::read(dir.join(name))?;
        patch.extend(b"\0error: patch failed: mm/memremap.c:500\nerror: mm/memremap.c: patch does not apply\n");
        seed("series", name, &patch)?;
    }
    let moves = "diff --git a/mm/b.c b/mm/c.c\nrename from mm/b.c\nrename to mm/c.c\ncopy from x/y\ncopy to x/z\n\
        --- /dev/null\n+++ b/mm/a.c\t2026\n@@ -0,0 +1 @@\n+new\n--- a/../../x\n+++ b//etc/passwd\n@@ -8,1 +8 @@ f\n\0error: x: No such file\n";
    seed("series", "moves", moves.as_bytes())
}

fn cell_id() -> CellId {
    CellId {
        suite: "fsdax".into(),
        fixture: "fsdax-ext4".into(),
        case: "pin-vmsplice".into(),
        side: 0,
        kernel: "6.12".into(),
    }
}

/// A cell with something of everything.
fn cell() -> Result<CellRecord> {
    let log = std::fs::read(root().join("harness/zonedev/tests/data/console/7.3-fault.log"))?;
    let log: Vec<LogLine> = observe::console(&log);
    let mut hang = Hang {
        standing: Some(standing()),
        ..Hang::default()
    };
    hang.add("registers", Ok("in default_idle".into()));
    Ok(CellRecord {
        id: cell_id(),
        title: "a pin by vmsplice".into(),
        accel: "tcg".into(),
        isolation: "clone".into(),
        contract: "6.12".into(),
        end: End::Hung {
            step: 0,
            at: "no answer within 60 s".into(),
        },
        steps: vec![StepRecord {
            actor: "main".into(),
            op: Op::Create {
                file: "a".into(),
                size: Size(2 << 20),
            },
            expected: "ok".into(),
            expected_splats: vec!["WARNING in f".into()],
            every_splat: false,
            outcome: Some(outcome()),
        }],
        checkpoints: vec![CheckpointRecord {
            name: "pinned".into(),
            step: 0,
            pages: PagesReading::default(),
            claims: checkpoint(),
            rereads: 1,
            first: Some(PagesReading::default()),
            read_us: 7,
        }],
        splats: observe::splats(&log),
        log,
        results: observe::ktap("1..2\nok 1 a\nnot ok 2 b # broke\n"),
        known_failures: Vec::new(),
        fixture_pages: Vec::new(),
        left: None,
        before: None,
        hang: Some(hang),
        repeats: None,
        booted_in: None,
        took_ms: 80,
    })
}

fn records() -> Result {
    let cell = cell()?;
    seed("record", "cell", &serde_json::to_vec(&cell)?)?;
    let mut small = cell.clone();
    (small.log, small.splats, small.hang) = (Vec::new(), Vec::new(), None);
    small.end = End::Finished {};
    seed("record", "cell-small", &serde_json::to_vec(&small)?)?;
    let kernel = KernelRecord {
        name: "6.12".into(),
        contract: "6.12".into(),
        provenance: BTreeMap::from([("source".into(), "6.12.117".into())]),
        build_key: "k".into(),
    };
    let begun = Begun {
        version: RECORD_VERSION,
        id: "20261122-160000".into(),
        zonedev: "0.1.0".into(),
        started: "2026-11-22T16:00:00Z".into(),
        command: vec!["matrix".into()],
        directory: "/x".into(),
        accel: "tcg".into(),
        accel_reason: None,
        qemu: "7.2.22".into(),
        kernels: vec![kernel.clone()],
        cells: vec![cell_id()],
    };
    seed("record", "begun", &serde_json::to_vec(&begun)?)?;
    let run = RunRecord {
        version: RECORD_VERSION,
        id: begun.id.clone(),
        zonedev: begun.zonedev.clone(),
        started: begun.started.clone(),
        took_ms: 9_100,
        accel: "tcg".into(),
        accel_reason: Some("no /dev/kvm".into()),
        qemu: "7.2.22".into(),
        kernels: vec![kernel],
        cells: vec![(cell_id(), CellVerdict::Skip { reason: "r".into() })],
        unfinished: vec![cell_id()],
        flaky: Vec::new(),
        pairs: Vec::new(),
        skips: Vec::new(),
        over_ceiling: Vec::new(),
        known: Vec::new(),
        pages_read: 5,
        pages_predicted: 5,
        boots_kept: 0,
        cpu_ms: Default::default(),
        phases_ms: BTreeMap::from([("boot".into(), 7)]),
        notices: vec!["n".into()],
        exit_code: 0,
    };
    seed("record", "run", &serde_json::to_vec(&run)?)?;
    let event = Event::CellStep {
        cell: cell_id(),
        step: 0,
        steps: 2,
        op: "create".into(),
    };
    seed("record", "event", &serde_json::to_vec(&event)?)
}
