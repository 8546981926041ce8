//! `[tpm]`: the host's TPM, if bundles are to be measured into it before they run.

use std::path::PathBuf;
use std::time::Duration;

use referee::Registers;
use serde::{Deserialize, Serialize};

use crate::error::NodeError;

/// The host's TPM. Names and defaults are those of the command line's options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tpm {
    /// `device:/dev/tpmrm0`; `swtpm:DIR`, a program that is made and started as needed; `tcti:CONF`, as its library writes it.
    pub device: String,
    /// Directory of event log and sealed keys; without it, /var/lib/referee/tpm, or within the software TPM's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Register into which it is measured what enforces the rules here.
    #[serde(default = "identity_pcr")]
    pub identity_pcr: u32,
    /// Register into which bundles are measured.
    #[serde(default = "muscle_pcr")]
    pub muscle_pcr: u32,
    /// Use registers that any program of this host can set back; evidence says so.
    #[serde(default)]
    pub allow_resettable_registers: bool,
    /// NV index of the anti-rollback counter, eight hexadecimal digits.
    #[serde(default = "counter")]
    pub counter: String,
    /// The TPM is given up when it has not answered for so long, in seconds.
    #[serde(default = "patience_seconds")]
    pub patience_seconds: u64,
}

fn identity_pcr() -> u32 {
    14
}

fn muscle_pcr() -> u32 {
    13
}

fn counter() -> String {
    "01800100".into()
}

fn patience_seconds() -> u64 {
    60
}

/// Seconds that the TPM may be waited for.
const PATIENCE: std::ops::RangeInclusive<u64> = 1..=600;
/// Registers that a TPM has.
const REGISTERS: std::ops::Range<u32> = 0..24;

impl Tpm {
    pub(super) fn check(&self) -> Result<(), NodeError> {
        let wrong = |message: String| Err(NodeError::Config(message));
        self.counter_index()?;
        match &self.device {
            device
                if !["device:", "swtpm:", "tcti:"]
                    .iter()
                    .any(|kind| device.starts_with(kind)) =>
            {
                wrong(format!(
                    "tpm.device `{device}` must begin with device:, swtpm: or tcti:, as device:/dev/tpmrm0"
                ))
            }
            _ if self.identity_pcr == self.muscle_pcr => {
                wrong("tpm.identity_pcr and tpm.muscle_pcr must be two registers".into())
            }
            _ if !(REGISTERS.contains(&self.identity_pcr) && REGISTERS.contains(&self.muscle_pcr)) => {
                wrong("tpm.identity_pcr and tpm.muscle_pcr must be 0 to 23".into())
            }
            _ if !PATIENCE.contains(&self.patience_seconds) => wrong(format!(
                "tpm.patience_seconds must be {} to {}",
                PATIENCE.start(),
                PATIENCE.end()
            )),
            _ => Ok(()),
        }
    }

    fn counter_index(&self) -> Result<u32, NodeError> {
        // Part 2, 7.2: the first byte of an NV index's handle is 01.
        let index = u32::from_str_radix(&self.counter, 16).ok();
        index.filter(|index| index >> 24 == 1).ok_or_else(|| {
            NodeError::Config(format!(
                "tpm.counter `{}` must be eight hexadecimal digits that begin with 01",
                self.counter
            ))
        })
    }

    /// How long it may take to answer.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }

    /// As the library names it, with `referee-tpm` at this path.
    ///
    /// # Errors
    /// [`NodeError::Config`].
    pub(crate) fn with_program(&self, program: PathBuf) -> Result<referee::Tpm, NodeError> {
        Ok(referee::Tpm {
            name: self.device.clone(),
            program,
            state: self.state.clone(),
            registers: Registers {
                identity: self.identity_pcr,
                muscles: self.muscle_pcr,
                allow_resettable: self.allow_resettable_registers,
            },
            counter: self.counter_index()?,
            patience: self.patience(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_is_left_out_is_as_on_the_command_line() {
        let config = Config::parse("[tpm]\ndevice = 'device:/dev/tpmrm0'").expect("is valid");
        let printed = config.to_toml().expect("plain data");
        for line in [
            "identity_pcr = 14",
            "muscle_pcr = 13",
            "counter = \"01800100\"",
            "patience_seconds = 60",
        ] {
            assert!(printed.contains(line), "{printed}");
        }
        let read = Config::parse(&printed).expect("is valid");
        assert_eq!(read.tpm, config.tpm);
        let ours = config
            .tpm
            .expect("is there")
            .with_program("x".into())
            .expect("is valid");
        let theirs = referee::Tpm::new("device:/dev/tpmrm0", "x");
        assert_eq!(
            (ours.registers, ours.counter, ours.patience),
            (theirs.registers, theirs.counter, theirs.patience)
        );
        assert_eq!(Config::parse("").expect("is valid").tpm, None);
    }

    #[test]
    fn a_tpm_without_sense_is_refused_by_key() {
        for (more, key) in [
            ("device = '/dev/tpm0'", "tpm.device"),
            ("device = 'device:x'\nidentity_pcr = 13", "tpm.identity_pcr"),
            ("device = 'device:x'\nmuscle_pcr = 24", "tpm.muscle_pcr"),
            ("device = 'device:x'\ncounter = '02800100'", "tpm.counter"),
            ("device = 'device:x'\ncounter = 'x'", "tpm.counter"),
            (
                "device = 'device:x'\npatience_seconds = 0",
                "tpm.patience_seconds",
            ),
            ("identity_pcr = 14", "device"),
            ("device = 'device:x'\nregister = 1", "register"),
        ] {
            let error = Config::parse(&format!("[tpm]\n{more}"))
                .expect_err(more)
                .to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
