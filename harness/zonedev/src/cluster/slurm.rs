//! Slurm's own commands, and what they say.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use thiserror::Error;
use tokio::process::Command;

use crate::build::die_with_us;

/// A controller that is busy answers within seconds; one that is away is asked again.
const LIMIT: Duration = Duration::from_secs(60);
/// What is told of what a command said.
const MAX_SAID: usize = 500;

/// Why Slurm could not be asked.
#[derive(Debug, Error)]
pub enum SlurmError {
    /// The command is not here.
    #[error("start {command}: {source}")]
    Start {
        /// Which.
        command: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not end.
    #[error("{command} did not answer within {} s", LIMIT.as_secs())]
    Late {
        /// Which.
        command: &'static str,
    },
    /// The controller could not be asked: it may be there again soon.
    #[error("{command}: {said}")]
    Away {
        /// Which.
        command: &'static str,
        /// Its words.
        said: String,
    },
    /// It does not want it.
    #[error("{command}: {said}")]
    Refused {
        /// Which.
        command: &'static str,
        /// Its words.
        said: String,
    },
}

impl SlurmError {
    /// Whether to ask again later.
    pub fn is_passing(&self) -> bool {
        matches!(self, SlurmError::Late { .. } | SlurmError::Away { .. })
    }
}

/// A job to be.
#[derive(Clone, Debug)]
pub struct Submission<'a> {
    /// All jobs of a run have one name.
    pub name: &'a str,
    /// Which tasks, as `--array` takes them; none of a job that is no array.
    pub array: Option<String>,
    /// The script.
    pub script: &'a Utf8Path,
    /// Its words.
    pub words: Vec<String>,
    /// Where it runs.
    pub directory: &'a Utf8Path,
    /// Where its output goes: a folder.
    pub output: Utf8PathBuf,
    /// Variables beside those of our own environment.
    pub variables: Vec<(&'a str, String)>,
    /// Processors of a task.
    pub cpus: usize,
    /// Memory of a task, MiB.
    pub memory: u64,
    /// Minutes after which Slurm ends it.
    pub minutes: u64,
    /// Whether nodes must have the feature `kvm`.
    pub kvm: bool,
    /// What the user adds; it outweighs ours.
    pub more: &'a [String],
}

impl Submission<'_> {
    /// The words of sbatch.
    fn arguments(&self) -> Vec<String> {
        let file = match self.array {
            Some(_) => "%A_%a",
            None => "%j",
        };
        let mut out = vec![
            "--parsable".to_owned(),
            format!("--job-name={}", self.name),
            format!("--chdir={}", self.directory),
            format!("--output={}/{file}", self.output),
            "--open-mode=append".to_owned(),
            "--export=ALL".to_owned(),
            // Whoever follows submits again, and only what was lost.
            "--no-requeue".to_owned(),
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
            format!("--cpus-per-task={}", self.cpus),
            format!("--mem={}M", self.memory),
            format!("--time={}", self.minutes),
        ];
        out.extend(self.array.iter().map(|tasks| format!("--array={tasks}")));
        if self.kvm {
            out.push("--constraint=kvm".to_owned());
        }
        out.extend(self.more.iter().cloned());
        out.push(self.script.to_string());
        out.extend(self.words.iter().cloned());
        out
    }
}

/// Submits a job, and says its number.
///
/// # Errors
/// Where Slurm does not take it. One that did not answer may have taken it all the same.
pub async fn submit(what: &Submission<'_>) -> Result<String, SlurmError> {
    let variables = what.variables.iter().map(|(k, v)| (*k, v.as_str()));
    let said = ask("sbatch", &what.arguments(), variables).await?;
    // JOB or JOB;CLUSTER
    let job = said.trim().split(';').next().unwrap_or_default();
    match !job.is_empty() && job.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(job.to_owned()),
        false => Err(SlurmError::Refused {
            command: "sbatch",
            said: short(&said),
        }),
    }
}

/// What Slurm says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits, with the reason.
    Waits(String),
    /// It runs, or is being started or ended.
    Runs,
    /// It ended by itself: `COMPLETED` or `FAILED`.
    Ended(String),
    /// It was taken from us: `NODE_FAIL`, `CANCELLED` and the like.
    Lost(String),
}

impl State {
    fn of(word: &str, reason: &str) -> State {
        match word {
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT"
            | "RESV_DEL_HOLD" => State::Waits(reason.to_owned()),
            "RUNNING" | "CONFIGURING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING"
            | "STAGE_OUT" | "RESIZING" => State::Runs,
            "COMPLETED" | "FAILED" => State::Ended(word.to_owned()),
            // A later Slurm's word is of a job that does not run, or it would run on.
            other => State::Lost(other.to_owned()),
        }
    }
}

/// A job, or a task of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// `JOB`, or `JOB_TASK`.
    pub id: String,
    /// How it is.
    pub state: State,
    /// Where it runs or ran; empty where it has not begun.
    pub node: String,
}

/// All jobs of a name that Slurm knows, also those that ended a while ago.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue(pub Vec<QueuedJob>);

impl Queue {
    /// Of `squeue -o '%F|%K|%T|%N|%r'`.
    fn read(text: &str) -> Queue {
        let jobs = text.lines().filter_map(|line| {
            let mut words = line.splitn(5, '|').map(str::trim);
            let (job, task, state) = (words.next()?, words.next()?, words.next()?);
            let (node, reason) = (words.next()?, words.next().unwrap_or_default());
            let id = match task.bytes().all(|b| b.is_ascii_digit()) && !task.is_empty() {
                true => format!("{job}_{task}"),
                false => job.to_owned(),
            };
            Some(QueuedJob {
                id,
                state: State::of(state, reason),
                node: node.to_owned(),
            })
        });
        Queue(jobs.collect())
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&QueuedJob> {
        self.0.iter().find(|job| job.id == id)
    }
}

/// Asks for all jobs of a name, in one question.
///
/// # Errors
/// Where the controller does not answer.
pub async fn queue(name: &str) -> Result<Queue, SlurmError> {
    let words = [
        "--me",
        "--noheader",
        "--array",
        "--states=all",
        &format!("--name={name}"),
        "--format=%F|%K|%T|%N|%r",
    ];
    ask("squeue", &words, [])
        .await
        .map(|text| Queue::read(&text))
}

/// Cancels all jobs of a name.
///
/// # Errors
/// Where the controller does not answer.
pub async fn cancel(name: &str) -> Result<(), SlurmError> {
    let user = nix::unistd::geteuid().to_string();
    let words = [format!("--user={user}"), format!("--name={name}")];
    ask("scancel", &words, []).await.map(drop)
}

async fn ask<'a>(
    command: &'static str,
    words: &[impl AsRef<OsStr>],
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, SlurmError> {
    let mut program = std::process::Command::new(command);
    die_with_us(&mut program, None);
    let mut program = Command::from(program);
    program
        .args(words)
        .envs(variables)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(LIMIT, program.output()).await {
        Err(_) => return Err(SlurmError::Late { command }),
        Ok(Err(source)) => return Err(SlurmError::Start { command, source }),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = short(&String::from_utf8_lossy(&output.stderr));
    Err(match is_away(&said) {
        true => SlurmError::Away { command, said },
        false => SlurmError::Refused { command, said },
    })
}

fn short(said: &str) -> String {
    said.trim().chars().take(MAX_SAID).collect()
}

/// Whether these are the words of a client whose controller is not there, is just starting, or has no time.
fn is_away(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    [
        "unable to contact slurm controller",
        "connection refused",
        "connect failure",
        "timed out",
        "try again",
        "temporarily unable",
        "backup mode",
        "no reply",
        "communication",
        "transmission",
        "zero bytes were transmitted",
        "protocol authentication",
        "munge",
        "rate limit",
    ]
    .iter()
    .any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_read_with_their_tasks_and_states() {
        let text = "2|3|NODE_FAIL|n2|NodeDown\n2|4|RUNNING|n2|None\n\n17|N/A|PENDING||Resources\n\
                    18|N/A|LAUNCH_FAILED|n1|x|y\nnonsense\n";
        let queue = Queue::read(text);
        assert_eq!(queue.0.len(), 4);
        let is = |id: &str| queue.get(id).map(|job| (&job.state, job.node.as_str()));
        assert_eq!(is("2_3"), Some((&State::Lost("NODE_FAIL".into()), "n2")));
        assert_eq!(is("2_4"), Some((&State::Runs, "n2")));
        assert_eq!(is("17"), Some((&State::Waits("Resources".into()), "")));
        assert_eq!(is("18"), Some((&State::Lost("LAUNCH_FAILED".into()), "n1")));
        assert_eq!(is("2"), None);
    }

    #[test]
    fn what_a_user_adds_comes_after_ours_and_before_the_script() {
        let more = ["--mem=9G".to_owned(), "--account=x y".to_owned()];
        let submission = Submission {
            name: "zonedev-1",
            array: Some("1,3".to_owned()),
            script: "/r/slurm/part.sh".into(),
            words: vec!["/r".to_owned(), "-k".to_owned()],
            directory: "/p".into(),
            output: "/r/slurm/out".into(),
            variables: Vec::new(),
            cpus: 2,
            memory: 4096,
            minutes: 30,
            kvm: true,
            more: &more,
        };
        let words = submission.arguments();
        let place = |word: &str| words.iter().position(|w| w == word).unwrap();
        assert!(place("--mem=4096M") < place("--mem=9G"));
        assert!(place("--account=x y") < place("/r/slurm/part.sh"));
        assert_eq!(words[place("/r/slurm/part.sh") + 1..], ["/r", "-k"]);
        for word in [
            "--array=1,3",
            "--constraint=kvm",
            "--no-requeue",
            "--time=30",
        ] {
            place(word);
        }
        assert!(words.contains(&"--output=/r/slurm/out/%A_%a".to_owned()));
    }

    #[test]
    fn a_controller_that_is_away_is_told_from_one_that_refuses() {
        assert!(is_away(
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
        ));
        assert!(is_away(
            "slurm_load_jobs error: Socket timed out on send/recv operation"
        ));
        assert!(!is_away(
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
        ));
    }
}
