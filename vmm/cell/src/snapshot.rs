//! A muscle as it stands between two calls, kept whole: as bytes if need be, and as what other lives begin from.
//!
//! ```text
//!   a life ── calls ──► parked ══ Snapshot: pages, registers, vector state, numbers of the device ══ bytes (form.rs)
//!                                                                                   ║
//!   another life, elsewhere or later ◄── reset, load ── Template ◄── template() ◄═══╝
//! ```
//! Unlike what [`crate::Template`] is made of by itself, it comes after calls: what the muscle was told by its host in them is part of its memory, and goes
//! along. So does whatever it keeps that should be one life's alone: a generator of random numbers gives each life from here the same ones. Handles of
//! grants, open files and the like are stale in the new life, and an error to the muscle. What the host may not get wrong is looked at, and
//! otherwise refused ([`Unsound`]):
//!
//! - it stands at a park without a time, with no call under way, and nothing between it and the host is half done;
//! - of what only this life was told at its start (handles, a seed) it knows nothing, or it said `READY` in this life, and so reads that anew;
//! - no other cell or outside program has a part in it: no ring, no connection but that of its calls;
//! - all of it can be kept: no segments of its own.
//!
//! The cell's monotonic clock goes on from where it stood; the processor's own counter begins anew.
//!
//! A snapshot that was read from bytes is not believed anything: see [`Snapshot::template`].

mod form;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use muscle_abi::PAGE_SIZE;
use muscle_abi::boot::Style;
use muscle_abi::channel::RPC_PORT;
use referee_bundle::Digest;
use referee_hv::Frozen;
use referee_hv::x86_64::system::TRAP_STACK_OFFSET;
use referee_vsock::{AtRest, Cid, NotAtRest, Vsock};
use thiserror::Error;
use vm_memory::GuestAddress;

use crate::cell::{LoadedCell, Rest};
use crate::error::CellError;
use crate::layout::{HEAP_GPA, Layout, LayoutSeed, RegionKind, Sizes, WINDOW_GPA, WINDOW_SIZE};
use crate::load::{self, CheckedImage, FIRST_HEAP};
use crate::reset::{Kept, ZERO};
use crate::spec::{CellSpec, ClockAccess};
use crate::template::{Template, freeze_cpu, touched};

pub use form::Damaged;

/// A muscle between two calls.
#[derive(Debug, Clone)]
pub struct Snapshot {
    bundle: Digest,
    seed: LayoutSeed,
    sizes: Sizes,
    heap_bytes: u64,
    style: Style,
    clock: ClockAccess,
    cid: u64,
    told: Told,
    monotonic: Duration,
    vsock: AtRest,
    registers: [u64; Frozen::REGISTERS],
    vectors: Box<[u8; Frozen::VECTORS]>,
    pages: Arc<Vec<Kept>>,
}

/// What the muscle knows of its boot block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// Nothing that it does not read again.
    ReadsAnew,
    /// What every life is told: no grants, no seed, these arguments.
    TheSame(Vec<u8>),
}

/// Why a muscle cannot be kept as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsound {
    /// The cell has one life alone.
    #[error("its cell was made for one life")]
    OneLife,
    /// It owes an answer, or was not left to take it.
    #[error("a call is under way")]
    Call,
    /// It waits for a time, or for something else than a call.
    #[error("it does not wait for a call alone")]
    NotParked,
    /// It was told handles or a seed, and did not say that it reads them anew.
    #[error(
        "it may have kept handles or a seed that are this life's: it has grants and never rang READY, as muscles that are built with the SDK do"
    )]
    KnowsItsLife,
    /// Another cell writes to it.
    #[error("it shares a ring with another cell")]
    Rings,
    /// Outside programs may connect.
    #[error("it has sockets of outside programs")]
    Sockets,
    /// Its device has more to it than numbers.
    #[error(transparent)]
    Device(NotAtRest),
    /// Its segments or the host's processor.
    #[error("it loaded segments of its own, or this host's processor cannot be kept")]
    Processor,
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The cell goes on as if nothing had been asked.
    #[error("the muscle cannot be kept as it stands: {0}")]
    Unsound(#[from] Unsound),
    /// The host failed; the cell must be dropped.
    #[error(transparent)]
    Cell(#[from] CellError),
}

/// Why cells that are made for something cannot begin from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It is another program's memory.
    #[error("it was made of another bundle")]
    Bundle,
    /// It is entered in another way.
    #[error("it was made of a muscle that is entered in another way")]
    Style,
    /// How fine the processor's own clock is, was another.
    #[error(
        "the clock that it was granted is not as fine, or finer, than that of the cell that it was made of"
    )]
    Clock,
    /// Limits, arguments or grants take more or less room.
    #[error(
        "its memory limit, arguments or grants take other room than those of the cell that it was made of"
    )]
    Sizes,
    /// The muscle would be told something else than it was.
    #[error(
        "the muscle would be told something else at its start than it was, and did not say that it reads that anew"
    )]
    Told,
    /// Rings are another cell's, too.
    #[error("a cell with a ring begins with an empty one, and so at its start")]
    Rings,
    /// It says something that cannot be.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

impl Snapshot {
    /// SHA-256 of the bundle that it was made of.
    pub fn bundle(&self) -> Digest {
        self.bundle
    }

    /// What the cell's monotonic clock showed.
    pub fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// What cells of this image that are told this can begin from. Everything that the bytes may have lied about is checked here: the layout is drawn
    /// anew, and pages are only where the muscle itself may write in it.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn template(&self, image: &CheckedImage, spec: &CellSpec) -> Result<Arc<Template>, Unfit> {
        if image.bundle().digest() != self.bundle {
            return Err(Unfit::Bundle);
        }
        if spec.style != self.style || spec.cid.number() != self.cid {
            return Err(Unfit::Style);
        }
        if spec.clock != self.clock {
            return Err(Unfit::Clock);
        }
        if !spec.rings.is_empty() {
            return Err(Unfit::Rings);
        }
        let plan = image.plan();
        let sizes = load::sizes(plan, spec).map_err(|_| Unfit::Sizes)?;
        if !spec.resettable || sizes != self.sizes {
            return Err(Unfit::Sizes);
        }
        let layout = Layout::random(sizes, &load::spans(plan), &[], &self.seed).map_err(|_| Unfit::Sizes)?;
        let (_, page_table_root) = layout.system_bytes().map_err(|_| Unfit::Damaged("its layout"))?;
        let resume = layout.region(RegionKind::Resume).ok_or(Unfit::Sizes)?;
        let in_pages = self.heap_bytes.is_multiple_of(PAGE_SIZE);
        if !in_pages || !(FIRST_HEAP.min(sizes.heap)..=sizes.heap).contains(&self.heap_bytes) {
            return Err(Unfit::Damaged("its heap"));
        }
        if !self.pages_are_the_muscles(&layout) {
            return Err(Unfit::Damaged("its pages"));
        }
        let (_, host_port) = self.vsock.ports;
        if host_port != RPC_PORT {
            return Err(Unfit::Damaged("its connection"));
        }
        let (vsock, connection) = Vsock::of_rest(spec.cid, spec.vsock, GuestAddress(WINDOW_GPA), &self.vsock)
            .map_err(|_| Unfit::Damaged("its device"))?;
        let (rereads_boot, argument_block) = match &self.told {
            Told::ReadsAnew => (true, Vec::new()),
            Told::TheSame(arguments) => (false, arguments.clone()),
        };
        let template = Template {
            entry: load::entry_state(plan, &layout, spec, page_table_root),
            common: None,
            heap_bytes: self.heap_bytes,
            pages: Arc::clone(&self.pages),
            cpu: Frozen::of_parts(&self.registers, &self.vectors, resume.va),
            layout,
            vsock,
            connection,
            told: CellSpec {
                argument_block,
                grants: Vec::new(),
                seed: None,
                ..spec.clone()
            },
            rereads_boot,
        };
        // With a `READY` that holds for any life, so that nothing is compared.
        match template.fits(spec) {
            true => Ok(Arc::new(template)),
            false => Err(Unfit::Told),
        }
    }

    /// Whether its pages are in order, each once, and each is one that ring 3 can write.
    fn pages_are_the_muscles(&self, layout: &Layout) -> bool {
        let sizes = layout.sizes();
        let data = layout.regions().filter(|region| region.kind == RegionKind::Data);
        let mut ranges: Vec<(u64, u64)> = data.map(|region| (region.gpa, region.length)).collect();
        ranges.push((layout.private_gpa() + sizes.boot, sizes.stack));
        ranges.push((WINDOW_GPA, WINDOW_SIZE));
        ranges.push((HEAP_GPA, self.heap_bytes));
        let is_writable = |gpa: u64| {
            ranges
                .iter()
                .any(|(start, length)| gpa.checked_sub(*start).is_some_and(|at| at < *length))
        };
        let in_order = self.pages.is_sorted_by(|(one, _), (next, _)| one < next);
        let whole = |gpa: u64| gpa.is_multiple_of(PAGE_SIZE);
        in_order && self.pages.iter().all(|(gpa, _)| whole(*gpa) && is_writable(*gpa))
    }
}

impl LoadedCell {
    /// Whether it stands at a park without a time, as the last run left it.
    pub fn is_at_rest(&self) -> bool {
        self.rest != Rest::None
            && self.unsettled.is_none()
            && self.put_off.is_none()
            && !self.may_have_missed
            && !self.is_hot()
    }

    /// Keeps the muscle as it stands. The cell goes on as before.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn snapshot(&mut self) -> Result<Snapshot, SnapshotError> {
        self.cool()?;
        if !self.rpc.is_quiet() {
            return Err(Unsound::Call.into());
        }
        if !self.is_at_rest() {
            return Err(Unsound::NotParked.into());
        }
        if !self.told.rings.is_empty() {
            return Err(Unsound::Rings.into());
        }
        if self.sockets.any() {
            return Err(Unsound::Sockets.into());
        }
        let told = match self.said_ready {
            true => Told::ReadsAnew,
            false if self.told.is_the_same_in_every_life() => Told::TheSame(self.told.argument_block.clone()),
            false => return Err(Unsound::KnowsItsLife.into()),
        };
        let vsock = self.machine.vsock.at_rest().map_err(Unsound::Device)?;
        if self.rpc.connection().is_none() || vsock.ports.1 != RPC_PORT {
            return Err(Unsound::Device(NotAtRest::Connections).into());
        }
        let layout = &self.machine.layout;
        let resume = layout
            .region(RegionKind::Resume)
            .copied()
            .ok_or(Unsound::OneLife)?;
        // The processor's alone, and empty between two faults.
        let trap_stack = layout.system_gpa() + TRAP_STACK_OFFSET;
        let mut pages = touched(&self.machine)?;
        pages.retain(|(gpa, _)| *gpa != trap_stack);
        // What a reset goes back to may stand there.
        let mut page = ZERO.clone();
        self.machine
            .vm
            .read(resume.gpa, &mut page.0)
            .map_err(CellError::from)?;
        let frozen = freeze_cpu(&mut self.machine, &resume)?;
        self.machine
            .vm
            .write(resume.gpa, &page.0)
            .map_err(CellError::from)?;
        let cpu = frozen.ok_or(Unsound::Processor)?;
        let load::Machine { vcpu, entry, .. } = &mut self.machine;
        vcpu.get()?.go_on(&cpu, entry);
        let mut vectors = Box::new([0; Frozen::VECTORS]);
        for (to, from) in vectors.iter_mut().zip(cpu.vectors()) {
            *to = *from;
        }
        Ok(Snapshot {
            bundle: self.image.bundle().digest(),
            seed: *self.machine.layout.seed(),
            sizes: self.machine.layout.sizes(),
            heap_bytes: self.machine.heap_bytes,
            style: self.told.style,
            clock: self.clock,
            cid: Cid::number(self.told.cid),
            told,
            monotonic: self.epoch.elapsed(),
            vsock,
            registers: cpu.registers(),
            vectors,
            pages: Arc::new(pages),
        })
    }
}
