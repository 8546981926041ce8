//! The life of the cell's process, from the fork to its exit.

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use referee_capabilities::{Broker, CellClock};
use referee_cell::{Answer, CheckedImage, Doorman, LoadedCell, Services, Shell, Sockets, Stop, Wake};
use referee_hv::process::{Child, exit_at_once};
use referee_hv::{Kvm, VcpuThread};
use referee_jail::{
    Filter, JailConfig, Jailed, LimitConfig, OnViolation, Origin, Program, Removal, Require, confine,
};
use referee_policy::Power;

use super::acquire::{self, Acquired};
use super::run_line::{Run, RunLine, Sender};
use super::{Conclusion, Confined, Report, Task};
use crate::broker_host::BrokerHost;
use crate::error::StartError;
use crate::outcome::Outcome;
use crate::record;

/// The child's life. It comes back only with an error from before the cell has its threads.
pub(super) fn live(
    confined: Confined<'_>,
    child: &Child,
    origin: Origin,
    kvm: Kvm,
    line: Option<RunLine>,
    report: &dyn Report,
) -> StartError {
    match lived(confined, child, origin, kvm, line, report) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn lived(
    confined: Confined<'_>,
    child: &Child,
    origin: Origin,
    kvm: Kvm,
    line: Option<RunLine>,
    report: &dyn Report,
) -> Result<Infallible, StartError> {
    let Confined {
        bundle,
        decision,
        grants,
        mut spec,
        task,
        mut acquired,
        options,
        tpm: _,
    } = confined;
    let shell = Shell::create(&kvm).map_err(StartError::host("making a virtual machine"))?;
    // Closed before confinement, which would otherwise close it under the value that owns it.
    drop(kvm);
    let stop = child
        .stop_signals()
        .and_then(|stop| stop.as_fd().try_clone_to_owned())
        .map_err(StartError::host("listening to signals"))?;
    let (sockets, doorman) = Sockets::new(std::mem::take(&mut acquired.doors), Some(stop))
        .map_err(StartError::host("serving sockets"))?;
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut kept = vec![input.as_fd(), output.as_fd(), errors.as_fd()];
    kept.extend(shell.descriptors());
    kept.extend(doorman.descriptors());
    kept.extend(acquired.descriptors());
    let mut sender = line.map(|line| line.sender(&spec, &task));
    kept.extend(sender.as_ref().map(Sender::descriptor));
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
        require: match options.require_confinement {
            true => Require::All,
            false => Require::Available,
        },
    })
    .map_err(StartError::host("confinement"))?;
    let Acquired {
        cell,
        audit,
        resources,
        limits,
        ..
    } = acquired;
    let audit = acquire::sink(audit, options.of_log(), &cell, &bundle)?;
    let missing = jailed.confinement().missing();
    record::start(&audit, &bundle, &grants, decision, &missing, None)
        .map_err(StartError::host("recording a start"))?;
    // The log has a beginning now, so whatever goes wrong from here on is its end.
    let failed = |error: StartError| {
        let (rule, code) = match &error {
            StartError::Rejected { name, .. } => (Some(*name), record::REJECTED),
            StartError::Host { .. } => (None, record::HOST_ERROR),
        };
        match record::failed(&audit, rule, &error.with_causes(), code) {
            Ok(()) => error,
            Err(unrecorded) => StartError::host("recording an end")(unrecorded),
        }
    };
    let clock = CellClock::start();
    let broker = Broker::new(&grants, resources, audit.clone(), clock, limits)
        .map_err(|error| failed(StartError::host("handing over the grants")(error)))?;
    spec.grants = broker.entries();
    let files = grants
        .slots()
        .iter()
        .any(|grant| matches!(grant.power(), Power::Files { .. }));
    let vcpu_filter = program(Filter::Vcpu { files }, &options.seccomp_without).map_err(failed)?;
    let io_filter = program(Filter::Io, &options.seccomp_without).map_err(failed)?;

    let mut host = BrokerHost::new(broker, &grants, |slot| Path::new("/").join(slot));
    if let Some(sender) = &sender {
        host = host.with_transcript(sender.transcript());
    }
    let services = Services {
        host: Box::new(host),
        sockets,
        epoch: clock.instant_of(0).unwrap_or_else(Instant::now),
    };
    std::thread::scope(|scope| {
        let jailed = &jailed;
        // The cell gets the thread that is running already: waking another costs a good part of a short run, and
        // outside programs can wait for theirs.
        std::thread::Builder::new()
            .name("io".into())
            .spawn_scoped(scope, move || {
                if let Err(error) = attend(doorman, &io_filter, jailed) {
                    leave(report.conclude(Err(error)));
                }
                // The cell is over, and the first thread is about to say how: ending here would say it first.
                loop {
                    std::thread::park();
                }
            })
            .map_err(|error| failed(StartError::host("starting the I/O thread")(error)))?;
        // The timers are made before the filter, which has no entry for making or deleting one; so they outlive all
        // that can fail.
        let thread = match VcpuThread::enter() {
            Ok(thread) => thread,
            Err(error) => {
                let error = StartError::host("preparing the cell's thread")(error);
                leave(report.conclude(Err(failed(error))));
            }
        };
        let live = || -> Result<Infallible, StartError> {
            let _filtered = vcpu_filter
                .install(jailed)
                .map_err(StartError::host("installing a system-call filter"))?;
            services.sockets.run_on(&thread);
            let image = CheckedImage::check(Arc::clone(&bundle), jailed)?;
            let mut cell = LoadedCell::load(shell, &image, &spec, services)
                .map_err(StartError::host("loading the muscle"))?;
            let (outcome, answer) = drive(&mut cell, &thread, &task)?;
            record::end(&audit, &outcome, &cell.usage())
                .and_then(|()| audit.sync())
                .map_err(StartError::host("recording an end"))?;
            if let Some(sender) = &mut sender {
                sender.send(&Run {
                    outcome: &outcome,
                    answer: answer.as_ref(),
                    usage: cell.usage(),
                    head: audit.head(),
                })?;
            }
            // The kernel takes a whole process apart faster than destructors would, and the filter has no entries
            // for what they do.
            leave(report.conclude(Ok(Conclusion { outcome, answer })))
        };
        match live() {
            Ok(never) => match never {},
            Err(error) => leave(report.conclude(Err(failed(error)))),
        }
    })
}

/// Ends the process from a thread whose filter allows no more than that.
fn leave(code: u8) -> ! {
    // Standard output may be closed; there is nobody to tell.
    let _ = std::io::stdout().flush();
    exit_at_once(code)
}

/// The I/O thread's part: sees to outside programs until the first thread ends the process.
fn attend(doorman: Doorman, filter: &Program, jailed: &Jailed) -> Result<(), StartError> {
    let _filtered = filter
        .install(jailed)
        .map_err(StartError::host("installing a system-call filter"))?;
    doorman.work().map_err(StartError::host("serving sockets"))
}

fn program(filter: Filter, without: &[Removal]) -> Result<Program, StartError> {
    if without.is_empty() {
        return Ok(filter.program());
    }
    filter
        .program_with(without, OnViolation::Kill)
        .map_err(StartError::host("making a system-call filter"))
}

/// Runs the cell until it has an outcome, waiting while it is parked.
fn drive(
    cell: &mut LoadedCell,
    thread: &VcpuThread,
    task: &Task,
) -> Result<(Outcome, Option<Answer>), StartError> {
    if let Task::Call { function, payload } = task
        && !cell.start_call(function, payload)
    {
        return Err(StartError::Rejected {
            name: "call-too-large",
            message: "the function's name must have 1 to 255 bytes, and the call must fit into a frame"
                .into(),
        });
    }
    let outcome = loop {
        let stop = cell
            .run(thread, None)
            .map_err(StartError::host("running the cell"))?;
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
