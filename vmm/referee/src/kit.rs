//! How the pool's thread makes cells of one permit ahead: from a template once there is one.
//!
//! ```text
//!   first   load ─► start-up, recorded as a life of its own ─► frozen? ── yes ─► template, and this cell is the first of it
//!                                                                 └────── no ──► load, and let each life run its start-up
//!   later   load from the template ─► warm: the kernel has its pages at hand
//! ```
//! What runs here has no host: a start-up that asks for something is stopped there and not frozen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use referee_audit::AuditSink;
use referee_cell::{
    CellError, CellSpec, CheckedImage, Heirs, LoadedCell, Services, Shell, Sockets, Stop, Template,
};
use referee_hv::{VcpuThread, vcpus_move_cheaply};
use referee_policy::{Decision, Grants};

use crate::broker_host::NoHost;
use crate::engine::cell_name;
use crate::error::StartError;
use crate::outcome::Outcome;
use crate::record;

/// How often a start-up is looked after: whether its cells are still wanted.
const SLICE: Duration = Duration::from_millis(10);

/// Everything that cells of one permit are made of. Holds nothing that could own the pool.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub image: CheckedImage,
    pub spec: CellSpec,
    pub grants: Grants,
    pub decision: Decision,
    pub audit: AuditSink,
    /// Layers of confinement that the process lacks, for the record of the start-up.
    pub not_confined_by: String,
    pub start_up: StartUp,
}

/// What is known of a muscle's start-up.
#[derive(Debug)]
pub(crate) enum StartUp {
    /// Nothing yet.
    Untried,
    /// It was run once for all.
    Frozen(Arc<Template>),
    /// None of it is to run: cells begin at a snapshot, whatever becomes of them.
    Skipped(Arc<Template>),
    /// Each life runs it.
    Kept,
}

/// What a recipe needs of the thread that follows it.
pub(crate) struct Hands<'a> {
    /// None where this thread can run no muscle.
    pub thread: Option<&'a VcpuThread>,
    /// Makes a virtual machine.
    pub shell: &'a dyn Fn() -> Result<Shell, CellError>,
    /// Whether the cell is no longer wanted.
    pub stop: &'a dyn Fn() -> bool,
}

impl Recipe {
    /// What cells begin from, if that is known.
    pub(crate) fn template(&self) -> Option<&Arc<Template>> {
        match &self.start_up {
            StartUp::Frozen(template) | StartUp::Skipped(template) => Some(template),
            StartUp::Untried | StartUp::Kept => None,
        }
    }

    /// Has the next cells begin from a start-up of their own; not those that begin at a snapshot, which has one layout.
    pub(crate) fn begin_anew(&mut self) {
        if !matches!(self.start_up, StartUp::Skipped(_)) {
            self.start_up = StartUp::Untried;
        }
    }

    /// Makes a cell, which must be given a life by [`LoadedCell::reset`].
    ///
    /// # Errors
    /// When it could not be made, nor another one.
    pub(crate) fn make(&mut self, hands: &Hands<'_>) -> Result<LoadedCell, StartError> {
        if let (StartUp::Untried, Some(thread)) = (&self.start_up, hands.thread) {
            self.start_up = StartUp::Kept;
            let mut cell = self.load(hands)?;
            if self.start(&mut cell, thread, hands.stop)? && vcpus_move_cheaply() {
                return Ok(cell);
            }
        }
        let Some(template) = self.template() else {
            return self.load(hands);
        };
        let shell = (hands.shell)().map_err(StartError::host("making a virtual machine"))?;
        let mut cell = LoadedCell::load_from(template, shell, &self.image, &self.spec, self.services())
            .map_err(StartError::host("loading from a template"))?;
        if vcpus_move_cheaply() {
            cell.warm().map_err(StartError::host("warming a cell"))?;
        }
        Ok(cell)
    }

    /// Runs the muscle's start-up and freezes it, if that is sound; whether the cell is now as its template.
    fn start(
        &mut self,
        cell: &mut LoadedCell,
        thread: &VcpuThread,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, StartError> {
        let bundle = self.image.bundle();
        let title = format!("{} {}", bundle.manifest().name, bundle.manifest().version);
        let audit = self.audit.for_cell(&cell_name()?, &title);
        record::start(
            &audit,
            bundle,
            &self.grants,
            &self.decision,
            &self.not_confined_by,
            None,
        )
        .map_err(StartError::host("recording a start"))?;
        let (outcome, template) = match run_to_rest(cell, thread, stop) {
            Ok(None) => (Outcome::Stopped, cell.freeze(Heirs::Many)),
            Ok(Some(outcome)) => (outcome, Ok(None)),
            Err(error) => (Outcome::Stopped, Err(error)),
        };
        let template = template.map_err(StartError::host("running a start-up"));
        let frozen = template.as_ref().is_ok_and(Option::is_some);
        match frozen {
            true => record::frozen(&audit, &cell.usage()),
            false => record::end(&audit, &outcome, &cell.usage()),
        }
        .map_err(StartError::host("recording an end"))?;
        if let Some(template) = template? {
            self.start_up = StartUp::Frozen(template);
        }
        Ok(frozen)
    }

    fn load(&self, hands: &Hands<'_>) -> Result<LoadedCell, StartError> {
        let shell = (hands.shell)().map_err(StartError::host("making a virtual machine"))?;
        LoadedCell::load(shell, &self.image, &self.spec, self.services())
            .map_err(StartError::host("loading the muscle"))
    }

    fn services(&self) -> Services {
        Services {
            host: Box::new(NoHost),
            sockets: Sockets::none(),
            epoch: Instant::now(),
        }
    }
}

/// Runs a muscle until it waits for something; its outcome if it ends instead.
fn run_to_rest(
    cell: &mut LoadedCell,
    thread: &VcpuThread,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Outcome>, CellError> {
    while !stop() {
        match cell.run(thread, Some(SLICE))? {
            Stop::Parked { .. } => return Ok(None),
            // No cell that is made ahead has a ring.
            Stop::Waiting { .. } => break,
            Stop::Exited(code) => return Ok(Some(Outcome::Exited(code))),
            Stop::Faulted(report) => return Ok(Some(Outcome::Faulted(report))),
            // It asked for something, and there is nobody to answer.
            Stop::Preempted if !cell.asked_for_nothing() => break,
            Stop::Preempted => {}
        }
    }
    Ok(Some(Outcome::Stopped))
}
