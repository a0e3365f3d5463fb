//! `zonedev cache`: what it holds, and making room in it.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use crate::build::{self, Cache, Entry, YOUNGEST};
use crate::vm::{Kept, Shelf};

use super::exit::{Exit, Failure};

const MIB: u64 = 1 << 20;
const DAY: u64 = 24 * 3600;
/// The room of templates.
const TEMPLATES: &str = "templates";

/// `zonedev cache`.
#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Remove what nobody has used for long; all of it can be made again
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
struct PruneArgs {
    /// Only in these rooms: kernels, trees, sources, downloads, images, selftests, templates
    #[arg(value_parser = ["kernels", "trees", "sources", "downloads", "images", "selftests", TEMPLATES])]
    rooms: Vec<String>,
    /// What was used in the last so many days stays, at least one; templates that nobody uses now may
    /// go with 0
    #[arg(long, value_name = "DAYS", default_value = "30")]
    older: u64,
    /// Say what would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) fn run(args: &CacheArgs, verbose: bool) -> Result<Exit, Failure> {
    let cache = Cache::of_user()?;
    match &args.what {
        None => show(&cache, verbose),
        Some(What::Prune(args)) => prune(&cache, args),
    }
}

fn show(cache: &Cache, verbose: bool) -> Result<Exit, Failure> {
    outln!("{}", cache.root());
    let mut total = 0;
    let mut line = |name: &str, what: &str, entries: &[Entry]| {
        let bytes: u64 = entries.iter().map(|e| e.bytes).sum();
        total += bytes;
        outln!("{:>10}  {:4}  {name:10} {what}", size(bytes), entries.len());
        if verbose {
            for entry in entries {
                outln!(
                    "{:>10}        {}, used {}",
                    size(entry.bytes),
                    entry.what,
                    age(entry.used)
                );
            }
        }
    };
    for room in build::stock(cache)? {
        line(room.name, room.what, &room.entries);
    }
    line(
        TEMPLATES,
        "booted machines that runs keep for later ones",
        &templates(cache),
    );
    outln!("{:>10}  in all", size(total));
    if !verbose {
        outln!("`zonedev -v cache` lists each; `zonedev cache prune` removes what is old");
    }
    Ok(Exit::Good)
}

fn entry(kept: Kept) -> Entry {
    Entry {
        path: kept.dir,
        what: kept.what,
        bytes: kept.bytes,
        used: kept.used,
    }
}

/// The kept templates as entries.
fn templates(cache: &Cache) -> Vec<Entry> {
    let mut all: Vec<Entry> = Shelf::of(cache.root())
        .list()
        .into_iter()
        .map(entry)
        .collect();
    all.sort_by_key(|entry| entry.used);
    all
}

fn prune(cache: &Cache, args: &PruneArgs) -> Result<Exit, Failure> {
    let wanted = |room: &str| args.rooms.is_empty() || args.rooms.iter().any(|r| r == room);
    let asked = Duration::from_secs(args.older.saturating_mul(DAY));
    let unused = |used: SystemTime, at_least: Duration| {
        used.elapsed().is_ok_and(|age| age >= asked.max(at_least))
    };
    let (mut bytes, mut count) = (0, 0);
    let mut tell = |room: &str, entries: &[Entry]| {
        for entry in entries {
            let (size, age) = (size(entry.bytes), age(entry.used));
            outln!("{size:>10}  {room}: {}, used {age}", entry.what);
            bytes += entry.bytes;
            count += 1;
        }
    };
    for room in build::stock(cache)?.into_iter().filter(|r| wanted(r.name)) {
        let mut old = room.entries;
        old.retain(|e| unused(e.used, YOUNGEST));
        if !args.dry_run {
            build::discard(cache, &old)?;
        }
        tell(room.name, &old);
    }
    if wanted(TEMPLATES) {
        let goes = |used| unused(used, Duration::ZERO);
        let old: Vec<Entry> = match args.dry_run {
            true => {
                let all = templates(cache).into_iter();
                all.filter(|e| goes(e.used)).collect()
            }
            false => {
                let gone = Shelf::of(cache.root()).prune(|k| goes(k.used));
                gone.into_iter().map(entry).collect()
            }
        };
        tell(TEMPLATES, &old);
    }
    let verb = if args.dry_run { "would be" } else { "are" };
    outln!("{}, {count} in number, {verb} removed", size(bytes));
    Ok(Exit::Good)
}

fn size(bytes: u64) -> String {
    match bytes / MIB {
        mib @ 1024.. => format!("{:.1} GiB", mib as f64 / 1024.0),
        0 => format!("{} KiB", bytes >> 10),
        mib => format!("{mib} MiB"),
    }
}

/// How long ago, in words.
fn age(used: SystemTime) -> String {
    let Ok(age) = used.elapsed() else {
        return "just now".to_owned();
    };
    let seconds = age.as_secs();
    let (n, unit) = match seconds {
        0..120 => return "just now".to_owned(),
        120..7200 => (seconds / 60, "minutes"),
        7200..172_800 => (seconds / 3600, "hours"),
        _ => (seconds / DAY, "days"),
    };
    format!("{n} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_fits() {
        assert_eq!(size(5 << 10), "5 KiB");
        assert_eq!(size(5 << 20), "5 MiB");
        assert_eq!(size(1536 << 20), "1.5 GiB");
    }
}
