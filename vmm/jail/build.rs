//! Compiles the seccomp policies into BPF, because doing it at every start would cost as much as all
//! the rest of confinement.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the library, which uses the rest"
)]
#[path = "src/filter_set.rs"]
mod filter_set;

use filter_set::FilterSet;

fn main() -> Result<(), Box<dyn Error>> {
    let policies = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../policies/seccomp");
    let vcpu = read(&policies, "vcpu.json")?;
    let vcpu_files = vcpu.clone().merged(read(&policies, "vcpu-files.json")?)?;
    let worker = vcpu.clone().merged(read(&policies, "worker.json")?)?;
    let worker_files = worker.clone().merged(read(&policies, "vcpu-files.json")?)?;
    let io = read(&policies, "io.json")?;

    let debug = read(&policies, "debug.json")?;

    let mut code = String::new();
    for (name, mut set) in [
        ("VCPU", vcpu),
        ("VCPU_FILES", vcpu_files),
        ("WORKER", worker),
        ("WORKER_FILES", worker_files),
        ("IO", io),
    ] {
        // Set when the crate is built with debug assertions.
        if env::var_os("CARGO_CFG_DEBUG_ASSERTIONS").is_some() {
            set = set.merged(debug.clone())?;
        }
        let program = set.compile("kill_process")?;
        writeln!(code, "static {name}: [(u16, u8, u8, u32); {}] = [", program.len())?;
        for i in program {
            writeln!(code, "    ({}, {}, {}, {}),", i.code, i.jt, i.jf, i.k)?;
        }
        writeln!(code, "];")?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("programs.rs"), code)?;
    println!("cargo::rerun-if-changed=src/filter_set.rs");
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

fn read(policies: &Path, name: &str) -> Result<FilterSet, Box<dyn Error>> {
    let path = policies.join(name);
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    FilterSet::from_json(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}
