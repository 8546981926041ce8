//! Does what the program `native` does, in a cell.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;

use muscle::Global;
use work::Work;

/// Made by the first call.
static WORK: Global<Option<Work>> = Global::new(None);

fn with_work<R>(act: impl FnOnce(&mut Work) -> R) -> R {
    WORK.with(|work| act(work.get_or_insert_default()))
}

/// SHA-256 of some megabytes.
#[muscle::export]
fn sha256() -> u64 {
    with_work(|work| work.sha256())
}

/// The product of two matrices.
#[muscle::export]
fn matmul() -> u64 {
    with_work(Work::matmul)
}

/// The sum of many parsed documents.
#[muscle::export]
fn json() -> Result<u64, String> {
    with_work(|work| work.json()).ok_or_else(|| "a document was not understood".into())
}
