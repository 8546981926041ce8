//! What a signed manifest asks, what the operator bound, and what Cedar policy says: [`Grants`], or why not.
//!
//! The one rule: **nothing is granted that no policy permits.** An empty policy set grants nothing, a declared
//! slot that nobody bound refuses to start, and a policy that cannot be evaluated refuses too.
//!
//! ```text
//!   VerifiedBundle ── Applicant ─┐
//!   --bind NAME=… ── Binding ────┼── assess ──► Decision ── grants ──► Grants (plain data, no Cedar)
//!   policies/*.cedar ── PolicySet┘                 └─ text table and JSON of `referee-vmm explain`
//! ```
//!
//! Each slot, and each limit, becomes one question to Cedar (an environment of several variables one for each):
//! may this publisher (`principal`) do this (`action`, the capability's name) for this muscle (`resource`) with
//! these arguments (`context`)? Cedar runs here and never again while the cell runs.
//!
//! Apart from loading policy files and [`Binding::resolve`] the crate does no input or output.
#![forbid(unsafe_code)]

mod access;
mod binding;
mod decision;
mod grants;
mod loan;
mod model;
mod narrow;
mod policies;
mod questions;
mod rejected;
mod render;
mod standing;

pub use access::{ACCESS_SCHEMA, Access, AccessPolicies, Caller};
pub use binding::{Binding, BindingError, Bound, SerialTo, is_channel_name};
pub use decision::{Answer, Applicant, Decision, Item, PolicyRef, assess, decide};
pub use grants::{Device, Grant, GrantedLimits, Grants, Power};
pub use loan::{Lent, Loan, Loans};
pub use policies::{MAX_POLICY_BYTES, PolicyError, PolicySet, SCHEMA};
pub use referee_bundle::{ChannelRole, ClockGrade, Delegated, FilesAccess};
pub use rejected::Rejected;
pub use standing::{Narrowing, NotNarrower, Standing, Standings, is_at_or_below};

/// Wall-clock time of a muscle that asks for no deadline, in milliseconds; policy is asked about it too.
pub const DEFAULT_DEADLINE_MS: u64 = 10_000;
/// CPU time of a muscle that asks for no limit, in milliseconds; policy is asked about it too.
pub const DEFAULT_CPU_MS: u64 = 10_000;

#[cfg(test)]
mod tests;
