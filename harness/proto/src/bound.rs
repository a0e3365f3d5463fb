//! What the host takes of an agent's message: no more than an honest agent would tell, and no text
//! that steers a terminal.
//!
//! A frame is bounded already. Here are the bounds of what costs more than its bytes: texts that
//! stand in many places of a report, and lists of which every element is compared with others.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::text::excerpt;
use crate::{
    AgentMessage, Backing, Checkpoint, Fact, NamespaceInfo, Outcome, ProgramOutput, Standing,
    StepResult,
};

/// Characters of a text.
pub const MAX_TEXT: usize = 4096;
/// Characters of a name: of a mapping, a file, a namespace, a counter.
pub const MAX_NAME: usize = 256;
/// Characters of a text in a sign of life.
const MAX_WORDS: usize = 160;
/// Bytes of a program's output: 1 MiB, of which each byte may have become a replacement character.
const MAX_OUTPUT: usize = 3 << 20;
/// Elements of a list of facts: a namespace of 256 MiB has so many pages.
const MAX_LIST: usize = 1 << 16;
/// Holds at a checkpoint.
pub const MAX_HOLDS: usize = 1 << 15;
/// Mismatches at a checkpoint, and counters.
const MAX_MISMATCHES: usize = 4096;
/// Namespaces, and the ranges of one.
const MAX_NAMESPACES: usize = 256;

/// A message that no honest agent sends.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("take {count} {what} (at most {most})")]
pub struct TooMuch {
    what: &'static str,
    count: usize,
    most: usize,
}

/// The message within bounds: long texts are cut, and what steers a terminal is escaped. Only a
/// program's output stays as it is, up to its length: who reads it escapes it.
///
/// # Errors
/// Where a list is longer than an honest agent's would be; cut, it would say something else.
pub fn bounded(mut message: AgentMessage) -> Result<AgentMessage, TooMuch> {
    match &mut message {
        AgentMessage::Ready { release, .. } => cut(release, MAX_NAME),
        AgentMessage::Done {
            outcome,
            checkpoint,
            ..
        } => {
            bound_outcome(outcome)?;
            if let Some(checkpoint) = checkpoint {
                bound_checkpoint(checkpoint)?;
            }
        }
        AgentMessage::Alive { standing, .. } => bound_standing(standing),
        AgentMessage::Profile { profile } => {
            limit("files of a profile", profile.files.len(), MAX_LIST)?;
            profile.left_out.truncate(MAX_MISMATCHES);
            for file in &mut profile.files {
                cut(&mut file.path, MAX_TEXT);
            }
            for text in &mut profile.left_out {
                cut(text, MAX_TEXT);
            }
        }
        AgentMessage::Fatal { message } => cut(message, MAX_TEXT),
    }
    Ok(message)
}

/// Leaves alone what is fine, as nearly all is.
fn cut(text: &mut String, most: usize) {
    let fine = text.len() <= most && !text.chars().any(crate::text::steers);
    if !fine {
        *text = excerpt(text, most);
    }
}

fn limit(what: &'static str, count: usize, most: usize) -> Result<(), TooMuch> {
    match count <= most {
        true => Ok(()),
        false => Err(TooMuch { what, count, most }),
    }
}

fn bound_outcome(outcome: &mut Outcome) -> Result<(), TooMuch> {
    limit("facts", outcome.facts.len(), MAX_LIST)?;
    match &mut outcome.result {
        StepResult::Ok {} | StepResult::WrongData { .. } => {}
        StepResult::Errno { errno, call } => {
            cut(errno, MAX_NAME);
            cut(call, MAX_NAME);
        }
        StepResult::Signal { signal: text }
        | StepResult::Blocked { wchan: text }
        | StepResult::Died { how: text } => cut(text, MAX_NAME),
        StepResult::Lacks { what: text } | StepResult::Failed { message: text } => {
            cut(text, MAX_TEXT);
        }
    }
    for fact in &mut outcome.facts {
        match fact {
            Fact::Mapped { map, backing, .. } => {
                cut(map, MAX_NAME);
                match backing {
                    Backing::File { file, .. } => cut(file, MAX_NAME),
                    Backing::Device { namespace, .. } => cut(namespace, MAX_NAME),
                    Backing::Anon { .. } | Backing::P2pmem {} => {}
                }
            }
            Fact::Touched { map: name, .. }
            | Fact::Extents { file: name, .. }
            | Fact::Large { map: name, .. }
            | Fact::Snapshot { map: name, .. }
            | Fact::Signalled { map: name, .. }
            | Fact::Pagemap { map: name, .. } => cut(name, MAX_NAME),
        }
        let (what, count) = match fact {
            Fact::Extents { extents, .. } => ("extents", extents.len()),
            Fact::Large { pages, .. } => ("large pages", pages.len()),
            Fact::Snapshot { permissions, .. } => ("pages of a snapshot", permissions.len()),
            Fact::Pagemap { runs, .. } => ("runs of a pagemap", runs.len()),
            Fact::Mapped { .. } | Fact::Touched { .. } | Fact::Signalled { .. } => continue,
        };
        limit(what, count, MAX_LIST)?;
    }
    if let Some(ProgramOutput { text, cut, .. }) = &mut outcome.output
        && text.len() > MAX_OUTPUT
    {
        let end = (0..=MAX_OUTPUT).rev().find(|n| text.is_char_boundary(*n));
        text.truncate(end.unwrap_or(0));
        *cut = true;
    }
    Ok(())
}

fn bound_checkpoint(checkpoint: &mut Checkpoint) -> Result<(), TooMuch> {
    limit("holds", checkpoint.holds.len(), MAX_HOLDS)?;
    limit("mismatches", checkpoint.mismatches.len(), MAX_MISMATCHES)?;
    limit("counters", checkpoint.counters.len(), MAX_MISMATCHES)?;
    limit("namespaces", checkpoint.namespaces.len(), MAX_NAMESPACES)?;
    for hold in &mut checkpoint.holds {
        cut(&mut hold.who, MAX_NAME);
    }
    for m in &mut checkpoint.mismatches {
        for text in [&mut m.what, &mut m.who, &mut m.predicted, &mut m.found] {
            cut(text, MAX_NAME);
        }
    }
    let counters = std::mem::take(&mut checkpoint.counters).into_iter();
    let counters = counters.map(|(mut name, n)| {
        cut(&mut name, MAX_NAME);
        (name, n)
    });
    checkpoint.counters = counters.collect::<BTreeMap<_, _>>();
    for NamespaceInfo {
        dev,
        name,
        mode,
        ranges,
        ..
    } in &mut checkpoint.namespaces
    {
        for text in [dev, name, mode] {
            cut(text, MAX_NAME);
        }
        limit("ranges of a namespace", ranges.len(), MAX_NAMESPACES)?;
    }
    Ok(())
}

fn bound_standing(standing: &mut Standing) {
    standing.pins.truncate(Standing::MAX_PINS);
    standing.stack.truncate(Standing::MAX_FRAMES);
    for text in [&mut standing.state, &mut standing.wchan]
        .into_iter()
        .chain(&mut standing.stack)
        .chain(standing.pins.iter_mut().map(|p| &mut p.who))
    {
        cut(text, MAX_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hold, HoldBy, PageType};

    fn hold(who: &str) -> Hold {
        Hold {
            pfn: 1,
            pages: 1,
            page_type: PageType::Fsdax,
            by: HoldBy::Pte {},
            who: who.into(),
        }
    }

    fn done(result: StepResult, checkpoint: Checkpoint) -> AgentMessage {
        AgentMessage::Done {
            id: 1,
            outcome: Outcome {
                result,
                facts: Vec::new(),
                output: None,
                took_us: 0,
            },
            checkpoint: Some(Box::new(checkpoint)),
        }
    }

    #[test]
    fn honest_messages_stay_as_they_are() {
        let checkpoint = Checkpoint {
            holds: vec![hold("main/größe"); MAX_HOLDS],
            counters: [("nr_free".to_owned(), 3)].into(),
            ..Checkpoint::default()
        };
        let result = StepResult::Failed {
            message: "mkfs: no space".into(),
        };
        let message = done(result, checkpoint);
        assert_eq!(bounded(message.clone()), Ok(message));
    }

    #[test]
    fn texts_are_cut_and_escaped_and_lists_are_refused() {
        let checkpoint = Checkpoint {
            holds: vec![hold("main/\u{1b}[2J")],
            counters: [("a\u{7}".to_owned(), 3)].into(),
            ..Checkpoint::default()
        };
        let errno = "E".repeat(1 << 20);
        let result = StepResult::Errno {
            errno,
            call: "x\ny".into(),
        };
        let Ok(AgentMessage::Done {
            outcome,
            checkpoint: Some(checkpoint),
            ..
        }) = bounded(done(result, checkpoint))
        else {
            panic!("refused");
        };
        assert_eq!(checkpoint.holds[0].who, "main/\\u{1b}[2J");
        assert_eq!(checkpoint.counters["a\\u{7}"], 3);
        let StepResult::Errno { errno, call } = outcome.result else {
            panic!("another result");
        };
        assert_eq!(
            (errno.chars().count(), call.as_str()),
            (MAX_NAME + 1, "x\\ny")
        );

        let many = Checkpoint {
            holds: vec![hold("main/a"); MAX_HOLDS + 1],
            ..Checkpoint::default()
        };
        let said = bounded(done(StepResult::Ok {}, many))
            .unwrap_err()
            .to_string();
        assert_eq!(said, "take 32769 holds (at most 32768)");
    }

    #[test]
    fn a_sign_of_life_and_a_programs_output_have_bounds_of_their_own() {
        let standing = Standing {
            stack: vec!["f".repeat(1000); 1000],
            pins: vec![hold("p"); 1000],
            ..Standing::default()
        };
        let alive = AgentMessage::Alive {
            id: 1,
            standing: Box::new(standing),
        };
        let Ok(AgentMessage::Alive { standing, .. }) = bounded(alive) else {
            panic!("refused");
        };
        let (stack, pins) = (&standing.stack, &standing.pins);
        assert_eq!(
            (stack.len(), pins.len()),
            (Standing::MAX_FRAMES, Standing::MAX_PINS)
        );
        assert_eq!(stack[0].chars().count(), MAX_WORDS + 1);

        let AgentMessage::Done {
            id, mut outcome, ..
        } = done(StepResult::Ok {}, Checkpoint::default())
        else {
            panic!("another message");
        };
        outcome.output = Some(ProgramOutput {
            text: "\u{1b}é".repeat(MAX_OUTPUT),
            ..ProgramOutput::default()
        });
        let message = AgentMessage::Done {
            id,
            outcome,
            checkpoint: None,
        };
        let Ok(AgentMessage::Done { outcome, .. }) = bounded(message) else {
            panic!("refused");
        };
        let output = outcome.output.unwrap();
        assert!(output.cut && output.text.len() <= MAX_OUTPUT);
        assert!(
            output.text.starts_with('\u{1b}'),
            "whoever reads it escapes it"
        );
    }
}
