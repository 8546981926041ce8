//! Who runs next. Given who has work and what was promised to whom, this crate decides which task has which slot, for how long, and
//! who is to make room. It has no clock, no threads and no input or output: the same calls give the same decisions.
//!
//! ```text
//!   admit ─► admission ─► Promises of a slot ──┐ earliest deadline first, within budgets
//!   wake ──► Waiting for a release ────────────┤
//!        └─► FairShares: tenants ► tasks ──────┼─► decide ─► Run { slot, task, budget } ─► the caller ─► stopped
//!                        ▲ caps, throttling    │             Preempt { slot }                                │
//!                        └─────────────────────┴──── budgets, tags and quotas are put right ◄───────────────┘
//! ```
//! The one rule everywhere: what counts is how long a slot was held by the caller's clock, so neither a task nor its worker can have
//! more by what it says or when it stops. `docs/scheduling.md` says what is guaranteed and under which assumptions.
#![forbid(unsafe_code)]

mod admission;
mod cap;
mod config;
mod dispatch;
mod error;
mod fair;
mod heap;
mod real_time;
mod scheduler;
mod slab;
mod slice;
mod task;
mod time;

pub use cap::Cap;
pub use config::{Config, ConfigError};
pub use dispatch::Decision;
pub use error::{Misuse, Refused};
pub use real_time::Timing;
pub use scheduler::Scheduler;
pub use task::{Class, Shares, SlotId, TaskId, Tenant, TenantId, Usage};
pub use time::{Fraction, Span, Time};
