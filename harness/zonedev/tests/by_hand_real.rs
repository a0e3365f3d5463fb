//! By hand in a guest: a shell's streams and codes, what `watch` sees of it, a cell run again, gdb.
//!
//! As the other tests on real kernels these need `ZONEDEV_TEST_KERNEL` (which `just test` sets), and
//! say so where they do nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use camino::Utf8PathBuf;
use common::{command, kernel, memory_of, project, said, turn, wait_until};

fn skipped() -> bool {
    let skipped = std::env::var_os("ZONEDEV_TEST_KERNEL").is_none();
    if skipped {
        eprintln!("skipped: ZONEDEV_TEST_KERNEL names no bzImage");
    }
    skipped
}

fn zonedev(args: &[&str]) -> Output {
    command(&project(), args).output().unwrap()
}

/// A shell that reads a pipe. Dropped, it is gone.
struct Shell {
    child: Child,
    said: std::sync::Arc<Mutex<String>>,
}

impl Shell {
    fn start(args: &[&str]) -> Self {
        let kernel = kernel();
        let mut all = vec!["shell", kernel.as_str()];
        all.extend(args);
        let mut child = command(&project(), &all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = std::sync::Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for mut stream in streams {
            let said = std::sync::Arc::clone(&said);
            std::thread::spawn(move || {
                let mut chunk = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut chunk) {
                    let text = String::from_utf8_lossy(&chunk[..n]).into_owned();
                    said.lock().unwrap().push_str(&text);
                }
            });
        }
        Shell { child, said }
    }

    fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn hear(&self, text: &str) {
        wait_until(text, || self.said().contains(text));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_command_has_its_streams_and_its_code() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let line = "echo out; echo err >&2; tty; stat -f -c %T /mnt; exit 7";
    let output = zonedev(&["shell", &kernel(), "-c", line]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "out\nnot a tty\next2/ext3\n"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"));
    // A code of our own is none of a command's.
    let output = zonedev(&["shell", "0.1", "-c", "true"]);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn a_script_ends_where_it_says_and_as_a_signal_does() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let mut shell = Shell::start(&[]);
    shell.type_line("echo one; kill -9 $$");
    let code = shell.child.wait().unwrap().code();
    assert_eq!(code, Some(128 + 9), "{}", shell.said());
    shell.hear("one\n");
}

#[test]
fn a_guest_that_panics_ends_its_shell_with_125() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let output = zonedev(&[
        "shell",
        &kernel(),
        "-c",
        "echo c > /proc/sysrq-trigger; sleep 60",
    ]);
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(
        said(&output).contains("ended before its shell did"),
        "{}",
        said(&output)
    );
}

#[test]
fn watch_sees_a_count_move_and_nothing_of_a_guest_that_is_gone() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let mut shell = Shell::start(&[]);
    shell.type_line("echo ready");
    shell.hear("ready\n");
    let pid = shell.child.id().to_string();
    let look = || {
        let output = zonedev(&["watch", &pid, "--json"]);
        assert!(output.status.success(), "{}", said(&output));
        let sight: zonedev::watch::Sight = serde_json::from_slice(&output.stdout).unwrap();
        sight
    };
    let held = |sight: &zonedev::watch::Sight| {
        let regions = sight.regions.iter().filter(|r| r.name.contains("FS_DAX"));
        let rows = regions.flat_map(|r| r.rows.clone());
        let held = rows.filter(|r| r.class == zonedev::watch::Class::Held);
        // Wherever the file system has put them: a run of pages is a row.
        let mut by_count = BTreeMap::new();
        for row in held {
            *by_count
                .entry(row.refcount - row.idle_refcount.unwrap())
                .or_insert(0) += row.pages;
        }
        by_count
    };
    assert_eq!(held(&look()), BTreeMap::new());
    shell.type_line("hold -p /mnt/a 64K & sleep 0.1");
    shell.hear("16 pages of /mnt/a: mapped, stored to, pinned");
    // vmsplice takes a reference on each of them.
    assert_eq!(held(&look()), BTreeMap::from([(1, 16)]));
    let table = zonedev(&["watch", &pid]);
    assert!(said(&table).contains("16 held"), "{}", said(&table));
    shell.type_line("kill $!; wait; echo let go");
    shell.hear("let go");
    assert_eq!(held(&look()), BTreeMap::new());

    // Killed, it leaves a directory that is swept with the next guest, and that nobody waits for.
    let left = memory_of(shell.child.id());
    assert!(
        left.iter()
            .any(|d| d.join("watch").metadata().unwrap().file_type().is_socket())
    );
    drop(shell);
    let output = zonedev(&["watch", &pid, "--once"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let output = zonedev(&["shell", &kernel(), "-c", "true"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(left.iter().all(|d| !d.exists()), "{left:?}");
}

#[test]
fn a_cell_runs_again_to_its_checkpoint_and_a_shell_finds_its_processes() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let run = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
    let kernel = kernel();
    let case = "fsdax-ext4/pin-vmsplice";
    let matrix = [
        "matrix",
        "-k",
        &kernel,
        "-E",
        case,
        "--run-dir",
        run.as_str(),
    ];
    let output = zonedev(&matrix);
    assert!(output.status.success(), "{}", said(&output));
    let mapped = "grep -l /mnt/a /proc/[0-9]*/maps | wc -l";
    let rerun = [
        "rerun",
        run.as_str(),
        case,
        "--until",
        "pinned",
        "-c",
        mapped,
    ];
    let output = zonedev(&rerun);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "1",
        "{text}"
    );
    for words in [
        "\"pinned\"",
        "p (vmsplice)",
        "next would be step 6 main: release",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("not the build of the run"), "{text}");
    let output = zonedev(&["rerun", run.as_str(), case, "--until", "no such"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        said(&output).contains("it has: mapped, pinned, released"),
        "{}",
        said(&output)
    );
}

#[test]
fn gdb_finds_a_guest_from_its_first_instruction_on() {
    let gdb = Command::new("gdb").arg("--version").output();
    if skipped() || gdb.is_err() {
        eprintln!("skipped: no kernel, or no gdb");
        return;
    }
    let _turn = turn();
    let shell = Shell::start(&["--gdb", "-c", "hold /mnt/a 64K & sleep 1; echo over"]);
    shell.hear("target remote");
    let text = shell.said();
    let line = text.lines().find(|l| l.contains("target remote")).unwrap();
    let vmlinux = line.trim().split(' ').nth(1).unwrap();
    let remote = line.split('\'').nth(1).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", vmlinux, "-ex", remote]);
    for words in [
        "hbreak start_kernel",
        "continue",
        "delete",
        "break dax_iomap_fault",
        "continue",
        "bt 1",
        "delete",
        "detach",
    ] {
        gdb.args(["-ex", words]);
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(gdb.output()));
    let output = receiver.recv_timeout(Duration::from_secs(280));
    let output = output.expect("gdb did not end").unwrap();
    let text = said(&output);
    assert!(text.contains("hit Breakpoint 1, "), "{text}");
    // No reading of ours came between.
    assert!(text.contains("hit Breakpoint 2, "), "{text}");
    assert!(text.contains("dax_iomap_fault"), "{text}");
    shell.hear("over\n");
}
