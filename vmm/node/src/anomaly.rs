//! Whether a deployment behaves otherwise than it used to.
//!
//! Each deployment is compared with nothing but its own past. Of each of four signals a baseline is kept, an exponentially weighted mean and
//! deviation, and an alert begins when a signal is far above its baseline several times in a row:
//!
//! ```text
//!   totals ─► differences ─► samples of each signal ─► far above, 3 times in a row ─► alert ─► 5 times near again ─► over
//!                                   │ else                                             └─ lasts for 360 samples ───► the new usual
//!                                   └──► learnt
//! ```
//! Pure: no clock, no lock, no input or output.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Samples before a baseline says anything.
const SAMPLES_MIN: u32 = 30;
/// Calls that one sample of a signal per call is made of, at least: with fewer, chance would decide.
const CALLS_MIN: u64 = 20;
/// Samples in a row that must be far above the baseline for an alert.
const BEGINS_AFTER: u32 = 3;
/// Samples in a row that must be near the baseline again for its end.
const ENDS_AFTER: u32 = 5;
/// Samples after which what an alert is about counts as usual.
const USUAL_AFTER: u32 = 360;
/// The weight of a new sample.
const WEIGHT: f64 = 0.05;
/// Deviations above the mean that are far.
const FAR: f64 = 6.0;
/// The part of what is far that is near again.
const NEAR: f64 = 0.5;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Calls in a second.
    CallRate,
    /// Refused uses of a capability, for each call.
    Denials,
    /// Broken rules, for each call.
    Faults,
    /// Times that the cell stopped, for each call.
    Exits,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 4] = [Signal::CallRate, Signal::Denials, Signal::Faults, Signal::Exits];

    /// Its name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Signal::CallRate => "call-rate",
            Signal::Denials => "denials",
            Signal::Faults => "faults",
            Signal::Exits => "exits",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Signal::CallRate => "calls a second",
            Signal::Denials => "denials a call",
            Signal::Faults => "faults a call",
            Signal::Exits => "exits a call",
        }
    }

    /// The least rise above a mean that matters, however steady the signal was before.
    fn least_rise(self, mean: f64) -> f64 {
        match self {
            // Twice as many; few may become a few more.
            Signal::CallRate => mean.max(1.0),
            Signal::Denials => (mean * 0.5).max(0.2),
            Signal::Faults => 0.05,
            Signal::Exits => (mean * 0.5).max(2.0),
        }
    }

    /// The deviation that chance alone gives to a sample made of so many calls, or of so many seconds.
    fn chance(self, mean: f64, size: f64) -> f64 {
        match self {
            // Events that have nothing to do with each other (Poisson).
            Signal::CallRate | Signal::Denials => (mean / size).sqrt(),
            // A call has one at most (binomial).
            Signal::Faults => (mean * (1.0 - mean).max(0.0) / size).sqrt(),
            Signal::Exits => 0.0,
        }
    }
}

/// What a deployment's calls came to, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls that are over.
    pub calls: u64,
    /// Refused uses of a capability.
    pub denials: u64,
    /// Calls in which the muscle broke a rule.
    pub faults: u64,
    /// Times that its cells stopped.
    pub exits: u64,
}

/// Something that is otherwise than it used to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anomaly {
    /// What.
    pub signal: Signal,
    /// How it is and how it used to be, in words.
    pub reason: String,
}

/// What a look brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An alert begins.
    Begins(Anomaly),
    /// An alert is over, with the reason.
    Ends(Anomaly),
}

/// One deployment's baselines.
#[derive(Debug, Clone, Default)]
pub struct Detector {
    /// At the last look.
    last: Option<Totals>,
    /// Since the last sample of the signals per call.
    gathered: Totals,
    baselines: [Baseline; Signal::ALL.len()],
}

impl Detector {
    /// Looks at what there is now, so long after the last look. Totals that are smaller than before begin anew.
    pub fn look(&mut self, totals: Totals, passed: Duration) -> Vec<Change> {
        let Some(last) = self.last.replace(totals) else {
            return Vec::new();
        };
        let more = |now: u64, before: u64| now.saturating_sub(before);
        let calls = more(totals.calls, last.calls);
        let gathered = &mut self.gathered;
        for (sum, now, before) in [
            (&mut gathered.calls, totals.calls, last.calls),
            (&mut gathered.denials, totals.denials, last.denials),
            (&mut gathered.faults, totals.faults, last.faults),
            (&mut gathered.exits, totals.exits, last.exits),
        ] {
            *sum = sum.saturating_add(more(now, before));
        }
        let mut changes = Vec::new();
        let seconds = passed.as_secs_f64();
        // A time without calls says nothing of what is usual while there are some; but an alert is over when they cease.
        let is_alert = self.anomalies().iter().any(|one| one.signal == Signal::CallRate);
        if seconds > 0.0 && (calls > 0 || is_alert) {
            changes.extend(self.sample(Signal::CallRate, number(calls) / seconds, seconds));
        }
        if self.gathered.calls >= CALLS_MIN {
            let Totals {
                calls,
                denials,
                faults,
                exits,
            } = std::mem::take(&mut self.gathered);
            let calls = number(calls);
            for (signal, count) in [
                (Signal::Denials, denials),
                (Signal::Faults, faults),
                (Signal::Exits, exits),
            ] {
                changes.extend(self.sample(signal, number(count) / calls, calls));
            }
        }
        changes
    }

    /// What is otherwise than it used to be.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let all = Signal::ALL.iter().zip(&self.baselines);
        let alert = |(signal, baseline): (&Signal, &Baseline)| {
            let alert = baseline.alert.as_ref()?;
            Some(Anomaly {
                signal: *signal,
                reason: alert.reason.clone(),
            })
        };
        all.filter_map(alert).collect()
    }

    fn sample(&mut self, signal: Signal, value: f64, size: f64) -> Option<Change> {
        let mut all = Signal::ALL.iter().zip(&mut self.baselines);
        let (_, baseline) = all.find(|(one, _)| **one == signal)?;
        baseline.take(signal, value, size)
    }
}

/// What is usual of one signal.
#[derive(Debug, Clone, Default)]
struct Baseline {
    mean: f64,
    variance: f64,
    samples: u32,
    /// Samples in a row that were far above, none of which was learnt yet.
    far: u32,
    alert: Option<Alert>,
}

#[derive(Debug, Clone)]
struct Alert {
    reason: String,
    /// Samples since it began.
    age: u32,
    /// Samples in a row that were near.
    near: u32,
}

impl Baseline {
    fn take(&mut self, signal: Signal, value: f64, size: f64) -> Option<Change> {
        let rise =
            (FAR * self.deviation().max(signal.chance(self.mean, size))).max(signal.least_rise(self.mean));
        let usual = self.usual();
        let anomaly = |reason| Anomaly { signal, reason };
        if let Some(alert) = &mut self.alert {
            alert.age += 1;
            alert.near = if value <= self.mean + rise * NEAR {
                alert.near + 1
            } else {
                0
            };
            if alert.near >= ENDS_AFTER {
                self.alert = None;
                let words = signal.words();
                return Some(Change::Ends(anomaly(format!(
                    "{words}: {} again, {usual}",
                    figure(value)
                ))));
            }
            if alert.age >= USUAL_AFTER {
                *self = Baseline::default();
                let words = signal.words();
                let reason = format!(
                    "{words}: {} for so long that this is learnt as usual",
                    figure(value)
                );
                return Some(Change::Ends(anomaly(reason)));
            }
            return None;
        }
        let is_far = self.samples >= SAMPLES_MIN && value > self.mean + rise;
        if is_far {
            self.far += 1;
            if self.far < BEGINS_AFTER {
                return None;
            }
            self.far = 0;
            let reason = format!("{}: {}, {usual}", signal.words(), figure(value));
            self.alert = Some(Alert {
                reason: reason.clone(),
                age: 0,
                near: 0,
            });
            return Some(Change::Begins(anomaly(reason)));
        }
        // Outliers that were not many in a row are learnt too, but no more than what is just not far.
        let highest = self.mean + rise;
        for _ in 0..std::mem::take(&mut self.far) {
            self.learn(highest);
        }
        self.learn(value);
        None
    }

    /// Follows West's incremental form of the exponentially weighted variance; the first samples weigh alike.
    fn learn(&mut self, value: f64) {
        self.samples = self.samples.saturating_add(1);
        let weight = WEIGHT.max(1.0 / f64::from(self.samples));
        let difference = value - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }

    fn deviation(&self) -> f64 {
        self.variance.max(0.0).sqrt()
    }

    fn usual(&self) -> String {
        format!("usual are {} ± {}", figure(self.mean), figure(self.deviation()))
    }
}

/// With as many digits as people read.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

fn number(count: u64) -> f64 {
    // That a count beyond 2^53 is rounded does not matter.
    count as f64
}

#[cfg(test)]
mod tests;
