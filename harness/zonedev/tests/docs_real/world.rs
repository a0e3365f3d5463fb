//! What the commands of the pages find, and how each is tried.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use zonedev::record::RunFolder;

use crate::place::{Place, copy};
use crate::rules::{Before, FILES, How, Is, Made, Run, Try, rules};
use crate::shown::{Page, files};
use crate::terminal::Terminal;

/// How a command ended, and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    code: Option<i32>,
    said: String,
}

/// Where the commands run that need nothing but the place.
#[derive(Clone)]
struct Typist {
    dir: Utf8PathBuf,
}

impl Typist {
    /// A program that finds this zonedev by its name, and nothing that this test was told.
    fn command(&self, program: &str) -> Command {
        let zonedev = Utf8Path::new(env!("CARGO_BIN_EXE_zonedev"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env("PATH", format!("{}:{path}", zonedev.parent().unwrap()))
            .env("CI", "true")
            .env("ZONEDEV", zonedev)
            .env_remove("ZONEDEV_PROJECT")
            .env_remove("GITHUB_OUTPUT");
        command
    }

    /// A line, as a shell takes it.
    fn types(&self, line: &str, stdin: &str) -> Served {
        let mut command = self.command("sh");
        command.args(["-c", line]).stdout(Stdio::piped());
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = crate::common::said(&output);
        println!("$ {line}\n{said}");
        Served {
            code: output.status.code(),
            said,
        }
    }
}

/// What is typed ahead, since it needs nothing of the others and takes its time: two at once, and beside
/// them a guest of which it takes a minute to be sure that it hangs.
#[derive(Default)]
struct Ahead {
    todo: Mutex<VecDeque<(String, String)>>,
    done: Mutex<HashMap<String, Served>>,
    more: Condvar,
}

impl Ahead {
    fn work(&self, typist: &Typist) {
        loop {
            let next = self.todo.lock().unwrap().pop_front();
            let Some((typed, line)) = next else { return };
            let served = typist.types(&line, "");
            self.done.lock().unwrap().insert(typed, served);
            self.more.notify_all();
        }
    }

    fn of(&self, typed: &str) -> Served {
        let limit = Duration::from_secs(600);
        let done = self.done.lock().unwrap();
        let (done, _) = (self.more)
            .wait_timeout_while(done, limit, |done| !done.contains_key(typed))
            .unwrap();
        let served = done.get(typed).cloned();
        served.unwrap_or_else(|| panic!("`{typed}` did not end, or was not begun"))
    }
}

pub(crate) struct World {
    place: Place,
    typist: Typist,
    ahead: Arc<Ahead>,
    /// What was typed once, for all that build on it.
    done: HashMap<String, Served>,
    runs: HashMap<Made, Utf8PathBuf>,
    shell: Option<Terminal>,
}

impl World {
    pub(crate) fn new(pages: &[Page]) -> Self {
        let place = Place::new();
        for file in FILES {
            let (before, name) = match file.is {
                Is::Whole(name) => (None, name),
                Is::Behind(before, name) => (Some(before), name),
                Is::PartOf(_) => continue,
            };
            let page = pages.iter().find(|p| p.name == file.page).unwrap();
            let all = files(&page.text, "toml");
            let (_, found) = (all.into_iter())
                .find(|(_, text)| text.contains(file.has))
                .unwrap();
            let before = before.map(|b| std::fs::read_to_string(place.dir.join(b)).unwrap());
            let path = place.dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, before.unwrap_or_default() + "\n" + &found).unwrap();
        }
        let typist = Typist {
            dir: place.dir.clone(),
        };
        let world = World {
            place,
            typist,
            ahead: Arc::default(),
            done: HashMap::new(),
            runs: HashMap::new(),
            shell: None,
        };
        world.minimised(pages);
        let mut todo = VecDeque::new();
        for (typed, hows) in rules() {
            for how in hows {
                if let How::Runs(run) = how
                    && matches!(run.how, Try::Ahead)
                {
                    todo.push_back((typed.to_owned(), world.line(typed, run)));
                }
            }
        }
        // What is waited for first.
        let of = |todo: &VecDeque<(String, String)>, made: Made| {
            todo.iter()
                .position(|(typed, _)| typed == made.typed())
                .unwrap()
        };
        for made in [Made::Series, Made::Leak, Made::Hung] {
            let at = of(&todo, made);
            let first = todo.remove(at).unwrap();
            todo.push_front(first);
        }
        *world.ahead.todo.lock().unwrap() = todo;
        for _ in 0..3 {
            let (ahead, typist) = (Arc::clone(&world.ahead), world.typist.clone());
            std::thread::spawn(move || ahead.work(&typist));
        }
        world
    }

    /// The case that docs/minimise.md ends with.
    fn minimised(&self, pages: &[Page]) {
        let page = pages.iter().find(|p| p.name == "docs/minimise.md").unwrap();
        let case = page.text.split("\n# fsdax/").nth(1).unwrap();
        let case = case.split("\n```").next().unwrap();
        std::fs::write(self.place.dir.join("minimised.toml"), format!("# {case}\n")).unwrap();
    }

    /// A command with what is at hand in the place of what is not.
    fn line(&self, typed: &str, run: &Run) -> String {
        let mut line = typed.to_owned();
        for (from, to) in run.instead {
            line = line.replace(from, to);
        }
        if line.contains("VMLINUX") {
            line = line.replace("VMLINUX", self.vmlinux().as_str());
        }
        if !run.more.is_empty() {
            line = format!("{line} {}", run.more);
        }
        line
    }

    /// Of the kernel that hung, as `zonedev core` named it.
    fn vmlinux(&self) -> String {
        let core = &self.done["zonedev core latest truncate-pinned"].said;
        let line = core
            .lines()
            .find(|l| l.trim().starts_with("crash "))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    fn runs(&self) -> Utf8PathBuf {
        self.place.dir.join("target/runs")
    }

    /// A run that was made by the command of some page, among the project's.
    fn made(&mut self, made: Made) -> Utf8PathBuf {
        if let Some(path) = self.runs.get(&made) {
            return path.clone();
        }
        self.ahead.of(made.typed());
        let folder = RunFolder::open(&self.place.dir.join(made.folder()));
        let id = folder.read_record().unwrap().id;
        let path = self.runs().join(id);
        std::fs::create_dir_all(self.runs()).unwrap();
        std::fs::rename(folder.path(), &path).unwrap();
        self.runs.insert(made, path.clone());
        path
    }

    fn before(&mut self, before: &Before) {
        let dir = self.place.dir.clone();
        match before {
            Before::Latest(made) => {
                let run = self.made(*made);
                let latest = self.runs().join("latest");
                let _ = std::fs::remove_file(&latest);
                symlink(run, latest).unwrap();
            }
            Before::Copy(made, to) => {
                let run = self.made(*made);
                copy(&run, &dir.join(to));
            }
            Before::CutOff(made, to) => {
                let (run, to) = (self.made(*made), dir.join(to));
                copy(&run, &to);
                std::fs::remove_file(to.join("record.json")).unwrap();
                let cells = crate::common::files(&to.join("cells"));
                let cell = |f: &&Utf8PathBuf| f.as_str().contains("0-5.10/fsdax/");
                for file in cells.iter().filter(cell) {
                    std::fs::remove_file(file).unwrap();
                }
            }
            Before::Packed(made, to) => {
                let run = self.made(*made);
                self.place.pack(&run, &dir.join(to));
            }
            Before::Remote(made) => {
                let run = self.made(*made);
                self.place.remote(&run);
            }
            Before::NotAccepted => self.place.not_accepted(),
        }
    }

    /// Tries a command in one way, and says what is not as its page has it.
    pub(crate) fn serve(
        &mut self,
        typed: &str,
        how: &How,
        prints: &[String],
    ) -> Result<(), String> {
        match how {
            How::Runs(run) => self.run(typed, run, prints),
            How::Lists { of, cells } => self.lists(of.unwrap_or(typed), cells),
            // Looked for without a kernel.
            How::Elsewhere(..) | How::Recipe(_) => Ok(()),
        }
    }

    fn run(&mut self, typed: &str, run: &Run, prints: &[String]) -> Result<(), String> {
        for needs in run.needs {
            let there = self.typist.command("sh").args(["-c", needs]).output();
            if !there.unwrap().status.success() {
                eprintln!("skipped: `{typed}`, since `{needs}` fails here");
                return Ok(());
            }
        }
        for before in run.before {
            self.before(before);
        }
        let line = self.line(typed, run);
        let served = match run.how {
            _ if self.done.contains_key(typed) => self.done[typed].clone(),
            Try::Once => {
                let served = self.typist.types(&line, run.stdin);
                self.done.insert(typed.to_owned(), served.clone());
                served
            }
            Try::Ahead => self.ahead.of(typed),
            Try::AtATerminal => self.at_a_terminal(&line, prints),
            Try::BesideAShell => {
                let pid = self.shell.as_ref().map(|s| s.pid.clone());
                self.typist.types(&format!("{line} {}", pid.unwrap()), "")
            }
            Try::AsItIs => self.typist.types(&line, run.stdin),
        };
        let mut wrong = Vec::new();
        if served.code != Some(run.code) {
            wrong.push(format!("it ended with {:?}, not {}", served.code, run.code));
        }
        let said = one_line(&served.said);
        for words in run.says {
            if !said.contains(&one_line(words)) {
                wrong.push(format!("it does not say `{words}`"));
            }
        }
        for file in run.leaves {
            let there = self
                .typist
                .command("sh")
                .args(["-c", &format!("ls -d {file}")])
                .output();
            if !there.unwrap().status.success() {
                wrong.push(format!("it leaves no {file}"));
            }
        }
        if let Some(but) = run.as_shown {
            let said = without_numbers(&said);
            for piece in prints.iter().flat_map(|line| line.split('…')) {
                let mut piece = piece.to_owned();
                for (from, to) in run.instead {
                    piece = piece.replace(from, to);
                }
                let known = but.iter().any(|but| piece.contains(but));
                if !known && !said.contains(&without_numbers(&one_line(&piece))) {
                    wrong.push(format!("the page shows `{piece}`, and it is not so"));
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!("{}\n$ {line}\n{}", wrong.join("\n"), served.said)),
        }
    }

    /// What somebody types who follows the page: what stands behind a prompt, each line once the one
    /// before it has said what the page shows.
    fn at_a_terminal(&mut self, line: &str, prints: &[String]) -> Served {
        let mut terminal = Terminal::start(self.typist.command("script"), &self.place.dir, line);
        let mut heard = "/]# ";
        for line in prints {
            if let Some((_, keys)) = line.split_once("/]# ") {
                terminal.hear(heard);
                terminal.type_keys(&format!("{keys}\r"));
            } else if let Some((words, _)) = line.split_once("; until process ") {
                heard = words;
            }
        }
        terminal.hear(heard);
        let said = terminal.said();
        self.shell = Some(terminal);
        Served {
            code: Some(0),
            said,
        }
    }

    /// The cells that a matrix would have, with kernels named as in the page.
    fn lists(&self, typed: &str, cells: &[&str]) -> Result<(), String> {
        let words = typed.strip_prefix("zonedev matrix").unwrap();
        let words = words
            .split(" --run-dir ")
            .next()
            .unwrap()
            .replace(" --dump-hung", "");
        let line = format!("zonedev list cells{words}");
        let served = self.typist.types(&line, "");
        let mut wrong = Vec::new();
        if served.code != Some(0) {
            wrong.push(format!("it ended with {:?}", served.code));
        }
        let kernels: Vec<&str> = words.split(" -k ").skip(1).collect();
        let runs = |l: &&&str| !l.starts_with("boot/") && !l.contains("(skipped:");
        let lines: Vec<&str> = served.said.lines().collect();
        for kernel in kernels.iter().filter_map(|k| k.split_whitespace().next()) {
            let on = format!(" on {kernel}");
            if !lines.iter().filter(runs).any(|l| l.ends_with(&on)) {
                wrong.push(format!("nothing runs on {kernel}"));
            }
        }
        for cell in cells {
            if !lines.iter().any(|l| l.contains(cell)) {
                wrong.push(format!("no cell is {cell}"));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!("{}\n$ {line}\n{}", wrong.join("\n"), served.said)),
        }
    }

    /// Leaves the shell as its page says, and looks at what is left over.
    pub(crate) fn end(mut self) -> Option<String> {
        // It would be taken for a run's folder.
        if self.place.dir.join("latest").symlink_metadata().is_ok() {
            return Some("a run that was put elsewhere left a `latest` behind".to_owned());
        }
        let mut shell = self.shell.take()?;
        // What holds its pages in the foreground ends by Ctrl-C.
        shell.type_keys("\u{3}");
        shell.type_keys("\rexit\r");
        match shell.over() {
            Some(0) => None,
            code => Some(format!("the shell ended with {code:?}: {}", shell.said())),
        }
    }
}

/// However it is wrapped, with or without a bar before it.
fn one_line(text: &str) -> String {
    let text = text.replace('│', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Counts, times and addresses are another run's.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            if !inside {
                out.push('#');
            }
            inside = true;
        } else {
            inside = inside && (c == 'x' || c.is_ascii_hexdigit());
            if !inside {
                out.push(c);
            }
        }
    }
    out
}
