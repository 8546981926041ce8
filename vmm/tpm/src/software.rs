//! A TPM that is a program (`swtpm`), for hosts that have none and for tests: made, started and stopped here.
//!
//! It lives only as long as one connection needs it and keeps its state in a directory of its own. Between two connections it sleeps as
//! a suspended machine does (TPM2_Shutdown and TPM2_Startup with state), so that registers live as long as the host is up; after
//! a boot of the host, or a crash of the TPM, it starts as after a reset.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::TpmError;
use crate::esys::Esys;

/// Time that it may take to answer.
const START_MAX: Duration = Duration::from_secs(10);
/// Names within its directory.
const SOCKETS: &str = "tpm-";
const BOOT: &str = "host-boot-id";
const STATE: &str = "tpm2-00.permall";

/// A running software TPM; dropping it puts it to sleep.
pub struct SoftwareTpm {
    directory: PathBuf,
    process: Child,
    _lock: File,
}

impl SoftwareTpm {
    /// Starts it, and makes it first if the directory is empty or missing.
    ///
    /// # Errors
    /// [`TpmError::Software`] with what to install or look at.
    pub fn start(directory: &Path) -> Result<SoftwareTpm, TpmError> {
        let no = |why: String| TpmError::Software {
            directory: directory.to_owned(),
            why,
        };
        let io = |error: std::io::Error| no(error.to_string());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io)?;
        let directory = fs::canonicalize(directory).map_err(io)?;
        let lock = File::create(directory.join("lock")).map_err(io)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| io(error.into()))?;
        if !directory.join(STATE).exists() {
            manufacture(&directory).map_err(no)?;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(io)?;
        let same_boot = fs::read_to_string(directory.join(BOOT)).is_ok_and(|known| known == boot);
        let begun = Instant::now();
        let mut startup = if same_boot { "state" } else { "clear" };
        while begun.elapsed() < START_MAX {
            let mut tpm = SoftwareTpm {
                process: spawn(&directory, startup).map_err(no)?,
                directory: directory.clone(),
                _lock: lock.try_clone().map_err(io)?,
            };
            if tpm.connect_first().is_ok() {
                fs::write(directory.join(BOOT), &boot).map_err(io)?;
                return Ok(tpm);
            }
            tpm.kill();
            // After a crash it cannot start with state, and refuses everything until it is started as after a reset.
            startup = "clear";
            end_orphans(&directory);
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = directory.join("log").display().to_string();
        Err(no(format!("it does not start, or does not answer; see {log}")))
    }

    /// Has the next start be one after a reset: registers become zero.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn forget_boot(directory: &Path) -> Result<(), TpmError> {
        let path = directory.join(BOOT);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(TpmError::State { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Has what it keeps on the disk, which it writes before it answers and does not flush.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn flush(&self) -> Result<(), TpmError> {
        for path in [self.directory.join(STATE), self.directory.clone()] {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(|source| TpmError::State { path, source })?;
        }
        Ok(())
    }

    /// How the library reaches it.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", socket(&self.directory).display())
    }

    /// Connects as soon as it listens, and has it answer.
    fn connect_first(&mut self) -> Result<(), TpmError> {
        let begun = Instant::now();
        loop {
            let failed = match Esys::open(&self.tcti()) {
                Ok(esys) => return esys.boot().map(|_| ()),
                Err(failed) => failed,
            };
            let ended = !matches!(self.process.try_wait(), Ok(None));
            if ended || begun.elapsed() > START_MAX {
                return Err(failed);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for SoftwareTpm {
    fn drop(&mut self) {
        // If it does not answer any more, the next start is one after a reset, which is what a crash means.
        let _ = Esys::open(&self.tcti()).and_then(|esys| esys.shutdown(true));
        self.kill();
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join(format!("{SOCKETS}{}.sock", std::process::id()))
}

/// Ends software TPMs of this directory whose starter was killed in the moment before they were bound to it. Whoever calls has the
/// directory's lock, so nobody uses them.
fn end_orphans(directory: &Path) {
    let state = format!("dir={}", directory.display());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        if words.next() == Some(b"swtpm") && words.any(|word| word == state.as_bytes()) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

fn manufacture(directory: &Path) -> Result<(), String> {
    let output = Command::new("swtpm_setup")
        .args([
            "--tpm2",
            "--create-ek-cert",
            "--lock-nvram",
            "--pcr-banks",
            "sha256,sha384",
            "--overwrite",
            "--tpmstate",
        ])
        .arg(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("swtpm_setup: {error}; install swtpm and swtpm-tools"))?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Err(format!("swtpm_setup: {}: {last}", output.status))
}

fn spawn(directory: &Path, startup: &str) -> Result<Child, String> {
    // One of an earlier process may still be about to make its own, so each has its own name.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SOCKETS) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let socket = socket(directory);
    let control = socket.with_extension("sock.ctrl");
    let log = File::create(directory.join("log")).map_err(|error| format!("log: {error}"))?;
    let errors = log.try_clone().map_err(|error| format!("log: {error}"))?;
    // `setpriv` of util-linux has the kernel end it when this program ends in whatever way.
    Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
        ])
        .arg(format!("dir={}", directory.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", control.display()))
        .arg("--flags")
        .arg(format!("not-need-init,startup-{startup}"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("setpriv swtpm: {error}; install util-linux and swtpm"))
}
