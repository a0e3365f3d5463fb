//! The parts of a run: submitted, followed, submitted again where the cluster lost them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::cluster::{Estimate, Fate, Follower, Known, Queue, Said, Seen, State, memory};
use crate::plan::Plan;
use crate::record::CellVerdict;

/// How often journals are read; less often where there are many.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_EACH: Duration = Duration::from_millis(8);
/// Why a job waits, where that is no news.
const USUAL: [&str; 6] = [
    "None",
    "Priority",
    "Resources",
    "JobArrayTaskLimit",
    "BeginTime",
    "",
];

/// One part.
struct Part {
    plan: Plan,
    /// Times that it was submitted by us.
    tried: u32,
    /// Of these, those that came to their time limit.
    late: u32,
    /// And those that took more memory than they had.
    hungry: u32,
    /// To be submitted.
    wanted: bool,
    /// Since when Slurm has its last job as ended, or does not know it.
    ended: Option<Instant>,
    /// Where its last job was.
    node: String,
    end: Option<End>,
}

/// How a part ended.
enum End {
    Done(Utf8PathBuf),
    /// With words for it.
    Lost(Failure),
}

pub(super) struct Following<'a> {
    cluster: &'a Cluster,
    begun: Begun,
    /// Whether what runs the guests is known.
    host_is_known: bool,
    cut: Partition,
    parts: BTreeMap<usize, Part>,
    submitted: Submitted,
    follower: Follower,
    /// Attempts that are whole but went wrong by the host, when the run is gone on with.
    spoiled: BTreeSet<Utf8PathBuf>,
    /// A submission may have been taken that we do not know of.
    unsure: bool,
    /// Since when the controller does not answer.
    away: Option<Instant>,
    known: Known,
    reasons: BTreeSet<String>,
    /// Something was lost: a job of which nobody knows any more may still run.
    messy: bool,
}

impl<'a> Following<'a> {
    /// Of a run that begins, or goes on with what was submitted before.
    pub(super) fn new(
        cluster: &'a Cluster,
        begun: Begun,
        before: Option<Submitted>,
    ) -> Result<Self, Failure> {
        let job = &cluster.job;
        let known = known(&job.ctx.project);
        let repeat = job.args.repeat.get();
        let of = match (&before, job.args.cluster.tasks) {
            (Some(before), _) => before.parts,
            (None, Some(tasks)) => tasks.get(),
            (None, None) => Estimate::of(&job.plan, &known, repeat).tasks(cluster.jobs, MAX_PARTS),
        };
        let cut = partition(of)?;
        let went_on = before.is_some();
        let mut submitted = before.unwrap_or_else(|| Submitted::new(of, cluster.jobs));
        submitted.jobs = cluster.jobs;
        let plans = (1..).zip(job.plan.clone().parts(cut));
        let parts = plans.filter(|(_, plan)| !plan.groups.is_empty());
        let parts: BTreeMap<usize, Part> = parts.map(|(n, plan)| (n, Part::new(plan))).collect();
        let spoiled = (parts.keys())
            .flat_map(|n| cluster::attempts(&cluster.run, *n))
            .filter(|attempt| cluster::is_whole(attempt) && is_spoiled(attempt))
            .collect();
        Ok(Following {
            cluster,
            begun,
            host_is_known: false,
            cut,
            parts,
            submitted,
            follower: Follower::default(),
            spoiled,
            unsure: went_on,
            away: None,
            known,
            reasons: BTreeSet::new(),
            messy: false,
        })
    }

    /// The folders of the attempts that count, one of each part that has one.
    pub(super) async fn follow(mut self) -> Result<Vec<String>, Failure> {
        let look = LOOK.max(LOOK_EACH * self.parts.len() as u32);
        let mut asked: Option<Instant> = None;
        // A controller that is away keeps a question for minutes; journals are read meanwhile.
        let mut question = None;
        loop {
            self.look();
            if self.open().next().is_none() {
                if self.messy {
                    self.cluster.cancel().await;
                }
                return self.folders();
            }
            if question.is_none() && asked.is_none_or(|at| at.elapsed() >= ASK) {
                asked = Some(Instant::now());
                question = Some(Box::pin(cluster::queue(&self.cluster.name)));
            }
            let answer = async {
                match &mut question {
                    Some(question) => question.await,
                    None => std::future::pending().await,
                }
            };
            let Ok(answer) = tokio::time::timeout(look, answer).await else {
                continue;
            };
            question = None;
            match answer {
                Ok(queue) => self.answered(&queue).await?,
                Err(e) => self.cluster.is_away(&mut self.away, &e)?,
            }
        }
    }

    fn open(&self) -> impl Iterator<Item = usize> {
        let open = self.parts.iter().filter(|(_, p)| p.end.is_none());
        open.map(|(n, _)| *n)
    }

    /// Tells what has happened in the parts, and takes note of those that are done.
    fn look(&mut self) {
        for n in self.open().collect::<Vec<_>>() {
            let attempts = cluster::attempts(&self.cluster.run, n);
            for attempt in &attempts {
                for event in self.follower.news(attempt) {
                    let _ = self.cluster.events.send(event);
                }
                self.learn_host(attempt);
            }
            // Whichever it is: one that was given up as lost may have come to its end all the same.
            let whole = |a: &&Utf8PathBuf| !self.spoiled.contains(*a) && cluster::is_whole(a);
            if let Some(done) = attempts.iter().find(whole).cloned() {
                // What it wrote between our two looks.
                for event in self.follower.news(&done) {
                    let _ = self.cluster.events.send(event);
                }
                self.part(n).end = Some(End::Done(done));
            }
        }
    }

    fn part(&mut self, n: usize) -> &mut Part {
        // Only its own numbers are asked for.
        self.parts
            .entry(n)
            .or_insert_with(|| Part::new(Plan::default()))
    }

    /// The first part that runs says on what: a run that is cut off then can be reported.
    fn learn_host(&mut self, attempt: &Utf8Path) {
        if self.host_is_known {
            return;
        }
        if let Ok(begun) = RunFolder::open(attempt).read_begun() {
            self.begun.accel = begun.accel;
            self.begun.accel_reason = begun.accel_reason;
            self.begun.qemu = begun.qemu;
            let _ = RunFolder::open(&self.cluster.run).write_begun(&self.begun);
            self.host_is_known = true;
        }
    }

    async fn answered(&mut self, queue: &Queue) -> Result<(), Failure> {
        if self.away.take().is_some() {
            self.cluster
                .notice("the controller answers again".to_owned());
        }
        if self.unsure {
            self.adopt(queue)?;
            self.unsure = false;
        }
        for n in self.open().collect::<Vec<_>>() {
            self.judge(n, queue);
        }
        self.tell_reasons(queue);
        let wanted = |p: &Part| p.wanted && p.end.is_none();
        let wanted: Vec<usize> = (self.parts.iter())
            .filter(|(_, p)| wanted(p))
            .map(|(n, _)| *n)
            .collect();
        match wanted.is_empty() {
            true => Ok(()),
            false => self.submit(&wanted).await,
        }
    }

    /// Takes tasks for ours whose number we were not told.
    fn adopt(&mut self, queue: &Queue) -> Result<(), Failure> {
        let mut found = false;
        for job in &queue.0 {
            let n = job.id.split_once('_').and_then(|(_, n)| n.parse().ok());
            let Some(n) = n.filter(|n| self.parts.contains_key(n)) else {
                continue;
            };
            let tasks = self.submitted.tasks.entry(n).or_default();
            if !tasks.contains(&job.id) {
                tasks.push(job.id.clone());
                found = true;
                self.part(n).submitted();
            }
        }
        match found {
            true => Ok(self.submitted.write(&self.cluster.run)?),
            false => Ok(()),
        }
    }

    fn judge(&mut self, n: usize, queue: &Queue) {
        let run = &self.cluster.run;
        let Some(task) = self.submitted.tasks.get(&n).and_then(|t| t.last()).cloned() else {
            self.part(n).wanted = true;
            return;
        };
        let job = queue.get(&task);
        let said = job.map_or(Said::Nothing, |job| Said::Is(job.state.clone()));
        let ended = cluster::ended(run, &task).map(|(code, _)| code);
        let part = self.part(n);
        if part.wanted {
            return;
        }
        if let Some(job) = job.filter(|job| !job.node.is_empty()) {
            part.node.clone_from(&job.node);
        }
        let runs = matches!(said, Said::Is(State::Runs | State::Waits(_)));
        part.ended = (!runs).then(|| part.ended.unwrap_or_else(Instant::now));
        if part.tried == 0 {
            // What ended before we went on is run again; what still runs is as if we had submitted it.
            (part.tried, part.wanted) = if runs { (1, false) } else { (0, true) };
            return;
        }
        let seen = Seen {
            record: false,
            slurm: Some(said),
            ended,
            since: part.ended.map(|at| at.elapsed()).unwrap_or_default(),
        };
        let fate = cluster::judge(&seen);
        let name = self.name(n);
        match fate {
            Fate::Open | Fate::Done => {}
            Fate::Failed(code) => self.failed(n, &name, &task, code),
            Fate::Lost(word) => self.lost(n, &name, &task, &word),
        }
    }

    fn failed(&mut self, n: usize, name: &str, task: &str, code: u8) {
        let words = self.cluster.last_words(task);
        let output = self.cluster.run.join("slurm/out").join(task);
        let part = self.part(n);
        let where_ = on(&part.node);
        let what = format!("the part {name} ended with {code} (task {task}{where_})");
        part.end = Some(End::Lost(Failure::with(
            match code {
                0 => Exit::Harness,
                code => Exit::from_code(code),
            },
            format!("{what}:\n{words}"),
            format!("all that it said is in {output}"),
        )));
        self.cluster
            .notice(format!("{what}; what it said is in {output}"));
    }

    fn lost(&mut self, n: usize, name: &str, task: &str, word: &str) {
        let cluster = self.cluster;
        self.messy = true;
        let part = self.part(n);
        let where_ = on(&part.node);
        part.late += u32::from(word == "TIMEOUT");
        part.hungry += u32::from(word == "OUT_OF_MEMORY");
        let again = part.tried < TRIES;
        part.wanted = again;
        let what = format!("the part {name} was lost: task {task}{where_} ended as {word}");
        if again {
            let (this, of) = (part.tried + 1, TRIES);
            cluster.notice(format!(
                "{what}; it is submitted again, to go on with what had finished (attempt {this} of {of})"
            ));
            return;
        }
        part.end = Some(End::Lost(Failure::host(
            format!("{what}, the last of {TRIES} attempts"),
            format!(
                "look at that node; `zonedev matrix --resume {}` goes on",
                cluster.run
            ),
        )));
        cluster.notice(format!(
            "{what}, the last of {TRIES} attempts; what had not finished of it is unfinished"
        ));
    }

    fn name(&self, n: usize) -> String {
        let part = self.cut.all().nth(n - 1);
        part.map(|p| p.to_string()).unwrap_or_default()
    }

    /// Why tasks wait, where that is not just their turn.
    fn tell_reasons(&mut self, queue: &Queue) {
        for job in &queue.0 {
            if let State::Waits(reason) = &job.state
                && !USUAL.contains(&reason.as_str())
                && self.reasons.insert(reason.clone())
            {
                self.cluster
                    .notice(format!("task {} waits: {reason}", job.id));
            }
        }
    }

    async fn submit(&mut self, wanted: &[usize]) -> Result<(), Failure> {
        let cluster = self.cluster;
        let job = &cluster.job;
        let script = cluster.run.join("slurm/part.sh");
        let kind = self.cut.to_string();
        let kind = kind.split(':').next().unwrap_or_default();
        let of = self.submitted.parts;
        let mut words = vec![
            cluster.run.to_string(),
            kind.to_owned(),
            of.to_string(),
            cluster.jobs.to_string(),
            cluster.directory.to_string(),
        ];
        words.extend(words::of_part(&cluster.command));
        let patience = job.requested.iter().map(|r| r.resolved.patience).max();
        let limit = |part: &Part| {
            Estimate::of(&part.plan, &self.known, job.args.repeat.get()).minutes(
                cluster.jobs,
                patience.unwrap_or(1),
                part.late,
            )
        };
        let parts = wanted.iter().filter_map(|n| self.parts.get(n));
        let groups = parts.clone().flat_map(|p| &p.plan.groups);
        let templates = setup::memory_needed(
            groups.filter(|g| g.skip.is_none()).map(|g| &g.fixture),
            cluster.jobs,
        );
        let hungry = parts.clone().map(|p| p.hungry).max();
        let submission = Submission {
            array: Some(ranges(wanted)),
            memory: memory(templates, cluster.jobs) << hungry.unwrap_or(0),
            minutes: parts.map(limit).max().unwrap_or(1),
            ..cluster.submission(&script, words)
        };
        match cluster::submit(&submission).await {
            Ok(number) => {
                for n in wanted {
                    let tasks = self.submitted.tasks.entry(*n).or_default();
                    tasks.push(format!("{number}_{n}"));
                    self.part(*n).submitted();
                }
                Ok(self.submitted.write(&cluster.run)?)
            }
            Err(e) => {
                (self.unsure, self.messy) = (true, true);
                cluster.is_away(&mut self.away, &e)
            }
        }
    }

    /// Of each part the attempt that is done, or else the last one that began and has ended.
    fn folders(self) -> Result<Vec<String>, Failure> {
        let mut out = Vec::new();
        let mut worst: Option<Failure> = None;
        for (n, part) in self.parts {
            match part.end {
                Some(End::Done(attempt)) => out.push(attempt.to_string()),
                Some(End::Lost(failure)) => {
                    let attempts = cluster::attempts(&self.cluster.run, n);
                    let began = |a: &&Utf8PathBuf| {
                        a.join("begun.json").exists() && !RunFolder::open(a).is_running()
                    };
                    out.extend(attempts.iter().rev().find(began).map(|a| a.to_string()));
                    worst.get_or_insert(failure);
                }
                None => {}
            }
        }
        match worst {
            Some(failure) if out.is_empty() => Err(failure),
            _ => Ok(out),
        }
    }
}

impl Part {
    fn new(plan: Plan) -> Self {
        Part {
            plan,
            tried: 0,
            late: 0,
            hungry: 0,
            wanted: false,
            ended: None,
            node: String::new(),
            end: None,
        }
    }

    fn submitted(&mut self) {
        self.tried += 1;
        self.wanted = false;
        self.ended = None;
        self.node.clear();
    }
}

fn on(node: &str) -> String {
    match node {
        "" => String::new(),
        node => format!(" on {node}"),
    }
}

/// As `--array` takes them: `1-4,7`.
fn ranges(numbers: &[usize]) -> String {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => out.push((*n, *n)),
        }
    }
    let words = out.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(",")
}

/// Whether the host or the harness broke a cell of it: that has not finished.
fn is_spoiled(attempt: &Utf8Path) -> bool {
    let record = RunFolder::open(attempt).read_record();
    let broken = |(_, v): &(CellId, CellVerdict)| matches!(v, CellVerdict::Error { .. });
    record.is_ok_and(|r| r.cells.iter().any(broken))
}

/// How long cells took in the project's last run.
fn known(project: &Utf8Path) -> Known {
    let last = project.join("target/runs/latest");
    Known::of(RunFolder::open(&last).times().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_named_in_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 4]), "1-4");
        assert_eq!(ranges(&[1, 3, 4, 9]), "1,3-4,9");
        assert_eq!(ranges(&[7]), "7");
    }
}
