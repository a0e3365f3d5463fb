use super::*;
use proptest::prelude::*;
use proto::{HoldBy, PageType, frame};

fn done(outcome: Outcome, checkpoint: Option<Checkpoint>) -> AgentMessage {
    AgentMessage::Done {
        id: 1,
        outcome,
        checkpoint: checkpoint.map(Box::new),
    }
}

fn plain(result: StepResult) -> Outcome {
    Outcome {
        result,
        facts: Vec::new(),
        output: None,
        took_us: 0,
    }
}

fn claims(holds: Vec<Hold>) -> AgentMessage {
    let checkpoint = Checkpoint {
        holds,
        ..Checkpoint::default()
    };
    done(plain(StepResult::Ok {}), Some(checkpoint))
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

#[test]
fn what_an_honest_agent_says_comes_through_as_it_is() {
    let holds = (0..1000).map(|n| pte(n * 3, 2, "main/m")).collect();
    let honest = claims(holds);
    assert_eq!(checked(honest.clone()).unwrap(), honest);
    let output = ProgramOutput {
        text: "TAP version 13\n\tok 1 ä\n".into(),
        code: 0,
        cut: false,
    };
    let mut outcome = plain(StepResult::Errno {
        errno: "ENOMEM".into(),
        call: "vmsplice".into(),
    });
    outcome.output = Some(output);
    let honest = done(outcome, None);
    assert_eq!(checked(honest.clone()).unwrap(), honest);
}

#[test]
fn no_text_is_long_or_steers_a_terminal() {
    let evil = format!("\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}{}", "x".repeat(1 << 20));
    let texts = |message: AgentMessage| {
        let json = serde_json::to_value(checked(message).unwrap()).unwrap();
        let mut texts = Vec::new();
        let mut todo = vec![json];
        while let Some(value) = todo.pop() {
            match value {
                serde_json::Value::String(text) => texts.push(text),
                serde_json::Value::Array(list) => todo.extend(list),
                serde_json::Value::Object(map) => {
                    for (key, value) in map {
                        texts.push(key);
                        todo.push(value);
                    }
                }
                _ => {}
            }
        }
        texts
    };
    let mut all = Vec::new();
    for result in [
        StepResult::Errno {
            errno: evil.clone(),
            call: evil.clone(),
        },
        StepResult::Signal {
            signal: evil.clone(),
        },
        StepResult::Blocked {
            wchan: evil.clone(),
        },
        StepResult::Died { how: evil.clone() },
        StepResult::Lacks { what: evil.clone() },
        StepResult::Failed {
            message: evil.clone(),
        },
    ] {
        all.extend(texts(done(plain(result), None)));
    }
    all.extend(texts(AgentMessage::Fatal {
        message: evil.clone(),
    }));
    all.extend(texts(AgentMessage::Ready {
        version: 1,
        release: evil.clone(),
        uptime_ms: 0,
    }));
    all.extend(texts(claims(vec![pte(0, 1, &evil)])));
    all.extend(texts(AgentMessage::Alive {
        id: 1,
        standing: Box::new(Standing {
            pid: 1,
            state: evil.clone(),
            wchan: evil.clone(),
            stack: vec![evil.clone(); 2],
            pins: vec![pte(0, 1, &evil)],
        }),
    }));
    assert!(all.len() > 15);
    for text in all {
        // An escaped character is up to nine.
        assert!(text.chars().count() <= 10 * MAX_MESSAGE, "{}", text.len());
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'));
    }
}

#[test]
fn the_output_of_a_program_stays_lines_and_is_cut() {
    let mut outcome = plain(StepResult::Ok {});
    outcome.output = Some(ProgramOutput {
        text: "ok 1\u{1b}[2J\r\n".repeat(1 << 20),
        code: 0,
        cut: false,
    });
    let AgentMessage::Done { outcome, .. } = checked(done(outcome, None)).unwrap() else {
        panic!()
    };
    let output = outcome.output.unwrap();
    assert!(output.cut);
    assert!(output.text.starts_with("ok 1\\u{1b}[2J\nok 1\\u{1b}"));
    assert!(output.text.len() < 2 * MAX_OUTPUT);
}

#[test]
fn too_many_claims_and_claims_that_overlap_too_much_end_the_talk() {
    let many = (0..=MAX_LIST as u64).map(|n| pte(n, 1, "w")).collect();
    assert!(checked(claims(many)).unwrap_err().contains("65537 claims"));
    let deep = (0..20_000).map(|n| pte(n, 1 << 40, "w")).collect();
    assert!(checked(claims(deep)).unwrap_err().contains("overlap"));
    // Many that lie side by side are no trouble, and neither are numbers beyond all memory.
    let flat = (0..60_000).map(|n| pte(n * 2, 1, "w")).collect();
    checked(claims(flat)).unwrap();
    checked(claims(vec![pte(u64::MAX, u64::MAX, "w"); 3])).unwrap();
}

#[test]
fn an_error_that_repeats_a_message_is_short_and_can_be_shown() {
    let json = format!("{{\"msg\":\"\\u001b]0;{}\"}}", "x".repeat(1 << 20));
    let error = frame::decode::<AgentMessage>(json.as_bytes()).unwrap_err();
    assert!(error.to_string().len() > 1 << 20);
    let said = words(&error);
    assert!(
        said.len() < 300 && !said.chars().any(char::is_control),
        "{said}"
    );
    assert!(said.contains("\\u{1b}]0;xxx"), "{said}");
}

#[test]
fn a_reading_keeps_no_more_runs_than_are_left_and_says_so() {
    use crate::record::testing::{region, state};
    let states: Vec<_> = (0..100).map(state).collect();
    let pages = PagesReading {
        regions: vec![region(guestmem::PageKind::FsDax, "n\u{1b}[0m", 0, &states); 2],
        problems: Vec::new(),
    };
    let mut left = 200;
    let whole = reading(pages.clone(), &mut left);
    assert_eq!((left, whole.problems.len()), (0, 0));
    assert_eq!(whole.regions[0].owner.as_deref(), Some("n\\u{1b}[0m"));
    let mut left = 150;
    let cut = reading(pages, &mut left);
    assert_eq!((left, cut.regions[1].runs.len()), (0, 50));
    assert!(cut.problems[0].what.starts_with("50 runs"));
}

proptest! {
    #[test]
    fn any_claims_are_judged_in_time_or_refused(
        spans in prop::collection::vec((any::<u64>(), any::<u64>()), 0..200)
    ) {
        let holds = spans.iter().map(|(pfn, pages)| pte(*pfn, *pages, "w")).collect();
        let _ = checked(claims(holds));
    }
}
