//! What a worker measures of a piece of a call: its steps, and how often the cell stopped.

use std::time::{Duration, Instant};

use referee::{Cell, uses};

use crate::line::{Did, Step, What};

/// The name of a use that was refused.
const REFUSED: &str = "refused";

/// Measures a piece of a call.
pub(super) struct StopWatch {
    pub(super) started: Instant,
    traced: bool,
    pub(super) did: Did,
}

impl StopWatch {
    pub(super) fn start(traced: bool) -> StopWatch {
        StopWatch {
            started: Instant::now(),
            traced,
            did: Did::default(),
        }
    }

    /// Notes what was done since the piece began.
    pub(super) fn step(&mut self, what: What) {
        if self.traced {
            self.did.steps.push(Step {
                what,
                after: Duration::ZERO,
                lasted: self.started.elapsed(),
            });
        }
    }

    /// Has a cell run, and notes how often it stopped and what it used.
    pub(super) fn run<T>(&mut self, cell: &mut Cell, run: impl FnOnce(&mut Cell) -> T) -> T {
        let exits = cell.usage().exits;
        if self.traced {
            uses::watch();
        }
        let after = self.started.elapsed();
        let result = run(cell);
        self.did.exits = cell.usage().exits.saturating_sub(exits);
        if self.traced {
            let lasted = self.started.elapsed().saturating_sub(after);
            self.did.steps.push(Step {
                what: What::Run,
                after,
                lasted,
            });
            let steps = uses::take().into_iter().map(|used| Step {
                what: What::Use(used.name.unwrap_or_else(|| REFUSED.to_owned())),
                after: used.began.saturating_duration_since(self.started),
                lasted: used.lasted,
            });
            self.did.steps.extend(steps);
        }
        result
    }
}
