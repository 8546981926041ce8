//! What is drawn, cell by cell, and what keys change.

use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use referee_node::{Distribution, Shown, Stats};
use serde_json::json;

use super::*;

/// A deployment as the API shows it.
fn shown(name: &str, calls: u64, class: usize) -> Shown {
    let mut counts = vec![0; referee_node::BOUNDS_US.len() + 1];
    counts[class] = calls;
    let mut shown: Shown = serde_json::from_value(json!({
        "name": name, "muscle": "m 1.0.0", "publisher": "acme", "bundle": "00", "generation": 1, "deployed_at": 0, "state": "ready",
        "exports": ["f"], "waiting": 0, "running": 0, "settings": {},
        "counted": serde_json::to_value(referee_node::Counted::default()).expect("plain data"),
    }))
    .expect("is one");
    shown.called = Distribution {
        counts,
        sum_us: calls,
    };
    shown.counted.used_us = calls * 1000;
    shown
}

fn sample(at: Instant, shown: Vec<Shown>) -> Sample {
    let stats: Stats = serde_json::from_value(json!({
        "deployments": shown.len(), "workers": 2, "slots": 2, "free_slots": 1, "audit_records": 77, "draining": false, "tenants": {},
    }))
    .expect("is one");
    Sample {
        at,
        shown,
        stats: Some(stats),
    }
}

/// Two deployments, two seconds apart: `slow` had 10 calls within 10 ms, `busy` 100 within 100 us, 3 faults and an alert.
fn view() -> View {
    let before = Instant::now();
    let mut view = View::new(
        "api.sock".into(),
        sample(before, vec![shown("slow", 5, 6), shown("busy", 0, 0)]),
    );
    let mut busy = shown("busy", 100, 0);
    busy.counted.faults = 3;
    busy.waiting = 4;
    busy.running = 2;
    busy.anomalies = serde_json::from_value(json!([{"signal": "faults", "reason": "faults a call: 0.500"}]))
        .expect("is one");
    view.take(Ok(sample(
        before + Duration::from_secs(2),
        vec![shown("slow", 15, 6), busy],
    )));
    view
}

fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("is in memory");
    terminal.draw(|frame| view.draw(frame)).expect("is in memory");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn press(view: &mut View, key: char) -> Next {
    view.key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))
}

fn names(view: &View) -> Vec<&str> {
    view.rows.iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn a_terminal_shows_head_rows_alerts_and_keys() {
    let lines = drawn(&view(), 130, 8);
    let squeezed: Vec<String> = lines
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        squeezed,
        [
            "api.sock 2 deployments 2 workers 1/2 slots 77 audit records",
            "NAME▼ STATE CALLS/S P50 P99 FAULTS SLOT% RUN+WAIT ALERTS",
            "busy ready 50.0 100us 100us 3 5.0 2/4+4 faults a call: 0.500",
            "slow ready 5.0 10ms 10ms 0 0.5 0/4+0",
            "",
            "",
            "busy: faults a call: 0.500",
            "q quit r reverse sort by: n name s state c calls/s h p50 p p99 f faults u slot% w run+wait a alerts",
        ]
    );
}

#[test]
fn text_has_the_same_in_columns() {
    let text = view().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        "NAME  STATE  CALLS/S  P50    P99    FAULTS  SLOT%  RUN+WAIT  ALERTS"
    );
    assert_eq!(
        lines[2],
        "busy  ready  50.0     100us  100us  3       5.0    2/4+4     faults a call: 0.500"
    );
    assert_eq!(lines.len(), 4);
}

#[test]
fn every_key_of_a_column_sorts_by_it_and_again_the_other_way_round() {
    let mut view = view();
    assert_eq!(names(&view), ["busy", "slow"]);
    for (key, first) in [
        ('p', "slow"),
        ('h', "slow"),
        ('c', "busy"),
        ('f', "busy"),
        ('u', "busy"),
        ('w', "busy"),
        ('a', "busy"),
        ('n', "busy"),
    ] {
        assert_eq!(press(&mut view, key), Next::Draw);
        assert_eq!(names(&view)[0], first, "{key}");
        assert_eq!(press(&mut view, key), Next::Draw);
        assert_ne!(names(&view)[0], first, "{key} again");
        assert!(drawn(&view, 130, 8)[1].contains('▲'));
    }
}

#[test]
fn keys_quit_scroll_and_else_do_nothing() {
    let mut view = view();
    assert_eq!(press(&mut view, 'q'), Next::Quit);
    assert_eq!(
        view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)),
        Next::Quit
    );
    assert_eq!(press(&mut view, 'x'), Next::Ask);
    for _ in 0..5 {
        assert_eq!(
            view.key(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE)),
            Next::Draw
        );
    }
    assert!(drawn(&view, 130, 8)[2].starts_with("slow"), "the last row stays");
    view.key(KeyEvent::new(KeyCode::Home, KeyModifiers::NONE));
    assert!(drawn(&view, 130, 8)[2].starts_with("busy"));
}

#[test]
fn a_node_that_does_not_answer_is_said_and_what_was_seen_stays() {
    let mut view = view();
    view.take(Err(ClientError::Unexplained { status: 504 }));
    let lines = drawn(&view, 130, 8);
    assert!(lines[0].starts_with("no answer: "), "{lines:?}");
    assert!(lines[2].starts_with("busy"));
}

#[test]
fn a_deployment_that_is_new_has_no_rate_yet() {
    let mut view = view();
    let now = view.now.at + Duration::from_secs(1);
    view.take(Ok(sample(now, vec![shown("fresh", 9, 3)])));
    assert_eq!(view.rows.len(), 1);
    assert_eq!(
        (view.rows[0].calls_per_second, view.rows[0].p50),
        (0.0, Some(Duration::from_millis(1)))
    );
}

#[test]
fn a_small_terminal_and_hostile_words_break_nothing() {
    let mut view = view();
    let mut hostile = shown("bad", 1, 0);
    hostile.name = "\u{1b}[2J".into();
    view.take(Ok(sample(Instant::now(), vec![hostile])));
    for (width, height) in [(1, 1), (2, 3), (20, 2), (300, 100)] {
        assert!(!drawn(&view, width, height).concat().contains('\u{1b}'));
    }
    assert!(!view.text().contains('\u{1b}'));
}

#[test]
fn durations_are_short() {
    for (micros, expected) in [
        (100, "100us"),
        (2_500, "2.5ms"),
        (25_000, "25ms"),
        (2_500_000, "2.5s"),
        (60_000_000, "60s"),
    ] {
        assert_eq!(duration(Some(Duration::from_micros(micros))), expected);
    }
    assert_eq!(duration(None), "-");
}
