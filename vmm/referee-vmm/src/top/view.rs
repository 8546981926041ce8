//! What is seen, and what keys change of it. Pure: rows and keys go in, cells of a terminal or text come out.

use std::cmp::Ordering;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row as TableRow, Table};
use referee_node::client::ClientError;

use crate::top::rows::{Row, Sample, rows};

/// What is to be done after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing more is shown.
    Quit,
    /// It looks different now.
    Draw,
    /// Nothing, until it is time to ask again.
    Ask,
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Name,
    State,
    Calls,
    Half,
    Most,
    Faults,
    Slots,
    Waiting,
    Alerts,
}

/// A column: what it is sorted by, its head, its key, its width.
const COLUMNS: [(Sort, &str, char, u16); 9] = [
    (Sort::Name, "NAME", 'n', 24),
    (Sort::State, "STATE", 's', 8),
    (Sort::Calls, "CALLS/S", 'c', 9),
    (Sort::Half, "P50", 'h', 8),
    (Sort::Most, "P99", 'p', 8),
    (Sort::Faults, "FAULTS", 'f', 8),
    (Sort::Slots, "SLOT%", 'u', 7),
    (Sort::Waiting, "RUN+WAIT", 'w', 12),
    (Sort::Alerts, "ALERTS", 'a', 30),
];

/// Lines that tell of alerts.
const ALERTS_MAX: u16 = 5;

/// Everything that is shown.
#[derive(Debug)]
pub struct View {
    host: String,
    before: Sample,
    now: Sample,
    rows: Vec<Row>,
    sort: Sort,
    /// The other way round: names from the last, figures from the least.
    reversed: bool,
    /// The row at the top.
    first: usize,
    /// Why the last look brought nothing.
    trouble: Option<String>,
}

impl View {
    /// After the first look.
    pub fn new(host: String, first: Sample) -> View {
        let mut view = View {
            host,
            rows: Vec::new(),
            before: first.clone(),
            now: first,
            sort: Sort::Name,
            reversed: false,
            first: 0,
            trouble: None,
        };
        view.renew();
        view
    }

    /// Takes what the next look brought.
    pub fn take(&mut self, answer: Result<Sample, ClientError>) {
        match answer {
            Ok(sample) => {
                self.before = std::mem::replace(&mut self.now, sample);
                self.trouble = None;
                self.renew();
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Next {
        let last = self.rows.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Next::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Down | KeyCode::Char('j') => self.first = (self.first + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown => self.first = (self.first + PAGE).min(last),
            KeyCode::PageUp => self.first = self.first.saturating_sub(PAGE),
            KeyCode::Home => self.first = 0,
            KeyCode::Char(letter) => {
                let column = COLUMNS.iter().find(|(_, _, key, _)| *key == letter);
                let Some((sort, ..)) = column else {
                    return Next::Ask;
                };
                self.reversed = self.sort == *sort && !self.reversed;
                self.sort = *sort;
            }
            _ => return Next::Ask,
        }
        self.order();
        Next::Draw
    }

    fn renew(&mut self) {
        self.rows = rows(&self.before, &self.now);
        self.first = self.first.min(self.rows.len().saturating_sub(1));
        self.order();
    }

    /// Figures from the greatest, names from the first; those that are alike by name.
    fn order(&mut self) {
        let (sort, reversed) = (self.sort, self.reversed);
        self.rows.sort_by(|a, b| {
            let order = compare(sort, a, b);
            let order = if reversed { order.reverse() } else { order };
            order.then_with(|| a.name.cmp(&b.name))
        });
    }

    /// As text, every row of it.
    pub fn text(&self) -> String {
        let heads = COLUMNS.map(|(_, head, _, _)| head.to_owned());
        let lines: Vec<[String; 9]> = std::iter::once(heads)
            .chain(self.rows.iter().map(cells))
            .collect();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 9] = std::array::from_fn(width);
        let mut text = printable(&self.head());
        text.push('\n');
        for line in &lines {
            let padded = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            text.push_str(printable(&padded.collect::<Vec<_>>().join("  ")).trim_end());
            text.push('\n');
        }
        text
    }

    /// On a terminal.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let alerts = self.alerts();
        let alert_lines = u16::try_from(alerts.len()).unwrap_or(ALERTS_MAX).min(ALERTS_MAX);
        let parts = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(alert_lines),
            Constraint::Length(1),
        ]);
        let [head, table, below, foot] = parts.areas(frame.area());
        let title = match &self.trouble {
            None => Line::from(self.head()),
            Some(why) => Line::from(format!("no answer: {why}")).style(BAD),
        };
        frame.render_widget(title, head);
        let heads = COLUMNS.map(|(sort, head, _, _)| match (sort == self.sort, self.reversed) {
            (false, _) => head.to_owned(),
            (true, false) => format!("{head}▼"),
            (true, true) => format!("{head}▲"),
        });
        let rows = self.rows.iter().skip(self.first).map(|row| {
            let style = match () {
                () if !row.alerts.is_empty() => BAD,
                () if row.state == "paused" => Style::new().add_modifier(Modifier::DIM),
                () => Style::new(),
            };
            TableRow::new(cells(row)).style(style)
        });
        let widths = COLUMNS.map(|(sort, _, _, width)| match sort {
            Sort::Name | Sort::Alerts => Constraint::Min(width),
            _ => Constraint::Length(width),
        });
        let heads = TableRow::new(heads).style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_widget(Table::new(rows, widths).header(heads), table);
        frame.render_widget(Paragraph::new(alerts).style(BAD), below);
        frame.render_widget(keys(), foot);
    }

    fn head(&self) -> String {
        let deployments = self.now.shown.len();
        let mut head = format!("{}  {deployments} deployments", self.host);
        if let Some(stats) = &self.now.stats {
            let used = stats.slots.saturating_sub(stats.free_slots);
            head.push_str(&format!(
                "  {} workers  {used}/{} slots  {} audit records{}",
                stats.workers,
                stats.slots,
                stats.audit_records,
                if stats.draining { "  ENDING" } else { "" }
            ));
        }
        head
    }

    fn alerts(&self) -> Vec<Line<'_>> {
        let each = |row: &Row| {
            let line = |alert: &String| Line::from(format!("{}: {alert}", row.name));
            row.alerts.iter().map(line).collect::<Vec<_>>()
        };
        self.rows
            .iter()
            .flat_map(each)
            .take(usize::from(ALERTS_MAX))
            .collect()
    }
}

/// Rows that a page key moves by.
const PAGE: usize = 10;
const BAD: Style = Style::new().fg(Color::Red);

fn compare(sort: Sort, a: &Row, b: &Row) -> Ordering {
    match sort {
        Sort::Name => a.name.cmp(&b.name),
        Sort::State => a.state.cmp(&b.state),
        Sort::Calls => b.calls_per_second.total_cmp(&a.calls_per_second),
        Sort::Half => b.p50.cmp(&a.p50),
        Sort::Most => b.p99.cmp(&a.p99),
        Sort::Faults => b.faults.cmp(&a.faults),
        Sort::Slots => b.slot_percent.total_cmp(&a.slot_percent),
        Sort::Waiting => (b.waiting, b.running).cmp(&(a.waiting, a.running)),
        Sort::Alerts => b.alerts.len().cmp(&a.alerts.len()),
    }
}

fn cells(row: &Row) -> [String; 9] {
    [
        row.name.clone(),
        row.state.clone(),
        format!("{:.1}", row.calls_per_second),
        duration(row.p50),
        duration(row.p99),
        row.faults.to_string(),
        format!("{:.1}", row.slot_percent),
        format!("{}/{}+{}", row.running, row.cells, row.waiting),
        row.alerts.join("; "),
    ]
}

fn duration(duration: Option<Duration>) -> String {
    let Some(duration) = duration else {
        return "-".into();
    };
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros}us"),
        micros @ 1_000..1_000_000 => format!("{}ms", figure(micros, 1_000)),
        micros => format!("{}s", figure(micros, 1_000_000)),
    }
}

/// A quotient with one digit after the point, where there is one to show.
fn figure(amount: u128, unit: u128) -> String {
    match amount % unit * 10 / unit {
        0 => (amount / unit).to_string(),
        tenths => format!("{}.{tenths}", amount / unit),
    }
}

fn keys() -> Line<'static> {
    let mut spans = vec![Span::raw("q quit  r reverse  sort by:")];
    for (_, head, key, _) in COLUMNS {
        spans.push(Span::styled(
            format!(" {key}"),
            Style::new().add_modifier(Modifier::BOLD),
        ));
        spans.push(Span::raw(format!(" {}", head.to_ascii_lowercase())));
    }
    Line::from(spans)
}

/// What comes from elsewhere, as what a terminal may be given.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
