//! Pre-trade risk: every order is checked against limits on its size, its price, and what its account already holds.
//!
//! The logic is [`Desk`], which knows nothing of cells. [`calls`] exports it; `main.rs` feeds it from standard input.
#![no_std]

extern crate alloc;

pub mod calls;

mod desk;
mod limits;
mod money;
mod order;

pub use desk::{Decision, Desk, Exposure, Reason};
pub use limits::{LimitError, Limits};
pub use money::Money;
pub use order::{Order, Side};

#[cfg(test)]
mod tests;
