//! `zonedev watch`: the pages of a guest in which somebody works, live.

use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::time::Duration;

use camino::Utf8Path;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::vm;
use crate::watch::{self, Client, Found, Key, Screen};

use super::args::BuildOptions;
use super::exit::{Exit, Failure};
use super::setup;

/// Lines of a page.
const PAGE: i32 = 20;

/// `zonedev watch`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The process of its `zonedev`, or a part of its kernel, fixture or case [default: the only one]
    pub(super) guest: Option<String>,
    /// Name the guests that can be watched
    #[arg(long)]
    pub(super) list: bool,
    /// One look, as a table; so it is where standard output is no terminal
    #[arg(long)]
    pub(super) once: bool,
    /// One look, as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Milliseconds from look to look
    #[arg(long, value_name = "MS", default_value = "500")]
    pub(super) interval: NonZero<u64>,
}

pub(super) async fn run(project: &Utf8Path, args: WatchArgs) -> Result<Exit, Failure> {
    let ctx = setup::build_context(project, &BuildOptions::default())?;
    let found = watch::guests(&vm::memory_places(ctx.cache.root())).await;
    if args.list {
        for guest in &found {
            outln!("{}", proto::text::escape(&guest.about.words()));
        }
        return Ok(Exit::Good);
    }
    let mut client = choose(found, args.guest.as_deref())?.client;
    let live = !args.once && !args.json && std::io::stdout().is_terminal();
    if live {
        return screen(client, Duration::from_millis(args.interval.get())).await;
    }
    let sight = client.look().await.map_err(|e| failed(&e))?;
    match args.json {
        true => {
            let text = serde_json::to_string_pretty(&sight);
            outln!("{}", text.map_err(|e| Failure::harness(e.to_string()))?);
        }
        false => out!("{}", watch::table(&sight)),
    }
    Ok(Exit::Good)
}

fn failed(error: &watch::WatchError) -> Failure {
    Failure::harness(format!("failed to {error}"))
}

/// The guest that is meant: the only one, or the only one whose words contain `name`.
fn choose(found: Vec<Found>, name: Option<&str>) -> Result<Found, Failure> {
    let is = |f: &Found| name.is_none_or(|n| f.about.words().contains(n));
    let pid = |f: &Found| name.is_some_and(|n| f.about.pid.to_string() == n);
    let exact = found.iter().any(pid);
    let mut meant: Vec<Found> = found
        .into_iter()
        .filter(|f| if exact { pid(f) } else { is(f) })
        .collect();
    let words: Vec<String> = meant
        .iter()
        .map(|f| proto::text::escape(&f.about.words()))
        .collect();
    match (meant.pop(), words.len()) {
        (Some(one), 1) => Ok(one),
        (Some(_), n) => Err(Failure::request(
            format!("{n} guests run: {}", words.join("; ")),
            "name one by its process or a part of these words",
        )),
        (None, _) => Err(Failure::nothing_selected(
            match name {
                Some(name) => format!("no guest that runs is called like `{name}`"),
                None => "no guest of yours runs".to_owned(),
            },
            "start one with `zonedev shell KERNEL` or `zonedev rerun RUN CELL`",
        )),
    }
}

/// The terminal as it was, when dropped: also where a panic or a signal ends us.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn screen(mut client: Client, every: Duration) -> Result<Exit, Failure> {
    let colour = super::look(&std::io::stdout()).colour;
    super::signals::tidy(ratatui::restore);
    let mut terminal = ratatui::try_init()?;
    let restored = Restored;
    let mut screen = Screen::new(colour);
    let mut keys = keys()?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gone = None;
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            _ = ticks.tick(), if gone.is_none() => {
                if screen.paused() {
                    continue;
                }
                match client.look().await {
                    Ok(sight) => screen.seen(sight),
                    Err(e @ watch::WatchError::Unread(_)) => screen.failed(e.to_string()),
                    Err(e) => {
                        screen.failed(format!("{e}: it has ended; q quits"));
                        gone = Some(());
                    }
                }
            }
            key = keys.recv() => match key {
                Some(Some(key)) if !screen.key(key) => break,
                Some(_) => {}
                None => break,
            },
        }
    }
    drop(restored);
    let _ = std::io::stdout().flush();
    Ok(Exit::Good)
}

/// What is typed; `None` stands for a terminal of another size. Read by a thread that ends with us:
/// nothing else can stop a read of a terminal.
fn keys() -> std::io::Result<mpsc::Receiver<Option<Key>>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            while let Ok(event) = event::read() {
                let key = match event {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        match meaning(key.code, key.modifiers) {
                            Some(key) => Some(key),
                            None => continue,
                        }
                    }
                    Event::Resize(..) => None,
                    _ => continue,
                };
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

fn meaning(code: KeyCode, with: KeyModifiers) -> Option<Key> {
    Some(match code {
        KeyCode::Char('c') if with.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char(' ' | 'p') => Key::Pause,
        KeyCode::Char('a') => Key::All,
        KeyCode::Char('f') => Key::Filter,
        KeyCode::Char('l') => Key::Log,
        KeyCode::Char('j') | KeyCode::Down => Key::Scroll(1),
        KeyCode::Char('k') | KeyCode::Up => Key::Scroll(-1),
        KeyCode::PageDown => Key::Scroll(PAGE),
        KeyCode::PageUp => Key::Scroll(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => Key::Top,
        KeyCode::End | KeyCode::Char('G') => Key::Scroll(i32::MAX),
        _ => return None,
    })
}
