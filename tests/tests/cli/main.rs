//! `referee-vmm` as a person or a script sees it: exit codes, words, files. Everything here goes through the real
//! executable.

mod endings;
mod filters;
mod processes;
mod refusals;
mod sockets;
mod terminals;
mod words;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use referee_tests::{Ended, Program, Workshop};

const USAGE: Option<i32> = Some(100);
const REJECTED: Option<i32> = Some(101);
const FAULT: Option<i32> = Some(102);
const STOPPED: Option<i32> = Some(105);

struct Setup {
    workshop: Workshop,
    program: Program,
}

fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| Setup {
        workshop: Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"),
        program: Program::locate().expect("the program"),
    })
}

fn run(arguments: &[&str]) -> Ended {
    setup().program.run(arguments).expect("ends")
}

fn bundle(group: &str, name: &str) -> PathBuf {
    let workshop = &setup().workshop;
    workshop
        .bundle(&workshop.guest(group, name).expect("is there"))
        .expect("is built")
}

/// A folder with an audit log to be, and options that name it and the suite's trust store.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("is written");
        path
    }

    fn options(&self) -> Vec<String> {
        let trust = setup().workshop.trust_store();
        [
            "--audit",
            &text(&self.path("audit.jsonl")),
            "--trust",
            &text(&trust),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// `run`, the options of this desk, then more; another `--trust` takes the place of the suite's.
    fn run(&self, more: &[&str]) -> Ended {
        let mut options = self.options();
        if more.contains(&"--trust") {
            options.truncate(2);
        }
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(options);
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        setup().program.run(arguments).expect("ends")
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("is UTF-8").to_owned()
}
