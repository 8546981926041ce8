//! The virtio-mmio handshake (virtio 1.2, §3.1.1 and §4.2), for a device that the VMM has not brought up.

use muscle_abi::channel::{
    QUEUE_AVAILABLE, QUEUE_DESCRIPTORS, QUEUE_SIZE, QUEUE_STRIDE, QUEUE_USED, QUEUES_OFFSET,
};

use crate::size::size;

/// Registers of a virtio-mmio device, 32 bits each.
pub(crate) trait Registers {
    /// Reads the register at this offset.
    fn read(&mut self, offset: u64) -> u32;
    /// Writes the register at this offset.
    fn write(&mut self, offset: u64, value: u32);
}

/// Why the device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceError {
    /// `MagicValue` is not "virt"; carries it.
    NotVirtio(u32),
    /// `Version` is not 2; carries it.
    WrongVersion(u32),
    /// `DeviceID` is not 19; carries it.
    NotVsock(u32),
    /// The device lacks `VIRTIO_F_VERSION_1`; carries features 32 to 63.
    Legacy(u32),
    /// The device did not keep `FEATURES_OK`; carries its status.
    FeaturesRefused(u32),
    /// A queue is smaller than [`QUEUE_SIZE`]; carries its number and its largest size.
    QueueTooSmall(u32, u32),
}

impl core::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DeviceError::NotVirtio(magic) => write!(f, "not a virtio device: magic {magic:#x}"),
            DeviceError::WrongVersion(version) => write!(f, "virtio-mmio version {version} instead of 2"),
            DeviceError::NotVsock(id) => write!(f, "virtio device {id} instead of 19, vsock"),
            DeviceError::Legacy(features) => write!(f, "a legacy device: high features {features:#x}"),
            DeviceError::FeaturesRefused(status) => write!(f, "features refused: status {status:#x}"),
            DeviceError::QueueTooSmall(queue, size) => {
                write!(f, "queue {queue} has room for {size} of {QUEUE_SIZE} descriptors")
            }
        }
    }
}

impl core::error::Error for DeviceError {}

/// Brings the device to `DRIVER_OK` with its queues in the window at `window_gpa`, and returns its context id.
///
/// # Errors
/// [`DeviceError`], when the device is not one this driver can use; it is then told `FAILED`.
pub(crate) fn handshake(registers: &mut impl Registers, window_gpa: u64) -> Result<u64, DeviceError> {
    let result = negotiate(registers, window_gpa);
    if result.is_err() {
        let status = registers.read(STATUS);
        registers.write(STATUS, status | FAILED);
    }
    result
}

fn negotiate(registers: &mut impl Registers, window_gpa: u64) -> Result<u64, DeviceError> {
    let expect = |value: u32, wanted: u32, error: fn(u32) -> DeviceError| {
        if value == wanted {
            Ok(())
        } else {
            Err(error(value))
        }
    };
    expect(registers.read(MAGIC), VIRT, DeviceError::NotVirtio)?;
    expect(registers.read(VERSION), 2, DeviceError::WrongVersion)?;
    expect(registers.read(DEVICE_ID), VSOCK, DeviceError::NotVsock)?;

    registers.write(STATUS, 0);
    registers.write(STATUS, ACKNOWLEDGE);
    registers.write(STATUS, ACKNOWLEDGE | DRIVER);

    registers.write(DEVICE_FEATURES_SELECT, 1);
    let high = registers.read(DEVICE_FEATURES);
    if high & VERSION_1 == 0 {
        return Err(DeviceError::Legacy(high));
    }
    registers.write(DEVICE_FEATURES_SELECT, 0);
    let low = registers.read(DEVICE_FEATURES);
    registers.write(DRIVER_FEATURES_SELECT, 0);
    registers.write(DRIVER_FEATURES, low & STREAM);
    registers.write(DRIVER_FEATURES_SELECT, 1);
    registers.write(DRIVER_FEATURES, VERSION_1);

    let status = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    registers.write(STATUS, status);
    let kept = registers.read(STATUS);
    if kept & FEATURES_OK == 0 {
        return Err(DeviceError::FeaturesRefused(kept));
    }
    for queue in 0..QUEUES {
        set_up_queue(registers, queue, window_gpa)?;
    }
    registers.write(STATUS, status | DRIVER_OK);
    let low = registers.read(CONFIG_CID);
    Ok(u64::from(low) | (u64::from(registers.read(CONFIG_CID + 4)) << 32))
}

fn set_up_queue(registers: &mut impl Registers, queue: u32, window_gpa: u64) -> Result<(), DeviceError> {
    registers.write(QUEUE_SELECT, queue);
    let size = registers.read(QUEUE_SIZE_MAX);
    if size < u32::from(QUEUE_SIZE) {
        return Err(DeviceError::QueueTooSmall(queue, size));
    }
    registers.write(QUEUE_SIZE_REGISTER, u32::from(QUEUE_SIZE));
    let page = window_gpa + QUEUES_OFFSET + u64::from(queue) * QUEUE_STRIDE;
    let places = [
        (QUEUE_DESCRIPTORS_ADDRESS, page + QUEUE_DESCRIPTORS),
        (QUEUE_AVAILABLE_ADDRESS, page + QUEUE_AVAILABLE),
        (QUEUE_USED_ADDRESS, page + QUEUE_USED),
    ];
    for (register, address) in places {
        registers.write(register, low(address));
        registers.write(register + 4, low(address >> 32));
    }
    registers.write(QUEUE_READY, 1);
    Ok(())
}

/// The low half of an address.
fn low(address: u64) -> u32 {
    u32::try_from(address & 0xFFFF_FFFF).unwrap_or(0)
}

/// The registers of the real device.
#[derive(Debug)]
pub(crate) struct Mmio {
    base: *mut u8,
}

impl Mmio {
    /// Takes the register page.
    ///
    /// # Safety
    /// `base` is the page of a virtio-mmio device's registers.
    #[cfg(cell)]
    pub(crate) unsafe fn new(base: *mut u8) -> Mmio {
        Mmio { base }
    }
}

impl Registers for Mmio {
    fn read(&mut self, offset: u64) -> u32 {
        // SAFETY: `new` was promised a register page, and the offsets are this module's constants.
        unsafe { crate::x86_64::load_register(self.base.wrapping_add(size(offset)).cast()) }
    }

    fn write(&mut self, offset: u64, value: u32) {
        // SAFETY: as in `read`.
        unsafe { crate::x86_64::store_register(self.base.wrapping_add(size(offset)).cast(), value) }
    }
}

const VIRT: u32 = 0x7472_6976;
const VSOCK: u32 = 19;
const QUEUES: u32 = 3;

const MAGIC: u64 = 0x000;
const VERSION: u64 = 0x004;
const DEVICE_ID: u64 = 0x008;
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SELECT: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SELECT: u64 = 0x024;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_SIZE_MAX: u64 = 0x034;
const QUEUE_SIZE_REGISTER: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const STATUS: u64 = 0x070;
const QUEUE_DESCRIPTORS_ADDRESS: u64 = 0x080;
const QUEUE_AVAILABLE_ADDRESS: u64 = 0x090;
const QUEUE_USED_ADDRESS: u64 = 0x0a0;
const CONFIG_CID: u64 = 0x100;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 128;
/// `VIRTIO_VSOCK_F_STREAM`, bit 0.
const STREAM: u32 = 1;
/// `VIRTIO_F_VERSION_1`, bit 32.
const VERSION_1: u32 = 1;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use super::*;

    /// A device of registers that keep their value, with what it answers first changed by a test.
    struct Fake {
        values: BTreeMap<u64, u32>,
        writes: Vec<(u64, u32)>,
        keeps_features: bool,
    }

    impl Fake {
        fn new() -> Fake {
            let values = [
                (MAGIC, VIRT),
                (VERSION, 2),
                (DEVICE_ID, VSOCK),
                (DEVICE_FEATURES, 1),
                (QUEUE_SIZE_MAX, 64),
                (CONFIG_CID, 77),
            ];
            Fake {
                values: values.into(),
                writes: Vec::new(),
                keeps_features: true,
            }
        }
    }

    impl Registers for Fake {
        fn read(&mut self, offset: u64) -> u32 {
            self.values.get(&offset).copied().unwrap_or(0)
        }

        fn write(&mut self, offset: u64, mut value: u32) {
            self.writes.push((offset, value));
            if offset == STATUS && !self.keeps_features {
                value &= !FEATURES_OK;
            }
            self.values.insert(offset, value);
        }
    }

    #[test]
    fn handshake_ends_with_driver_ok_and_the_queues_of_the_abi() {
        let mut fake = Fake::new();
        assert_eq!(handshake(&mut fake, 0x1_0000_0000), Ok(77));
        let steps: Vec<u32> = fake
            .writes
            .iter()
            .filter(|w| w.0 == STATUS)
            .map(|w| w.1)
            .collect();
        assert_eq!(steps, [0, 1, 3, 11, 15]);
        let used: Vec<u32> = fake
            .writes
            .iter()
            .filter(|w| w.0 == QUEUE_USED_ADDRESS)
            .map(|w| w.1)
            .collect();
        let used_at = QUEUE_USED as u32;
        assert_eq!(used, [0x800 + used_at, 0x1000 + used_at, 0x1800 + used_at]);
        assert!(fake.writes.contains(&(QUEUE_USED_ADDRESS + 4, 1)));
        assert_eq!(fake.writes.iter().filter(|w| **w == (QUEUE_READY, 1)).count(), 3);
    }

    #[test]
    fn each_unusable_device_is_refused_by_name_and_told_so() {
        let refused = |change: &dyn Fn(&mut Fake)| {
            let mut fake = Fake::new();
            change(&mut fake);
            let result = handshake(&mut fake, 0);
            assert_eq!(fake.values[&STATUS] & FAILED, FAILED);
            result
        };
        let with = |register: u64, value: u32| {
            refused(&|fake: &mut Fake| {
                fake.values.insert(register, value);
            })
        };
        assert_eq!(with(MAGIC, 1), Err(DeviceError::NotVirtio(1)));
        assert_eq!(with(VERSION, 1), Err(DeviceError::WrongVersion(1)));
        assert_eq!(with(DEVICE_ID, 2), Err(DeviceError::NotVsock(2)));
        assert_eq!(with(DEVICE_FEATURES, 2), Err(DeviceError::Legacy(2)));
        assert_eq!(with(QUEUE_SIZE_MAX, 63), Err(DeviceError::QueueTooSmall(0, 63)));
        assert_eq!(
            refused(&|fake: &mut Fake| fake.keeps_features = false),
            Err(DeviceError::FeaturesRefused(3))
        );
    }
}
