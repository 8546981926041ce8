//! One cell from grants to exit code, in the order: acquire, confine, load, run, record.
//!
//! ```text
//!   parent                                   child, in namespaces of its own
//!   ──────                                   ──────────────────────────────
//!   acquire: audit log, directories,
//!     sockets, console, /dev/kvm
//!   fork ──────────────────────────────────► VM and vCPU; confine ─► Jailed
//!   wait, pass signals on                    first thread              I/O thread
//!                                            vCPU filter, check image, I/O filter, doorman
//!                                            load, run, record, exit
//!   exit code ◄───────────────────────────── exit code
//! ```

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use referee::voucher::Voucher;
use referee::{BrokerHost, HostTpm, Outcome, record};
use referee_bundle::VerifiedBundle;
use referee_capabilities::{Broker, CellClock};
use referee_cell::{
    Answer, CellSpec, CheckedImage, Doorman, LoadedCell, Services, Shell, Sockets, Stop, Wake,
};
use referee_hv::process::{Child, ChildExit, ChildProcess, Forked, Namespaces, exit_at_once, fork_into};
use referee_hv::{Kvm, VcpuThread};
use referee_jail::{
    Filter, JailConfig, Jailed, LimitConfig, OnViolation, Origin, Program, Removal, Require, confine,
};
use referee_policy::{Decision, Grants, Power};

use crate::acquire::{self, Acquired};
use crate::cli::CellArgs;
use crate::ending::{self, Rejection};
use crate::measured::{HostIdentity, host_tpm};
use crate::receipt::{self, Run, Sender, Way};
use crate::values;

/// What the cell is for.
#[derive(Debug, Clone)]
pub enum Task {
    /// Run `main`.
    Main,
    /// Call a function with CBOR arguments, and print its result.
    Call {
        /// The function.
        function: String,
        /// CBOR, arguments by name or position.
        payload: Vec<u8>,
    },
}

/// Everything a session needs; made before the fork, used after it.
#[derive(Debug)]
pub struct Session<'a> {
    /// The verified bundle.
    pub bundle: Arc<VerifiedBundle>,
    /// What policy said.
    pub decision: &'a Decision,
    /// What the cell may do.
    pub grants: Grants,
    /// Options.
    pub args: &'a CellArgs,
    /// Style, arguments, limits, grants.
    pub spec: CellSpec,
    /// What the cell is for.
    pub task: Task,
    /// Opened things of this host.
    pub acquired: Acquired,
}

/// Time that the child has to end in order after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the session in a child and gives the program's exit code.
///
/// # Errors
/// When the host fails before or after the child; the child reports its own errors.
pub fn run(mut session: Session<'_>, host: Option<&HostIdentity>) -> anyhow::Result<u8> {
    let origin = Origin::capture()?;
    let kvm = Kvm::open()?;
    let args = session.args;
    let way = match args.receipt.is_some() || args.transcript.is_some() {
        true => Some(Way::new(
            &session.bundle,
            session.decision,
            &session.grants,
            &session.task,
        )?),
        false => None,
    };
    let voucher = match session.acquired.tpm_line.take().zip(host) {
        Some((line, host)) => {
            let tpm = host_tpm(&args.tpm, host)?;
            let cell = &session.acquired.cell;
            let voucher = Voucher::new(cell, &session.bundle, session.decision, &session.grants);
            Some((voucher, tpm, line))
        }
        None => None,
    };
    match fork_into(Namespaces::ALL)? {
        Forked::Parent(child) => {
            // With it the child's end of the line: while it is open here, its end would never be noticed.
            drop(session);
            conclude_parent(
                attended(child, voucher).context("waiting for the cell's process")?,
                way,
                args,
                host,
            )
        }
        Forked::Child(child) => {
            // The parent's end.
            drop(voucher);
            let code = live(session, &child, origin, kvm, way)
                .unwrap_or_else(|error| ending::of_error(&error, args.json));
            std::process::exit(i32::from(code))
        }
    }
}

/// What the child's end means for this process, which gives out the receipt.
fn conclude_parent(
    end: ChildExit,
    way: Option<Way>,
    args: &CellArgs,
    host: Option<&HostIdentity>,
) -> anyhow::Result<u8> {
    match end {
        ChildExit::Code(code) => {
            let facts = way.map(Way::facts).transpose()?.flatten();
            if let (Some(path), Some(facts)) = (&args.transcript, &facts) {
                receipt::write_unsigned(path, facts)?;
            }
            if let (Some(path), Some(facts), Some(host)) = (&args.receipt, facts, host) {
                receipt::write(path, facts, &args.tpm, host)?;
            }
            Ok(u8::try_from(code).unwrap_or(ending::HOST_ERROR))
        }
        ChildExit::Signal(31) => Err(anyhow!(
            "the cell's process made a system call that its seccomp filter does not allow, and was killed"
        )),
        ChildExit::Signal(signal) => Err(anyhow!("the cell's process was killed by signal {signal}")),
    }
}

/// Waits for the child, and meanwhile answers what its muscle asks of the TPM.
fn attended(
    child: ChildProcess,
    voucher: Option<(Voucher, HostTpm, UnixStream)>,
) -> std::io::Result<ChildExit> {
    let Some((voucher, tpm, line)) = voucher else {
        return child.wait(GRACE);
    };
    std::thread::scope(|scope| {
        // Stop signals are blocked here since the fork, so they come to the one that waits. It ends when the child's end of the line is
        // closed, at the latest by the child's end.
        let tell = |why: &str| eprintln!("referee-vmm: the TPM does not serve the muscle: {why}");
        scope.spawn(move || voucher.serve(&tpm, line, tell));
        child.wait(GRACE)
    })
}

/// The child's life. It comes back only with an error from before the cell has its threads.
fn live(
    session: Session<'_>,
    child: &Child,
    origin: Origin,
    kvm: Kvm,
    way: Option<Way>,
) -> anyhow::Result<u8> {
    let Session {
        bundle,
        decision,
        grants,
        args,
        mut spec,
        task,
        mut acquired,
    } = session;
    let shell = Shell::create(&kvm)?;
    // Closed before confinement, which would otherwise close it under the value that owns it.
    drop(kvm);
    let stop = child.stop_signals().context("signalfd")?;
    let stop = stop.as_fd().try_clone_to_owned().context("signalfd")?;
    let (sockets, doorman) = Sockets::new(std::mem::take(&mut acquired.doors), Some(stop))?;
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut kept = vec![input.as_fd(), output.as_fd(), errors.as_fd()];
    kept.extend(shell.descriptors());
    kept.extend(doorman.descriptors());
    kept.extend(acquired.descriptors());
    let mut receipt = way.map(|way| way.sender(&spec, &task));
    kept.extend(receipt.as_ref().map(Sender::descriptor));
    let keep: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    drop(kept);
    let jailed = confine(&JailConfig {
        origin,
        keep: &keep,
        sockets: &acquired.outside,
        directories: &acquired.directories(&grants),
        limits: LimitConfig {
            more_descriptors: 256,
            threads: 4,
            file_bytes: None,
        },
        require: if args.require_confinement {
            Require::All
        } else {
            Require::Available
        },
    })
    .context("confinement")?;
    let Acquired {
        cell,
        audit,
        audit_options,
        resources,
        limits,
        ..
    } = acquired;
    let audit = acquire::sink(audit, audit_options, &cell, &bundle)?;
    let missing = jailed.confinement().missing();
    record::start(&audit, &bundle, &grants, decision, &missing).context("audit log")?;
    // The log has a beginning now, so whatever goes wrong from here on is its end.
    let failed = |error: anyhow::Error| {
        let rejection = error.downcast_ref::<Rejection>();
        let code = rejection.map_or(ending::HOST_ERROR, |_| ending::REJECTED);
        let rule = rejection.map(|rejection| rejection.name);
        match record::failed(&audit, rule, &format!("{error:#}"), code) {
            Ok(()) => error,
            Err(unrecorded) => anyhow::Error::new(unrecorded).context("audit log"),
        }
    };
    let clock = CellClock::start();
    let broker = Broker::new(&grants, resources, audit.clone(), clock, limits)
        .map_err(|error| failed(error.into()))?;
    spec.grants = broker.entries();
    let files = grants
        .slots()
        .iter()
        .any(|grant| matches!(grant.power(), Power::Files { .. }));
    let vcpu_filter = program(Filter::Vcpu { files }, &args.seccomp_without).map_err(failed)?;
    let io_filter = program(Filter::Io, &args.seccomp_without).map_err(failed)?;

    let mut host = BrokerHost::new(broker, &grants, |slot| Path::new("/").join(slot));
    if let Some(receipt) = &receipt {
        host = host.with_transcript(receipt.transcript());
    }
    let services = Services {
        host: Box::new(host),
        sockets,
        epoch: clock.instant_of(0).unwrap_or_else(Instant::now),
    };
    std::thread::scope(|scope| {
        let jailed = &jailed;
        let json = args.json;
        // The cell gets the thread that is running already: waking another costs a good part of a short run, and
        // outside programs can wait for theirs.
        std::thread::Builder::new()
            .name("io".into())
            .spawn_scoped(scope, move || {
                if let Err(error) = attend(doorman, &io_filter, jailed) {
                    leave(ending::of_error(&error, json));
                }
                // The cell is over, and the first thread is about to say how: ending here would say it first.
                loop {
                    std::thread::park();
                }
            })
            .context("I/O thread")
            .map_err(failed)?;
        // The timers are made before the filter, which has no entry for making or deleting one; so they outlive all
        // that can fail.
        let thread = VcpuThread::enter().map_err(|error| anyhow!("{error}"));
        let live = || -> anyhow::Result<u8> {
            let thread = thread.as_ref().map_err(|error| anyhow!("{error:#}"))?;
            let _filtered = vcpu_filter.install(jailed)?;
            services.sockets.run_on(thread);
            let image = CheckedImage::check(Arc::clone(&bundle), jailed).map_err(Rejection::from)?;
            let mut cell = LoadedCell::load(shell, &image, &spec, services)?;
            let (outcome, answer) = drive(&mut cell, thread, &task)?;
            record::end(&audit, &outcome, &cell.usage())
                .and_then(|()| audit.sync())
                .context("audit log")?;
            if let Some(receipt) = &mut receipt {
                receipt.send(&Run {
                    outcome: &outcome,
                    answer: answer.as_ref(),
                    usage: cell.usage(),
                    head: audit.head(),
                })?;
            }
            let code = conclude(outcome, answer, json);
            // The kernel takes a whole process apart faster than destructors would, and the filter has no entries
            // for what they do.
            leave(code)
        };
        leave(live().unwrap_or_else(|error| ending::of_error(&failed(error), json)))
    })
}

/// Ends the process from a thread whose filter allows no more than that.
fn leave(code: u8) -> ! {
    // Standard output may be closed; there is nobody to tell.
    let _ = std::io::stdout().flush();
    exit_at_once(code)
}

/// The I/O thread's part: sees to outside programs until the first thread ends the process.
fn attend(doorman: Doorman, filter: &Program, jailed: &Jailed) -> anyhow::Result<()> {
    let _filtered = filter.install(jailed)?;
    doorman.work()?;
    Ok(())
}

fn program(filter: Filter, without: &[Removal]) -> anyhow::Result<Program> {
    if without.is_empty() {
        return Ok(filter.program());
    }
    Ok(filter.program_with(without, OnViolation::Kill)?)
}

/// Runs the cell until it has an outcome, waiting while it is parked.
fn drive(
    cell: &mut LoadedCell,
    thread: &VcpuThread,
    task: &Task,
) -> anyhow::Result<(Outcome, Option<Answer>)> {
    if let Task::Call { function, payload } = task
        && !cell.start_call(function, payload)
    {
        return Err(Rejection {
            name: "call-too-large",
            message: "the function's name must have 1 to 255 bytes, and the call must fit into a frame"
                .into(),
        }
        .into());
    }
    let outcome = loop {
        let stop = cell.run(thread, None)?;
        if let Some(answer) = cell.take_answer() {
            return Ok((Outcome::Answered, Some(answer)));
        }
        match stop {
            Stop::Exited(code) => break Outcome::Exited(code),
            Stop::Faulted(report) => break Outcome::Faulted(report),
            Stop::Preempted if cell.sockets().is_stopped() => break Outcome::Stopped,
            Stop::Preempted => {}
            // Nobody is on the other side: rings are refused before this.
            Stop::Waiting { .. } => break Outcome::Faulted(Box::new(cell.parked_for_ever())),
            Stop::Parked { until } => {
                if until.is_none() && !cell.can_be_woken() {
                    break Outcome::Faulted(Box::new(cell.parked_for_ever()));
                }
                let wake_at = [until, cell.deadline()].into_iter().flatten().min();
                match cell.sockets().wait(wake_at) {
                    Wake::Stop => break Outcome::Stopped,
                    Wake::Arrival => {}
                    Wake::Time => {
                        if let Some(report) = cell.deadline_passed() {
                            break Outcome::Faulted(Box::new(report));
                        }
                    }
                }
            }
        }
    };
    Ok((outcome, None))
}

/// Prints what there is to print and gives the exit code.
fn conclude(outcome: Outcome, answer: Option<Answer>, json: bool) -> u8 {
    if let Some(answer) = answer {
        return values::print_answer(&answer, json);
    }
    match outcome {
        Outcome::Exited(code) => code,
        Outcome::Faulted(report) => ending::of_fault(&report, json),
        Outcome::Answered => 0,
        Outcome::Stopped => ending::STOPPED,
    }
}
