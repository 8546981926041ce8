//! Why a muscle was not given what it asked for.

use muscle_abi::capability::CapabilityKind;

use crate::decision::PolicyRef;

/// Why there are no grants. Every variant names the slot or limit, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A declared slot has no binding.
    #[error("slot `{slot}` ({}) is not bound: add --bind {how}", .capability.name())]
    SlotUnbound {
        /// The slot.
        slot: String,
        /// What it asks for.
        capability: CapabilityKind,
        /// A binding that would do, to be filled in.
        how: String,
    },
    /// A binding for a slot that the manifest does not declare.
    #[error("there is no slot `{slot}` to bind; the muscle declares: {}", list(.declared))]
    NoSuchSlot {
        /// The name in the binding.
        slot: String,
        /// Names that the manifest declares and that can be bound.
        declared: Vec<String>,
    },
    /// Two bindings for one slot.
    #[error("slot `{slot}` is bound twice")]
    BoundTwice {
        /// The slot.
        slot: String,
    },
    /// A binding for a slot that needs none.
    #[error("slot `{slot}` ({}) takes no binding", .capability.name())]
    NotBindable {
        /// The slot.
        slot: String,
        /// What it asks for.
        capability: CapabilityKind,
    },
    /// The slot is bound to another kind of thing.
    #[error("slot `{slot}` ({}) is bound to {found}:…; it takes --bind {how}", .capability.name())]
    WrongThing {
        /// The slot.
        slot: String,
        /// What it asks for.
        capability: CapabilityKind,
        /// Kind of thing it is bound to.
        found: &'static str,
        /// A binding that would do, to be filled in.
        how: String,
    },
    /// The slot asks to write and is bound to a directory read-only.
    #[error("slot `{slot}` asks to write, but its directory is bound :ro")]
    BoundReadOnly {
        /// The slot.
        slot: String,
    },
    /// A bound path is not absolute, or has `..` or `.` in it.
    #[error("the path bound to slot `{slot}` is not absolute and plain: {bound}")]
    PathNotPlain {
        /// The slot.
        slot: String,
        /// The binding.
        bound: String,
    },
    /// Two slots ask for the same port, or for ports that overlap.
    #[error("slots `{first}` and `{second}` ask for the same ports")]
    SamePorts {
        /// One slot.
        first: String,
        /// The other slot.
        second: String,
    },
    /// A number is larger than policies can count (2^63 - 1).
    #[error("{what} asks for {value}, more than a policy can speak of")]
    NumberTooLarge {
        /// Slot or limit.
        what: String,
        /// The number.
        value: u64,
    },
    /// A policy forbids it; no other policy can permit it then.
    #[error("{what} is forbidden by {}", list(.by))]
    Forbidden {
        /// Slot or limit.
        what: String,
        /// The policies.
        by: Vec<PolicyRef>,
    },
    /// No policy permits it.
    #[error("no policy permits {what}; this one would: {would}")]
    NotPermitted {
        /// Slot or limit.
        what: String,
        /// A policy that permits just this.
        would: String,
    },
    /// A policy could not be evaluated, so that nobody knows whether it forbids.
    #[error("policy could not be evaluated for {what}: {}", list(.errors))]
    Undecidable {
        /// Slot or limit.
        what: String,
        /// What Cedar said.
        errors: Vec<String>,
    },
}

fn list<T: ToString>(items: &[T]) -> String {
    match items {
        [] => "none".to_owned(),
        items => items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
