//! The words of a request, as a job's zonedev is given them.

/// Options with a value that are the coordinator's own, or that each part has of its own.
const OURS: [&str; 5] = [
    "--executor",
    "--tasks",
    "--slurm-args",
    "--run-dir",
    "--partition",
];

/// What was typed, for one part: without the program and without what makes it a cluster's run. Templates are
/// not kept from run to run, since nodes would share their place.
pub(super) fn of_part(command: &[String]) -> Vec<String> {
    let mut out = without(typed(command), &OURS, "j");
    if !out.iter().any(|word| word == "--fresh") {
        out.push("--fresh".to_owned());
    }
    out
}

/// The same for a build of these kernels.
pub(super) fn of_build(command: &[String], kernels: &[&str]) -> Vec<String> {
    let mut out = without(typed(command), &OURS, "j");
    out = without(&out, &["--kernel"], "k");
    for kernel in kernels {
        out.extend(["-k".to_owned(), (*kernel).to_owned()]);
    }
    out
}

fn typed(command: &[String]) -> &[String] {
    command.get(1..).unwrap_or_default()
}

/// Words without these options and their values.
fn without(words: &[String], long: &[&str], short: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some((name, _)) = word.split_once('=')
            && long.contains(&name)
        {
            continue;
        }
        if long.contains(&word.as_str()) {
            words.next();
            continue;
        }
        let letters = match word.strip_prefix('-') {
            Some(letters) if !letters.starts_with('-') && !letters.is_empty() => letters,
            _ => {
                out.push(word.clone());
                continue;
            }
        };
        // Letters without a value may stand before one that has one: -vj2.
        let valued = letters.find(|c| !"vqh".contains(c));
        let option = valued.and_then(|at| Some((at, letters[at..].chars().next()?)));
        match option {
            None => out.push(word.clone()),
            Some((at, letter)) => {
                let value = match at + letter.len_utf8() == letters.len() {
                    true => words.next(),
                    false => None,
                };
                if !short.contains(letter) {
                    out.push(word.clone());
                    out.extend(value.cloned());
                } else if at > 0 {
                    out.push(format!("-{}", &letters[..at]));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_part_is_asked_for_as_the_whole_was() {
        let typed = "zonedev -q matrix --executor slurm -k 5.10 -vj2 --tasks=4 -E -j -s fsdax -j 3 --run-dir x \
                     --slurm-args --account=y --retries 1";
        assert_eq!(
            of_part(&words(typed)).join(" "),
            "-q matrix -k 5.10 -v -E -j -s fsdax --retries 1 --fresh"
        );
        let typed = "zonedev matrix --executor=slurm --fresh";
        assert_eq!(of_part(&words(typed)).join(" "), "matrix --fresh");
    }

    #[test]
    fn a_build_is_of_its_kernels_alone() {
        let typed = "zonedev matrix --executor slurm -k 5.10 --kernel=6.12 --kernel 7.3 -k7.2 -qk 7.1 -s fsdax";
        assert_eq!(
            of_build(&words(typed), &["5.10", "5.10:up"]).join(" "),
            "matrix -q -s fsdax -k 5.10 -k 5.10:up"
        );
    }
}
