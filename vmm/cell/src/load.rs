//! From a checked image and a bare VM to a cell that stands before its first instruction.
//!
//! Everything the muscle will find is written here, once: segments, relocations, boot block, arguments,
//! grants, page tables. After this the VMM edits nothing but the window and the mailbox.

use std::io::Cursor;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use linux_loader::loader::{KernelLoader, elf::Elf};
use muscle_abi::boot::{BOOT_SIZE, BootInfo, FLAG_DEVICE_READY, FLAG_READY_BELL};
use muscle_abi::capability::{CapabilityKind, GRANT_ENTRY_SIZE, GrantEntry};
use muscle_abi::channel::BUFFERS_OFFSET;
use muscle_abi::{ABI_VERSION, PAGE_SIZE};
use referee_bundle::{ImagePlan, Permissions, Rejected, VerifiedBundle};
use referee_hv::x86_64::registers::EntryState;
use referee_hv::{Kvm, Piece, Vcpu, Vm};
use referee_jail::Jailed;
use referee_vsock::Vsock;
use vm_memory::GuestAddress;

use crate::error::CellError;
use crate::layout::{
    HEAP_GPA, Layout, LayoutSeed, RegionKind, RingSpan, SegmentSpan, Sizes, WARM_STACK, WINDOW_GPA,
    WINDOW_SIZE,
};
use crate::reset::{PAGE, ZERO};
use crate::ring::RingEnd;
use crate::seat::Seat;
use crate::spec::{CellSpec, ClockAccess, pages};
use crate::template::Template;

/// A VM and vCPU that exist already and wait to become a cell.
#[derive(Debug)]
pub struct Shell {
    pub(crate) vm: Vm,
    pub(crate) vcpu: Vcpu,
}

impl Shell {
    /// Makes a VM and its vCPU.
    ///
    /// # Errors
    /// [`CellError::Hv`].
    pub fn create(kvm: &Kvm) -> Result<Shell, CellError> {
        let vm = kvm.create_vm()?;
        let vcpu = vm.create_vcpu(kvm)?;
        Ok(Shell { vm, vcpu })
    }

    /// Descriptors that must stay open when everything else is closed.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.vm.descriptor(), self.vcpu.descriptor()]
    }
}

/// A bundle's image together with the plan that was checked for it; any number of cells can be loaded from one.
#[derive(Debug, Clone)]
pub struct CheckedImage {
    bundle: Arc<VerifiedBundle>,
    plan: Arc<ImagePlan>,
}

impl CheckedImage {
    /// Checks a verified bundle's image. The process must be confined: these are the first bytes of the image that
    /// it parses.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn check(bundle: Arc<VerifiedBundle>, _confined: &Jailed) -> Result<CheckedImage, Rejected> {
        CheckedImage::check_unconfined(bundle)
    }

    /// The same in a process that is not confined, because its other work does not allow that. Then the parser, which is
    /// safe Rust and fuzzed, is all that stands between a signed image and the process.
    ///
    /// # Errors
    /// As [`CheckedImage::check`].
    pub fn check_unconfined(bundle: Arc<VerifiedBundle>) -> Result<CheckedImage, Rejected> {
        let plan = Arc::new(ImagePlan::check(&bundle)?);
        Ok(CheckedImage { bundle, plan })
    }

    /// The bundle that the image is of.
    pub fn bundle(&self) -> &VerifiedBundle {
        &self.bundle
    }

    pub(crate) fn plan(&self) -> &ImagePlan {
        &self.plan
    }
}

/// A cell's machine, loaded: what [`crate::LoadedCell`] runs.
#[derive(Debug)]
pub(crate) struct Machine {
    pub vm: Vm,
    pub vcpu: Seat,
    pub layout: Layout,
    pub entry: EntryState,
    pub vsock: Vsock,
    /// Bytes of heap that have memory.
    pub heap_bytes: u64,
    /// Bytes of the system's pages.
    pub system_bytes: u64,
    /// Whether these are a copy of a template's, whose written pages are not counted.
    pub system_copied: bool,
    /// Ticks of the time-stamp counter in a millisecond, 0 without a fine clock.
    pub tsc_khz: u64,
}

/// Heap that a cell has before it asks for more, in bytes.
pub(crate) const FIRST_HEAP: u64 = 64 << 10;
/// Pages of buffers that are made ready before the first instruction.
const WARM_BUFFERS: u64 = 2;

/// Loads an image: at a random place and before its first instruction, or where and how a template has it.
pub(crate) fn load(
    shell: Shell,
    image: &CheckedImage,
    spec: &CellSpec,
    template: Option<&Template>,
) -> Result<Machine, CellError> {
    let Shell { mut vm, mut vcpu } = shell;
    let plan = &image.plan;
    let layout = match template {
        Some(template) => template.layout.clone(),
        None => {
            let mut random: LayoutSeed = [0; size_of::<LayoutSeed>()];
            getrandom::fill(&mut random).map_err(CellError::Random)?;
            Layout::random(sizes(plan, spec)?, &spans(plan), &ring_spans(spec), &random)?
        }
    };
    let sizes = layout.sizes();
    if spec.resettable {
        vm.count_touched()?;
    }
    let common = template.and_then(|template| template.common.as_ref());
    let heap_bytes = template.map_or(FIRST_HEAP.min(sizes.heap), |template| template.heap_bytes);
    let image_gpa = layout.image_gpa();
    let image_end = image_gpa + sizes.image;
    let system_bytes = image_gpa - layout.system_gpa();
    let mut pieces = vec![match common {
        Some(common) => Piece::of(layout.system_gpa(), &common.system),
        None => Piece::zeroed(layout.system_gpa(), system_bytes),
    }];
    match common.and_then(|common| common.image.as_ref()) {
        // Data segments are among what the template fills in.
        Some(unwritable) => {
            let data = image_gpa + unwritable.length();
            pieces.push(Piece::of(image_gpa, unwritable));
            pieces.push(Piece::zeroed(data, image_end - data));
        }
        None => pieces.push(Piece::zeroed(image_gpa, sizes.image)),
    }
    pieces.push(Piece::zeroed(
        layout.private_gpa(),
        WINDOW_GPA - layout.private_gpa(),
    ));
    pieces.push(Piece::zeroed(WINDOW_GPA, WINDOW_SIZE));
    // No device sees this page, and nobody touches it, so it has no memory.
    pieces.push(Piece::zeroed(HEAP_GPA - PAGE_SIZE, PAGE_SIZE));
    pieces.push(Piece::zeroed(HEAP_GPA, heap_bytes));
    pieces.retain(|piece| piece.bytes > 0);
    vm.add_pieces(&pieces)?;
    for (ring, place) in spec.rings.iter().zip(layout.rings()) {
        ring.map(&mut vm, place.readable_gpa, place.writable_gpa)?;
    }

    let page_table_root = match (template, common) {
        (Some(template), Some(_)) => template.entry.page_table_root,
        _ => write_system(&vm, &layout)?,
    };
    if common.is_none_or(|common| common.image.is_none()) {
        load_image(&vm, image, &layout)?;
    }
    let entry = match template {
        Some(template) => template.entry,
        None => entry_state(plan, &layout, spec, page_table_root),
    };
    let tsc_khz = match spec.clock {
        ClockAccess::Fine => u64::from(vcpu.tsc_khz()?),
        ClockAccess::None | ClockAccess::Coarse => 0,
    };
    let vsock = match template {
        Some(template) => {
            template.fill(&vm)?;
            vcpu.thaw(&template.cpu, &entry);
            template.vsock.clone()
        }
        None => {
            warm(&vm, &layout);
            vcpu.enter_at(&entry);
            device(spec)?
        }
    };
    let machine = Machine {
        vm,
        vcpu: Seat::of(vcpu),
        layout,
        entry,
        vsock,
        heap_bytes,
        system_bytes,
        system_copied: common.is_some(),
        tsc_khz,
    };
    write_boot(&machine, spec)?;
    Ok(machine)
}

/// Where a muscle is entered in this layout.
pub(crate) fn entry_state(
    plan: &ImagePlan,
    layout: &Layout,
    spec: &CellSpec,
    page_table_root: u64,
) -> EntryState {
    EntryState {
        entry: layout.image_base() + plan.entry(),
        stack_pointer: stack_top(layout),
        argument: layout.va(RegionKind::Boot),
        page_table_root,
        allow_tsc: spec.clock == ClockAccess::Fine,
        system: layout.system().addresses(),
    }
}

/// Writes descriptor tables, stubs and page tables; where the root of the latter is.
fn write_system(vm: &Vm, layout: &Layout) -> Result<u64, CellError> {
    let (system, page_table_root) = layout.system_bytes()?;
    for (gpa, page) in (layout.system_gpa()..).step_by(PAGE).zip(system.chunks(PAGE)) {
        // The trap stack is zero already, and has memory only once it is used.
        if page != ZERO.0 {
            vm.write(gpa, page)?;
        }
    }
    Ok(page_table_root)
}

/// Bytes of the pages that boot block, grants and arguments take.
pub(crate) fn boot_bytes(spec: &CellSpec) -> u64 {
    pages(arguments_at(spec) + spec.argument_block.len() as u64)
}

/// Where the arguments begin, from the boot block on.
fn arguments_at(spec: &CellSpec) -> u64 {
    (BOOT_SIZE + spec.grants.len() * GRANT_ENTRY_SIZE) as u64
}

fn stack_top(layout: &Layout) -> u64 {
    layout.va(RegionKind::Stack) + layout.sizes().stack
}

/// Everything that the muscle is told at its start.
fn boot_block(machine: &Machine, spec: &CellSpec) -> Vec<u8> {
    let layout = &machine.layout;
    let boot_va = layout.va(RegionKind::Boot);
    let sizes = layout.sizes();
    let grants_at = BOOT_SIZE as u64;
    let arguments = &spec.argument_block;
    let arguments_at = arguments_at(spec);
    let boot = BootInfo {
        abi_version: ABI_VERSION,
        style: spec.style as u32,
        flags: FLAG_DEVICE_READY | FLAG_READY_BELL,
        doorbell_va: layout.va(RegionKind::ControlDoorbell),
        vsock_va: layout.va(RegionKind::VsockDoorbell),
        window_va: layout.va(RegionKind::Window),
        window_gpa: WINDOW_GPA,
        window_len: WINDOW_SIZE,
        heap_va: layout.va(RegionKind::Heap),
        heap_gpa: HEAP_GPA,
        heap_len: FIRST_HEAP.min(sizes.heap),
        heap_max: sizes.heap,
        stack_top: stack_top(layout),
        stack_len: sizes.stack,
        image_base: layout.image_base(),
        image_len: sizes.image,
        args_va: boot_va + arguments_at,
        args_len: arguments.len() as u64,
        grants_va: boot_va + grants_at,
        grants_count: spec.grants.len() as u64,
        cid: spec.cid.number(),
        tsc_khz: machine.tsc_khz,
        seed: spec.seed.unwrap_or_default(),
    };
    let mut block = boot.to_bytes().to_vec();
    let mut places = layout.rings().iter();
    for entry in &spec.grants {
        let place = is_ring(entry).then(|| places.next()).flatten();
        let detail = place.map_or(entry.detail, |ring| ring.place.to_detail());
        block.extend(GrantEntry { detail, ..*entry }.to_bytes());
    }
    block.extend_from_slice(arguments);
    block
}

/// Whether a grant is an end of a ring: the first of them is of the first of the cell's rings, and so on.
pub(crate) fn is_ring(entry: &GrantEntry) -> bool {
    entry.kind == CapabilityKind::Ring as u32
}

/// Writes the block to the end of its pages, so that nothing of an earlier life's longer arguments stays behind.
pub(crate) fn write_boot(machine: &Machine, spec: &CellSpec) -> Result<(), CellError> {
    let mut block = boot_block(machine, spec);
    block.resize(
        usize::try_from(machine.layout.sizes().boot).unwrap_or(block.len()),
        0,
    );
    machine.vm.write(machine.layout.private_gpa(), &block)?;
    Ok(())
}

/// The vsock device, ready for a muscle that has not run yet.
pub(crate) fn device(spec: &CellSpec) -> Result<Vsock, CellError> {
    let mut vsock = Vsock::new(spec.cid, spec.vsock);
    vsock.prepare(GuestAddress(WINDOW_GPA))?;
    Ok(vsock)
}

/// What each part may take, so that all together are exactly the limit.
pub(crate) fn sizes(plan: &ImagePlan, spec: &CellSpec) -> Result<Sizes, CellError> {
    let limit = spec.limits.memory_bytes / PAGE_SIZE * PAGE_SIZE;
    let (image, boot, stack) = (
        pages(plan.span()),
        boot_bytes(spec),
        pages(spec.limits.stack_bytes),
    );
    let needed = image
        .saturating_add(boot)
        .saturating_add(stack)
        .saturating_add(WINDOW_SIZE)
        .saturating_add(ring_bytes(spec));
    let heap = limit
        .checked_sub(needed)
        .ok_or(CellError::MemoryLimit { limit, needed })?;
    Ok(Sizes {
        image,
        boot,
        stack,
        heap,
        resume: if spec.resettable { PAGE_SIZE } else { 0 },
    })
}

/// Bytes of rings that the muscle can write, and so have take room.
fn ring_bytes(spec: &CellSpec) -> u64 {
    let writable = |ring: &RingEnd| ring.role().writable(ring.data()).1;
    spec.rings.iter().map(writable).fold(0, u64::saturating_add)
}

fn ring_spans(spec: &CellSpec) -> Vec<RingSpan> {
    let span = |ring: &RingEnd| RingSpan {
        role: ring.role(),
        data: ring.data(),
    };
    spec.rings.iter().map(span).collect()
}

pub(crate) fn spans(plan: &ImagePlan) -> Vec<SegmentSpan> {
    plan.segments()
        .iter()
        .map(|segment| SegmentSpan {
            offset: segment.pages.start,
            length: segment.pages.end.saturating_sub(segment.pages.start),
            kind: match segment.permissions {
                Permissions::RX => RegionKind::Code,
                Permissions::RW => RegionKind::Data,
                Permissions::R => RegionKind::Constants,
            },
        })
        .collect()
}

fn load_image(vm: &Vm, image: &CheckedImage, layout: &Layout) -> Result<(), CellError> {
    let (image_base, image_gpa) = (layout.image_base(), layout.image_gpa());
    // The loader may write to the image alone, whatever addresses the headers claim.
    let target = vm.view(|start| start == image_gpa);
    let mut elf = Cursor::new(image.bundle.image());
    Elf::load(&target, Some(GuestAddress(image_gpa)), &mut elf, None).map_err(CellError::Load)?;
    for relocation in image.plan.relocations() {
        let value = image_base.wrapping_add(relocation.addend);
        let at = image_gpa
            .checked_add(relocation.vaddr)
            .ok_or(CellError::Relocation(relocation.vaddr))?;
        vm.write(at, &value.to_le_bytes())?;
    }
    Ok(())
}

/// Has the pages that every muscle touches first backed by the kernel at once: a fault of the guest
/// costs many times more. An idle cell keeps them, so no others.
fn warm(vm: &Vm, layout: &Layout) {
    let sizes = layout.sizes();
    let stack = WARM_STACK.min(sizes.stack);
    let window = BUFFERS_OFFSET + WARM_BUFFERS * PAGE_SIZE;
    for (gpa, length) in [
        (layout.private_gpa() + sizes.boot + sizes.stack - stack, stack),
        (WINDOW_GPA, window),
    ] {
        if let Ok(length) = usize::try_from(length) {
            vm.prefault(gpa, length);
        }
    }
}
