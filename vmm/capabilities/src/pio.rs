//! Capability `pio`: I/O ports with a device behind them, a 16550A serial port (`vm-superio`).
//!
//! An access of two or four bytes is that many accesses of one byte to ports that follow each other, as on the
//! eight-bit bus that such devices sat on; all of them must be granted.

use std::io;

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

use crate::console::{Output, Pending};

/// A range of ports with a serial port behind it.
pub(crate) struct PioDevice {
    first: u16,
    last: u16,
    serial: Serial<NoInterrupt, NoEvents, Vec<u8>>,
    output: Output,
    pending: Pending,
}

/// A muscle gets no interrupts.
#[derive(Debug)]
pub(crate) struct NoInterrupt;

impl Trigger for NoInterrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for PioDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PioDevice")
            .field("first", &self.first)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl PioDevice {
    pub fn new(first: u16, last: u16, output: Output) -> PioDevice {
        PioDevice {
            first,
            last,
            serial: Serial::new(NoInterrupt, Vec::new()),
            output,
            pending: Pending::default(),
        }
    }

    /// Whether all of an access is granted.
    pub fn covers(&self, port: u16, width: u8) -> bool {
        let Some(end) = u16::from(width)
            .checked_sub(1)
            .and_then(|more| port.checked_add(more))
        else {
            return false;
        };
        self.first <= port && end <= self.last
    }

    /// Reads `width` bytes, least significant first.
    pub fn read(&mut self, port: u16, width: u8) -> u32 {
        (0..width.min(4)).rev().fold(0u32, |value, index| {
            let byte = self
                .offset(port, index)
                .map_or(u8::MAX, |offset| self.serial.read(offset));
            (value << 8) | u32::from(byte)
        })
    }

    /// Writes `width` bytes, least significant first, and puts out what the device sends. What a signal keeps from
    /// being put out waits for the next write, so that a reader who does not read cannot hold the cell past its
    /// deadline.
    pub fn write(&mut self, port: u16, width: u8, value: u32) {
        for (index, byte) in (0..width.min(4)).zip(value.to_le_bytes()) {
            if let Some(offset) = self.offset(port, index) {
                // A byte in loop-back mode that finds the buffer full is lost, as on the real device.
                let _lost = self.serial.write(offset, byte);
            }
        }
        let sent = std::mem::take(self.serial.writer_mut());
        self.pending.push(&sent);
        // A line with nobody at its other end: the device cannot tell, and neither can the muscle.
        let _unsent = self.pending.resume(&mut self.output);
    }

    fn offset(&self, port: u16, index: u8) -> Option<u8> {
        let offset = port.checked_add(u16::from(index))?.checked_sub(self.first)?;
        u8::try_from(offset).ok()
    }
}
