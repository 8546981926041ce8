//! The example muscles that need a TPM, built and signed as their author would.

use std::path::PathBuf;
use std::sync::OnceLock;

use referee_tests::{Ended, Program};

use crate::commands::assert_ends;

/// A folder with `confidant.muscle` and `memo.muscle` by the publisher `demo`, and `trust.store` for them; made once.
pub fn shop() -> &'static PathBuf {
    static SHOP: OnceLock<PathBuf> = OnceLock::new();
    SHOP.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let author = Program::built("cargo-muscle").expect("builds");
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../muscle-sdk/examples");
        for words in [
            "keygen author",
            "keygen root",
            &format!("build --folder {examples} -p confidant --key author.key -o confidant.muscle"),
            &format!("build --folder {examples} -p memo --key author.key -o memo.muscle"),
            "trust init trust.store --root-key root.key --expires 365d",
            "trust add-publisher trust.store --name demo --key author.pub --scope confidant --scope memo --expires 365d --root-key root.key",
        ] {
            let mut command = author.command(words.split(' '));
            let ended = Ended::of(command.current_dir(&folder).spawn().expect("starts")).expect("ends");
            assert_ends(&ended, 0);
        }
        folder
    })
}
