//! A guest that was taken over: PID 1 of a machine of `zonedev/tests/hostile.rs`.
//!
//! It greets the host as the agent does and says of every operation that it went well, until a case
//! creates a file with the name of a misdeed. It is made for the test's image only, beside the agent
//! that is in every other guest.

#![allow(clippy::unwrap_used, missing_docs)]

mod dma;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use proto::{
    AgentMessage, Checkpoint, Fact, Hold, HoldBy, HostMessage, Mismatch, NamespaceInfo, Op,
    Outcome, PROTOCOL_VERSION, PageType, PagemapRun, PagemapState, PinHow, ProgramOutput, Standing,
    StepResult, frame,
};

/// Everything that steers a terminal: a title, colours, the cursor, the screen, a C1 sequence, a
/// direction, a bell, a NUL.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[31;1m\u{1b}[2J\u{1b}[1;1H\u{9b}6n\u{202e}\u{0}\r";

fn main() {
    if std::process::id() != 1 {
        eprintln!("it runs only as PID 1 of a guest");
        std::process::exit(2);
    }
    for (kind, dir) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let _ = mount(Some(kind), dir, Some(kind), MsFlags::empty(), None::<&str>);
    }
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    let mut guest = Guest {
        port: port(),
        next: None,
    };
    loop {
        let message = guest.hear();
        guest.answer(message);
    }
}

fn port() -> File {
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten()
        {
            let path = entry.unwrap().path();
            let name = fs::read_to_string(path.join("name")).unwrap_or_default();
            if name.trim() == "org.zonedev.agent" {
                let node = format!("/dev/{}", path.file_name().unwrap().to_string_lossy());
                if let Ok(port) = OpenOptions::new().read(true).write(true).open(node) {
                    return port;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Guest {
    port: File,
    /// What to do at checkpoints, each time: the host reads again what it can't explain.
    next: Option<String>,
}

impl Guest {
    fn hear(&mut self) -> HostMessage {
        let mut header = [0; 4];
        self.fill(&mut header);
        let mut body = vec![0; frame::body_len(header).unwrap()];
        self.fill(&mut body);
        frame::decode(&body).unwrap()
    }

    /// A host that is away reads as the end of the file.
    fn fill(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            match self.port.read(to) {
                Ok(n @ 1..) => to = &mut to[n..],
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn say(&mut self, message: &AgentMessage) {
        let _ = self.port.write_all(&frame::encode(message).unwrap());
    }

    fn done(&mut self, id: u64, result: StepResult) {
        self.tell(id, plain(result), None);
    }

    fn tell(&mut self, id: u64, outcome: Outcome, checkpoint: Option<Checkpoint>) {
        self.say(&AgentMessage::Done {
            id,
            outcome,
            checkpoint: checkpoint.map(Box::new),
        });
    }

    fn answer(&mut self, message: HostMessage) {
        let HostMessage::Run(request) = message else {
            self.say(&AgentMessage::Ready {
                version: PROTOCOL_VERSION,
                release: "hostile".into(),
                uptime_ms: 1,
            });
            return;
        };
        log(&request.mark);
        match &request.op {
            Op::Create { file, .. } => match file.as_str() {
                "a" => self.done(request.id, StepResult::Ok {}),
                misdeed => self.misdeed(misdeed, request.id),
            },
            Op::CreateNamespace { .. } => {
                let made = Command::new("/usr/bin/ndctl")
                    .args(["create-namespace", "-f", "-m", "fsdax", "-M", "mem"])
                    .args(["-e", "namespace0.0"])
                    .status();
                let result = match made {
                    Ok(status) if status.success() => StepResult::Ok {},
                    made => StepResult::Failed {
                        message: format!("{made:?}"),
                    },
                };
                self.done(request.id, result);
            }
            Op::Checkpoint { .. } => {
                let checkpoint = match self.next.as_deref() {
                    Some("claims-many") => Checkpoint {
                        holds: (0..60_000).map(|n| pte(n, 1 << 30, "main/m")).collect(),
                        ..Checkpoint::default()
                    },
                    Some("claims-wild") => wild(),
                    _ => Checkpoint::default(),
                };
                self.tell(request.id, plain(StepResult::Ok {}), Some(checkpoint));
            }
            Op::End {} => {
                // A difference that has no number.
                let n = match self.next.as_deref() {
                    Some("counters-wild") => i64::MAX,
                    _ => i64::MIN,
                };
                let checkpoint = Checkpoint {
                    counters: BTreeMap::from([("unaccounted_nr_anon_pages".to_owned(), n)]),
                    ..Checkpoint::default()
                };
                self.tell(request.id, plain(StepResult::Ok {}), Some(checkpoint));
            }
            Op::Run { .. } => {
                let mut outcome = plain(StepResult::Ok {});
                outcome.output = Some(forged_ktap());
                self.tell(request.id, outcome, None);
            }
            _ => self.done(request.id, StepResult::Ok {}),
        }
    }

    fn misdeed(&mut self, misdeed: &str, id: u64) {
        let ok = StepResult::Ok {};
        match misdeed {
            "garbage" => self.endless(&(0..=255).rev().collect::<Vec<u8>>()),
            "giant" => self.endless(&[0xff; 4096]),
            "torn" => {
                let _ = self.port.write_all(&[0, 1, 0, 0, b'{']);
                sleep();
            }
            "valid-json" => self.endless(&frame::encode(&vec![EVIL; 1000]).unwrap()),
            "deep-json" => {
                let mut bytes = (4u32 << 20).to_le_bytes().to_vec();
                bytes.resize((4 << 20) + 4, b'[');
                self.endless(&bytes);
            }
            "wrong-word" => {
                let word = format!("{{\"msg\":\"{}\"}}", "\\u001b]0;x\\u0007".repeat(100_000));
                let mut bytes = (word.len() as u32).to_le_bytes().to_vec();
                bytes.extend(word.bytes());
                self.endless(&bytes);
            }
            // The next operation is too long for what lies between us.
            "stop-reading" => {
                self.done(id, ok);
                sleep();
            }
            "wrong-id" => {
                self.done(id.wrapping_add(7), ok);
                sleep();
            }
            "alive" => loop {
                let standing = Box::new(standing(10));
                self.say(&AgentMessage::Alive { id: 0, standing });
                std::thread::sleep(Duration::from_millis(200));
            },
            "alive-flood" => loop {
                let standing = Box::new(standing(5_000));
                self.say(&AgentMessage::Alive { id, standing });
            },
            "long" => {
                let mut outcome = plain(StepResult::Failed {
                    message: EVIL.repeat(40_000),
                });
                outcome.facts = (0..100).map(forged_fact).collect();
                self.tell(id, outcome, None);
            }
            "facts" => {
                let mut outcome = plain(ok);
                let runs = PagemapRun {
                    page: 0,
                    pages: u64::MAX,
                    state: PagemapState::Present { pfn: u64::MAX },
                };
                outcome.facts = vec![Fact::Pagemap {
                    map: EVIL.into(),
                    runs: vec![runs; 70_000],
                }];
                self.tell(id, outcome, None);
                sleep();
            }
            "fatal" => {
                self.say(&AgentMessage::Fatal {
                    message: EVIL.repeat(10_000),
                });
                sleep();
            }
            "close" => {
                self.port = File::open("/dev/null").unwrap();
                sleep();
            }
            "claims-many" | "claims-wild" | "counters-wild" => {
                self.next = Some(misdeed.to_owned());
                self.done(id, ok);
            }
            "spew" => spew(None),
            "forge" => {
                forge();
                self.done(id, ok);
            }
            "exit" => std::process::exit(0),
            "crash" => {
                let _ = fs::write("/proc/sysrq-trigger", "c");
                sleep();
            }
            "reboot" | "triple-fault" => reboot(libc::RB_AUTOBOOT),
            "power-off" => reboot(libc::RB_POWER_OFF),
            "halt" => reboot(libc::RB_HALT_SYSTEM),
            "sections" | "page-tables" | "vmcoreinfo" | "struct-pages" => {
                if let Err(e) = dma::corrupt(misdeed) {
                    // Told as what no case expects, so that the test sees that it did not work.
                    return self.done(id, StepResult::Lacks { what: e });
                }
                self.done(id, ok);
            }
            other => self.done(
                id,
                StepResult::Failed {
                    message: format!("there is no misdeed called {other}"),
                },
            ),
        }
    }

    fn endless(&mut self, bytes: &[u8]) -> ! {
        loop {
            if self.port.write_all(bytes).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

fn reboot(how: libc::c_int) -> ! {
    // SAFETY: reboot takes an integer. It is PID 1's to call.
    unsafe { libc::reboot(how) };
    sleep()
}

fn log(text: &str) {
    if let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kmsg.write_all(format!("<6>{text}\n").as_bytes());
    }
}

fn plain(result: StepResult) -> Outcome {
    Outcome {
        result,
        facts: Vec::new(),
        output: None,
        took_us: u64::MAX,
    }
}

fn pte(pfn: u64, pages: u64, who: &str) -> Hold {
    Hold {
        pfn,
        pages,
        page_type: PageType::Fsdax,
        by: HoldBy::Pte {},
        who: who.into(),
    }
}

fn standing(frames: usize) -> Standing {
    Standing {
        pid: -1,
        state: EVIL.into(),
        wchan: EVIL.into(),
        stack: vec![format!("{EVIL}dax_break_layout+0xffffffff/0xffffffff"); frames],
        pins: vec![pte(u64::MAX, u64::MAX, EVIL); 100],
    }
}

/// Numbers at the ends of what they can be.
fn wild() -> Checkpoint {
    let mut holds = vec![
        pte(u64::MAX, u64::MAX, EVIL),
        pte(0, 0, "nobody"),
        pte(1 << 51, 1 << 51, EVIL),
    ];
    for by in [
        HoldBy::Pmd {},
        HoldBy::Entry { order: 255 },
        HoldBy::Folio { order: 63 },
        HoldBy::Shared { count: u64::MAX },
        HoldBy::Poison {},
        HoldBy::Pin {
            how: PinHow::Vmsplice,
        },
    ] {
        for (pfn, pages) in [(0, u64::MAX), (0x10_0000, u64::MAX), (0x10_0200, 512)] {
            holds.push(Hold {
                by,
                ..pte(pfn, pages, "wild")
            });
        }
    }
    Checkpoint {
        holds,
        pins_in_ram: BTreeMap::from([(PinHow::Vmsplice, u64::MAX), (PinHow::IoUring, u64::MAX)]),
        poison_unknown: false,
        mismatches: vec![
            Mismatch {
                what: EVIL.into(),
                who: EVIL.into(),
                page: u64::MAX,
                pages: u64::MAX,
                predicted: EVIL.into(),
                found: EVIL.into(),
            };
            1000
        ],
        counters: BTreeMap::from([
            ("nr_foll_pin_acquired".to_owned(), i64::MIN),
            ("nr_foll_pin_released".to_owned(), i64::MAX),
        ]),
        namespaces: vec![
            NamespaceInfo {
                dev: format!("../../../../{EVIL}"),
                name: EVIL.into(),
                mode: "devdax".into(),
                resource: u64::MAX,
                size: u64::MAX,
                align: u64::MAX,
                ranges: vec![(u64::MAX, u64::MAX); 10],
            };
            10
        ],
    }
}

fn forged_fact(n: u64) -> Fact {
    Fact::Touched {
        map: EVIL.into(),
        page: n,
        pages: u64::MAX,
        write: true,
        faults: u64::MAX,
        neighbours: None,
    }
}

/// Plans and levels without end, names that steer a terminal.
fn forged_ktap() -> ProgramOutput {
    let mut text = "TAP version 13\n1..99999999999\n".to_owned();
    for n in 0..4000 {
        text.push_str(&format!("not ok {n} {EVIL}{n} # {EVIL}\n"));
    }
    for level in 1..40 {
        text.push_str(&format!(
            "{}KTAP version 1\n{0}1..4000000000\n",
            " ".repeat(level)
        ));
    }
    text.push_str("Bail out! ");
    text.push_str(&EVIL.repeat(30_000));
    ProgramOutput {
        text,
        code: i32::MIN,
        cut: false,
    }
}

/// Writes to the console what no kernel says, `mib` of it or without end.
fn spew(mib: Option<usize>) {
    let mut chunk = Vec::new();
    // A line that never ends, NULs, what is no UTF-8, escapes, our own marks, reports without number.
    chunk.extend([b'x'; 20_000]);
    chunk.extend([0; 2000]);
    chunk.extend([0xff, 0xfe, 0xc3, 0x28].repeat(500));
    chunk.extend(EVIL.bytes());
    for n in 0..50 {
        chunk.extend(format!("\n[    1.000000][  T666] zonedev: step {n}\n").bytes());
        chunk.extend(b"[    1.000000][  T666] zonedev: end\n");
        chunk.extend(b"[    1.000000][  T666] BUG: unable to handle page fault for address: 0\n");
        chunk.extend(b"[    1.000000][  T666] Call Trace:\n");
        chunk.extend(format!("not ok 1 {EVIL}\n").bytes());
    }
    let mut left = mib.map_or(usize::MAX, |mib| mib << 20);
    let mut console = OpenOptions::new().write(true).open("/dev/ttyS0").unwrap();
    while left > 0 {
        if console.write_all(&chunk).is_err() {
            sleep();
        }
        left = left.saturating_sub(chunk.len());
    }
}

/// A report that no kernel made, between marks that no host asked for.
fn forge() {
    let lines = format!(
        "zonedev: step 77\nzonedev: end\n{EVIL}\nKernel panic - not synching: zonedev: end\n\
         WARNING: CPU: 0 PID: 1 at mm/{EVIL}.c:1 forged_function+0x1/0x2\n\
         CPU: 0 PID: 1 Comm: zonedev: end Not tainted 5.10\nRIP: 0010:forged_function+0x1/0x2\n\
         Call Trace:\n forged_function+0x1/0x2\n---[ end trace 0 ]---\nzonedev: end\n"
    );
    for line in lines.lines() {
        log(line);
    }
    let mut console = OpenOptions::new().write(true).open("/dev/ttyS0").unwrap();
    let _ = console.write_all(lines.as_bytes());
    // On a busy host it would stand behind the next step's mark.
    let _ = nix::sys::termios::tcdrain(&console);
}
