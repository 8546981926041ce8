//! What a deployment is told beside its bundle.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::NodeError;
use crate::forms::{from_map, whole, whole_or_none};
use crate::release::TICK_MAX_MS;

/// Most cells of one deployment: beyond that, what the kernel does for every VM of a process when memory changes costs too much.
pub const CELLS_MAX: usize = 128;

/// A deployment's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `NAME=THING` for each slot that needs one, as `--bind` takes them.
    pub bindings: Vec<String>,
    /// Calls that may be under way at once, each in a cell of its own.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 128)]
    pub cells: usize,
    /// Cells that are kept loaded ahead while the worker is there; at most `cells`.
    #[serde(deserialize_with = "whole")]
    #[schema(maximum = 128)]
    pub ahead: usize,
    /// Whether each call has a cell as it was just started; otherwise a cell keeps its memory from call to call.
    pub fresh: bool,
    /// Lowers the wall-clock time of each call, in milliseconds.
    #[serde(deserialize_with = "whole_or_none")]
    pub deadline_ms: Option<u64>,
    /// Lowers the CPU time of each call, in milliseconds.
    #[serde(deserialize_with = "whole_or_none")]
    pub cpu_ms: Option<u64>,
    /// Replies leave only on ticks of so many milliseconds, counted from the arrival of their requests: how long a call took within a tick is
    /// not to be seen.
    #[serde(deserialize_with = "whole_or_none")]
    #[schema(minimum = 1, maximum = 60_000)]
    pub release_ms: Option<u64>,
    /// When its calls have a slot of the host.
    #[serde(deserialize_with = "from_map")]
    pub priority: Priority,
    /// SHA-256 of a snapshot at which its cells begin, as it was given when that was made; otherwise they begin at the muscle's start.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub snapshot: Option<String>,
}

/// Most shares that anybody can have.
pub(crate) const SHARES_MAX: u32 = 1_000_000;

/// When calls have a slot, beside others that want one. `docs/scheduling.md` says what each class is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "class", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Priority {
    /// Each call that is under way has time in proportion to its shares among its publisher's.
    Fair {
        /// 1 to 1,000,000.
        #[serde(deserialize_with = "whole")]
        #[schema(minimum = 1, maximum = 1_000_000)]
        shares: u32,
    },
    /// Only what nobody else wants; perhaps never. With braces serde refuses fields that it does not have.
    Background {},
    /// A budget in every period, before a deadline; refused when the host cannot promise it. One call at a time.
    RealTime {
        /// The least time between the beginnings of two calls, in microseconds.
        #[serde(deserialize_with = "whole")]
        period_us: u64,
        /// How long a call may run, in microseconds.
        #[serde(deserialize_with = "whole")]
        budget_us: u64,
        /// By when it has had that, counted from its beginning; the period when left out.
        #[serde(
            skip_serializing_if = "Option::is_none",
            default,
            deserialize_with = "whole_or_none"
        )]
        deadline_us: Option<u64>,
    },
}

impl Priority {
    /// What a deployment has that asks for nothing else.
    pub const DEFAULT: Priority = Priority::Fair { shares: 100 };
}

impl FromStr for Priority {
    type Err = NotAPriority;

    /// `fair`, `fair:SHARES`, `background`, `real-time:PERIOD/BUDGET` or `real-time:PERIOD/BUDGET/DEADLINE` in microseconds.
    fn from_str(text: &str) -> Result<Priority, NotAPriority> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotAPriority);
        match text.split_once(':') {
            None if text == "fair" => Ok(Priority::DEFAULT),
            None if text == "background" => Ok(Priority::Background {}),
            Some(("fair", shares)) => Ok(Priority::Fair {
                shares: shares.parse().map_err(|_| NotAPriority)?,
            }),
            Some(("real-time", figures)) => {
                let mut figures = figures.split('/');
                let mut next = || figures.next().map(number).transpose();
                let (period, budget, deadline) = (next()?, next()?, next()?);
                match (period, budget, figures.next()) {
                    (Some(period_us), Some(budget_us), None) => Ok(Priority::RealTime {
                        period_us,
                        budget_us,
                        deadline_us: deadline,
                    }),
                    _ => Err(NotAPriority),
                }
            }
            _ => Err(NotAPriority),
        }
    }
}

/// Why a text is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write fair, fair:SHARES, background, or real-time:PERIOD/BUDGET[/DEADLINE] in microseconds")]
pub struct NotAPriority;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            bindings: Vec::new(),
            cells: 4,
            ahead: 0,
            fresh: true,
            deadline_ms: None,
            cpu_ms: None,
            release_ms: None,
            priority: Priority::DEFAULT,
            snapshot: None,
        }
    }
}

impl Settings {
    /// Refuses settings without sense.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with the name `settings-invalid`.
    pub fn check(&self) -> Result<(), NodeError> {
        let wrong = |message: String| {
            Err(NodeError::Rejected {
                name: "settings-invalid".into(),
                message,
            })
        };
        match self {
            _ if self.cells == 0 || self.cells > CELLS_MAX => {
                wrong(format!("cells must be 1 to {CELLS_MAX}, and is {}", self.cells))
            }
            _ if self.ahead > self.cells => wrong(format!(
                "ahead must be no more than cells, {}, and is {}",
                self.cells, self.ahead
            )),
            _ if self.snapshot.as_ref().is_some_and(|id| !is_digest(id)) => {
                wrong("a snapshot is named by 64 hexadecimal digits in small letters".into())
            }
            _ if self
                .release_ms
                .is_some_and(|tick| tick == 0 || tick > TICK_MAX_MS) =>
            {
                wrong(format!(
                    "release_ms must be 1 to {TICK_MAX_MS}, and is {}",
                    self.release_ms.unwrap_or(0)
                ))
            }
            _ => match self.priority {
                Priority::Fair { shares } if shares == 0 || shares > SHARES_MAX => {
                    wrong(format!("shares must be 1 to {SHARES_MAX}, and are {shares}"))
                }
                Priority::RealTime { .. } if self.cells != 1 => wrong(format!(
                    "a real-time deployment has 1 cell, because its calls take turns, and not {}",
                    self.cells
                )),
                _ => Ok(()),
            },
        }
    }
}

/// Whether this is a SHA-256 as it is written here.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether this can be a deployment's name: 1 to 64 of `a-z 0-9 . _ -`, a letter or digit first.
pub(crate) fn is_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|byte| first(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "order-risk", "0.x_y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", ".a", "A", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn priorities_are_read_from_texts() {
        let real_time = |deadline_us| Priority::RealTime {
            period_us: 10_000,
            budget_us: 500,
            deadline_us,
        };
        for (text, read) in [
            ("fair", Priority::DEFAULT),
            ("fair:7", Priority::Fair { shares: 7 }),
            ("background", Priority::Background {}),
            ("real-time:10000/500", real_time(None)),
            ("real-time:10000/500/900", real_time(Some(900))),
        ] {
            assert_eq!(text.parse(), Ok(read), "{text}");
        }
        for bad in [
            "",
            "fair:",
            "fair:x",
            "background:1",
            "real-time",
            "real-time:1",
            "real-time:1/2/3/4",
            "real-time:1/x",
        ] {
            assert_eq!(bad.parse::<Priority>(), Err(NotAPriority), "{bad}");
        }
    }

    #[test]
    fn settings_and_priorities_are_objects_with_whole_numbers() {
        let read = |text: &str| serde_json::from_str::<Settings>(text).map_err(|error| error.to_string());
        assert_eq!(read("{}"), Ok(Settings::default()));
        let background = read(r#"{"priority": {"class": "background"}}"#).expect("is one");
        assert_eq!(background.priority, Priority::Background {});
        let fair = read(r#"{"priority": {"class": "fair", "shares": 5.0}, "cells": 2.0}"#).expect("is one");
        assert_eq!((fair.priority, fair.cells), (Priority::Fair { shares: 5 }, 2));
        let shares = read(r#"{"priority": {"class": "background", "shares": 5}}"#).expect_err("has none");
        assert!(shares.contains("unknown field `shares`"), "{shares}");
        for bad in [r#"{"priority": ["fair", 5]}"#, r#"{"priority": ["background"]}"#] {
            let error = read(bad).expect_err("an array");
            assert!(error.contains("expected an object"), "{error}");
        }
    }

    #[test]
    fn settings_without_sense_are_refused() {
        let with = |cells, ahead| Settings {
            cells,
            ahead,
            ..Settings::default()
        };
        assert!(Settings::default().check().is_ok());
        let shares = |shares| Settings {
            priority: Priority::Fair { shares },
            ..Settings::default()
        };
        let real_time = Settings {
            priority: Priority::RealTime {
                period_us: 10,
                budget_us: 1,
                deadline_us: None,
            },
            ..Settings::default()
        };
        let snapshot = |id: &str| Settings {
            snapshot: Some(id.to_owned()),
            ..Settings::default()
        };
        assert!(snapshot(&"0a".repeat(32)).check().is_ok());
        for bad in [
            snapshot(""),
            snapshot(&"0A".repeat(32)),
            snapshot(&"0a".repeat(31)),
            snapshot(&"../x".repeat(16)),
            with(0, 0),
            with(CELLS_MAX + 1, 0),
            with(2, 3),
            shares(0),
            shares(SHARES_MAX + 1),
            real_time,
        ] {
            assert!(
                matches!(bad.check(), Err(NodeError::Rejected { name, .. }) if name == "settings-invalid")
            );
        }
    }
}
