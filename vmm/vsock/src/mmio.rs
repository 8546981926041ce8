//! The registers of the device, virtio 1.2 §4.2.2, and the order in which a driver may use them, §3.1.1.
//!
//! ```text
//!   status 0 ──ACKNOWLEDGE──► 1 ──DRIVER──► 3 ──FEATURES_OK──► 11 ──DRIVER_OK──► 15
//!                                  features      only if VERSION_1     queues       running
//!   writing 0 resets at any time; FAILED may be added at any time
//! ```
//!
//! Registers are 32 bits wide; so is each half of the one field in the configuration space.

use virtio_bindings::bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use vm_memory::{GuestAddress, GuestMemory};

use crate::device::Notify;
use crate::error::{DeviceFault, VsockError};
use crate::limits::Cid;
use crate::queue::{EVENTS, QUEUE_SIZE_MAX, RECEIVE, Setup, TRANSMIT, VirtQueue};

/// Register offsets.
mod register {
    pub(super) const MAGIC: u64 = 0x000;
    pub(super) const VERSION: u64 = 0x004;
    pub(super) const DEVICE_ID: u64 = 0x008;
    pub(super) const VENDOR_ID: u64 = 0x00c;
    pub(super) const DEVICE_FEATURES: u64 = 0x010;
    pub(super) const DEVICE_FEATURES_SELECT: u64 = 0x014;
    pub(super) const DRIVER_FEATURES: u64 = 0x020;
    pub(super) const DRIVER_FEATURES_SELECT: u64 = 0x024;
    pub(super) const QUEUE_SELECT: u64 = 0x030;
    pub(super) const QUEUE_SIZE_MAX: u64 = 0x034;
    pub(super) const QUEUE_SIZE: u64 = 0x038;
    pub(super) const QUEUE_READY: u64 = 0x044;
    pub(super) const QUEUE_NOTIFY: u64 = 0x050;
    pub(super) const INTERRUPT_STATUS: u64 = 0x060;
    pub(super) const INTERRUPT_ACKNOWLEDGE: u64 = 0x064;
    pub(super) const STATUS: u64 = 0x070;
    pub(super) const DESCRIPTORS_LOW: u64 = 0x080;
    pub(super) const DESCRIPTORS_HIGH: u64 = 0x084;
    pub(super) const AVAILABLE_LOW: u64 = 0x090;
    pub(super) const AVAILABLE_HIGH: u64 = 0x094;
    pub(super) const USED_LOW: u64 = 0x0a0;
    pub(super) const USED_HIGH: u64 = 0x0a4;
    pub(super) const SHARED_MEMORY_SELECT: u64 = 0x0ac;
    pub(super) const SHARED_MEMORY_LENGTH_LOW: u64 = 0x0b0;
    pub(super) const SHARED_MEMORY_LENGTH_HIGH: u64 = 0x0b4;
    pub(super) const SHARED_MEMORY_BASE_LOW: u64 = 0x0b8;
    pub(super) const SHARED_MEMORY_BASE_HIGH: u64 = 0x0bc;
    pub(super) const CONFIG_GENERATION: u64 = 0x0fc;
    pub(super) const GUEST_CID_LOW: u64 = 0x100;
    pub(super) const GUEST_CID_HIGH: u64 = 0x104;
}

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"RFRE");
const FEATURE_STREAM: u64 = 1 << 0; // VIRTIO_VSOCK_F_STREAM, §5.10.3
const FEATURE_VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const FEATURES: u64 = FEATURE_STREAM | FEATURE_VERSION_1;
const NO_SUCH_REGION: u32 = u32::MAX; // §4.2.2: length and base of shared memory that does not exist
const INTERRUPT_USED: u32 = 1;
const INTERRUPT_BITS: u32 = 3;

const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = VIRTIO_CONFIG_S_DRIVER;
const DRIVER_OK: u32 = VIRTIO_CONFIG_S_DRIVER_OK;
const FEATURES_OK: u32 = VIRTIO_CONFIG_S_FEATURES_OK;
const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;
const DRIVER_BITS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;

/// The register file and the queues behind it.
#[derive(Debug, Clone)]
pub(crate) struct Registers {
    cid: Cid,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    interrupt_status: u32,
    pub(crate) receive: VirtQueue,
    pub(crate) transmit: VirtQueue,
    events: VirtQueue,
}

impl Registers {
    /// The device after power-on.
    pub(crate) fn new(cid: Cid) -> Registers {
        Registers {
            cid,
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            interrupt_status: 0,
            receive: VirtQueue::new(RECEIVE),
            transmit: VirtQueue::new(TRANSMIT),
            events: VirtQueue::new(EVENTS),
        }
    }

    /// Brings the device to `DRIVER_OK` with the queues of [`muscle_abi::channel`] in the window at `window`.
    pub(crate) fn prepare(&mut self, window: GuestAddress) -> Result<(), VsockError> {
        use muscle_abi::channel::{
            BUFFERS_OFFSET, QUEUE_AVAILABLE, QUEUE_DESCRIPTORS, QUEUE_SIZE, QUEUE_STRIDE, QUEUE_USED,
            QUEUES_OFFSET,
        };
        let wrong = VsockError::WindowAddress { address: window.0 };
        if !window.0.is_multiple_of(muscle_abi::PAGE_SIZE) || window.0.checked_add(BUFFERS_OFFSET).is_none() {
            return Err(wrong);
        }
        *self = Registers::new(self.cid);
        let first = window.0.saturating_add(QUEUES_OFFSET);
        for (number, queue) in (0u64..).zip([&mut self.receive, &mut self.transmit, &mut self.events]) {
            let start = first.saturating_add(number.saturating_mul(QUEUE_STRIDE));
            let setup = Setup {
                size: QUEUE_SIZE,
                descriptors: start.saturating_add(QUEUE_DESCRIPTORS),
                available: start.saturating_add(QUEUE_AVAILABLE),
                used: start.saturating_add(QUEUE_USED),
            };
            queue.enable_with(setup).map_err(|_| wrong)?;
        }
        self.driver_features = FEATURES;
        self.status = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        Ok(())
    }

    /// Whether a driver has changed nothing but how far its queues have come since [`Registers::prepare`] made `fresh`.
    pub(crate) fn is_prepared_as(&self, fresh: &Registers) -> bool {
        let queues = [
            (&self.receive, &fresh.receive),
            (&self.transmit, &fresh.transmit),
            (&self.events, &fresh.events),
        ];
        let selected = |registers: &Registers| {
            (
                registers.device_features_select,
                registers.driver_features_select,
                registers.queue_select,
            )
        };
        self.status == fresh.status
            && self.driver_features == fresh.driver_features
            && selected(self) == selected(fresh)
            && queues
                .iter()
                .all(|(one, other)| one.ready() == other.ready() && one.configured() == other.configured())
            && self.events.progress() == fresh.events.progress()
    }

    /// Whether the driver has not acknowledged the bit of [`Registers::used_buffers`].
    pub(crate) fn has_used_buffers(&self) -> bool {
        self.interrupt_status & INTERRUPT_USED != 0
    }

    /// Device status, §2.1.
    pub(crate) fn status(&self) -> u32 {
        self.status
    }

    /// Whether the driver has brought the device into service.
    pub(crate) fn running(&self) -> bool {
        self.status & (DRIVER_OK | FAILED) == DRIVER_OK
    }

    /// Notes that chains were given back to a driver that wants to hear of it. No interrupt is ever raised;
    /// a driver that polls the register sees the bit.
    pub(crate) fn used_buffers(&mut self) {
        self.interrupt_status |= INTERRUPT_USED;
    }

    /// Answers a load.
    pub(crate) fn read(&self, offset: u64, width: usize) -> Result<u32, DeviceFault> {
        check_access(offset, width)?;
        let queue_exists = self.queue_select <= u32::from(EVENTS);
        Ok(match offset {
            register::MAGIC => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => VIRTIO_ID_VSOCK,
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => match self.device_features_select {
                0 => low(FEATURES),
                1 => high(FEATURES),
                _ => 0,
            },
            register::QUEUE_SIZE_MAX if queue_exists => u32::from(QUEUE_SIZE_MAX),
            register::QUEUE_SIZE_MAX => 0,
            register::QUEUE_READY => u32::from(self.selected().is_some_and(VirtQueue::ready)),
            register::INTERRUPT_STATUS => self.interrupt_status,
            register::STATUS => self.status,
            register::SHARED_MEMORY_LENGTH_LOW
            | register::SHARED_MEMORY_LENGTH_HIGH
            | register::SHARED_MEMORY_BASE_LOW
            | register::SHARED_MEMORY_BASE_HIGH => NO_SUCH_REGION,
            register::CONFIG_GENERATION => 0, // the configuration never changes
            register::GUEST_CID_LOW => low(self.cid.number()),
            register::GUEST_CID_HIGH => high(self.cid.number()),
            register::DEVICE_FEATURES_SELECT
            | register::DRIVER_FEATURES
            | register::DRIVER_FEATURES_SELECT
            | register::QUEUE_SELECT
            | register::QUEUE_SIZE
            | register::QUEUE_NOTIFY
            | register::INTERRUPT_ACKNOWLEDGE
            | register::DESCRIPTORS_LOW
            | register::DESCRIPTORS_HIGH
            | register::AVAILABLE_LOW
            | register::AVAILABLE_HIGH
            | register::USED_LOW
            | register::USED_HIGH
            | register::SHARED_MEMORY_SELECT => return Err(DeviceFault::RegisterWriteOnly { offset }),
            _ => return Err(DeviceFault::UnknownRegister { offset }),
        })
    }

    /// Takes a store.
    pub(crate) fn write<M: GuestMemory>(
        &mut self,
        offset: u64,
        data: &[u8],
        mem: &M,
    ) -> Result<Notify, DeviceFault> {
        check_access(offset, data.len())?;
        let value = u32::from_le_bytes(data.first_chunk().copied().unwrap_or_default());
        match offset {
            register::DEVICE_FEATURES_SELECT => self.device_features_select = value,
            register::DRIVER_FEATURES_SELECT => self.driver_features_select = value,
            register::DRIVER_FEATURES => self.write_features(value)?,
            register::QUEUE_SELECT => self.queue_select = value,
            register::QUEUE_SIZE => self.configured(offset)?.set_size(offset, value)?,
            register::QUEUE_READY => self.write_ready(value, mem)?,
            register::QUEUE_NOTIFY => return self.notify(value),
            register::INTERRUPT_ACKNOWLEDGE => {
                if value & !INTERRUPT_BITS != 0 {
                    return Err(DeviceFault::InterruptBits { value });
                }
                self.interrupt_status &= !value;
            }
            register::STATUS => return self.write_status(value),
            register::DESCRIPTORS_LOW => {
                set_low(&mut self.configured(offset)?.setup(offset)?.descriptors, value)
            }
            register::DESCRIPTORS_HIGH => {
                set_high(&mut self.configured(offset)?.setup(offset)?.descriptors, value)
            }
            register::AVAILABLE_LOW => set_low(&mut self.configured(offset)?.setup(offset)?.available, value),
            register::AVAILABLE_HIGH => {
                set_high(&mut self.configured(offset)?.setup(offset)?.available, value)
            }
            register::USED_LOW => set_low(&mut self.configured(offset)?.setup(offset)?.used, value),
            register::USED_HIGH => set_high(&mut self.configured(offset)?.setup(offset)?.used, value),
            register::SHARED_MEMORY_SELECT => {} // no region exists, whichever is selected
            register::MAGIC
            | register::VERSION
            | register::DEVICE_ID
            | register::VENDOR_ID
            | register::DEVICE_FEATURES
            | register::QUEUE_SIZE_MAX
            | register::INTERRUPT_STATUS
            | register::SHARED_MEMORY_LENGTH_LOW
            | register::SHARED_MEMORY_LENGTH_HIGH
            | register::SHARED_MEMORY_BASE_LOW
            | register::SHARED_MEMORY_BASE_HIGH
            | register::CONFIG_GENERATION
            | register::GUEST_CID_LOW
            | register::GUEST_CID_HIGH => return Err(DeviceFault::RegisterReadOnly { offset, value }),
            _ => return Err(DeviceFault::UnknownRegister { offset }),
        }
        Ok(Notify::None)
    }

    fn write_features(&mut self, value: u32) -> Result<(), DeviceFault> {
        if self.status & (DRIVER | FEATURES_OK | FAILED) != DRIVER {
            return Err(self.wrong_phase(register::DRIVER_FEATURES));
        }
        match self.driver_features_select {
            0 => set_low(&mut self.driver_features, value),
            1 => set_high(&mut self.driver_features, value),
            // Features above 63 are not offered; a driver that asks for one gets no FEATURES_OK.
            _ if value != 0 => self.driver_features |= !FEATURES,
            _ => {}
        }
        Ok(())
    }

    fn write_status(&mut self, written: u32) -> Result<Notify, DeviceFault> {
        let from = self.status;
        if written == 0 {
            *self = Registers::new(self.cid);
            return Ok(Notify::Reset);
        }
        if written & !DRIVER_BITS != 0 {
            return Err(DeviceFault::StatusBits { written });
        }
        if from & !written != 0 {
            return Err(DeviceFault::StatusCleared { from, to: written });
        }
        let mut to = written;
        let chosen = self.driver_features;
        let acceptable = chosen & !FEATURES == 0 && chosen & FEATURE_VERSION_1 != 0;
        if !acceptable {
            to &= !FEATURES_OK; // §3.1.1 step 6: the driver reads the status back
        }
        for (bit, needs) in [
            (DRIVER, ACKNOWLEDGE),
            (FEATURES_OK, DRIVER),
            (DRIVER_OK, FEATURES_OK),
        ] {
            if to & bit != 0 && to & needs == 0 {
                return Err(DeviceFault::StatusOrder { from, to: written });
            }
        }
        self.status = to;
        Ok(Notify::None)
    }

    fn write_ready<M: GuestMemory>(&mut self, value: u32, mem: &M) -> Result<(), DeviceFault> {
        let select = self.queue_select;
        let queue = self.configured(register::QUEUE_READY)?;
        match value {
            0 => queue.disable(),
            1 if queue.ready() => {}
            1 => {
                queue.enable()?;
                queue.check_memory(mem)?;
            }
            value => {
                return Err(DeviceFault::QueueReadyValue {
                    queue: u16::try_from(select).unwrap_or(u16::MAX),
                    value,
                });
            }
        }
        Ok(())
    }

    fn notify(&self, value: u32) -> Result<Notify, DeviceFault> {
        if !self.running() {
            return Err(self.wrong_phase(register::QUEUE_NOTIFY));
        }
        let (queue, ready) = match u16::try_from(value) {
            Ok(RECEIVE) => (RECEIVE, self.receive.ready()),
            Ok(TRANSMIT) => (TRANSMIT, self.transmit.ready()),
            Ok(EVENTS) => (EVENTS, self.events.ready()),
            Ok(_) | Err(_) => return Err(DeviceFault::UnknownQueue { queue: value }),
        };
        if !ready {
            return Err(DeviceFault::NotifiedBeforeReady { queue });
        }
        Ok(Notify::Queue(queue))
    }

    /// The selected queue, if the driver may configure it now.
    fn configured(&mut self, offset: u64) -> Result<&mut VirtQueue, DeviceFault> {
        let queue = self.queue_select;
        if self.status & (FEATURES_OK | DRIVER_OK | FAILED) != FEATURES_OK {
            // A queue that is in use is the more precise refusal.
            if let Some(used) = self.selected_mut().filter(|queue| queue.ready()) {
                used.setup(offset)?;
            }
            return Err(self.wrong_phase(offset));
        }
        self.selected_mut().ok_or(DeviceFault::UnknownQueue { queue })
    }

    fn selected(&self) -> Option<&VirtQueue> {
        match self.queue_select {
            0 => Some(&self.receive),
            1 => Some(&self.transmit),
            2 => Some(&self.events),
            _ => None,
        }
    }

    fn selected_mut(&mut self) -> Option<&mut VirtQueue> {
        match self.queue_select {
            0 => Some(&mut self.receive),
            1 => Some(&mut self.transmit),
            2 => Some(&mut self.events),
            _ => None,
        }
    }

    fn wrong_phase(&self, offset: u64) -> DeviceFault {
        DeviceFault::RegisterPhase {
            offset,
            status: self.status,
        }
    }
}

fn check_access(offset: u64, width: usize) -> Result<(), DeviceFault> {
    if width != 4 || !offset.is_multiple_of(4) {
        return Err(DeviceFault::RegisterAccess { offset, width });
    }
    Ok(())
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

fn high(value: u64) -> u32 {
    u32::try_from(value >> 32).unwrap_or(0)
}

fn set_low(word: &mut u64, value: u32) {
    *word = (*word & !u64::from(u32::MAX)) | u64::from(value);
}

fn set_high(word: &mut u64, value: u32) {
    *word = (*word & u64::from(u32::MAX)) | (u64::from(value) << 32);
}
