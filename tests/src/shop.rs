//! Example muscles that tests of several kinds run, built and signed as their author would.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, bail};

use crate::program::{Ended, Program};

const MUSCLES: [&str; 8] = [
    "confidant",
    "desk",
    "digester",
    "feed",
    "feeder",
    "memo",
    "order-risk",
    "portfolio",
];

/// A folder with a bundle of each of these by the publisher `demo`, and `trust.store` for them; made once in
/// a process.
///
/// # Errors
/// When something does not build.
pub fn shop() -> anyhow::Result<&'static Path> {
    static SHOP: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match SHOP.get_or_init(|| furnish().map_err(|error| format!("{error:#}"))) {
        Ok(folder) => Ok(folder),
        Err(why) => bail!("{why}"),
    }
}

fn furnish() -> anyhow::Result<PathBuf> {
    let folder = tempfile::tempdir()?.keep();
    let author = Program::built("cargo-muscle")?;
    let does = |words: String| {
        let mut command = author.command(words.split(' '));
        let ended = Ended::of(command.current_dir(&folder).spawn()?)?;
        match ended.code {
            Some(0) => anyhow::Ok(()),
            code => bail!("{words}: {code:?}: {}", ended.errors()),
        }
    };
    does("keygen author".into())?;
    does("keygen root".into())?;
    does("trust init trust.store --root-key root.key --expires 365d".into())?;
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../muscle-sdk/examples");
    let mut scopes = String::new();
    for muscle in MUSCLES {
        does(format!(
            "build --folder {examples} -p {muscle} --key author.key -o {muscle}.muscle"
        ))
        .context(muscle)?;
        scopes.push_str(&format!("--scope {muscle} "));
    }
    does(format!(
        "trust add-publisher trust.store --name demo --key author.pub {scopes}--expires 365d --root-key root.key"
    ))?;
    Ok(folder)
}
