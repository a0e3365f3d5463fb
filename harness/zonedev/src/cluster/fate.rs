//! What is to be done about a part, by what there is to see of its last job. Pure.

use std::time::Duration;

use super::slurm::State;

/// A file that was written on a node may be seen here only so much later: NFS remembers that it was not
/// there. As long is waited before a job is missed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What there is to see of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether an attempt at it has left its record.
    pub record: bool,
    /// Whether Slurm was asked about its last job and answered: what it said then.
    pub slurm: Option<Said>,
    /// With what the job's zonedev ended, where it said so.
    pub ended: Option<u8>,
    /// For how long it has been so that Slurm has the job as ended, or does not know it.
    pub since: Duration,
}

/// What Slurm said of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It knows it.
    Is(State),
    /// It does not know it, or not any more.
    Nothing,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Wait.
    Open,
    /// It is done.
    Done,
    /// The cluster lost it, with its word for that: it is to be submitted again.
    Lost(String),
    /// Its zonedev could not do its work: no other node would.
    Failed(u8),
}

/// Decides. What has left a record is done, whatever Slurm says; what Slurm took from us is run again,
/// whatever the job's script still said; and what ended by itself without a record is run again only where it
/// did not get to say so.
pub fn judge(seen: &Seen) -> Fate {
    if seen.record {
        return Fate::Done;
    }
    match (&seen.slurm, seen.ended) {
        (None | Some(Said::Is(State::Waits(_) | State::Runs)), _) => Fate::Open,
        (Some(Said::Is(State::Lost(word))), _) => Fate::Lost(word.clone()),
        _ if seen.since < PATIENCE => Fate::Open,
        (Some(Said::Is(State::Ended(_))), Some(code)) => Fate::Failed(code),
        (Some(Said::Is(State::Ended(word))), None) => Fate::Lost(word.clone()),
        (Some(Said::Nothing), _) => Fate::Lost("unknown to the controller".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(slurm: Option<Said>, ended: Option<u8>, seconds: u64) -> Seen {
        Seen {
            record: false,
            slurm,
            ended,
            since: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_record_counts_more_than_slurms_words() {
        for slurm in [
            None,
            Some(Said::Nothing),
            Some(Said::Is(State::Lost("NODE_FAIL".into()))),
            Some(Said::Is(State::Runs)),
        ] {
            let seen = Seen {
                record: true,
                ..seen(slurm, Some(3), 0)
            };
            assert_eq!(judge(&seen), Fate::Done);
        }
    }

    #[test]
    fn only_what_the_cluster_took_is_run_again() {
        let state = |word: &str| match word {
            "NODE_FAIL" | "CANCELLED" | "TIMEOUT" | "PREEMPTED" => State::Lost(word.into()),
            word => State::Ended(word.into()),
        };
        let of =
            |word: &str, ended, seconds| judge(&seen(Some(Said::Is(state(word))), ended, seconds));
        // Ended by a signal of Slurm, zonedev says 3: that is no word of its own.
        for word in ["NODE_FAIL", "CANCELLED", "TIMEOUT", "PREEMPTED"] {
            assert_eq!(of(word, Some(3), 0), Fate::Lost(word.into()));
            assert_eq!(of(word, None, 0), Fate::Lost(word.into()));
        }
        assert_eq!(of("FAILED", Some(5), 60), Fate::Failed(5));
        assert_eq!(of("COMPLETED", Some(0), 60), Fate::Failed(0));
        // Its script was killed.
        assert_eq!(of("FAILED", None, 60), Fate::Lost("FAILED".into()));
        // What it left may not be seen yet.
        assert_eq!(of("COMPLETED", Some(0), 1), Fate::Open);
        assert_eq!(judge(&seen(Some(Said::Nothing), None, 1)), Fate::Open);
        assert!(matches!(
            judge(&seen(Some(Said::Nothing), Some(3), 60)),
            Fate::Lost(_)
        ));
        // Nobody was asked.
        assert_eq!(judge(&seen(None, Some(3), 600)), Fate::Open);
    }
}
