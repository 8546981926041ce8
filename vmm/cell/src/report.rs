//! The fault report: registers, the region that was hit, and a backtrace.

use referee_hv::Registers;
use serde::Serialize;

use crate::fault::MuscleFault;
use crate::layout::Location;

/// Everything known about a fault.
#[derive(Debug, Clone)]
pub struct FaultReport {
    /// The rule that was broken.
    pub fault: MuscleFault,
    /// The address concerned, where there is one: the one accessed, else the instruction's.
    pub address: Option<u64>,
    /// Where that address lies.
    pub location: Option<Location>,
    /// Ring-3 registers at the fault.
    pub registers: Registers,
    /// Call chain, innermost first.
    pub backtrace: Vec<BacktraceEntry>,
}

/// One function in a backtrace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BacktraceEntry {
    /// Address in the image, before randomisation.
    pub image_address: u64,
    /// Function's name, where the bundle has symbols.
    pub function: Option<String>,
    /// Bytes into the function.
    pub offset: u64,
}

impl FaultReport {
    /// The report as JSON, for machines.
    pub fn to_json(&self) -> serde_json::Value {
        let registers = &self.registers;
        let hex = |value: u64| format!("{value:#x}");
        serde_json::json!({
            "fault": self.fault.name(),
            "message": self.fault.to_string(),
            "vector": match &self.fault { MuscleFault::Exception(trap) => Some(trap.vector), _ => None },
            "error_code": match &self.fault { MuscleFault::Exception(trap) => trap.error_code, _ => None },
            "address": self.address.map(hex),
            "location": self.location,
            "registers": {
                "rip": hex(registers.rip), "rsp": hex(registers.rsp), "rbp": hex(registers.rbp),
                "rflags": hex(registers.rflags), "rax": hex(registers.rax), "rbx": hex(registers.rbx),
                "rcx": hex(registers.rcx), "rdx": hex(registers.rdx), "rsi": hex(registers.rsi),
                "rdi": hex(registers.rdi), "r8": hex(registers.r8), "r9": hex(registers.r9),
                "r10": hex(registers.r10), "r11": hex(registers.r11), "r12": hex(registers.r12),
                "r13": hex(registers.r13), "r14": hex(registers.r14), "r15": hex(registers.r15),
            },
            "backtrace": self.backtrace,
        })
    }

    /// The report as people read it, several lines.
    pub fn to_text(&self) -> String {
        let registers = &self.registers;
        // A muscle chooses the words of an abort; indented, they cannot pass for a line of the VMM's own.
        let message = self.fault.to_string().replace('\n', "\n  | ");
        let mut text = format!("fault: {message} [{}]\n", self.fault.name());
        if let (Some(address), Some(location)) = (self.address, self.location) {
            text.push_str(&format!("  address   {address:#018x}  {}\n", describe(location)));
        }
        let rows = [
            [
                ("rip", registers.rip),
                ("rsp", registers.rsp),
                ("rbp", registers.rbp),
                ("rfl", registers.rflags),
            ],
            [
                ("rax", registers.rax),
                ("rbx", registers.rbx),
                ("rcx", registers.rcx),
                ("rdx", registers.rdx),
            ],
            [
                ("rsi", registers.rsi),
                ("rdi", registers.rdi),
                ("r8 ", registers.r8),
                ("r9 ", registers.r9),
            ],
            [
                ("r10", registers.r10),
                ("r11", registers.r11),
                ("r12", registers.r12),
                ("r13", registers.r13),
            ],
        ];
        for (index, row) in rows.iter().enumerate() {
            text.push_str(if index == 0 {
                "  registers "
            } else {
                "            "
            });
            for (name, value) in row {
                text.push_str(&format!("{name} {value:016x} "));
            }
            text.push('\n');
        }
        for (index, entry) in self.backtrace.iter().enumerate() {
            text.push_str(if index == 0 {
                "  backtrace "
            } else {
                "            "
            });
            let function = entry.function.as_deref().unwrap_or("(no symbol)");
            text.push_str(&format!(
                "{index:2}  {:#010x}  {function} + {:#x}\n",
                entry.image_address, entry.offset
            ));
        }
        text
    }
}

fn describe(location: Location) -> String {
    let Some(region) = location.region else {
        return "far from every region".into();
    };
    let name = serde_json::to_value(region)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned));
    let name = name.unwrap_or_default();
    let distance = location.distance;
    match location.side {
        crate::layout::Side::Inside => format!("in {name}, {distance} bytes from its guard"),
        crate::layout::Side::Below => format!("{distance} bytes below {name}"),
        crate::layout::Side::Above => format!("{distance} bytes above {name}"),
    }
}
