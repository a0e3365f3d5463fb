//! Trials of candidates: several at a time, each in a clone, and each written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::task::JoinSet;

use super::begin::Asked;
use super::{CASE, Shared};
use crate::bisect::Trials as Seen;
use crate::cli::exit::Failure;
use crate::minimise::{
    Came, Figures, Head, Is, Journal, Line, Oracle, Program, Sequential, Signature, write,
};
use crate::record::CellVerdict;
use crate::report::escape;
use crate::run::Stand;
use crate::spec::Contract;
use crate::verdict;

/// Trials of the whole case that must all show it for one that always does.
const ALWAYS: u32 = 6;
/// Of one that does not always: trials, at least, until it was seen so often, and at most.
const LEAST: u32 = 12;
const LEAST_SHOWN: u32 = 5;
const MOST: u32 = 120;
/// Trials of the result, by the same rule.
const RESULT_ALWAYS: u32 = 10;
const RESULT_PATIENT: u32 = 3;
const RESULT_LEAST: u32 = 24;
const RESULT_MOST: u32 = 240;
/// So often the harness or the host may break a trial.
const HOST_TRIES: u32 = 3;

/// What is known of a candidate.
struct Known {
    test: Sequential,
    /// It fails in a way of its own.
    otherwise: bool,
    /// Whether the good kernel passed it.
    good: Option<bool>,
}

/// Everybody's trials.
pub(super) struct Trials {
    bad: Shared,
    good: Option<Shared>,
    contracts: Vec<Contract>,
    journal: Journal,
    signature: Signature,
    figures: Figures,
    jobs: usize,
    dir: Utf8PathBuf,
    known: BTreeMap<String, Known>,
    lines: Vec<Line>,
    /// Folders so far.
    folders: u64,
    /// Trials in all, those before it went on among them, and those of them by this process.
    pub(super) ran: u32,
    ours: u32,
    /// Seconds of searching, without what was cut off, and from when on they are to be counted.
    pub(super) searched_s: f64,
    since: Instant,
    /// Where the best so far is written, and what is said of it.
    place: Utf8PathBuf,
    head: Head,
    /// Of the whole case.
    whole: Seen,
    /// Why the result fails, in a trial's own words.
    pub(super) reason: Option<String>,
}

/// What one trial was.
struct Trial {
    verdict: CellVerdict,
    took_s: f64,
}

/// Which trial.
#[derive(Clone, Copy, Debug)]
struct Which {
    candidate: usize,
    good: bool,
}

impl Trials {
    pub(super) fn new(
        asked: &Asked,
        (bad, good): (Stand, Option<Stand>),
        (contracts, head): (Vec<Contract>, Head),
        (jobs, since): (usize, Instant),
    ) -> Self {
        Trials {
            bad: Arc::new(bad),
            good: good.map(Arc::new),
            contracts,
            journal: asked.journal.clone(),
            signature: asked.question.signature.clone(),
            figures: Figures::ALWAYS,
            jobs,
            dir: asked.dir.join("trials"),
            known: BTreeMap::new(),
            lines: asked.lines.clone(),
            folders: 0,
            ran: 0,
            ours: 0,
            searched_s: 0.0,
            since,
            place: asked.dir.join(CASE),
            head,
            whole: Seen::default(),
            reason: None,
        }
    }

    /// How long an operation may take from now on.
    pub(super) fn hurry(&mut self, limit: Option<Duration>) {
        for stand in [Some(&mut self.bad), self.good.as_mut()]
            .into_iter()
            .flatten()
        {
            // Nothing runs now: it is ours alone.
            if let Some(stand) = Arc::get_mut(stand) {
                stand.hurry(limit);
            }
        }
    }

    /// Whether the journal says that nothing is hurried any more.
    pub(super) fn is_patient(&self) -> bool {
        self.lines.contains(&Line::Patient {})
    }

    /// What was refused before may fail after all.
    pub(super) fn patient(&mut self) -> Result<(), Failure> {
        self.journal.tell(&Line::Patient {})?;
        self.known
            .retain(|_, known| known.test.decided() == Some(true));
        Ok(())
    }

    /// The whole case, until its rate is known.
    pub(super) async fn whole(&mut self, program: &Program) -> Result<Seen, Failure> {
        let lines = std::mem::take(&mut self.lines);
        for line in &lines {
            if let Line::Whole { came, reasons, .. } = line {
                self.count(false);
                self.of_whole(came, reasons);
            }
        }
        self.lines = lines;
        let enough = |seen: Seen| {
            let all = seen.shown == seen.trials;
            seen.trials >= MOST
                || all && seen.trials >= ALWAYS
                || seen.trials >= LEAST && seen.shown >= LEAST_SHOWN
        };
        if let (Some(good), 0) = (&self.good, self.whole.trials) {
            let verdict = self.once(Arc::clone(good), program, 0, true).await?.verdict;
            if let CellVerdict::Fail { reasons, .. } = &verdict {
                let why = reasons.first().map(String::as_str).unwrap_or_default();
                return Err(Failure::request(
                    format!(
                        "the whole case fails on the good kernel, too: {}",
                        escape(why)
                    ),
                    "name another one with --good",
                ));
            }
        }
        while !enough(self.whole) {
            let many = match self.whole.shown == self.whole.trials {
                true => ALWAYS.saturating_sub(self.whole.trials).max(1),
                false => MOST - self.whole.trials,
            };
            let begun = self.whole.trials;
            for trial in self.several(program, begun, many).await? {
                let (came, reasons) = self.came(&trial.verdict)?;
                let line = Line::Whole {
                    came: came.clone(),
                    reasons: reasons.clone(),
                    took_s: trial.took_s,
                };
                self.journal.tell(&line)?;
                self.count(true);
                self.of_whole(&came, &reasons);
            }
            if self.whole.trials == begun {
                break;
            }
        }
        if self.whole.shown == 0 {
            return Err(Failure::request(
                format!(
                    "it does not fail so: {} trials of the whole case did not show `{}`",
                    self.whole.trials, self.signature.reason
                ),
                "see with `zonedev matrix --repeat` whether it still fails; --title names another reason",
            ));
        }
        errln!(
            "the whole case, {}: failed so in {} of {} trials",
            program.measure(),
            self.whole.shown,
            self.whole.trials
        );
        Ok(self.whole)
    }

    fn of_whole(&mut self, came: &Came, reasons: &[String]) {
        self.whole.trials += 1;
        self.whole.shown += u32::from(*came == Came::Shows {});
        // What it says beside, or instead now and then, is no news in a candidate.
        self.signature.beside(reasons);
    }

    /// What a candidate is compared with from now on; what the journal knows of candidates is known.
    pub(super) fn compare(&mut self, figures: Figures) {
        self.figures = figures;
        for line in std::mem::take(&mut self.lines) {
            match &line {
                Line::Trial {
                    program,
                    good,
                    came,
                    ..
                } => {
                    self.count(false);
                    self.learn(program, *good, came);
                }
                Line::Patient {} => {
                    self.known
                        .retain(|_, known| known.test.decided() == Some(true));
                }
                Line::Searched { took_s } => self.searched_s += took_s,
                _ => {}
            }
            self.lines.push(line);
        }
    }

    /// The result, until its rate is known.
    pub(super) async fn result(&mut self, program: &Program, slow: bool) -> Result<Seen, Failure> {
        let digest = program.digest();
        let mut seen = Seen::default();
        for line in &self.lines {
            if let Line::Result {
                program,
                came,
                reason,
                ..
            } = line
                && *program == digest
            {
                self.reason = self.reason.take().or_else(|| reason.clone());
                seen.trials += 1;
                seen.shown += u32::from(*came == Came::Shows {});
            }
        }
        let always = if slow { RESULT_PATIENT } else { RESULT_ALWAYS };
        let enough = |seen: Seen| {
            let all = seen.shown == seen.trials;
            seen.trials >= RESULT_MOST
                || all && seen.trials >= always
                || seen.trials >= RESULT_LEAST && seen.shown >= LEAST_SHOWN
        };
        while !enough(seen) {
            let many = match seen.shown == seen.trials {
                true => always.saturating_sub(seen.trials).max(1),
                false => RESULT_MOST - seen.trials,
            };
            let before = seen.trials;
            for trial in self.several(program, before, many).await? {
                let (came, reasons) = self.came(&trial.verdict)?;
                seen.trials += 1;
                seen.shown += u32::from(came == Came::Shows {});
                let reason = self.signature.find(&reasons).cloned();
                self.reason = self.reason.take().or_else(|| reason.clone());
                self.journal.tell(&Line::Result {
                    program: digest.clone(),
                    came,
                    reason,
                    took_s: trial.took_s,
                })?;
                self.count(true);
            }
            if seen.trials == before {
                break;
            }
        }
        Ok(seen)
    }

    /// Whether such trials say that it fails often enough.
    pub(super) fn is_enough(&self, seen: Seen) -> bool {
        let rate = f64::from(seen.shown) / f64::from(seen.trials.max(1));
        rate >= (self.figures.enough + self.figures.rare) / 2.0
    }

    /// Writes down how long it took since the last time.
    pub(super) fn searched(&mut self) -> Result<(), Failure> {
        if self.ours > 0 {
            let took_s = self.since.elapsed().as_secs_f64();
            self.searched_s += took_s;
            self.journal.tell(&Line::Searched { took_s })?;
            (self.ours, self.since) = (0, Instant::now());
        }
        Ok(())
    }

    /// Removes what trials left.
    pub(super) fn tidy(&self) {
        let _ = fs_err::remove_dir_all(&self.dir);
    }

    fn count(&mut self, ours: bool) {
        self.ran += 1;
        self.ours += u32::from(ours);
    }

    fn came(&self, verdict: &CellVerdict) -> Result<(Came, Vec<String>), Failure> {
        let reasons = match verdict {
            CellVerdict::Fail { reasons, .. } => reasons.clone(),
            _ => Vec::new(),
        };
        match self.signature.judge(verdict) {
            Some(Is::Shows) => Ok((Came::Shows {}, reasons)),
            Some(Is::Passes) => Ok((Came::Passes {}, reasons)),
            Some(Is::Otherwise(reason)) => Ok((Came::Otherwise { reason }, reasons)),
            None => Err(Failure::harness(format!(
                "failed {HOST_TRIES} times to try a case: {verdict:?}"
            ))),
        }
    }

    fn learn(&mut self, program: &str, good: bool, came: &Came) {
        let figures = self.figures;
        let known = self.known.entry(program.to_owned()).or_insert(Known {
            test: Sequential::new(figures),
            otherwise: false,
            good: None,
        });
        match (good, came) {
            (true, came) => known.good = Some(*came == Came::Passes {}),
            (false, came) => {
                known.test.learn(*came == Came::Shows {});
                known.otherwise |= matches!(came, Came::Otherwise { .. });
            }
        }
    }

    /// Whether a candidate fails as it should, where that is clear.
    fn decided(&self, program: &str) -> Option<bool> {
        let known = self.known.get(program)?;
        if known.otherwise || known.good == Some(false) {
            return Some(false);
        }
        match known.test.decided()? {
            true if self.good.is_some() && known.good.is_none() => None,
            decided => Some(decided),
        }
    }

    /// What is to be tried of a candidate next to `running` trials of it, if anything.
    fn wants(&self, program: &str, running: &[Which]) -> Option<bool> {
        let known = self.known.get(program);
        let shown = known.is_some_and(|k| k.test.seen().shown > 0);
        let good = running.iter().any(|w| w.good);
        if shown && !good && self.good.is_some() && known.is_some_and(|k| k.good.is_none()) {
            return Some(true);
        }
        let fewest = known.map_or_else(
            || Sequential::new(self.figures).fewest(),
            |k| k.test.fewest(),
        );
        let bad = running.iter().filter(|w| !w.good).count();
        (bad < fewest as usize).then_some(false)
    }

    /// One trial, in a folder of its own that goes with it.
    fn once(
        &mut self,
        stand: Shared,
        program: &Program,
        n: u32,
        good: bool,
    ) -> impl Future<Output = Result<Trial, Failure>> + Send + 'static {
        self.folders += 1;
        let dir = self.dir.join(self.folders.to_string());
        let contract = self.contracts[usize::from(good)].clone();
        let steps = program.steps.clone();
        async move {
            let clock = Instant::now();
            let mut tries = 0;
            loop {
                let record = stand.trial(&steps, n, dir.clone()).await?;
                let verdict = verdict::judge_cell(&record, &contract).verdict;
                // What is of use was judged.
                let _ = fs_err::remove_dir_all(&dir);
                tries += 1;
                if matches!(verdict, CellVerdict::Error { .. }) && tries < HOST_TRIES {
                    continue;
                }
                return Ok(Trial {
                    verdict,
                    took_s: clock.elapsed().as_secs_f64(),
                });
            }
        }
    }

    /// As many trials of one program as run at a time, and no more than `many`.
    async fn several(
        &mut self,
        program: &Program,
        begun: u32,
        many: u32,
    ) -> Result<Vec<Trial>, Failure> {
        let mut set = JoinSet::new();
        let many = many.min(u32::try_from(self.jobs).unwrap_or(1));
        for n in 0..many {
            let stand = Arc::clone(&self.bad);
            set.spawn(self.once(stand, program, begun + n, false));
        }
        let mut out = Vec::new();
        while let Some(done) = set.join_next().await {
            out.push(done.map_err(|e| Failure::harness(e.to_string()))??);
        }
        Ok(out)
    }
}

impl Oracle for Trials {
    type Error = Failure;

    async fn first(&mut self, candidates: &[Program]) -> Result<Option<usize>, Failure> {
        let digests: Vec<String> = candidates.iter().map(Program::digest).collect();
        let mut set: JoinSet<(Which, Result<Trial, Failure>)> = JoinSet::new();
        let mut running: Vec<Which> = Vec::new();
        let mut begun: BTreeMap<usize, u32> = BTreeMap::new();
        let found = loop {
            // None before the first that is not refused can be taken.
            let open = (0..candidates.len()).find(|n| self.decided(&digests[*n]) != Some(false));
            match open {
                None => break None,
                Some(n) if self.decided(&digests[n]) == Some(true) => break Some(n),
                Some(_) => {}
            }
            for n in 0..candidates.len() {
                if self.decided(&digests[n]) == Some(true) {
                    break;
                }
                while running.len() < self.jobs && self.decided(&digests[n]).is_none() {
                    let of_it: Vec<Which> = running
                        .iter()
                        .filter(|w| w.candidate == n)
                        .copied()
                        .collect();
                    let Some(good) = self.wants(&digests[n], &of_it) else {
                        break;
                    };
                    let stand = match (&self.good, good) {
                        (Some(stand), true) => Arc::clone(stand),
                        _ => Arc::clone(&self.bad),
                    };
                    let nth = begun.entry(n).or_insert_with(|| {
                        let known = self.known.get(&digests[n]);
                        known.map_or(0, |k| k.test.seen().trials)
                    });
                    let seed = *nth;
                    *nth += u32::from(!good);
                    let which = Which { candidate: n, good };
                    let trial = self.once(stand, &candidates[n], seed, good);
                    running.push(which);
                    set.spawn(async move { (which, trial.await) });
                }
            }
            let Some(done) = set.join_next().await else {
                return Err(Failure::harness("nothing is left to try: a bug of zonedev"));
            };
            let (which, trial) = done.map_err(|e| Failure::harness(e.to_string()))?;
            let at = running
                .iter()
                .position(|w| (w.candidate, w.good) == (which.candidate, which.good));
            if let Some(at) = at {
                running.swap_remove(at);
            }
            let trial = trial?;
            let (came, _) = match (which.good, &trial.verdict) {
                // There it must pass, in whatever way it may fail.
                (true, CellVerdict::Fail { reasons, .. }) => {
                    let reason = reasons.first().cloned().unwrap_or_default();
                    (Came::Otherwise { reason }, Vec::new())
                }
                (_, verdict) => self.came(verdict)?,
            };
            let program = digests[which.candidate].clone();
            self.learn(&program, which.good, &came);
            self.journal.tell(&Line::Trial {
                program,
                good: which.good,
                came,
                took_s: trial.took_s,
            })?;
            self.count(true);
        };
        // What still runs has nothing to say any more; its guests end with it.
        set.shutdown().await;
        Ok(found)
    }

    fn better(&mut self, program: &Program, what: &str) -> Result<(), Failure> {
        errln!(
            "{} after {} trials ({})",
            program.measure(),
            self.ran,
            escape(what)
        );
        let mut head = self.head.clone();
        head.comment.push(
            "The search goes on: this is the best so far, and is not confirmed yet.".to_owned(),
        );
        fs_err::write(&self.place, write(&head, program))?;
        self.searched()
    }
}
