//! The host's TPM and what is said by it, with a real software TPM, the real programs, and other people's tools to check against.
//! Every attack here must fail by its own name.

mod checkpoints;
mod commands;
mod crashes;
mod embedded;
mod enrolment;
mod evidence;
mod garbled;
mod host;
mod keys;
mod memory;
mod receipts;
mod registers;
mod stalls;
mod states;
mod vouched;
