//! Sets `cfg(cell)` when the crate is built to run in a cell.
//!
//! The link flags decide: a build that leaves out the C start files has no other entry than ours, so it
//! needs `_start`, the heap, the panic handler and the `mem*` functions. Every other build (tests, clippy, docs,
//! an author's `cargo test`) is an ordinary program of the host, where those would clash with `std`'s.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(cell)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if flags.split('\u{1f}').any(|flag| flag.contains("-nostartfiles")) {
        println!("cargo::rustc-cfg=cell");
    }
}
