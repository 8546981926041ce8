//! A cell's next life: everything that the muscle could change is as it was, before its first instruction or, from a template,
//! at its first park.
//!
//! ```text
//!   what ring 3 can write      back to
//!   ──────────────────────     ──────────────────────────────────────────────────
//!   data segments, stack,      the bytes that were kept (pages that were not zero), or zero
//!     window, heap
//!   general, segment, control  entry state, or those that were kept, by the run page
//!   x87, SSE, AVX and later    initial state, by KVM_SET_XSAVE; or those that were kept, by the resume page
//!   vsock device, connections  a new device, or the one that was kept
//!   RPC stream, time, counters new
//!
//!   what it cannot write: code, constants, boot block, tables, stubs. The trap stack, which the processor writes, is
//!   zeroed. Model-specific registers are out of ring 3's reach but FS and GS base, which are among the segments.
//!   A ring is another cell's, too: whoever has it has it emptied (ring.rs).
//!   A heap that has grown since is not taken back: the cell is then replaced.
//! ```
//! A cell that has not run yet has nothing to put back and is only told its new arguments and grants: so cells are loaded ahead.
//! Every page that was ever touched is written, whether this life touched it or not; a page that is touched for the first time
//! shows in the count of them ([`referee_hv::Vm::touched`]), so no life's page is missed and what was never touched stays without memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muscle_abi::PAGE_SIZE;
use referee_hv::Vm;
use referee_hv::x86_64::system::TRAP_STACK_OFFSET;

use crate::cell::{LoadedCell, Rest};
use crate::error::CellError;
use crate::host::{Asked, Host};
use crate::layout::{HEAP_GPA, Layout, RegionKind, WINDOW_GPA, WINDOW_SIZE};
use crate::load::{self, Machine};
use crate::spec::CellSpec;
use crate::template::Template;

pub(crate) const PAGE: usize = 4096;
const _: () = assert!(PAGE as u64 == PAGE_SIZE);

/// Contents of a page. Aligned as pages are: copying between places that are a few bytes apart within theirs takes ten times as long.
#[repr(align(4096))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page(pub [u8; PAGE]);
pub(crate) static ZERO: Page = Page([0; PAGE]);

/// A page's guest-physical address, and its contents unless it is zero.
pub(crate) type Kept = (u64, Option<Box<Page>>);

/// What a cell's next life goes back to.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Nothing was kept: this life is the only one.
    Unkept,
    /// Before the first instruction; what the data segments then hold.
    Loaded(Vec<Kept>),
    /// The first park.
    Template(Arc<Template>),
}

impl Origin {
    /// Keeps what a cell that was just loaded has in its data segments.
    pub(crate) fn keep(vm: &Vm, layout: &Layout) -> Result<Origin, CellError> {
        let mut pages = Vec::new();
        for region in data_segments(layout) {
            for gpa in (region.0..region.0 + region.1).step_by(PAGE) {
                let mut page = Box::new(ZERO.clone());
                vm.read(gpa, &mut page.0)?;
                if *page != ZERO {
                    pages.push((gpa, Some(page)));
                }
            }
        }
        pages.sort_unstable_by_key(|(gpa, _)| *gpa);
        Ok(Origin::Loaded(pages))
    }
}

/// The pages of a cell that somebody has touched, as of the last time that they were looked for.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// How many the VM then had, those included that the muscle cannot write. Each was written to by the host.
    count: Option<u64>,
    /// Those that it can write, in order.
    pages: Vec<u64>,
}

impl LoadedCell {
    /// Whether [`LoadedCell::reset`] can be done: not if the cell was not made for it, the heap has grown since, the arguments
    /// need more pages than the cell's boot block has, its clock is another, its rings are others, or a template does not fit. Load another cell then.
    pub fn can_be_reset(&self, spec: &CellSpec) -> bool {
        let sizes = self.machine.layout.sizes();
        let heap = match &self.origin {
            Origin::Unkept => return false,
            Origin::Loaded(_) => load::FIRST_HEAP.min(sizes.heap),
            Origin::Template(template) if template.fits(spec) => template.heap_bytes,
            Origin::Template(_) => return false,
        };
        // How fine the processor's own clock is was set when the machine was made.
        self.clock == spec.clock
            && self.machine.heap_bytes == heap
            && load::boot_bytes(spec) <= sizes.boot
            && self.told.rings == spec.rings
    }

    /// Gives the cell a new life, with other arguments, grants and host. The layout stays. Only if
    /// [`LoadedCell::can_be_reset`].
    ///
    /// # Errors
    /// [`CellError`]; the cell must then be dropped.
    pub fn reset(&mut self, spec: &CellSpec, host: Box<dyn Host>, epoch: Instant) -> Result<(), CellError> {
        if !self.can_be_reset(spec) {
            return Err(CellError::NotResettable);
        }
        self.cool()?;
        let machine = &mut self.machine;
        let has_run = self.exits > 0;
        let connection = match &self.origin {
            Origin::Unkept => return Err(CellError::NotResettable),
            Origin::Loaded(kept) => {
                if has_run {
                    restore(machine, &mut self.touched, kept)?;
                    machine.vcpu.get()?.reset_extended_state()?;
                }
                machine.vsock = load::device(spec)?;
                machine.vcpu.get()?.enter_at(&machine.entry);
                None
            }
            Origin::Template(template) => {
                if has_run {
                    restore(machine, &mut self.touched, &template.pages)?;
                }
                machine.vsock.go_back_to(&template.vsock);
                machine.vcpu.get()?.thaw(&template.cpu, &machine.entry);
                Some(template.connection)
            }
        };
        if !self.told.tells_the_same(spec) {
            load::write_boot(machine, spec)?;
            self.told = spec.clone();
        }
        self.limits = spec.limits;
        self.host = Asked::new(host);
        self.epoch = epoch;
        self.rpc.begin_anew(connection, spec.limits.frame_bytes);
        self.rest = Rest::None;
        self.said_ready = self.template().is_some_and(|template| template.rereads_boot);
        self.started = None;
        self.cpu_used = Duration::ZERO;
        self.cpu_before = Duration::ZERO;
        self.exits = 0;
        self.unsettled = None;
        self.put_off = None;
        self.may_have_missed = false;
        self.was_interrupted = false;
        self.waiting = None;
        Ok(())
    }

    /// All memory that the cell has, by guest-physical address: for tests that compare one life with another.
    ///
    /// # Errors
    /// [`CellError::Hv`].
    #[doc(hidden)]
    pub fn memory(&self) -> Result<Vec<(u64, Vec<u8>)>, CellError> {
        let layout = &self.machine.layout;
        let sizes = layout.sizes();
        let ranges = [
            (layout.system_gpa(), self.machine.system_bytes),
            (layout.image_gpa(), sizes.image),
            (layout.private_gpa(), sizes.boot + sizes.stack + sizes.resume),
            (WINDOW_GPA, WINDOW_SIZE),
            (HEAP_GPA, self.machine.heap_bytes),
        ];
        let mut memory = Vec::new();
        for (start, length) in ranges {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            self.machine.vm.read(start, &mut bytes)?;
            memory.push((start, bytes));
        }
        Ok(memory)
    }
}

/// Puts memory back that the muscle or the processor may have written. What was kept is in the order of its addresses.
pub(crate) fn restore(machine: &Machine, touched: &mut Touched, kept: &[Kept]) -> Result<(), CellError> {
    let count = machine.vm.touched()?;
    if count.is_none() || count != touched.count {
        touched.pages.clear();
        for (start, length) in writable(machine) {
            machine.vm.touched_pages(start, length, |page| {
                touched.pages.push(page);
                Ok(())
            })?;
        }
        touched.pages.sort_unstable();
    }
    let mut kept = kept.iter().peekable();
    for page in &touched.pages {
        while kept.next_if(|(gpa, _)| gpa < page).is_some() {}
        let contents = kept.next_if(|(gpa, _)| gpa == page);
        let contents = contents.and_then(|(_, contents)| contents.as_deref());
        machine.vm.write(*page, &contents.unwrap_or(&ZERO).0)?;
    }
    // Only now that each of them was written.
    touched.count = count;
    if machine.system_copied {
        clear_trap_stack(machine)?;
    }
    Ok(())
}

/// Zeroes the trap stack of system pages that are a copy, if the processor has written to it: only then it has memory of its own.
fn clear_trap_stack(machine: &Machine) -> Result<(), CellError> {
    let (vm, gpa) = (&machine.vm, machine.layout.system_gpa() + TRAP_STACK_OFFSET);
    let mut page = ZERO.clone();
    vm.read(gpa, &mut page.0)?;
    if page != ZERO {
        vm.write(gpa, &ZERO.0)?;
    }
    Ok(())
}

/// Start and length of all that the muscle or the processor can write, each within one piece whose pages are counted.
pub(crate) fn writable(machine: &Machine) -> Vec<(u64, u64)> {
    let sizes = machine.layout.sizes();
    let trap_stack = if machine.system_copied { 0 } else { PAGE_SIZE };
    let fixed = [
        (machine.layout.private_gpa() + sizes.boot, sizes.stack),
        (WINDOW_GPA, WINDOW_SIZE),
        (machine.layout.system_gpa() + TRAP_STACK_OFFSET, trap_stack),
    ];
    let heap = machine.vm.pieces().filter(|(start, _)| *start >= HEAP_GPA);
    let data = data_segments(&machine.layout);
    let all = fixed.into_iter().chain(heap).chain(data);
    all.filter(|(_, length)| *length > 0).collect()
}

fn data_segments(layout: &Layout) -> impl Iterator<Item = (u64, u64)> {
    let data = layout.regions().filter(|region| region.kind == RegionKind::Data);
    data.map(|region| (region.gpa, region.length))
}
