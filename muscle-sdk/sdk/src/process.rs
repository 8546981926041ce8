//! Arguments, environment, and the end of the program.

use alloc::string::String;
use alloc::vec::Vec;

use guest_runtime::{boot, console, doorbell};

/// The code that a command ends with: 0 to 99, where 0 is success. Larger ones become 99, since codes from 100 are
/// the VMM's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitCode(u8);

impl ExitCode {
    /// 0.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// 1.
    pub const FAILURE: ExitCode = ExitCode(1);

    /// The code as a number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl From<u8> for ExitCode {
    fn from(number: u8) -> ExitCode {
        ExitCode(if number > MAX { MAX } else { number })
    }
}

/// Ends the muscle at once. Destructors do not run; output is handed over.
pub fn exit(code: ExitCode) -> ! {
    console::flush();
    doorbell::exit(code.0)
}

/// The command-line arguments, without the program's name. Empty without an `args` slot.
pub fn args() -> Vec<String> {
    let mut all = boot::arguments();
    if !all.is_empty() {
        all.remove(0);
    }
    all
}

/// The name of the bundle's file, by which the operator ran the muscle. `None` without an `args` slot.
pub fn program_name() -> Option<String> {
    boot::arguments().into_iter().next()
}

/// A granted environment variable.
pub fn env(name: &str) -> Option<String> {
    vars()
        .into_iter()
        .find(|(own, _)| own == name)
        .map(|(_, value)| value)
}

/// The granted environment variables as names and values.
pub fn vars() -> Vec<(String, String)> {
    boot::environment()
        .into_iter()
        .filter_map(|variable| {
            let (name, value) = variable.split_once('=')?;
            Some((name.into(), value.into()))
        })
        .collect()
}

/// [`muscle_abi::MAX_EXIT_CODE`] as a `u8`.
const MAX: u8 = 99;
const _: () = assert!(MAX as u64 == muscle_abi::MAX_EXIT_CODE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_stay_below_those_of_the_vmm() {
        assert_eq!(ExitCode::from(7).number(), 7);
        assert_eq!(ExitCode::from(200).number(), 99);
    }
}
