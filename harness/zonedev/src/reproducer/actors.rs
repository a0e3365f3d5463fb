//! Who does which step: a function for each process, which waits for its turn. A case with one
//! process has nothing of this.

use std::collections::BTreeMap;

use proto::Op;

use super::error::CannotSay;
use super::text::{ident, statement, within_comment, wrapped};

/// The actor that a case begins with.
const MAIN: &str = "main";
/// Who does for PID 1 what a case says of an actor that there is not (any more).
const OUTSIDE: &str = "(outside)";

/// A process's function.
pub(super) fn function(actor: &str) -> String {
    match actor {
        OUTSIDE => "run_outside".to_owned(),
        actor => format!("run_{}", ident(actor)),
    }
}

/// A step in C.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) actor: String,
    pub(super) op: Op,
    /// Whether its process dies of it.
    pub(super) dies: bool,
    /// Statements, indented.
    pub(super) text: String,
}

/// The functions of a program's processes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// All but `main`.
    pub(super) functions: Vec<String>,
    /// What `main` does behind its beginning, which ends with a return.
    pub(super) main: String,
    /// Whether there is more than one, so that `main` waits for them.
    pub(super) several: bool,
}

/// Statements of a comment, with an empty line before them.
pub(super) fn comment(text: &str) -> String {
    let lines = wrapped(&within_comment(text), 66);
    match lines.as_slice() {
        [one] => format!("\n\t/* {one} */\n"),
        lines => {
            let body: String = lines.iter().map(|l| format!("\t * {l}\n")).collect();
            format!("\n\t/*\n{body}\t */\n")
        }
    }
}

/// Deals the steps out.
pub(super) fn deal(
    steps: Vec<Said>,
    begins: &BTreeMap<String, String>,
    ends: &dyn Fn(&str) -> String,
) -> Result<Processes, CannotSay> {
    if is_simple(&steps) {
        let text: String = steps.iter().map(|s| s.text.as_str()).collect();
        return Ok(Processes {
            main: text + &ends(MAIN) + "\treturn failures != 0;\n",
            ..Processes::default()
        });
    }
    let mut alive = vec![MAIN.to_owned()];
    let mut started = 1;
    let mut killed = 0;
    // What each does, in the order of their first turn.
    let mut bodies: Vec<(String, String)> = vec![(MAIN.to_owned(), String::new())];
    let mut phase = 0;
    let mut at = MAIN.to_owned();
    let mut gone = false;
    for said in steps {
        let silent = matches!(said.op, Op::Checkpoint { .. });
        let by = match (&said.actor, silent) {
            (_, true) if !gone => at.clone(),
            (actor, _) if alive.contains(actor) => actor.clone(),
            (_, _) if said.op.by_init() => OUTSIDE.to_owned(),
            (actor, _) => {
                return Err(CannotSay {
                    op: said.op.word(),
                    why: format!("there is no process `{actor}` when it comes"),
                });
            }
        };
        if by != at {
            if !gone {
                body(&mut bodies, &at).push_str("\tpass();\n");
            }
            phase += 1;
            let new = body(&mut bodies, &by);
            if !new.is_empty() {
                new.push('\n');
            }
            new.push_str(&format!("\tturn({phase});\n"));
            at.clone_from(&by);
            gone = false;
        }
        body(&mut bodies, &by).push_str(&said.text);
        match &said.op {
            Op::Fork { child } if !said.dies => {
                alive.push(child.clone());
                // Also one that does nothing is there.
                body(&mut bodies, child);
                started += 1;
            }
            Op::Exit {} => {
                alive.retain(|a| *a != by);
                gone = true;
            }
            _ => {}
        }
        if said.dies {
            alive.retain(|a| *a != by);
            gone = true;
            killed += 1;
        }
    }
    if !gone {
        body(&mut bodies, &at).push_str("\tpass();\n");
    }
    phase += 1;
    let mut out = Processes {
        several: true,
        ..Processes::default()
    };
    let outside = bodies.iter().any(|(by, _)| by == OUTSIDE);
    alive.extend(outside.then(|| OUTSIDE.to_owned()));
    for (by, text) in &bodies {
        let mut text = text.clone();
        if alive.contains(by) {
            // Who did the last step has nobody to wait for.
            if *by != at || gone {
                text += &format!("\n\tturn({phase});\n");
            }
            text += &ends(by);
        }
        let begin = begins.get(by).cloned().unwrap_or_default();
        let body = text.trim_start_matches('\n');
        let name = function(by);
        out.functions
            .push(format!("static void {name}(void)\n{{\n{begin}{body}}}\n"));
    }
    // A process that is started stands before the one that starts it.
    out.functions.reverse();
    let first = |by: &str| {
        let name = function(by);
        format!("\tif (!fork()) {{\n\t\t{name}();\n\t\t_exit(failures != 0);\n\t}}\n")
    };
    out.main += &statement(
        1,
        "now = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);",
    );
    out.main += &first(MAIN);
    if outside {
        out.main += &first(OUTSIDE);
        started += 1;
    }
    out.main += &format!("\treturn supervise({started}, {killed});\n");
    Ok(out)
}

fn body<'a>(bodies: &'a mut Vec<(String, String)>, by: &str) -> &'a mut String {
    let at = match bodies.iter().position(|(name, _)| name == by) {
        Some(at) => at,
        None => {
            bodies.push((by.to_owned(), String::new()));
            bodies.len() - 1
        }
    };
    &mut bodies[at].1
}

/// Whether one process does it all, and nothing comes behind its end.
fn is_simple(steps: &[Said]) -> bool {
    let forks = steps.iter().any(|s| matches!(s.op, Op::Fork { .. }));
    let end = steps
        .iter()
        .position(|s| matches!(s.op, Op::Exit {}) || s.dies);
    let behind = end.map_or(&[][..], |end| &steps[end + 1..]);
    !forks && behind.iter().all(|s| matches!(s.op, Op::Checkpoint { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(actor: &str, op: Op) -> Said {
        Said {
            actor: actor.into(),
            text: format!("\t{};\n", op.word()),
            op,
            dies: false,
        }
    }

    fn fork(actor: &str, child: &str) -> Said {
        let child = child.into();
        said(actor, Op::Fork { child })
    }

    #[test]
    fn one_process_is_main() {
        let steps = vec![said("main", Op::SwapOff {}), said("main", Op::Exit {})];
        let of = deal(steps, &BTreeMap::new(), &|_| String::new()).unwrap();
        assert!(!of.several && of.functions.is_empty());
        assert_eq!(of.main, "\tswap-off;\n\texit;\n\treturn failures != 0;\n");
    }

    #[test]
    fn several_take_turns() {
        let steps = vec![
            fork("main", "child"),
            said("child", Op::SwapOff {}),
            said("main", Op::Exit {}),
            said("main", Op::Rebind {}),
            said("child", Op::Exit {}),
        ];
        let of = deal(steps, &BTreeMap::new(), &|_| String::new()).unwrap();
        insta::assert_snapshot!(of.functions.join("\n") + "\n" + &of.main);
    }

    #[test]
    fn who_there_is_not_can_do_nothing() {
        let steps = vec![fork("main", "child"), said("nobody", Op::SwapOff {})];
        let e = deal(steps, &BTreeMap::new(), &|_| String::new()).unwrap_err();
        assert_eq!(e.op, "swap-off");
        assert!(e.why.contains("`nobody`"), "{e}");
    }
}
