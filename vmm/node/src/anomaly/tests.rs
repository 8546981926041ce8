//! A deployment that turns bad is found, one that is only noisy is not.

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

/// Chance that repeats: a linear congruential generator (Knuth's constants), of which the upper half is used.
struct Chance(u64);

impl Chance {
    /// Evenly within 0 and 1.
    fn part(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).expect("half")) / f64::from(u32::MAX)
    }

    /// How many of `tries` come true.
    fn of(&mut self, tries: u64, part: f64) -> u64 {
        (0..tries).map(|_| u64::from(self.part() < part)).sum()
    }

    /// Evenly from `low` to below `high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = f64::from(u32::try_from(high - low).expect("small"));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let more = (self.part() * span) as u64;
        low + more.min(high - low - 1)
    }
}

/// A deployment as its counters show it.
#[derive(Default)]
struct Shown {
    detector: Detector,
    totals: Totals,
}

impl Shown {
    fn window(&mut self, calls: u64, denials: u64, faults: u64, exits: u64) -> Vec<Change> {
        self.totals.calls += calls;
        self.totals.denials += denials;
        self.totals.faults += faults;
        self.totals.exits += exits;
        self.detector.look(self.totals, WINDOW)
    }

    /// So many windows that are like each other.
    fn good(&mut self, windows: u32) {
        for _ in 0..windows {
            assert_eq!(self.window(100, 0, 0, 500), []);
        }
    }

    fn signals(&self) -> Vec<Signal> {
        self.detector
            .anomalies()
            .iter()
            .map(|anomaly| anomaly.signal)
            .collect()
    }
}

#[test]
fn each_signal_has_its_alert_after_three_windows_and_says_why() {
    for (signal, [calls, denials, faults, exits], reason) in [
        (
            Signal::CallRate,
            [400, 0, 0, 2000],
            "calls a second: 40.0, usual are 10.0 ± 0.000",
        ),
        (
            Signal::Denials,
            [100, 100, 0, 500],
            "denials a call: 1.0, usual are 0.000 ± 0.000",
        ),
        (
            Signal::Faults,
            [100, 0, 10, 500],
            "faults a call: 0.100, usual are 0.000 ± 0.000",
        ),
        (
            Signal::Exits,
            [100, 0, 0, 5000],
            "exits a call: 50.0, usual are 5.0 ± 0.000",
        ),
    ] {
        let mut shown = Shown::default();
        shown.good(SAMPLES_MIN + 1);
        let mut changes = Vec::new();
        for window in 0..BEGINS_AFTER {
            assert_eq!(changes, [], "{window}");
            changes = shown.window(calls, denials, faults, exits);
        }
        let anomaly = Anomaly {
            signal,
            reason: reason.into(),
        };
        assert_eq!(changes, [Change::Begins(anomaly.clone())]);
        assert_eq!(shown.detector.anomalies(), [anomaly]);
    }
}

#[test]
fn nothing_is_said_before_enough_was_seen() {
    let mut shown = Shown::default();
    shown.good(SAMPLES_MIN - 3);
    for _ in 0..3 {
        assert_eq!(shown.window(100, 900, 100, 50_000), []);
    }
}

#[test]
fn few_calls_are_gathered_until_they_tell_something() {
    let mut shown = Shown::default();
    shown.good(SAMPLES_MIN + 1);
    // One call in a window, and that a fault: it takes 20 of them for each sample.
    let windows = CALLS_MIN * u64::from(BEGINS_AFTER);
    for window in 1..=windows {
        let changes = shown.window(1, 0, 1, 5);
        assert_eq!(changes.is_empty(), window < windows, "{window}: {changes:?}");
    }
    assert_eq!(shown.signals(), [Signal::Faults]);
}

#[test]
fn an_alert_ends_when_all_is_well_for_a_while_and_not_before() {
    let mut shown = Shown::default();
    shown.good(50);
    for _ in 0..BEGINS_AFTER {
        shown.window(100, 0, 50, 500);
    }
    // Good and bad in turns is still bad, and said once.
    for _ in 0..20 {
        for _ in 0..ENDS_AFTER - 1 {
            assert_eq!(shown.window(100, 0, 0, 500), []);
        }
        assert_eq!(shown.window(100, 0, 50, 500), []);
    }
    for _ in 0..ENDS_AFTER - 1 {
        assert_eq!(shown.window(100, 0, 0, 500), []);
    }
    assert_eq!(shown.signals(), [Signal::Faults]);
    let changes = shown.window(100, 0, 0, 500);
    assert!(
        matches!(changes.as_slice(), [Change::Ends(Anomaly { signal: Signal::Faults, reason })] if reason.contains("again")),
        "{changes:?}"
    );
    assert_eq!(shown.signals(), []);
    // What was bad was not learnt: it is found again.
    for _ in 0..BEGINS_AFTER {
        shown.window(100, 0, 50, 500);
    }
    assert_eq!(shown.signals(), [Signal::Faults]);
}

#[test]
fn what_lasts_is_usual_after_an_hour() {
    let mut shown = Shown::default();
    shown.good(50);
    let mut changes = Vec::new();
    for _ in 0..BEGINS_AFTER + USUAL_AFTER + 200 {
        changes.extend(shown.window(1000, 0, 0, 5000));
    }
    assert!(
        matches!(changes.as_slice(), [Change::Begins(_), Change::Ends(_)]),
        "{changes:?}"
    );
    assert_eq!(shown.signals(), []);
}

#[test]
fn a_deployment_that_nobody_calls_has_no_rate_that_is_usual() {
    let mut shown = Shown::default();
    for _ in 0..1000 {
        assert_eq!(shown.window(0, 0, 0, 0), []);
    }
    shown.good(50);
    for _ in 0..1000 {
        assert_eq!(shown.window(0, 0, 0, 0), []);
    }
    shown.good(50);
    // Many more calls, and then none: the alert does not stay.
    for _ in 0..BEGINS_AFTER {
        shown.window(1000, 0, 0, 5000);
    }
    assert_eq!(shown.signals(), [Signal::CallRate]);
    for _ in 0..ENDS_AFTER {
        shown.window(0, 0, 0, 0);
    }
    assert_eq!(shown.signals(), []);
}

#[test]
fn totals_that_begin_anew_are_no_anomaly() {
    let mut shown = Shown::default();
    shown.good(50);
    shown.totals = Totals::default();
    shown.good(50);
}

/// A service with a day and a night, bursts, calls that fault now and then, and work that differs from call to call: 28 hours of it.
fn noisy(seed: u64, bad_from: Option<u32>) -> Vec<(u32, Change)> {
    let mut chance = Chance(seed);
    let mut shown = Shown::default();
    let mut found = Vec::new();
    for window in 0..10_000u32 {
        let day = (f64::from(window) / 8_640.0 * std::f64::consts::TAU).sin();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let offered = (60.0 + 40.0 * day) as u64 * 2;
        let mut calls = chance.of(offered, 0.5);
        if chance.part() < 0.005 {
            // A burst of a window.
            calls *= 5;
        }
        let part_of_faults = match bad_from {
            Some(from) if window >= from => 0.3,
            _ => 0.01,
        };
        let faults = chance.of(calls, part_of_faults);
        let denials = chance.of(calls, 0.05);
        let exits = (0..calls).map(|_| chance.between(4, 12)).sum();
        for change in shown.window(calls, denials, faults, exits) {
            found.push((window, change));
        }
    }
    found
}

#[test]
fn over_days_of_noise_there_is_no_false_alert() {
    for seed in 1..=8 {
        assert_eq!(noisy(seed, None), [], "seed {seed}");
    }
}

#[test]
fn in_the_same_noise_a_deployment_that_turns_bad_is_found_within_a_minute() {
    for seed in 1..=8 {
        let found = noisy(seed, Some(7_000));
        let first = found.first();
        assert!(
            matches!(
                first,
                Some((
                    7_000..=7_006,
                    Change::Begins(Anomaly {
                        signal: Signal::Faults,
                        ..
                    })
                ))
            ),
            "seed {seed}: {first:?}"
        );
    }
}

proptest! {
    #[test]
    fn what_never_changes_never_alerts(calls in 0u64..10_000, denials in 0u64..10_000, faults in 0u64..10_000, exits in 0u64..1_000_000) {
        let mut shown = Shown::default();
        for _ in 0..200 {
            prop_assert_eq!(shown.window(calls, denials, faults.min(calls), exits), []);
        }
    }

    #[test]
    fn alerts_begin_and_end_in_turns_and_no_figure_is_senseless(windows in prop::collection::vec(prop::array::uniform4(any::<u64>()), 0..300), seconds in 0u64..1000) {
        let mut detector = Detector::default();
        let mut open = std::collections::BTreeSet::new();
        for [calls, denials, faults, exits] in windows {
            let changes = detector.look(Totals { calls, denials, faults, exits }, Duration::from_secs(seconds));
            for change in changes {
                match change {
                    Change::Begins(anomaly) => prop_assert!(open.insert(anomaly.signal)),
                    Change::Ends(anomaly) => prop_assert!(open.remove(&anomaly.signal)),
                }
            }
            let shown: Vec<Signal> = detector.anomalies().iter().map(|anomaly| anomaly.signal).collect();
            prop_assert_eq!(&shown, &open.iter().copied().collect::<Vec<_>>());
            for baseline in &detector.baselines {
                prop_assert!(baseline.mean.is_finite() && baseline.variance.is_finite());
            }
        }
    }
}
