//! What is refused, with the figures, and what callers do wrong. Neither changes anything in the scheduler.

use thiserror::Error;

use crate::task::{SlotId, TaskId, TenantId};
use crate::time::{Fraction, Span};

/// Why a task or tenant is not taken on: its wish cannot be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Tasks belong to tenants, and this one was not set.
    #[error("there is no tenant {0:?}")]
    NoTenant(TenantId),
    /// The name is taken, perhaps by a task that was removed and whose slice has not ended.
    #[error("there is a task {0:?} already")]
    Known(TaskId),
    /// A real-time task whose figures are not in order.
    #[error(
        "budget {budget}, deadline {deadline}, period {period}: must be more than nothing, in this order, and at most {longest}"
    )]
    Timing {
        /// As asked for.
        budget: Span,
        /// As asked for.
        deadline: Span,
        /// As asked for.
        period: Span,
        /// The longest period.
        longest: Span,
    },
    /// No slot has as much left of what may be promised to real-time tasks.
    #[error("needs {needed} of a slot, with the cost of switching; the emptiest has {free} free")]
    Share {
        /// What the task needs of one slot, costs included.
        needed: Fraction,
        /// What is free of the slot with the most free.
        free: Fraction,
    },
    /// Every slot has an interval in which more would be due than fits into it.
    #[error(
        "within {within}, {demand} would be due on {slot:?}, with the cost of switching and the time that others take to stop"
    )]
    Deadline {
        /// The slot with the most free.
        slot: SlotId,
        /// The length of the interval.
        within: Span,
        /// What is due in it at worst.
        demand: Span,
    },
    /// The admission test did not come to an end in the work that it may do.
    #[error(
        "periods and deadlines differ so much that it was not decided in {steps} steps whether they fit together"
    )]
    Undecided {
        /// How far it went.
        steps: usize,
    },
    /// The tenant may not reserve as much.
    #[error("tenant would reserve {needed} of a slot's time and may reserve {limit}")]
    TenantShare {
        /// What all its real-time tasks would need of one slot, costs included.
        needed: Fraction,
        /// What it may have: its part of the machine, as a part of one slot.
        limit: Fraction,
    },
    /// The tenant's cap is lower than what its real-time tasks would need.
    #[error("tenant's real-time tasks need {needed} of a slot's time and its cap is {cap}")]
    TenantCap {
        /// What all its real-time tasks would need of one slot, costs included.
        needed: Fraction,
        /// Quota by period.
        cap: Fraction,
    },
    /// A cap whose period is nothing or too long, or whose quota is nothing.
    #[error("a cap of {quota} every {period}: must be more than nothing every at most {longest}")]
    Cap {
        /// As asked for.
        quota: Span,
        /// As asked for.
        period: Span,
        /// The longest period.
        longest: Span,
    },
}

/// What the caller named is not there, or not in a state for this. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Misuse {
    /// No such task is admitted.
    #[error("there is no task {0:?}")]
    NoTask(TaskId),
    /// No such tenant was set.
    #[error("there is no tenant {0:?}")]
    NoTenant(TenantId),
    /// The tenant has tasks, or slices that have not ended.
    #[error("tenant {tenant:?} has {tasks} tasks")]
    TenantBusy {
        /// The tenant.
        tenant: TenantId,
        /// Its tasks, removed ones that still run included.
        tasks: usize,
    },
    /// Nothing runs there.
    #[error("nothing runs in {0:?}")]
    NotRunning(SlotId),
}
