//! A cell's next life: everything that the muscle could change is as it was before its first instruction.
//!
//! ```text
//!   what ring 3 can write      back to
//!   ──────────────────────     ──────────────────────────────────────────────────
//!   data segments              the bytes that were loaded (pages that were not zero are kept for this)
//!   stack, window, heap        zero; slots that the heap grew by are no longer the cell's
//!   general, segment, control  entry state, by the run page
//!   x87, SSE, AVX and later    initial state, by KVM_SET_XSAVE
//!   vsock device, connections  a new device
//!   RPC stream, time, counters new
//!
//!   what it cannot write: code, constants, boot block, tables, stubs. The trap stack, which the processor writes, is
//!   zeroed. Model-specific registers are out of ring 3's reach but FS and GS base, which are among the segments.
//! ```
//! A cell that has not run yet has nothing to put back and is only told its new arguments and grants: so cells are loaded ahead.
//! Only pages that have contents are written ([`referee_hv::Pagemap`]), so what was never touched stays without memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muscle_abi::PAGE_SIZE;
use referee_hv::x86_64::system::TRAP_STACK_OFFSET;
use referee_hv::{Pagemap, Vm};

use crate::cell::LoadedCell;
use crate::error::CellError;
use crate::host::Host;
use crate::layout::{HEAP_GPA, Layout, PRIVATE_GPA, RegionKind, SYSTEM_GPA, WINDOW_GPA, WINDOW_SIZE};
use crate::load::{self, Machine};
use crate::rpc::Rpc;
use crate::spec::CellSpec;

const PAGE: usize = 4096;
const _: () = assert!(PAGE as u64 == PAGE_SIZE);
type Page = [u8; PAGE];
const ZERO: Page = [0; PAGE];

/// Pages of the data segments that were not zero when they were loaded, by guest-physical address.
#[derive(Debug, Default)]
pub(crate) struct Pristine(BTreeMap<u64, Box<Page>>);

impl Pristine {
    /// Keeps what a cell that was just loaded has in its data segments.
    pub(crate) fn keep(vm: &Vm, layout: &Layout) -> Result<Pristine, CellError> {
        let mut pages = BTreeMap::new();
        for region in layout.regions().filter(|region| region.kind == RegionKind::Data) {
            for gpa in (region.gpa..region.gpa + region.length).step_by(PAGE) {
                let mut page = Box::new(ZERO);
                vm.read(gpa, page.as_mut_slice())?;
                if *page != ZERO {
                    pages.insert(gpa, page);
                }
            }
        }
        Ok(Pristine(pages))
    }
}

impl LoadedCell {
    /// Whether [`LoadedCell::reset`] can be done: not if the cell was not made for it, the heap has grown, or the arguments
    /// need more pages than the cell's boot block has. Load another cell then.
    pub fn can_be_reset(&self, spec: &CellSpec) -> bool {
        let sizes = self.machine.layout.sizes();
        self.pristine.is_some()
            && self.machine.heap_bytes == load::FIRST_HEAP.min(sizes.heap)
            && load::boot_bytes(spec) <= sizes.boot
    }

    /// Gives the cell a new life, with other arguments, grants and host. The layout stays. Only if
    /// [`LoadedCell::can_be_reset`].
    ///
    /// # Errors
    /// [`CellError`]; the cell must then be dropped.
    pub fn reset(
        &mut self,
        spec: &CellSpec,
        host: Box<dyn Host>,
        epoch: Instant,
        pagemap: &Pagemap,
    ) -> Result<(), CellError> {
        let (Some(pristine), true) = (&self.pristine, self.can_be_reset(spec)) else {
            return Err(CellError::NotResettable);
        };
        if self.exits > 0 {
            restore(&self.machine, pristine, pagemap)?;
        }
        let machine = &mut self.machine;
        load::write_boot(
            &machine.vm,
            &machine.vcpu,
            &machine.layout,
            machine.heap_bytes,
            spec,
        )?;
        machine.vsock = load::device(spec)?;
        if self.exits > 0 {
            machine.vcpu.reset_extended_state()?;
        }
        machine.vcpu.enter_at(&machine.entry);
        self.limits = spec.limits;
        self.host = host;
        self.epoch = epoch;
        self.rpc = Rpc::new(spec.limits.frame_bytes);
        self.started = None;
        self.cpu_used = Duration::ZERO;
        self.cpu_before = Duration::ZERO;
        self.exits = 0;
        Ok(())
    }

    /// All memory that the cell has, by guest-physical address: for tests that compare one life with another.
    ///
    /// # Errors
    /// [`CellError::Hv`].
    #[doc(hidden)]
    pub fn memory(&self) -> Result<Vec<(u64, Vec<u8>)>, CellError> {
        let sizes = self.machine.layout.sizes();
        let ranges = [
            (SYSTEM_GPA, self.machine.system_bytes),
            (crate::layout::IMAGE_GPA, sizes.image),
            (PRIVATE_GPA, sizes.boot + sizes.stack),
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

/// Puts memory back that the muscle or the processor may have written.
fn restore(machine: &Machine, pristine: &Pristine, pagemap: &Pagemap) -> Result<(), CellError> {
    let sizes = machine.layout.sizes();
    let vm = &machine.vm;
    let zeroed = [
        (PRIVATE_GPA, sizes.boot + sizes.stack),
        (WINDOW_GPA, WINDOW_SIZE),
        (HEAP_GPA, machine.heap_bytes),
        (SYSTEM_GPA + TRAP_STACK_OFFSET, PAGE_SIZE),
    ];
    for (start, bytes) in zeroed {
        if bytes > 0 {
            vm.touched_pages(pagemap, start, bytes, |page| vm.write(page, &ZERO))?;
        }
    }
    for region in machine
        .layout
        .regions()
        .filter(|region| region.kind == RegionKind::Data)
    {
        vm.touched_pages(pagemap, region.gpa, region.length, |page| {
            let kept = pristine.0.get(&page).map_or(&ZERO, |kept| &**kept);
            vm.write(page, kept)
        })?;
    }
    Ok(())
}
