//! A worker: the jailed process that holds one deployment's cells and knows nothing else.
//!
//! ```text
//!   born (forked off the nursery) ─► open grants ─► confine ─► filter ─► parse image ─► Ready ─► hands at work
//! ```
//! A *hand* is a thread that reads one message from the line and does what it says. There are two more of them than calls may run at once,
//! so that one always reads, also while another moves cells to swap: a call can be given up while the others run. The supervisor decides which call runs when and for how long;
//! a worker only does it.
//!
//! What a muscle could do that took this process over: answer its own deployment's calls wrongly, use its grants, add records about
//! its own cells to the log. Another deployment's cells, files, calls and records are in other processes.

mod beginning;
mod hands;
mod outlets;
mod seat;
mod stop_watch;
mod stream;

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use referee::{ConsoleStreams, Input, Opened, Output};
use referee_audit::AuditSink;
use referee_bundle::VerifiedBundle;
use referee_capabilities::Resources;
use referee_cell::CheckedImage;
use referee_hv::Kvm;
use referee_hv::process::exit_at_once;
use referee_jail::{
    DirectoryGrant, Filter, JailConfig, LimitConfig, Origin, Require, Wishes, confine, defend,
};
use referee_policy::{Decision, FilesAccess, Grants, Loans, Power, Standings};
use serde::{Deserialize, Serialize};

use crate::error::{NodeError, OrHost};
use crate::line::{FromWorker, frame};
use crate::nursery::Handed;
use crate::worker::hands::{Hands, Work};

pub(crate) use crate::worker::beginning::Beginning;

/// How a worker is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// What is done against side channels.
    pub wishes: Wishes,
    /// Calls that run at once.
    pub slots: usize,
    /// Cells that it may have.
    pub cells: usize,
    /// Cells that are kept loaded ahead.
    pub ahead: usize,
    /// Whether each call has a cell as it was just started.
    pub fresh: bool,
    /// Bytes of output that one life of a cell may write.
    pub output_bytes: u64,
    /// Whether a layer of confinement that this host does not allow is an error.
    pub require_confinement: bool,
}

/// What a worker is born with.
pub(crate) struct Birth {
    pub bundle: VerifiedBundle,
    pub decision: Decision,
    pub grants: Grants,
    /// What was taken from them before.
    pub standings: Standings,
    /// What is lent to slots that are delegated.
    pub loans: Loans,
    /// Its ends of rings.
    pub rings: Vec<Handed>,
    /// The snapshot at which its cells begin.
    pub beginning: Option<Beginning>,
    pub shape: Shape,
    /// Its ends of the lines.
    pub calls: UnixStream,
    pub log: UnixStream,
}

/// The nursery as it is before a fork.
///
/// # Errors
/// When there is no `/proc`.
pub(crate) fn origin() -> Result<Origin, NodeError> {
    Origin::capture().or_host("looking at the nursery's namespaces")
}

/// The worker's life, in the child of a fork. What goes wrong before it is ready, it says on its line.
pub(crate) fn live(birth: Birth, kvm: Arc<Kvm>, origin: Origin) -> ! {
    let line = match birth.calls.try_clone() {
        Ok(line) => line,
        // The supervisor sees the end of its line.
        Err(_) => exit_at_once(1),
    };
    match settle(birth, kvm, origin, &line) {
        Ok(never) => match never {},
        Err(error) => unfit(&line, &error),
    }
}

/// Says that this worker will never be ready, and ends it. Behind the filter nothing else may be done about an error: the calls by which threads and
/// timers end are not allowed there.
fn unfit(mut line: &UnixStream, error: &NodeError) -> ! {
    let unfit = FromWorker::Unfit {
        rejected: match error {
            NodeError::Rejected { name, .. } => Some(name.clone()),
            _ => None,
        },
        message: error.with_causes(),
    };
    if let Ok(frame) = frame(&unfit) {
        // The supervisor may be gone; there is nobody else to tell.
        let _ = line.write_all(&frame);
    }
    exit_at_once(1)
}

/// `line` is for whoever tells the supervisor why this failed, and so is kept too.
fn settle(birth: Birth, kvm: Arc<Kvm>, origin: Origin, line: &UnixStream) -> Result<Infallible, NodeError> {
    let Birth {
        bundle,
        decision,
        grants,
        standings,
        loans,
        rings,
        beginning,
        shape,
        calls,
        log,
    } = birth;
    // Its bytes alone: the first look into them is behind the filter.
    let beginning = beginning
        .map(|beginning| beginning.read(grants.limits().memory_bytes))
        .transpose()?;
    let nowhere = ConsoleStreams {
        out: Output::Nowhere,
        err: Output::Nowhere,
        input: Input::Empty,
    };
    crate::oom::go_first()?;
    // Before its threads, which inherit it, and while partitions of the cache are to be seen.
    let undefended = defend(&shape.wishes)
        .or_host("defending a worker against side channels")?
        .missing_names();
    // What was revoked is not even opened. What may be lent is, all of it: later nothing can be.
    let left = grants.left(&standings, &Loans::default());
    let resources = Resources::acquire(&left, nowhere).or_host("opening what was granted")?;
    let opened = Opened::with(kvm);
    let mut kept: Vec<BorrowedFd<'_>> = vec![line.as_fd(), calls.as_fd(), log.as_fd()];
    kept.extend(opened.descriptors());
    kept.extend(resources.descriptors());
    kept.extend(rings.iter().flat_map(|handed| handed.ring.descriptors()));
    let keep: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let jailed = confine(&JailConfig {
        origin,
        keep: &keep,
        sockets: &[],
        directories: &directories(&left, &resources),
        limits: LimitConfig {
            more_descriptors: descriptors_needed(&grants, &shape),
            threads: count(shape.slots).saturating_add(5 + machines(&shape)),
            file_bytes: None,
        },
        require: match shape.require_confinement {
            true => Require::All,
            false => Require::Available,
        },
    })
    .or_host("confinement")?;
    let files = left
        .slots()
        .iter()
        .any(|grant| matches!(grant.power(), Power::Files { .. }));
    let not_confined_by = format!("{} {undefended}", jailed.confinement().missing())
        .trim()
        .to_owned();
    let audit = AuditSink::over(log, "", "");
    // All threads are made before the filter, which allows none to be made.
    let engine = opened.start(1, audit, not_confined_by.clone())?;
    // One that always reads, and one for cells on their way to swap.
    let hands = Hands::prepare(shape.slots + 1)?;
    Filter::Worker { files }
        .program()
        .install_everywhere(&jailed)
        .or_host("installing the filter")?;
    let image = match CheckedImage::check(Arc::new(bundle), &jailed) {
        Ok(image) => image,
        Err(rejected) => unfit(line, &referee::StartError::from(rejected).into()),
    };
    let mut permit = engine.permit(image, decision, grants, resources, (standings, loans))?;
    if let Some(beginning) = beginning {
        permit = match beginning.begin(&permit) {
            Ok(permit) => permit,
            Err(error) => unfit(line, &error),
        };
    }
    for Handed { grant, ring } in &rings {
        permit.join_kept_ring(&grant.slot, grant.role(), &grant.ring, ring);
    }
    let work = Work::new(permit, rings, shape, calls, not_confined_by)?;
    hands.set_to(work)
}

/// Granted directories, with whether cells may only read there.
fn directories<'a>(grants: &Grants, resources: &'a Resources) -> Vec<DirectoryGrant<'a>> {
    let opened = grants.slots().iter().filter_map(|grant| match grant.power() {
        Power::Files { access, .. } => Some(DirectoryGrant {
            descriptor: resources.directory(grant.slot())?,
            read_only: *access == FilesAccess::Read,
        }),
        _ => None,
    });
    opened.collect()
}

/// VM, vCPU and what a life duplicates for each cell; files that muscles open; the three files of each ring; room for what the pool makes ahead.
fn descriptors_needed(grants: &Grants, shape: &Shape) -> u64 {
    let each = count(grants.slots().len()).saturating_add(2 + FILES_OF_A_CELL);
    let rings = count(grants.rings().count()).saturating_mul(3);
    machines(shape).saturating_mul(each).saturating_add(rings) + 64
}

/// Virtual machines that there may be at once, those on their way out counted. The kernel makes a thread for each at its first run
/// (it takes huge pages back), which counts as one of the worker's own; where it may make none, the machine does not run.
fn machines(shape: &Shape) -> u64 {
    count(shape.cells + shape.ahead + 8)
}

/// Files that the muscle in a cell may have open.
const FILES_OF_A_CELL: u64 = 64;

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
