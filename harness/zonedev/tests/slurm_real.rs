//! Runs on a real Slurm: one slurmctld and two slurmd of the test's own (harness/slurm/up), no slurmdbd. What
//! is lost on the way (a node, a task, the controller, the one who follows) changes nothing of what a run
//! comes to; what a kernel or a build does wrong is not run again.
//!
//! `just test-slurm` runs them. Without `ZONEDEV_TEST_SLURM` they say that they do nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zonedev::record::{PairVerdict, RunFolder, RunRecord};

use common::{command, kernel, observations, project, said, turn, wait_until};

/// Whether these tests are wanted, and can be had.
fn wanted() -> bool {
    if std::env::var_os("ZONEDEV_TEST_SLURM").is_none() {
        eprintln!("left out: ZONEDEV_TEST_SLURM is not set; `just test-slurm` sets it");
        return false;
    }
    true
}

/// A cluster of two nodes, and runs on it.
struct Lab {
    dir: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = project().join("harness/slurm/down");
        let _ = Command::new(down).arg(self.place("slurm")).status();
    }
}

impl Lab {
    /// Each test has ports of its own: those of the one before may still be taken.
    fn new(port: u16) -> Lab {
        let lab = Lab {
            dir: tempfile::tempdir().unwrap(),
        };
        let up = project().join("harness/slurm/up");
        let output = Command::new(up)
            .args([lab.place("slurm").as_str(), "2", &port.to_string()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let conf = format!("export SLURM_CONF={}\n", lab.conf());
        assert_eq!(String::from_utf8_lossy(&output.stdout), conf);
        lab
    }

    fn place(&self, name: &str) -> Utf8PathBuf {
        let place = Utf8PathBuf::from_path_buf(self.dir.path().join(name));
        place.unwrap()
    }

    fn conf(&self) -> Utf8PathBuf {
        self.place("slurm/slurm.conf")
    }

    fn zonedev(&self, args: &[&str]) -> Command {
        let mut command = command(&project(), args);
        command
            .env("SLURM_CONF", self.conf())
            .current_dir(project());
        command
    }

    fn matrix(&self, kernels: &[&str], cases: &[&str], run: &str, more: &[&str]) -> Command {
        let mut command = self.zonedev(&["matrix", "--executor", "slurm", "-j", "2"]);
        for kernel in kernels {
            command.args(["-k", kernel]);
        }
        command.args(cases).args(more);
        command.args(["--run-dir", self.place(run).as_str()]);
        command
    }

    /// The run that most tests disturb: 18 cases and their boots in four tasks, two on each node.
    fn begin(&self, run: &str) -> Child {
        let kernel = kernel();
        let mut command = self.matrix(&[&kernel, &kernel], &CASES, run, &["--tasks", "4"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// One of Slurm's commands.
    fn slurm(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .args(args)
            .env("SLURM_CONF", self.conf())
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Tasks that run, with their nodes.
    fn running(&self) -> Vec<(String, String)> {
        let text = self.slurm("squeue", &["-h", "-r", "-t", "running", "-o", "%i %N"]);
        let words = text.lines().filter_map(|l| l.split_once(' '));
        words.map(|(id, node)| (id.into(), node.into())).collect()
    }

    fn pid(&self, daemon: &str) -> Option<Pid> {
        let text = std::fs::read_to_string(self.place("slurm/pids").join(daemon)).ok()?;
        Some(Pid::from_raw(text.trim().parse().ok()?))
    }

    fn start(&self, program: &str, args: &[&str]) {
        let done = Command::new(program)
            .args(args)
            .env("SLURM_CONF", self.conf())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .status();
        assert!(done.unwrap().success(), "{program}");
    }

    /// Ends a node as a power cut would: its slurmd, what watches its jobs, and these, none of which gets to
    /// tell anybody.
    fn cut_power(&self, node: &str) {
        kill(self.pid(node).unwrap(), Signal::SIGKILL).unwrap();
        let jobs = self.processes_on(node);
        let watchers = jobs.iter().filter_map(|pid| parent(*pid));
        let stepd = |pid: &i32| comm(*pid).starts_with("slurmstepd");
        let watchers: Vec<i32> = watchers.filter(stepd).collect();
        assert!(!watchers.is_empty(), "no job runs on {node}");
        for pid in watchers.into_iter().chain(jobs) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn processes_on(&self, node: &str) -> Vec<i32> {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_str()?.parse().ok());
        let conf = format!("SLURM_CONF={}", self.conf());
        let node = format!("SLURMD_NODENAME={node}");
        pids.filter(|pid: &i32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let has = |word: &str| environ.split(|b| *b == 0).any(|w| w == word.as_bytes());
            has(&conf) && has(&node)
        })
        .collect()
    }

    /// The cells that have finished in the parts.
    fn finished(&self, run: &str) -> Vec<Utf8PathBuf> {
        let mut files = common::files(&self.place(run).join("parts"));
        files.retain(|f| f.file_name() == Some("cell.json.zst"));
        files
    }

    /// Waits until cases run on both nodes.
    fn wait_for_cells(&self, run: &str) {
        wait_until("cases finish in two parts", || {
            let cases = self.finished(run).into_iter();
            let cases = cases.filter(|f| f.as_str().contains("/fsdax/fsdax-"));
            let parts = self.place(run).join("parts");
            let part = |f: Utf8PathBuf| {
                f.strip_prefix(&parts)
                    .unwrap()
                    .iter()
                    .next()
                    .map(str::to_owned)
            };
            let parts: std::collections::BTreeSet<_> = cases.map(part).collect();
            parts.len() >= 3
        });
    }

    fn record(&self, run: &str) -> RunRecord {
        RunFolder::open(&self.place(run)).read_record().unwrap()
    }

    /// How many attempts there were at each part.
    fn attempts(&self, run: &str) -> BTreeMap<String, usize> {
        let parts = self.place(run).join("parts");
        let parts = parts.read_dir_utf8().unwrap().flatten();
        parts
            .map(|p| {
                let attempts = p.path().read_dir_utf8().unwrap().count();
                (p.file_name().to_owned(), attempts)
            })
            .collect()
    }

    /// It ended as the run on this machine did.
    fn is_as_local(&self, run: &str, ended: &Output) {
        let local = local();
        assert_eq!(ended.status.code(), Some(0), "{}", said(ended));
        let record = self.record(run);
        assert!(
            of_whole(&self.place(run)) == local.observations,
            "another observation"
        );
        assert_eq!(record.exit_code, 0);
        assert_eq!(record.unfinished, []);
        let cells = |of: &RunRecord| BTreeMap::from_iter(of.cells.clone());
        assert_eq!(cells(&record), cells(&local.record));
        let pairs =
            |of: &RunRecord| -> Vec<PairVerdict> { of.pairs.iter().map(|p| p.verdict).collect() };
        assert_eq!(pairs(&record), pairs(&local.record));
        assert_eq!(record.pages_read, local.record.pages_read);
        assert_eq!(record.pages_predicted, local.record.pages_predicted);
        assert_eq!(
            (&record.accel, &record.qemu),
            (&local.record.accel, &local.record.qemu)
        );
        let left = self.slurm("squeue", &["-h", "-t", "pending,running,suspended"]);
        assert_eq!(left, "");
    }
}

const CASES: [&str; 2] = ["-E", "fsdax/fsdax-ext4/map-"];

fn comm(pid: i32) -> String {
    // A slurmstepd names itself by its arguments.
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).into_owned()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// The same cells, run on this machine.
struct Local {
    observations: BTreeMap<String, String>,
    record: RunRecord,
}

fn local() -> &'static Local {
    static LOCAL: OnceLock<Local> = OnceLock::new();
    LOCAL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let run = Utf8PathBuf::from_path_buf(dir.path().join("run")).unwrap();
        let kernel = kernel();
        let mut args = vec!["matrix", "-k", &kernel, "-k", &kernel, "-j", "2", "--fresh"];
        args.extend(CASES);
        args.extend(["--run-dir", run.as_str()]);
        let output = command(&project(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let record = RunFolder::open(&run).read_record().unwrap();
        let observations = of_whole(&run);
        assert!(observations.len() == 20, "{}", observations.len());
        Local {
            observations,
            record,
        }
    })
}

/// The observations of the whole, without those of its parts.
fn of_whole(run: &Utf8Path) -> BTreeMap<String, String> {
    let mut all = observations(run);
    all.retain(|name, _| name.starts_with("cells/"));
    all
}

/// In one line, whatever the width of the terminal.
fn words(output: &Output) -> String {
    let text = said(output).replace("\n  │ ", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_run_on_a_cluster_is_the_local_run() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16810);
    let ended = lab.begin("run").wait_with_output().unwrap();
    lab.is_as_local("run", &ended);
    assert_eq!(lab.attempts("run").values().sum::<usize>(), 4);
    // Each cell is told as it ends, as in a local run.
    let words = words(&ended);
    assert!(words.contains("[20/20] "), "{words}");
    assert!(!words.contains("submitted again"), "{words}");
    // The parts are what `zonedev merge` takes, too.
    let parts = lab.place("run/parts");
    let attempts = parts.read_dir_utf8().unwrap().flatten();
    let attempts: Vec<String> = attempts
        .map(|p| p.path().read_dir_utf8().unwrap().next().unwrap().unwrap())
        .map(|a| a.path().to_string())
        .collect();
    let mut merge = lab.zonedev(&["merge", "--run-dir", lab.place("again").as_str()]);
    let merged = merge.args(&attempts).output().unwrap();
    assert_eq!(merged.status.code(), Some(0), "{}", said(&merged));
    assert!(of_whole(&lab.place("again")) == local().observations);
}

#[test]
fn a_lost_node_costs_time_and_nothing_else() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16820);
    let child = lab.begin("run");
    lab.wait_for_cells("run");
    lab.cut_power("n2");
    let ended = child.wait_with_output().unwrap();
    lab.is_as_local("run", &ended);
    let words = words(&ended);
    assert!(
        words.contains("on n2 ended as NODE_FAIL; it is submitted again"),
        "{words}"
    );
    let attempts = lab.attempts("run");
    assert_eq!(attempts.values().sum::<usize>(), 6, "{attempts:?}");
    let notices = lab.record("run").notices.join("\n");
    assert!(notices.contains("NODE_FAIL"), "{notices}");
    // What had finished was taken over.
    let out = common::files(&lab.place("run/slurm/out"));
    let out: Vec<String> = out
        .iter()
        .map(|f| std::fs::read_to_string(f).unwrap())
        .collect();
    assert!(
        out.iter()
            .any(|text| text.contains("goes on with what had finished"))
    );
}

#[test]
fn a_task_that_somebody_cancels_is_run_again() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16830);
    let child = lab.begin("run");
    lab.wait_for_cells("run");
    let (task, _) = lab.running().into_iter().next().unwrap();
    lab.slurm("scancel", &[&task]);
    let ended = child.wait_with_output().unwrap();
    lab.is_as_local("run", &ended);
    let words = words(&ended);
    let lost = format!("was lost: task {task} on n");
    assert!(
        words.contains(&lost) && words.contains("ended as CANCELLED"),
        "{words}"
    );
    assert_eq!(lab.attempts("run").values().sum::<usize>(), 5);
}

#[test]
fn a_part_that_is_lost_three_times_is_told_and_gone_on_with() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16880);
    let case = ["-E", "=fsdax/fsdax-ext4/map-touch-4k"];
    let kernel = kernel();
    let mut command = lab.matrix(&[&kernel], &case, "run", &["--tasks", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 3 {
        wait_until("the part is submitted again", || {
            let new = lab
                .running()
                .into_iter()
                .find(|(task, _)| !seen.contains(task));
            new.is_some_and(|(task, _)| {
                lab.slurm("scancel", &[&task]);
                seen.insert(task)
            })
        });
    }
    let ended = child.wait_with_output().unwrap();
    let told = words(&ended);
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(
        told.contains("the part fixture:1/1 was lost: task "),
        "{told}"
    );
    assert!(
        told.contains("ended as CANCELLED, the last of 3 attempts"),
        "{told}"
    );
    assert!(told.contains("`zonedev matrix --resume "), "{told}");
    let run = lab.place("run");
    let ended = lab
        .zonedev(&["matrix", "--resume", run.as_str()])
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    assert_eq!(lab.record("run").unfinished, []);
}

/// A build takes minutes; so the kernel gets into the cache while its job waits for its time.
#[test]
fn a_kernel_that_is_not_in_the_cache_is_a_job_of_its_own() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16890);
    let home = std::env::var("ZONEDEV_CACHE").map(Utf8PathBuf::from);
    let full = home.unwrap_or_else(|_| {
        Utf8PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/zonedev")
    });
    let cache = lab.place("cache");
    std::fs::create_dir_all(cache.join("kernels")).unwrap();
    let link = |name: &str| std::os::unix::fs::symlink(full.join(name), cache.join(name)).unwrap();
    ["apt", "downloads", "images", "selftests"]
        .iter()
        .for_each(|room| link(room));
    let kernel = kernel();
    let key = lab
        .zonedev(&["build", "--print-key", &kernel])
        .output()
        .unwrap();
    let key = String::from_utf8(key.stdout).unwrap();
    let key = key.split_whitespace().last().unwrap().to_owned();

    let case = ["-E", "=fsdax/fsdax-ext4/map-touch-4k"];
    let mut command = lab.matrix(
        &[&kernel],
        &case,
        "run",
        &["--slurm-args", "--begin=now+12"],
    );
    command.env("ZONEDEV_CACHE", &cache);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until("the build is submitted", || {
        !lab.slurm("squeue", &["-h", "-t", "pending"]).is_empty()
    });
    assert!(!lab.place("run/begun.json").exists());
    link(&format!("kernels/{key}"));
    let ended = child.wait_with_output().unwrap();
    let told = words(&ended);
    assert_eq!(ended.status.code(), Some(0), "{told}");
    assert!(
        told.contains(&format!("build {kernel}: done in ")),
        "{told}"
    );
    let out = lab.place("run/slurm/out");
    let built = out
        .read_dir_utf8()
        .unwrap()
        .flatten()
        .find(|e| !e.file_name().contains('_'));
    let built = std::fs::read_to_string(built.unwrap().path()).unwrap();
    assert!(built.contains(&format!("{kernel} {key}")), "{built}");
}

#[test]
fn a_controller_may_go_and_come_back() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16840);
    let child = lab.begin("run");
    let began = |lab: &Lab| {
        let files = common::files(&lab.place("run/parts")).into_iter();
        files
            .filter(|f| f.file_name() == Some("begun.json"))
            .count()
    };
    wait_until("all parts begin", || began(&lab) == 4);
    let controller = lab.pid("slurmctld").unwrap();
    kill(controller, Signal::SIGKILL).unwrap();
    wait_until("the controller ends", || kill(controller, None).is_err());
    // Slurm's commands ask again for nine seconds before they say that nobody answers.
    std::thread::sleep(std::time::Duration::from_secs(14));
    lab.start("slurmctld", &[]);
    let ended = child.wait_with_output().unwrap();
    lab.is_as_local("run", &ended);
    let words = words(&ended);
    assert!(
        words.contains("does not answer and is waited for"),
        "{words}"
    );
    // What it had not written down yet it has lost, and that is run again.
    let attempts = lab.attempts("run").values().sum::<usize>();
    assert!((4..=8).contains(&attempts), "{words}");
}

#[test]
fn what_a_kernel_does_wrong_is_not_run_again() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16850);
    let leaks = "5.10+kernels/mutants/leak-vmsplice-5.10.patch";
    let case = ["-E", "=fsdax/fsdax-ext4/pin-vmsplice"];
    let ended = lab
        .matrix(&["5.10", leaks], &case, "run", &[])
        .output()
        .unwrap();
    let words = words(&ended);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(
        words.contains("FAIL ") && words.contains("REGRESSED"),
        "{words}"
    );
    assert!(!words.contains("submitted again"), "{words}");
    assert_eq!(lab.attempts("run").values().sum::<usize>(), 1);
    assert_eq!(lab.record("run").exit_code, 1);
}

#[test]
fn what_does_not_build_and_what_is_not_shared_is_told_and_not_tried_again() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16860);
    let bad = lab.place("bad.mbox");
    let patch = "From a Mon Sep 17 00:00:00 2001\nFrom: A <a@b.c>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\
                 Subject: [PATCH] x\n\n---\n mm/memory.c | 2 +-\n\ndiff --git a/mm/memory.c b/mm/memory.c\n\
                 --- a/mm/memory.c\n+++ b/mm/memory.c\n@@ -1,3 +1,3 @@\n-nothing of this\n+is there\n x\n y\n\
                 -- \n2.39\n";
    std::fs::write(&bad, patch).unwrap();
    let patched = format!("5.10+{bad}");
    let ended = lab
        .matrix(&["5.10", &patched], &CASES, "unbuilt", &[])
        .output()
        .unwrap();
    let told = words(&ended);
    assert_eq!(ended.status.code(), Some(5), "{told}");
    assert!(
        told.contains("does not apply to 5.10: mm/memory.c"),
        "{told}"
    );
    assert!(!lab.place("unbuilt/begun.json").exists());

    let elsewhere = ["--slurm-args", "--export=ALL,ZONEDEV_CACHE=/nowhere"];
    let ended = lab
        .matrix(&["5.10"], &CASES, "apart", &elsewhere)
        .output()
        .unwrap();
    let told = words(&ended);
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(
        told.contains("the cache /nowhere is not there on n"),
        "{told}"
    );
    assert!(
        told.contains("must be on a file system that all nodes share"),
        "{told}"
    );

    let refused = ["--slurm-args", "--partition=nonesuch"];
    let ended = lab
        .matrix(&["5.10"], &CASES, "refused", &refused)
        .output()
        .unwrap();
    let told = words(&ended);
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(
        told.contains("invalid partition specified: nonesuch"),
        "{told}"
    );
}

#[test]
fn whoever_follows_may_be_interrupted_or_killed() {
    if !wanted() {
        return;
    }
    let _turn = turn();
    let lab = Lab::new(16870);
    let child = lab.begin("run");
    lab.wait_for_cells("run");
    // By Ctrl-C the jobs are cancelled.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let told = words(&ended);
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(
        told.contains("cells had finished") && told.contains("--resume"),
        "{told}"
    );
    wait_until("the jobs are gone", || lab.running().is_empty());
    // What had finished can be reported.
    let run = lab.place("run");
    let report = lab.zonedev(&["report", run.as_str()]).output().unwrap();
    assert_eq!(report.status.code(), Some(0), "{}", said(&report));
    assert!(
        words(&report).contains("the run was cut off"),
        "{}",
        said(&report)
    );
    assert!(lab.record("run").cells.len() >= 3);

    // Killed, it leaves them, and whoever goes on takes them over.
    let mut resume = lab.zonedev(&["matrix", "--resume", run.as_str()]);
    resume.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = resume.spawn().unwrap();
    wait_until("the parts run again", || lab.running().len() == 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let attempts = lab.attempts("run");
    let ended = lab
        .zonedev(&["matrix", "--resume", run.as_str()])
        .output()
        .unwrap();
    lab.is_as_local("run", &ended);
    assert_eq!(
        lab.attempts("run").values().sum::<usize>(),
        8,
        "{attempts:?}"
    );
    let again = lab
        .zonedev(&["matrix", "--resume", run.as_str()])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
}

/// A job's script is told where to look by its arguments alone.
#[test]
fn the_scripts_name_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let run = Utf8Path::from_path(dir.path()).unwrap();
    let script = project().join("harness/zonedev/src/cluster/part.sh");
    let ask = |run: &Utf8Path, cache: &str| {
        let output = Command::new("sh")
            .args([
                script.as_str(),
                run.as_str(),
                "fixture",
                "1",
                "2",
                "/",
                "matrix",
            ])
            .env("ZONEDEV_CACHE", cache)
            .envs([("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_JOB_ID", "7")])
            .env("SLURMD_NODENAME", "node9")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        said(&output)
    };
    assert!(
        ask(Utf8Path::new("/nowhere"), "/")
            .contains("the run's folder /nowhere is not there on node9")
    );
    std::fs::create_dir_all(run.join("slurm/ended")).unwrap();
    assert!(ask(run, "/").contains("slurm/zonedev is not there on node9"));
    let program: PathBuf = run.join("slurm/zonedev").into();
    std::os::unix::fs::symlink("/bin/true", program).unwrap();
    assert!(ask(run, "/nowhere").contains("the cache /nowhere is not there"));
    let ended = std::fs::read_to_string(run.join("slurm/ended/7_1.0")).unwrap();
    assert_eq!(ended, "3 node9\n");
}
