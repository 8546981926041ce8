//! The program under test: found or built, started, and given only so much time.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a run of the program may take. A cell that hangs is a failure, so this is far beyond any guest's limits;
/// it allows for emulated machines.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// An executable of this workspace, mostly `referee-vmm`.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
}

/// What a run of the program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything on standard output.
    pub stdout: Vec<u8>,
    /// Everything on standard error.
    pub stderr: Vec<u8>,
}

impl Program {
    /// The executable of `REFEREE_BIN`, or the one that cargo builds of this workspace.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn locate() -> anyhow::Result<Program> {
        match std::env::var_os("REFEREE_BIN") {
            Some(path) => Ok(Program { path: path.into() }),
            None => Program::built("referee-vmm"),
        }
    }

    /// The executable of this name.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn built(name: &str) -> anyhow::Result<Program> {
        Program::made("--bin", name)
    }

    /// The example of this name.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn example(name: &str) -> anyhow::Result<Program> {
        Program::made("--example", name)
    }

    fn made(kind: &str, name: &str) -> anyhow::Result<Program> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Of the whole workspace, so that nothing beneath it is built once more with fewer features.
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", kind, name])
            .args(["--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("{name} does not build");
        }
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let built = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message.pointer("/target/name").and_then(|found| found.as_str()) == Some(name))
            .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
        Ok(Program {
            path: built.context("cargo named no executable")?,
        })
    }

    /// Where the executable is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command with nothing of the tester's own settings in its environment.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in [
            "REFEREE_TRUST",
            "REFEREE_POLICY",
            "REFEREE_AUDIT",
            "REFEREE_TPM",
            "REFEREE_TPM_STATE",
            "REFEREE_HOST",
            "REFEREE_CERT",
            "REFEREE_KEY",
            "REFEREE_CA",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it cannot be started, or has not ended within [`PATIENCE`]; it is killed then.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Ended> {
        Ended::of(
            self.command(arguments)
                .spawn()
                .with_context(|| self.path.display().to_string())?,
        )
    }
}

impl Ended {
    /// Waits for the end of a child and collects what it prints.
    ///
    /// # Errors
    /// When it has not ended within [`PATIENCE`]; it is killed then.
    pub fn of(mut child: Child) -> anyhow::Result<Ended> {
        let stdout = child
            .stdout
            .take()
            .map(|stream| thread::spawn(move || collect(stream)));
        let stderr = child
            .stderr
            .take()
            .map(|stream| thread::spawn(move || collect(stream)));
        let status = wait(&mut child)?;
        let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
            reader.map_or(Ok(Vec::new()), |reader| {
                reader.join().ok().context("reading its output failed")
            })
        };
        Ok(Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: text(stdout)?,
            stderr: text(stderr)?,
        })
    }

    /// Standard error as text, whatever bytes are in it.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as text, whatever bytes are in it.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Waits for a child without trusting it to end.
pub(crate) fn wait(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= give_up {
            child.kill()?;
            child.wait()?;
            bail!("still running after {} s, and was killed", PATIENCE.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

fn collect(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error is still worth showing.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}
