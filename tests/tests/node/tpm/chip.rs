//! A software TPM that is started, stopped, held up and killed by the test, as a chip would never be.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use referee_tests::{Ended, Program};
use rustix::process::Signal;

use crate::processes::send;
use crate::{setup, text, wait_for};

/// The program beside `referee-vmm` that asks it.
pub fn build_tpm() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| drop(Program::built("referee-tpm").expect("builds")));
}

pub struct Chip {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Chip {
    /// One that was just made, running.
    pub fn new() -> Chip {
        build_tpm();
        let folder = tempfile::Builder::new()
            .prefix("referee-chip-")
            .tempdir()
            .expect("a folder");
        let made = Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--lock-nvram", "--overwrite"])
            .args(["--pcr-banks", "sha256,sha384", "--tpmstate"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("swtpm-tools is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let mut chip = Chip {
            folder,
            process: None,
        };
        chip.start();
        chip
    }

    /// Starts it, as after a reset: its registers are zero.
    pub fn start(&mut self) {
        let control = self.socket().with_extension("sock.ctrl");
        for path in [self.socket(), control.clone()] {
            let _ = std::fs::remove_file(path);
        }
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.path().display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", self.socket().display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is installed");
        self.process = Some(process);
        wait_for("the TPM listens", || self.socket().exists() && control.exists());
    }

    /// Ends it as a loss of power does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("is ours");
            process.wait().expect("is ours");
        }
    }

    /// Holds it up: it takes questions and answers none.
    pub fn stall(&self) {
        send(self.process.as_ref().expect("runs").id(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        send(self.process.as_ref().expect("runs").id(), Signal::CONT);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("chip.sock")
    }

    fn device(&self) -> String {
        format!("tcti:swtpm:path={}", self.socket().display())
    }

    fn state(&self) -> String {
        text(&self.folder.path().join("referee"))
    }

    /// Lines of a node's configuration.
    pub fn config(&self, patience_seconds: u32) -> String {
        format!(
            "[tpm]\ndevice = '{}'\nstate = '{}'\npatience_seconds = {patience_seconds}",
            self.device(),
            self.state()
        )
    }

    /// Has the command line ask it.
    pub fn vmm(&self, trust: &Path, words: &[&str]) -> Ended {
        let mut command = setup().program.command(words);
        command
            .args(["--tpm", &self.device(), "--tpm-state", &self.state(), "--trust"])
            .arg(trust);
        Ended::of(command.spawn().expect("starts")).expect("ends")
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        self.kill();
    }
}
