//! The stage that opens everything a cell will need of this host, while the process still may.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use muscle_abi::boot::Style;
use referee_audit::{AuditLog, AuditSink};
use referee_bundle::VerifiedBundle;
use referee_capabilities::{BrokerLimits, Resources, argument_block};
use referee_cell::Door;
use referee_jail::{DirectoryGrant, SocketMount};
use referee_policy::{Decision, FilesAccess, Grant, Grants, Power};

use super::{Confined, Options, Task};
use crate::engine::cell_name;
use crate::error::StartError;
use crate::inputs::Inputs;
use crate::muscle::{needs_no_node, title};
use crate::record;
use crate::spec::cell_spec;
use crate::tpm::HostTpm;

/// Opened things of this host.
#[derive(Debug)]
pub(super) struct Acquired {
    /// Name of the cell in the audit log, drawn before the fork: in its own namespace every cell is process 1.
    pub(super) cell: String,
    /// The audit log.
    pub(super) audit: File,
    /// Directories, console, serial ports.
    pub(super) resources: Resources,
    /// Listening sockets.
    pub(super) doors: Vec<Door>,
    /// Sockets of outside programs that the muscle may reach.
    pub(super) outside: Vec<SocketMount>,
    /// The parent's end of the line on which the cell asks for evidence.
    pub(super) tpm_line: Option<UnixStream>,
    /// Limits of the broker.
    pub(super) limits: BrokerLimits,
}

impl Acquired {
    /// Descriptors that must stay open when everything else is closed.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut descriptors = self.resources.descriptors();
        descriptors.push(self.audit.as_fd());
        descriptors
    }

    /// Granted directories, with whether the cell may only read there.
    pub(super) fn directories(&self, grants: &Grants) -> Vec<DirectoryGrant<'_>> {
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

/// See [`Confined::prepare`].
pub(super) fn prepare<'a>(
    bundle: Arc<VerifiedBundle>,
    decision: &'a Decision,
    task: Task,
    inputs: Inputs,
    options: Options,
    tpm: Option<HostTpm>,
) -> Result<Confined<'a>, StartError> {
    let audit = open_log(&options.audit)?;
    let cell = cell_name()?;
    let log = audit.try_clone().map_err(StartError::host(OPENING))?;
    let sink = sink(log, options.of_log(), &cell, &bundle)?;
    let recorded = |error: StartError| -> StartError {
        let StartError::Rejected { name, message } = &error else {
            return error;
        };
        match record::rejected(&sink, name, message) {
            Ok(()) => error,
            Err(unrecorded) => StartError::host("recording a refusal")(unrecorded),
        }
    };
    let grants = granted(&bundle, decision, &task, &options, tpm.is_some()).map_err(recorded)?;
    let style = match task {
        Task::Main => Style::Command,
        Task::Call { .. } => Style::Reactor,
    };
    let variable = |name: &str| {
        let found = inputs.environment.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    // Without the slot it is not told the program's name either.
    let skipped = usize::from(!grants.allows_args());
    let arguments = inputs.arguments.get(skipped..).unwrap_or_default();
    let arguments =
        argument_block(&grants, arguments, variable).map_err(StartError::host("writing the arguments"))?;
    let spec = cell_spec(&grants, style, arguments).map_err(StartError::host("making a cell"))?;
    let mut resources =
        Resources::acquire(&grants, inputs.console).map_err(StartError::host("opening what was granted"))?;
    let mut tpm_line = None;
    if grants.needs_tpm() {
        let (cell_end, host_end) =
            UnixStream::pair().map_err(StartError::host("making a line to the TPM"))?;
        resources.ask_tpm_by(cell_end.into());
        tpm_line = Some(host_end);
    }
    let mut doors = Vec::new();
    for (port, path) in grants.listen_ports() {
        let listener = listen(path).map_err(StartError::host("listening on a granted socket"))?;
        doors.push(Door { listener, port });
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
    if let Some(tpm) = &tpm {
        let to_be_signed = options.signed || grants.needs_tpm();
        let first = tpm.measure_for(&bundle, to_be_signed).map_err(recorded)?;
        record::measured(&sink, &bundle, first).map_err(StartError::host("recording a measurement"))?;
    }
    Ok(Confined {
        bundle,
        decision,
        grants,
        spec,
        task,
        acquired: Acquired {
            cell,
            audit,
            resources,
            doors,
            outside,
            tpm_line,
            limits: inputs.limits,
        },
        options,
        tpm,
    })
}

/// What policy granted, where this way of running can give it.
fn granted(
    bundle: &VerifiedBundle,
    decision: &Decision,
    task: &Task,
    options: &Options,
    has_tpm: bool,
) -> Result<Grants, StartError> {
    check_style(bundle, task)?;
    let mut grants = decision.grants()?;
    if let Some(deadline_ms) = options.deadline_ms {
        grants.narrow_deadline(deadline_ms);
    }
    if let Some(cpu_ms) = options.cpu_ms {
        grants.narrow_cpu(cpu_ms);
    }
    let refuse = |name: &'static str, message: String| Err(StartError::Rejected { name, message });
    if grants.needs_tpm() && !has_tpm {
        return refuse(
            "no-tpm",
            "it is granted what the host's TPM does, and there is none: name one with --tpm".to_owned(),
        );
    }
    if let Some(name) = grants.function_names().next() {
        return refuse(
            "host-function-missing",
            format!(
                "it is granted the function `{name}`, which a program offers that embeds it by the library; this one offers none"
            ),
        );
    }
    if let Some((slot, ..)) = grants.rings().next() {
        return refuse(
            "ring-not-joined",
            format!(
                "slot `{slot}` is an end of a ring, which a program joins to another muscle that embeds both by the library; this one runs a muscle alone"
            ),
        );
    }
    needs_no_node(&grants)?;
    Ok(grants)
}

/// Records that a bundle was refused before anything in it could be believed, and gives the error back.
///
/// The record's muscle is empty: the only name there is stands in the refused bytes. An error of the host is not a
/// refusal and leaves no record; a log that cannot be written is the worse error and takes the refusal's place.
pub fn record_refusal(error: StartError, options: &Options) -> StartError {
    let StartError::Rejected { name, .. } = &error else {
        return error;
    };
    let written = || -> Result<(), StartError> {
        let log = AuditLog::from_file(open_log(&options.audit)?, options.of_log())
            .map_err(StartError::host(OPENING))?;
        let sink = AuditSink::new(log, &cell_name()?, "");
        record::rejected(&sink, name, &error.with_causes()).map_err(StartError::host("recording a refusal"))
    };
    written().err().unwrap_or(error)
}

const OPENING: &str = "opening the audit log";

/// The log as the cell sees it.
///
/// # Errors
/// When its last records do not hold, or another process keeps it.
pub(super) fn sink(
    file: File,
    options: referee_audit::Options,
    cell: &str,
    bundle: &VerifiedBundle,
) -> Result<AuditSink, StartError> {
    let log = AuditLog::from_file(file, options).map_err(StartError::host(OPENING))?;
    Ok(AuditSink::new(log, cell, &title(bundle.manifest())))
}

fn open_log(path: &Path) -> Result<File, StartError> {
    AuditLog::open_file(path).map_err(StartError::host(OPENING))
}

fn check_style(bundle: &VerifiedBundle, task: &Task) -> Result<(), StartError> {
    let manifest = bundle.manifest();
    let no = |message: String| {
        Err(StartError::Rejected {
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

/// Listens on a Unix socket that only this user may connect to. A socket that nobody listens on any more is
/// replaced; anything else at the path is left alone.
fn listen(path: &Path) -> IoResult<UnixListener> {
    let at = |doing: &'static str| {
        move |error: IoError| IoError::new(error.kind(), format!("{}: {doing}{error}", path.display()))
    };
    let refuse = |why: &'static str| Err(at("")(IoError::other(why)));
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return refuse("another program listens there already");
            }
            std::fs::remove_file(path).map_err(at("removing the stale socket: "))?;
        }
        Ok(_) => return refuse("it exists and is no socket"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(at("")(error)),
    }
    let listener = UnixListener::bind(path).map_err(at("listening: "))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(at("closing it to other users: "))?;
    Ok(listener)
}
