//! The functions that a host calls; the desk lives between two calls.

use alloc::string::String;

use muscle::Global;

use crate::{Decision, Desk, Exposure, LimitError, Limits, Order};

static DESK: Global<Option<Desk>> = Global::new(None);

fn with_desk<R>(f: impl FnOnce(&mut Desk) -> R) -> R {
    DESK.with(|desk| f(desk.get_or_insert_default()))
}

/// Decides about an order, and books it if it is accepted.
#[muscle::export]
pub fn check(order: Order) -> Decision {
    with_desk(|desk| desk.check(&order))
}

/// The limits in force.
#[muscle::export]
pub fn limits() -> Limits {
    with_desk(|desk| desk.limits.clone())
}

/// Changes one limit and returns them all.
///
/// # Errors
/// [`LimitError`].
#[muscle::export]
pub fn set_limit(name: String, value: f64) -> Result<Limits, LimitError> {
    with_desk(|desk| {
        desk.limits.set(&name, value)?;
        Ok(desk.limits.clone())
    })
}

/// What an account has.
#[muscle::export]
pub fn exposure(account: String) -> Exposure {
    with_desk(|desk| desk.exposure(&account))
}
