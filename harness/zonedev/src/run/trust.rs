//! What an agent says, before anything is done with it.
//!
//! The agent runs in the guest that is under test: what comes may be anything that has the form of a
//! message. Texts are cut and what steers a terminal is escaped; lists that are longer than an honest
//! agent's, or claims that would take too long to judge, end the talk. Every field is named here, so
//! that one that is added has to be thought of. Numbers are used by nobody before they are checked.

use std::collections::BTreeMap;

use guestmem::PagesReading;
use proto::{
    AgentMessage, Backing, Checkpoint, Fact, Hold, Mismatch, NamespaceInfo, Outcome, Profile,
    ProgramOutput, Standing, StepResult,
};

use crate::record::{clip, escape_lines};

/// Characters of a text in a sign of life.
const MAX_WORDS: usize = 160;
/// Characters of a name.
const MAX_NAME: usize = 256;
/// Characters of a message for people.
const MAX_MESSAGE: usize = 4096;
/// Bytes of a program's output: what the agent cuts it at.
const MAX_OUTPUT: usize = 1 << 20;
/// Elements of a list: a namespace of 256 MiB has so many pages.
const MAX_LIST: usize = 1 << 16;
/// Counters, and namespaces with their ranges.
const MAX_FEW: usize = 1024;
/// Claims that overlap: bytes of the names of all holders of each stretch, summed over the stretches.
const MAX_HOLDERS: usize = 64 << 20;

/// Why a message is none of an agent's: a fragment for people.
pub(super) type Distrust = String;

/// The message as it may be used.
///
/// # Errors
/// Where it is more than any honest agent would say.
pub(super) fn checked(message: AgentMessage) -> Result<AgentMessage, Distrust> {
    Ok(match message {
        AgentMessage::Ready {
            version,
            release,
            uptime_ms,
        } => AgentMessage::Ready {
            version,
            release: clip(&release, MAX_NAME),
            uptime_ms,
        },
        AgentMessage::Done {
            id,
            outcome,
            checkpoint: told,
        } => AgentMessage::Done {
            id,
            outcome: self::outcome(outcome)?,
            checkpoint: match told {
                Some(told) => Some(Box::new(checkpoint(*told)?)),
                None => None,
            },
        },
        AgentMessage::Alive { id, standing: at } => AgentMessage::Alive {
            id,
            standing: Box::new(standing(*at)),
        },
        AgentMessage::Profile {
            profile: Profile { files, left_out },
        } => {
            few("files of a profile", files.len(), MAX_LIST)?;
            let mut files = files;
            for file in &mut files {
                file.path = clip(&file.path, MAX_MESSAGE);
            }
            let left_out = left_out.iter().take(MAX_FEW);
            AgentMessage::Profile {
                profile: Profile {
                    files,
                    left_out: left_out.map(|what| clip(what, MAX_MESSAGE)).collect(),
                },
            }
        }
        AgentMessage::Fatal { message } => AgentMessage::Fatal {
            message: clip(&message, MAX_MESSAGE),
        },
    })
}

fn few(what: &str, is: usize, most: usize) -> Result<(), Distrust> {
    match is <= most {
        true => Ok(()),
        false => Err(format!("it tells of {is} {what}, and {most} is the most")),
    }
}

fn outcome(outcome: Outcome) -> Result<Outcome, Distrust> {
    let Outcome {
        result,
        facts,
        output,
        took_us,
    } = outcome;
    few("facts", facts.len(), MAX_LIST)?;
    Ok(Outcome {
        result: step_result(result),
        facts: facts.into_iter().map(fact).collect::<Result<_, _>>()?,
        output: output.map(program_output),
        took_us,
    })
}

fn step_result(result: StepResult) -> StepResult {
    let (name, words) = (
        |s: String| clip(&s, MAX_NAME),
        |s: String| clip(&s, MAX_MESSAGE),
    );
    match result {
        StepResult::Ok {} => StepResult::Ok {},
        StepResult::Errno { errno, call } => StepResult::Errno {
            errno: name(errno),
            call: name(call),
        },
        StepResult::Signal { signal } => StepResult::Signal {
            signal: name(signal),
        },
        StepResult::Blocked { wchan } => StepResult::Blocked { wchan: name(wchan) },
        StepResult::Died { how } => StepResult::Died { how: name(how) },
        StepResult::WrongData {
            offset,
            expected,
            found,
        } => StepResult::WrongData {
            offset,
            expected,
            found,
        },
        StepResult::Lacks { what } => StepResult::Lacks { what: words(what) },
        StepResult::Failed { message } => StepResult::Failed {
            message: words(message),
        },
    }
}

/// The output of a program stays lines of text.
fn program_output(output: ProgramOutput) -> ProgramOutput {
    let ProgramOutput {
        mut text,
        code,
        mut cut,
    } = output;
    if text.len() > MAX_OUTPUT {
        let end = (0..=MAX_OUTPUT).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        cut = true;
    }
    ProgramOutput {
        text: escape_lines(&text),
        code,
        cut,
    }
}

fn fact(fact: Fact) -> Result<Fact, Distrust> {
    let name = |s: String| clip(&s, MAX_NAME);
    Ok(match fact {
        Fact::Mapped {
            map,
            backing: of,
            pages,
        } => Fact::Mapped {
            map: name(map),
            backing: backing(of),
            pages,
        },
        Fact::Touched {
            map,
            page,
            pages,
            write,
            faults,
            neighbours,
        } => Fact::Touched {
            map: name(map),
            page,
            pages,
            write,
            faults,
            neighbours,
        },
        Fact::Extents { file, extents } => {
            few("extents", extents.len(), MAX_LIST)?;
            Fact::Extents {
                file: name(file),
                extents,
            }
        }
        Fact::Large { map, pages } => {
            few("large pages", pages.len(), MAX_LIST)?;
            Fact::Large {
                map: name(map),
                pages,
            }
        }
        Fact::Snapshot {
            map,
            page,
            permissions,
        } => {
            few("pages of a snapshot", permissions.len(), MAX_LIST)?;
            Fact::Snapshot {
                map: name(map),
                page,
                permissions,
            }
        }
        Fact::Pagemap { map, runs } => {
            few("runs of a pagemap", runs.len(), MAX_LIST)?;
            Fact::Pagemap {
                map: name(map),
                runs,
            }
        }
    })
}

fn backing(backing: Backing) -> Backing {
    let name = |s: String| clip(&s, MAX_NAME);
    match backing {
        Backing::File {
            file,
            first_page,
            private,
        } => Backing::File {
            file: name(file),
            first_page,
            private,
        },
        Backing::Device {
            first_page,
            namespace,
        } => Backing::Device {
            first_page,
            namespace: name(namespace),
        },
        Backing::Anon { memory } => Backing::Anon { memory },
        Backing::P2pmem {} => Backing::P2pmem {},
    }
}

fn checkpoint(checkpoint: Checkpoint) -> Result<Checkpoint, Distrust> {
    let Checkpoint {
        holds,
        pins_in_ram,
        poison_unknown,
        mismatches,
        counters,
        namespaces,
    } = checkpoint;
    few("claims", holds.len(), MAX_LIST)?;
    few("mismatches", mismatches.len(), MAX_LIST)?;
    few("counters", counters.len(), MAX_FEW)?;
    few("namespaces", namespaces.len(), MAX_FEW)?;
    let holds: Vec<Hold> = holds.into_iter().map(|h| hold(h, MAX_NAME)).collect();
    overlaps(&holds)?;
    let counters: BTreeMap<String, i64> = counters
        .into_iter()
        .map(|(name, n)| (clip(&name, MAX_NAME), n))
        .collect();
    Ok(Checkpoint {
        holds,
        pins_in_ram,
        poison_unknown,
        mismatches: mismatches.into_iter().map(mismatch).collect(),
        counters,
        namespaces: namespaces
            .into_iter()
            .map(namespace)
            .collect::<Result<_, _>>()?,
    })
}

fn hold(hold: Hold, most: usize) -> Hold {
    let Hold {
        pfn,
        pages,
        page_type,
        by,
        who,
    } = hold;
    Hold {
        pfn,
        pages,
        page_type,
        by,
        who: clip(&who, most),
    }
}

/// Claims cut the pages into stretches, and each stretch is told with all of its holders.
fn overlaps(holds: &[Hold]) -> Result<(), Distrust> {
    let mut edges: Vec<(u64, bool, usize)> = Vec::with_capacity(holds.len() * 2);
    for hold in holds {
        let names = hold.who.len() + 32;
        edges.push((hold.pfn, true, names));
        edges.push((hold.pfn.saturating_add(hold.pages), false, names));
    }
    edges.sort_unstable();
    let (mut active, mut all) = (0usize, 0usize);
    for (_, begins, names) in edges {
        active = match begins {
            true => active.saturating_add(names),
            false => active.saturating_sub(names),
        };
        all = all.saturating_add(active);
        if all > MAX_HOLDERS {
            return Err("its claims overlap more than any case's do".to_owned());
        }
    }
    Ok(())
}

fn mismatch(mismatch: Mismatch) -> Mismatch {
    let Mismatch {
        what,
        who,
        page,
        pages,
        predicted,
        found,
    } = mismatch;
    Mismatch {
        what: clip(&what, MAX_NAME),
        who: clip(&who, MAX_NAME),
        page,
        pages,
        predicted: clip(&predicted, MAX_NAME),
        found: clip(&found, MAX_NAME),
    }
}

fn namespace(namespace: NamespaceInfo) -> Result<NamespaceInfo, Distrust> {
    let NamespaceInfo {
        dev,
        name,
        mode,
        resource,
        size,
        align,
        ranges,
    } = namespace;
    few("ranges of a namespace", ranges.len(), MAX_FEW)?;
    Ok(NamespaceInfo {
        dev: clip(&dev, MAX_NAME),
        name: clip(&name, MAX_NAME),
        mode: clip(&mode, MAX_NAME),
        resource,
        size,
        align,
        ranges,
    })
}

fn standing(standing: Standing) -> Standing {
    let Standing {
        pid,
        state,
        wchan,
        mut stack,
        mut pins,
    } = standing;
    stack.truncate(Standing::MAX_FRAMES);
    pins.truncate(Standing::MAX_PINS);
    Standing {
        pid,
        state: clip(&state, MAX_WORDS),
        wchan: clip(&wchan, MAX_WORDS),
        stack: stack.iter().map(|frame| clip(frame, MAX_WORDS)).collect(),
        pins: pins.into_iter().map(|pin| hold(pin, MAX_WORDS)).collect(),
    }
}

/// What an error says of a message that was not understood: it may repeat a part of it.
pub(super) fn words(error: &impl std::fmt::Display) -> String {
    clip(&error.to_string(), MAX_NAME)
}

/// Runs of pages that a cell keeps of all its checkpoints. A fixture has 200,000 pages or so, and
/// where each of them is in a state of its own, that is what is wrong.
pub(super) const MAX_RUNS: usize = 1 << 17;

/// A reading with names that can be shown, of at most `left` runs; what is left out is no page that
/// was read.
pub(super) fn reading(mut pages: PagesReading, left: &mut usize) -> PagesReading {
    let mut out = 0u64;
    for region in &mut pages.regions {
        region.owner = region.owner.as_ref().map(|owner| clip(owner, MAX_NAME));
        let runs = region.runs.split_off((*left).min(region.runs.len()));
        *left -= region.runs.len();
        out = out.saturating_add(runs.len() as u64);
    }
    for problem in &mut pages.problems {
        problem.what = clip(&problem.what, MAX_MESSAGE);
    }
    if out > 0 {
        pages.problems.push(guestmem::Problem {
            kind: guestmem::ProblemKind::Limit,
            pfn: None,
            pages: 0,
            what: format!("{out} runs of pages are more than a cell keeps, and left out"),
        });
    }
    pages
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
