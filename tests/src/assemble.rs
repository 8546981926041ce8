//! From a guest's file to an ELF image, by the compiler driver that rustc needs as its linker anyway.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

const LINK: [&str; 9] = [
    "-nostartfiles",
    "-nostdlib",
    "-static-pie",
    "-Wl,--no-dynamic-linker",
    "-Wl,-z,norelro",
    "-Wl,-z,separate-code",
    "-Wl,-z,noexecstack",
    "-Wl,--build-id=none",
    "-Wl,--fatal-warnings",
];

/// Assembles and links `source` to `target`; files that it includes are looked for in `folder`.
pub(crate) fn assemble(source: &Path, folder: &Path, target: &Path) -> anyhow::Result<()> {
    let include = format!("-Wa,-I,{},--fatal-warnings", folder.display());
    let output = Command::new("cc")
        .args(LINK)
        .args([include.as_str(), "-o"])
        .arg(target)
        .arg(source)
        .output()
        .context("cannot start `cc`")?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
