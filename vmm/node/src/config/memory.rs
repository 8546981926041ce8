//! `[memory]`: how much memory cells may have, and what becomes of those that nobody calls.

use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::memory::{HostMemory, percent};

/// How much memory cells may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Bytes that cells and their workers may have at once; 0: 80 % of what this host or the control group has.
    pub budget_bytes: u64,
    /// How much of the budget may be promised to deployments, in percent: not all of them are called at once.
    pub overcommit_percent: u64,
    /// Seconds after which a cell that nobody calls is moved to swap, or dropped where there is none; 0: never.
    pub idle_seconds: u64,
    /// From this part of the budget on, in percent, cells that nobody calls are moved or dropped at once.
    pub near_percent: u64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            budget_bytes: 0,
            overcommit_percent: 400,
            idle_seconds: 60,
            near_percent: 90,
        }
    }
}

impl Memory {
    /// The budget on a host.
    pub(crate) fn budget_on(&self, host: &HostMemory) -> u64 {
        match self.budget_bytes {
            0 => percent(host.usable_bytes(), DERIVED_PERCENT),
            bytes => bytes,
        }
    }

    pub(super) fn check(&self) -> Result<(), NodeError> {
        let wrong = |message: &str| Err(NodeError::Config(message.to_owned()));
        match self {
            _ if !(100..=100_000).contains(&self.overcommit_percent) => {
                wrong("memory.overcommit_percent must be 100 (nothing twice) to 100000")
            }
            _ if !(1..=100).contains(&self.near_percent) => wrong("memory.near_percent must be 1 to 100"),
            _ if self.budget_bytes != 0 && self.budget_bytes < BUDGET_MIN => Err(NodeError::Config(format!(
                "memory.budget_bytes is {} and must be 0 (derived from the host) or at least {BUDGET_MIN}: a worker alone takes some megabytes",
                self.budget_bytes
            ))),
            _ => Ok(()),
        }
    }
}

/// Of the host's memory, what cells may have when nothing else is said: the rest is the supervisor's, the kernel's and everybody else's.
const DERIVED_PERCENT: u64 = 80;
/// No budget is smaller.
const BUDGET_MIN: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_what_was_said_or_most_of_what_there_is() {
        let host = HostMemory {
            total_bytes: 1000 << 20,
            limit_bytes: Some(500 << 20),
            swap_bytes: 0,
        };
        assert_eq!(Memory::default().budget_on(&host), 400 << 20);
        let said = Memory {
            budget_bytes: 64 << 20,
            ..Memory::default()
        };
        assert_eq!(said.budget_on(&host), 64 << 20);
    }

    #[test]
    fn figures_without_sense_are_refused() {
        let usual = Memory::default;
        assert!(usual().check().is_ok());
        for (bad, word) in [
            (
                Memory {
                    overcommit_percent: 99,
                    ..usual()
                },
                "overcommit_percent",
            ),
            (
                Memory {
                    near_percent: 0,
                    ..usual()
                },
                "near_percent",
            ),
            (
                Memory {
                    near_percent: 101,
                    ..usual()
                },
                "near_percent",
            ),
            (
                Memory {
                    budget_bytes: 1 << 20,
                    ..usual()
                },
                "budget_bytes",
            ),
        ] {
            let error = bad.check().expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
