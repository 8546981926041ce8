//! The stage that opens everything a cell will need of this host, while the process still may.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use muscle_abi::boot::Style;
use referee::{StartError, cell_spec, record};
use referee_audit::{AuditLog, AuditSink, Options, Sharing};
use referee_bundle::VerifiedBundle;
use referee_capabilities::{BrokerLimits, ConsoleStreams, Resources, argument_block};
use referee_cell::{CellSpec, Door};
use referee_jail::{DirectoryGrant, SocketMount};
use referee_policy::{Decision, FilesAccess, Grant, Grants, Power};

use crate::cli::{BundleArgs, CellArgs};
use crate::ending::Rejection;
use crate::session::{Session, Task};

/// Opened things of this host.
#[derive(Debug)]
pub struct Acquired {
    /// Name of the cell in the audit log, drawn before the fork: in its own namespace every cell is process 1.
    pub cell: String,
    /// The audit log.
    pub audit: File,
    /// How the log is kept.
    pub audit_options: Options,
    /// Directories, console, serial ports.
    pub resources: Resources,
    /// Listening sockets.
    pub doors: Vec<Door>,
    /// Sockets of outside programs that the muscle may reach.
    pub outside: Vec<SocketMount>,
    /// The parent's end of the line on which the cell asks for evidence.
    pub tpm_line: Option<UnixStream>,
    /// Limits of the broker.
    pub limits: BrokerLimits,
}

impl Acquired {
    /// Records that the TPM has measured the bundle, for the first time in this boot or not.
    ///
    /// # Errors
    /// When the log cannot be written; then nothing may run.
    pub fn record_measured(&self, bundle: &VerifiedBundle, first: bool) -> anyhow::Result<()> {
        let file = self.audit.try_clone().context("audit log")?;
        let sink = sink(file, self.audit_options, &self.cell, bundle)?;
        record::measured(&sink, bundle, first).context("audit log")
    }

    /// Descriptors that must stay open when everything else is closed.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut descriptors = self.resources.descriptors();
        descriptors.push(self.audit.as_fd());
        descriptors
    }

    /// Granted directories, with whether the cell may only read there.
    pub fn directories(&self, grants: &Grants) -> Vec<DirectoryGrant<'_>> {
        let opened = |grant: &Grant| match grant.power() {
            Power::Files { access, .. } => {
                let descriptor = self.resources.directory(grant.slot())?;
                Some(DirectoryGrant {
                    descriptor,
                    read_only: *access == FilesAccess::Read,
                })
            }
            _ => None,
        };
        grants.slots().iter().filter_map(opened).collect()
    }
}

/// Makes a session out of a decision: grants, opened things, and what the cell is told at its start.
///
/// # Errors
/// [`Rejection`] when policy, or the bundle's style, says no; an error of the host otherwise.
pub fn session<'a>(
    bundle: Arc<VerifiedBundle>,
    decision: &'a Decision,
    bundle_args: &BundleArgs,
    args: &'a CellArgs,
    arguments: &[String],
    task: Task,
) -> anyhow::Result<Session<'a>> {
    let audit_options = audit_options(args);
    let audit = open_audit(&args.audit)?;
    let cell = cell_name()?;
    let sink = sink(
        audit.try_clone().context("audit log")?,
        audit_options,
        &cell,
        &bundle,
    )?;
    let refused = |rejection: Rejection| -> anyhow::Error {
        match record::rejected(&sink, rejection.name, &rejection.message) {
            Ok(()) => rejection.into(),
            Err(error) => anyhow::Error::new(error).context("audit log"),
        }
    };
    check_style(&bundle, &task).map_err(refused)?;
    let mut grants = decision.grants().map_err(|rejected| refused(rejected.into()))?;
    if let Some(deadline_ms) = args.deadline_ms {
        grants.narrow_deadline(deadline_ms);
    }
    if let Some(cpu_ms) = args.cpu_ms {
        grants.narrow_cpu(cpu_ms);
    }
    if grants.needs_tpm() && args.tpm.tpm.is_none() {
        return Err(refused(Rejection {
            name: "no-tpm",
            message: "it is granted what the host's TPM does, and there is none: name one with --tpm".into(),
        }));
    }
    if let Some(name) = grants.function_names().next() {
        return Err(refused(Rejection {
            name: "host-function-missing",
            message: format!(
                "it is granted the function `{name}`, which a program offers that embeds it by the library; this one offers none"
            ),
        }));
    }
    if let Some((slot, ..)) = grants.rings().next() {
        return Err(refused(Rejection {
            name: "ring-not-joined",
            message: format!(
                "slot `{slot}` is an end of a ring, which a program joins to another muscle that embeds both by the library; this one runs a muscle alone"
            ),
        }));
    }
    if let Err(StartError::Rejected { name, message }) = referee::needs_no_node(&grants) {
        return Err(refused(Rejection { name, message }));
    }
    let spec = spec(&grants, bundle_args, args, arguments, &task)?;
    let mut resources = Resources::acquire(&grants, ConsoleStreams::stdio()?)?;
    let mut tpm_line = None;
    if grants.needs_tpm() {
        let (cell_end, host_end) = UnixStream::pair().context("socket pair")?;
        resources.ask_tpm_by(cell_end.into());
        tpm_line = Some(host_end);
    }
    let mut doors = Vec::new();
    for (port, path) in grants.listen_ports() {
        doors.push(Door {
            listener: listen(path)?,
            port,
        });
    }
    let mut outside = Vec::new();
    for grant in grants.slots() {
        if let Power::VsockConnect { socket, .. } = grant.power() {
            outside.push(SocketMount {
                source: socket.clone(),
                name: grant.slot().to_owned(),
            });
        }
    }
    let limits = BrokerLimits {
        output_bytes: args.max_output_bytes,
        ..BrokerLimits::default()
    };
    let acquired = Acquired {
        cell,
        audit,
        audit_options,
        resources,
        doors,
        outside,
        tpm_line,
        limits,
    };
    Ok(Session {
        bundle,
        decision,
        grants,
        args,
        spec,
        task,
        acquired,
    })
}

/// Records that a bundle was refused before anything in it could be believed, and gives the error back.
///
/// The record's muscle is empty: the only name there is stands in the refused bytes. An error of the host is not a
/// refusal and leaves no record; a log that cannot be written is the worse error and takes the refusal's place.
pub fn record_refusal(error: anyhow::Error, args: &CellArgs) -> anyhow::Error {
    let Some(rejection) = error.downcast_ref::<Rejection>() else {
        return error;
    };
    let written = || -> anyhow::Result<()> {
        let log = AuditLog::from_file(open_audit(&args.audit)?, audit_options(args)).context("audit log")?;
        let sink = AuditSink::new(log, &cell_name()?, "");
        record::rejected(&sink, rejection.name, &format!("{error:#}")).context("audit log")
    };
    written().err().unwrap_or(error)
}

fn audit_options(args: &CellArgs) -> Options {
    Options {
        sharing: Sharing::Shared,
        sync_each: args.audit_sync,
        ..Options::default()
    }
}

/// The log as the cell sees it.
///
/// # Errors
/// When its last records do not hold, or another process keeps it.
pub fn sink(file: File, options: Options, cell: &str, bundle: &VerifiedBundle) -> anyhow::Result<AuditSink> {
    let log = AuditLog::from_file(file, options).context("audit log")?;
    let manifest = bundle.manifest();
    Ok(AuditSink::new(
        log,
        cell,
        &format!("{} {}", manifest.name, manifest.version),
    ))
}

/// A name that no other cell of a shared log has.
fn cell_name() -> anyhow::Result<String> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random bytes from the host: {error}"))?;
    Ok(format!("{:016x}", u64::from_le_bytes(random)))
}

fn open_audit(path: &Path) -> anyhow::Result<File> {
    AuditLog::open_file(path)
        .with_context(|| format!("audit log {}: choose another with --audit", path.display()))
}

fn check_style(bundle: &VerifiedBundle, task: &Task) -> Result<(), Rejection> {
    let manifest = bundle.manifest();
    let no = |message: String| {
        Err(Rejection {
            name: "wrong-style",
            message,
        })
    };
    match task {
        Task::Main if manifest.style != Style::Command => no(format!(
            "`{}` has no main to run; it exports functions: referee-vmm call {}.muscle FUNCTION",
            manifest.name, manifest.name
        )),
        Task::Call { .. } if manifest.style != Style::Reactor && manifest.exports.is_empty() => no(format!(
            "`{}` exports no functions; run it: referee-vmm run {}.muscle",
            manifest.name, manifest.name
        )),
        Task::Main | Task::Call { .. } => Ok(()),
    }
}

fn spec(
    grants: &Grants,
    bundle_args: &BundleArgs,
    args: &CellArgs,
    arguments: &[String],
    task: &Task,
) -> anyhow::Result<CellSpec> {
    let mut strings: Vec<Vec<u8>> = arguments.iter().map(|text| text.clone().into_bytes()).collect();
    if grants.allows_args() {
        let name = bundle_args.bundle.file_name().unwrap_or_default();
        strings.insert(0, name.to_string_lossy().into_owned().into_bytes());
    }
    let variable = |name: &str| {
        args.env
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone().into_bytes())
    };
    let style = if matches!(task, Task::Main) {
        Style::Command
    } else {
        Style::Reactor
    };
    Ok(cell_spec(
        grants,
        style,
        argument_block(grants, &strings, variable)?,
    )?)
}

/// Listens on a Unix socket that only this user may connect to. A socket that nobody listens on any more is
/// replaced; anything else at the path is left alone.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                bail!("{shown}: another program listens there already");
            }
            std::fs::remove_file(path).with_context(|| format!("{shown}: removing the stale socket"))?;
        }
        Ok(_) => bail!("{shown} exists and is no socket"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{shown}")),
    }
    let listener = UnixListener::bind(path).with_context(|| format!("{shown}: listening"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("{shown}: closing it to other users"))?;
    Ok(listener)
}
