//! The screen that is live. It knows looks and keys; the terminal is another's.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::change::{Change, changes, cut};
use super::sight::{Class, Row, Sight, SightRegion};
use super::table::{TITLES, cells, heading, padded, region_heading, widths};

/// For how long a change stands out, milliseconds.
const STANDS_OUT_MS: u64 = 4000;
/// Lines of the log.
const LOG_LINES: u16 = 5;
/// Ranges that have a strip each; the others are in the table only.
const STRIPS: usize = 6;
/// Rows of the table that are made at all.
const MAX_ROWS: usize = 5000;

/// A key, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Go.
    Quit,
    /// Look no more, or again.
    Pause,
    /// Idle pages too, or not.
    All,
    /// The next class alone, or every one.
    Filter,
    /// The log, or not.
    Log,
    /// So many lines on; less than 0: back.
    Scroll(i32),
    /// To the first line.
    Top,
}

/// What is shown, and how.
#[derive(Debug, Default)]
pub struct Screen {
    sight: Option<Sight>,
    /// With the time of the look that showed it.
    recent: Vec<(u64, Change)>,
    paused: bool,
    all: bool,
    filter: Option<Class>,
    no_log: bool,
    scroll: usize,
    /// Without colours.
    plain: bool,
    /// What went wrong with the last look.
    trouble: Option<String>,
}

impl Screen {
    /// Nothing has been seen yet.
    pub fn new(colour: bool) -> Self {
        Screen {
            plain: !colour,
            ..Screen::default()
        }
    }

    /// Whether nobody wants looks.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// A new look.
    pub fn seen(&mut self, sight: Sight) {
        let now = sight.at_ms;
        self.recent
            .retain(|(at, _)| now.saturating_sub(*at) < STANDS_OUT_MS);
        if let Some(before) = &self.sight {
            for change in changes(before, &sight) {
                // What changes again stood out as something else before.
                self.recent.retain(|(_, c)| {
                    c.region != change.region || c.end <= change.offset || c.offset >= change.end
                });
                self.recent.push((now, change));
            }
        }
        self.sight = Some(sight);
        self.trouble = None;
    }

    /// A look that failed.
    pub fn failed(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// A key was pressed; false: it was the last.
    pub fn key(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return false,
            Key::Pause => self.paused = !self.paused,
            Key::All => self.all = !self.all,
            Key::Log => self.no_log = !self.no_log,
            Key::Top => self.scroll = 0,
            Key::Scroll(lines) => {
                let by = lines.unsigned_abs() as usize;
                self.scroll = match lines < 0 {
                    true => self.scroll.saturating_sub(by),
                    false => self.scroll.saturating_add(by),
                };
            }
            Key::Filter => {
                let there = self.sight.iter().flat_map(|s| &s.regions);
                let mut there: Vec<Class> = there.flat_map(|r| r.classes.keys()).copied().collect();
                there.sort_unstable();
                there.dedup();
                there.retain(|c| *c != Class::Idle);
                self.filter = match self.filter {
                    None => there.first().copied(),
                    Some(now) => there.into_iter().find(|c| *c > now),
                };
                self.scroll = 0;
            }
        }
        true
    }

    /// Draws it.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let Some(sight) = self.sight.take() else {
            let words = match &self.trouble {
                Some(why) => format!("failed to {why}"),
                None => "the first look is awaited".to_owned(),
            };
            frame.render_widget(Paragraph::new(words), frame.area());
            return;
        };
        let strips = sight.regions.len().min(STRIPS) as u16 * 2;
        let log = match self.no_log {
            true => 0,
            false => LOG_LINES.min(sight.log.len() as u16 + 1),
        };
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(strips),
            Constraint::Min(3),
            Constraint::Length(log),
            Constraint::Length(1),
        ])
        .split(frame.area());
        let head = Style::new().add_modifier(Modifier::BOLD);
        let title = match &self.trouble {
            Some(why) => Line::styled(format!("failed to {why}"), self.style(Class::Below)),
            None => Line::styled(heading(&sight), head),
        };
        frame.render_widget(Paragraph::new(title), areas[0]);
        let strips: Vec<Line<'_>> = sight
            .regions
            .iter()
            .take(STRIPS)
            .flat_map(|r| [Line::raw(region_heading(r)), self.strip(r, areas[1].width)])
            .collect();
        frame.render_widget(Paragraph::new(strips), areas[1]);
        self.table(&sight, areas[2], frame);
        if log > 0 {
            let mut lines = vec![Line::styled("kernel log", head)];
            let last = sight.log.len().saturating_sub(usize::from(log) - 1);
            let shown = sight.log[last..].iter().map(|l| proto::text::escape(l));
            lines.extend(shown.map(Line::raw));
            frame.render_widget(Paragraph::new(lines), areas[3]);
        }
        let keys = format!(
            "q quit  space {}  a {}  f {}  l log  ↑↓ PgUp PgDn scroll",
            if self.paused { "GO ON" } else { "pause" },
            if self.all { "less" } else { "all pages" },
            self.filter.map_or("filter", Class::word),
        );
        let dim = Style::new().add_modifier(Modifier::DIM);
        frame.render_widget(Paragraph::new(Line::styled(keys, dim)), areas[4]);
        self.sight = Some(sight);
    }

    /// The rows, with those on top that are scrolled to.
    fn table(&mut self, sight: &Sight, area: Rect, frame: &mut Frame<'_>) {
        let rows = self.rows(sight);
        let cells: Vec<[String; 7]> = rows.iter().map(|(row, _, _)| cells(row)).collect();
        let widths = widths(&cells);
        let room = usize::from(area.height).saturating_sub(1);
        let scroll = self.scroll.min(rows.len().saturating_sub(room.max(1)));
        let titles = Style::new().add_modifier(Modifier::UNDERLINED);
        let mut lines = vec![Line::styled(
            padded(&TITLES.map(str::to_owned), &widths),
            titles,
        )];
        if rows.is_empty() {
            lines.push(Line::raw(match self.filter {
                Some(class) => format!("no page is {}", class.word()),
                None => "every page is idle".to_owned(),
            }));
        }
        let shown = rows.iter().zip(&cells).skip(scroll).take(room);
        for ((row, change, region), cells) in shown {
            let mut style = self.style(row.class);
            let mut text = padded(cells, &widths);
            if let Some(change) = change {
                style = style.add_modifier(Modifier::REVERSED);
                text = format!("{}  {}", text.trim_end(), was(change, row));
            }
            if sight.regions.len() > 1 {
                text = format!("{}  {}", text.trim_end(), proto::text::escape(region));
            }
            lines.push(Line::styled(text.trim_end().to_owned(), style));
        }
        frame.render_widget(Paragraph::new(lines), area);
        self.scroll = scroll;
    }

    /// The rows that are wanted, cut where something changed.
    fn rows<'a>(&'a self, sight: &'a Sight) -> Vec<(Row, Option<&'a Change>, &'a str)> {
        let recent: Vec<&Change> = self.recent.iter().map(|(_, c)| c).collect();
        let mut out = Vec::new();
        for region in &sight.regions {
            for row in &region.rows {
                for (piece, change) in cut(row, region.start_pfn, &recent) {
                    let wanted = match self.filter {
                        Some(class) => piece.class == class,
                        None => self.all || piece.class != Class::Idle || change.is_some(),
                    };
                    if wanted && out.len() < MAX_ROWS {
                        out.push((piece, change, region.name.as_str()));
                    }
                }
            }
        }
        out
    }

    /// A range as wide as the screen: of each part what stands out most.
    fn strip(&self, region: &SightRegion, width: u16) -> Line<'static> {
        let width = u64::from(width.max(1));
        let first = region.rows.first().map_or(0, |r| r.offset);
        let pages = region.pages.max(1);
        let part = |column: u64| first + column * pages / width;
        let mut spans: Vec<Span<'static>> = Vec::new();
        let mut from = 0;
        for column in 0..width {
            let (start, end) = (part(column), part(column + 1).max(part(column) + 1));
            while region.rows.get(from).is_some_and(|r| r.end() <= start) {
                from += 1;
            }
            let over = region.rows[from..].iter().take_while(|r| r.offset < end);
            let most = over.map(|r| r.class).max();
            let (symbol, style) = match most {
                Some(class) => (symbol(class), self.style(class)),
                None => (" ", Style::new()),
            };
            match spans.last_mut() {
                Some(last) if last.style == style => last.content.to_mut().push_str(symbol),
                _ => spans.push(Span::styled(symbol.to_owned(), style)),
            }
        }
        Line::from(spans)
    }

    fn style(&self, class: Class) -> Style {
        if self.plain {
            return Style::new();
        }
        let colour = match class {
            Class::Idle => Color::DarkGray,
            Class::Entry => Color::Blue,
            Class::Mapped => Color::Green,
            Class::Held => Color::Yellow,
            Class::Pinned => Color::Magenta,
            Class::Below | Class::Poisoned | Class::Absent | Class::Unknown => Color::Red,
        };
        Style::new().fg(colour)
    }
}

/// What pages were before.
fn was(change: &Change, now: &Row) -> String {
    let mut parts = Vec::new();
    if change.was != now.class {
        parts.push(change.was.word().to_owned());
    }
    if change.refcount != now.refcount {
        parts.push(format!("refcount {}", change.refcount));
    }
    if change.mapcount != now.mapcount {
        parts.push(format!("mapcount {}", change.mapcount));
    }
    match parts.is_empty() {
        true => "(changed)".to_owned(),
        false => format!("(was {})", parts.join(", ")),
    }
}

fn symbol(class: Class) -> &'static str {
    match class {
        Class::Idle => "·",
        Class::Entry => "░",
        Class::Mapped => "▒",
        Class::Held => "▓",
        Class::Pinned => "█",
        Class::Below => "!",
        Class::Poisoned => "X",
        Class::Absent | Class::Unknown => "?",
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
