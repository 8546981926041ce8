//! A muscle after its start-up, from which any number of lives begin.
//!
//! ```text
//!   load ─► first instruction ── start-up ──► first park  ══ frozen: pages, registers, vector state, device ══╗
//!                                               ▲                                                             ║
//!                             reset, another cell loaded ◄════════════════════════════════════════════════════╝
//! ```
//! A life that begins here is told apart from one that ran its own start-up by nothing, if the start-up would have come to the same.
//! So a muscle is frozen only if its start-up
//!
//! - asked the host for nothing: no call, no port, no connection but that of the RPC service. What it did would be missing from
//!   the record of every later life, and what it was told would be another life's;
//! - was told what every life is told: no grants, whose handles are random, and no seed. Or else the muscle promises, by the doorbell `READY` instead of its first `PARK`, that it keeps
//!   nothing of the block that differs between lives and reads it when it needs it ([`muscle_abi::doorbell::READY`]);
//! - parked without a time, loaded no segments, and did not lose its connection;
//! - has no ring, in which another cell writes as it likes.
//!
//! Everything else keeps its start-up: [`LoadedCell::reset`] then goes back to before the first instruction.

use std::sync::Arc;

use muscle_abi::PAGE_SIZE;
use referee_hv::x86_64::registers::EntryState;
use referee_hv::{Common, FreezePlaces, Frozen, Vm};
use referee_vsock::{ConnId, Vsock};

use crate::cell::{LoadedCell, Rest};
use crate::error::CellError;
use crate::layout::{CONTROL_GPA, Layout, Region, RegionKind, WINDOW_GPA, WINDOW_SIZE};
use crate::load::Machine;
use crate::reset::{Kept, Origin, ZERO, restore, writable};
use crate::spec::CellSpec;

/// A frozen muscle. It holds addresses, so every cell that begins from it has the same layout.
#[derive(Debug)]
pub struct Template {
    pub(crate) layout: Layout,
    pub(crate) entry: EntryState,
    /// What no muscle can write, if it is kept once for all cells.
    pub(crate) common: Option<Unwritable>,
    pub(crate) heap_bytes: u64,
    /// Pages that start-up touched, by guest-physical address; those that are zero have no contents.
    pub(crate) pages: Arc<Vec<Kept>>,
    pub(crate) cpu: Frozen,
    pub(crate) vsock: Vsock,
    pub(crate) connection: ConnId,
    /// What start-up was told.
    pub(crate) told: CellSpec,
    /// Whether the muscle said that it reads the block anew.
    pub(crate) rereads_boot: bool,
}

/// Whose lives begin from a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heirs {
    /// Those of the cell that was frozen, and of one in its place.
    Itself,
    /// Those of many cells at a time, which then have memory in common that none of them can write.
    Many,
}

/// Memory that all cells from one template have alike, as ring 3 cannot write it.
#[derive(Debug)]
pub(crate) struct Unwritable {
    /// The system's pages. The processor may write its trap stack.
    pub system: Common,
    /// The image up to its first data segment, if there is nothing else behind that.
    pub image: Option<Common>,
}

impl Unwritable {
    fn of(machine: &Machine) -> Result<Option<Unwritable>, CellError> {
        let (system, _) = machine.layout.system_bytes()?;
        let Some(system) = Common::keep(&system)? else {
            return Ok(None);
        };
        let length = usize::try_from(machine.layout.unwritable_image()).unwrap_or(0);
        let mut image = vec![0; length];
        machine.vm.read(machine.layout.image_gpa(), &mut image)?;
        let image = if image.is_empty() {
            None
        } else {
            Common::keep(&image)?
        };
        Ok(Some(Unwritable { system, image }))
    }
}

impl Template {
    /// Whether a life that is told this may begin here.
    pub(crate) fn fits(&self, spec: &CellSpec) -> bool {
        self.rereads_boot || self.told.tells_the_same(spec)
    }

    /// Whether this page is of an image that each cell has loaded for itself.
    fn has_loaded_image(&self, gpa: u64) -> bool {
        let is_common = self.common.as_ref().is_some_and(|common| common.image.is_some());
        !is_common && (self.layout.image_gpa()..self.layout.private_gpa()).contains(&gpa)
    }

    /// Gives a machine with this layout the muscle's memory.
    pub(crate) fn fill(&self, vm: &Vm) -> Result<(), CellError> {
        for (gpa, page) in self.pages.iter() {
            match page {
                Some(page) => vm.write(*gpa, &page.0)?,
                // An image that was loaded from its file may have contents there.
                None if self.has_loaded_image(*gpa) => vm.write(*gpa, &ZERO.0)?,
                // The machine is new: this is zero already, and has no memory yet.
                None => {}
            }
        }
        if let Some(region) = self.layout.region(RegionKind::Resume) {
            vm.write(region.gpa, self.cpu.page())?;
        }
        Ok(())
    }
}

impl LoadedCell {
    /// Whether a run without a call would let this life be frozen, as far as can be told before it.
    pub fn can_be_frozen(&self) -> bool {
        self.exits == 0
            && matches!(self.origin, Origin::Loaded(_))
            && self.told.rings.is_empty()
            && self.machine.layout.region(RegionKind::Resume).is_some()
    }

    /// Has the kernel make the pages of a template ready for the guest, and looks where they are, so that neither the cell's first
    /// call nor its first reset has to. Of the muscle itself nothing runs.
    ///
    /// # Errors
    /// [`CellError`]; the cell must be dropped.
    pub fn warm(&mut self) -> Result<(), CellError> {
        let Origin::Template(template) = &self.origin else {
            return Ok(());
        };
        let Machine {
            vm,
            layout,
            vcpu,
            entry,
            ..
        } = &mut self.machine;
        let Some(resume) = layout.region(RegionKind::Resume) else {
            return Ok(());
        };
        let mut written = Vec::new();
        let mut read = vec![layout.va(RegionKind::Boot)];
        for region in layout.regions() {
            match region.kind {
                RegionKind::Code | RegionKind::Constants => {
                    read.extend((region.va..region.va + region.length).step_by(4096));
                }
                RegionKind::Data | RegionKind::Window | RegionKind::Stack | RegionKind::Heap => {
                    let gpas = template.pages.iter().map(|(gpa, _)| *gpa);
                    let here = gpas.filter(|gpa| (region.gpa..region.gpa + region.length).contains(gpa));
                    written.extend(here.map(|gpa| region.va + (gpa - region.gpa)));
                }
                RegionKind::Boot
                | RegionKind::RingReadable
                | RegionKind::RingWritable
                | RegionKind::Resume
                | RegionKind::ControlDoorbell
                | RegionKind::VsockDoorbell
                | RegionKind::SystemTables
                | RegionKind::TrapStubs
                | RegionKind::TrapStack => {}
            }
        }
        let vcpu = vcpu.get()?;
        vcpu.touch(vm, &freeze_places(layout, resume), &written, &read, entry)?;
        vm.write(resume.gpa, template.cpu.page())?;
        vcpu.thaw(&template.cpu, entry);
        restore(&self.machine, &mut self.touched, &template.pages)
    }

    /// Whether the muscle has asked its host for nothing in this life.
    pub fn asked_for_nothing(&self) -> bool {
        !self.host.was_asked()
    }

    /// The template that this life began from.
    pub fn template(&self) -> Option<&Arc<Template>> {
        match &self.origin {
            Origin::Template(template) => Some(template),
            Origin::Unkept | Origin::Loaded(_) => None,
        }
    }

    /// Keeps the muscle as it stands at its first park, before any call, for the lives that `heirs` says; `None`
    /// if that would not be sound, see the head of this file.
    ///
    /// # Errors
    /// [`CellError`]; the cell must be dropped.
    pub fn freeze(&mut self, heirs: Heirs) -> Result<Option<Arc<Template>>, CellError> {
        self.cool()?;
        let rereads_boot = match self.rest {
            Rest::Parked => false,
            Rest::Ready => true,
            Rest::None => return Ok(None),
        };
        if !rereads_boot && !self.told.is_the_same_in_every_life() {
            return Ok(None);
        }
        let quiet = self.asked_for_nothing()
            && self.rpc.is_unused()
            && self.told.rings.is_empty()
            && !self.sockets.any()
            && self.machine.vsock.connections() == 1
            && !self.machine.vsock.has_pending();
        let (Some(connection), Some(resume), true) = (
            self.rpc.connection(),
            self.machine.layout.region(RegionKind::Resume).copied(),
            quiet,
        ) else {
            return Ok(None);
        };
        let pages = Arc::new(touched(&self.machine)?);
        let Some(cpu) = freeze_cpu(&mut self.machine, &resume)? else {
            return Ok(None);
        };
        let Machine { vcpu, entry, .. } = &mut self.machine;
        vcpu.get()?.thaw(&cpu, entry);
        let Machine { layout, .. } = &self.machine;
        let template = Arc::new(Template {
            common: match heirs {
                Heirs::Itself => None,
                Heirs::Many => Unwritable::of(&self.machine)?,
            },
            pages,
            layout: layout.clone(),
            entry: self.machine.entry,
            heap_bytes: self.machine.heap_bytes,
            cpu,
            vsock: self.machine.vsock.clone(),
            connection,
            told: self.told.clone(),
            rereads_boot,
        });
        self.origin = Origin::Template(Arc::clone(&template));
        Ok(Some(template))
    }
}

/// Freezes the processor of a muscle that has stopped; nothing of the muscle's memory changes but its resume page. It must then be thawed, or go on.
/// `None` as [`referee_hv::Vcpu::freeze`] says.
pub(crate) fn freeze_cpu(machine: &mut Machine, resume: &Region) -> Result<Option<Frozen>, CellError> {
    let Machine {
        vm,
        layout,
        vcpu,
        entry,
        ..
    } = machine;
    let places = freeze_places(layout, resume);
    let mut scratch = ZERO.clone();
    vm.read(places.scratch_gpa, &mut scratch.0)?;
    let frozen = vcpu.get()?.freeze(vm, &places, entry)?;
    vm.write(places.scratch_gpa, &scratch.0)?;
    Ok(frozen)
}

/// The resume page, the window's last page for scratch, the doorbells.
fn freeze_places(layout: &Layout, resume: &Region) -> FreezePlaces {
    let last_page = WINDOW_SIZE - PAGE_SIZE;
    FreezePlaces {
        resume_va: resume.va,
        resume_gpa: resume.gpa,
        scratch_va: layout.va(RegionKind::Window) + last_page,
        scratch_gpa: WINDOW_GPA + last_page,
        bell_va: layout.va(RegionKind::ControlDoorbell),
        bell_gpa: CONTROL_GPA,
    }
}

/// Every page that was touched and that the muscle can write.
pub(crate) fn touched(machine: &Machine) -> Result<Vec<Kept>, CellError> {
    let mut pages = Vec::new();
    for (start, length) in writable(machine) {
        machine.vm.touched_pages(start, length, |gpa| {
            let mut page = Box::new(ZERO.clone());
            machine.vm.read(gpa, &mut page.0)?;
            pages.push((gpa, (*page != ZERO).then_some(page)));
            Ok(())
        })?;
    }
    pages.sort_unstable_by_key(|(gpa, _)| *gpa);
    Ok(pages)
}
