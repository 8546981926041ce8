//! The audit log: what each cell was allowed, did, and was refused, as append-only JSON lines.
//!
//! The one rule: a record is in the kernel's hands (one `write`) before the act it tells of is answered,
//! and when that fails the act does not happen.
//!
//! Each line carries the hash of the line before it, so that a changed, removed or inserted line breaks
//! the chain. A line is a body and its hash:
//!
//! ```text
//!   {"seq":7,"time":…,"cell":"…","muscle":"…","kind":"use",…,"prev":"<64 hex>","hash":"<64 hex>"}\n
//!   └────────────────────── body ───────────────────────────────────────────┘
//!   hash = SHA-256(body), the bytes exactly as they stand, without the closing brace
//!   prev = hash of the line before; 64 zeros in the first
//! ```
//!
//! So `sed -E 's/,"hash":"[0-9a-f]{64}"\}$//' | tr -d '\n' | sha256sum` of one line checks it by hand.
//!
//! A chain alone does not show that lines were cut off its end: whoever needs that keeps
//! [`AuditLog::head`] somewhere else. See `docs/adr/0005-audit-chain.md`.
#![forbid(unsafe_code)]

mod error;
pub mod line;
mod log;
mod reader;
mod record;
mod rotate;
mod sink;
mod tail;
mod verify;

pub use error::{AuditError, Defect};
pub use log::{AuditLog, Options, Sharing};
pub use reader::Reader;
pub use record::{Event, GuestText, Hash, Head, Kind, MAX_RECORD, Value};
pub use rotate::archives;
pub use sink::AuditSink;
pub use verify::{Summary, verify, verify_bytes, verify_each, verify_watched};
