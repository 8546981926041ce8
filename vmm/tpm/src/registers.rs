//! Commands about the TPM itself, its clock and its registers (TCG TPM 2.0 Library, Part 3: 9, 22, 29, 30).

use std::ptr::null_mut;

use referee_evidence::{Bank, PcrValues};
use tss_esapi::constants::tss::*;
use tss_esapi::tss2_esys::*;

use crate::commands::{NONE, PASSWORD, selection, sized};
use crate::error::TpmError;
use crate::esys::{Esys, check, taken};

/// What a TPM says about itself.
#[derive(Debug, Clone)]
pub struct Model {
    /// Manufacturer and model.
    pub name: String,
    /// Whether the vendor's own string says that it is a program.
    pub software: bool,
}

/// Clock of the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Resets: boots of the host.
    pub resets: u32,
    /// Restarts and resumes since.
    pub restarts: u32,
}

impl Esys {
    /// TPM2_Shutdown: with `state`, so that a start with state keeps the registers.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn shutdown(&self, state: bool) -> Result<(), TpmError> {
        let kind = if state { TPM2_SU_STATE } else { TPM2_SU_CLEAR };
        // SAFETY: the context is open; the command has no other pointers.
        let code = unsafe { Esys_Shutdown(self.raw(), NONE, NONE, NONE, kind) };
        check("TPM2_Shutdown", code)
    }

    /// TPM2_ReadClock.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn boot(&self) -> Result<Boot, TpmError> {
        let mut time = null_mut();
        // SAFETY: the context is open; the library writes one pointer.
        let code = unsafe { Esys_ReadClock(self.raw(), NONE, NONE, NONE, &raw mut time) };
        check("TPM2_ReadClock", code)?;
        let clock = taken(time).clockInfo;
        Ok(Boot {
            resets: clock.resetCount,
            restarts: clock.restartCount,
        })
    }

    fn capability(&self, kind: u32, property: u32, count: u32) -> Result<TPMS_CAPABILITY_DATA, TpmError> {
        let (mut more, mut data) = (0, null_mut());
        // SAFETY: the context is open; the library writes a byte and a pointer.
        let code = unsafe {
            Esys_GetCapability(
                self.raw(),
                NONE,
                NONE,
                NONE,
                kind,
                property,
                count,
                &raw mut more,
                &raw mut data,
            )
        };
        check("TPM2_GetCapability", code)?;
        Ok(taken(data))
    }

    /// Manufacturer and vendor strings.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn model(&self) -> Result<Model, TpmError> {
        let data = self.capability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_MANUFACTURER, 5)?;
        // SAFETY: the union holds properties, because properties were asked for and the library checked the answer's kind.
        let properties = unsafe { data.data.tpmProperties };
        let count = usize::try_from(properties.count).unwrap_or(0);
        let text: Vec<u8> = properties
            .tpmProperty
            .iter()
            .take(count)
            .filter(|property| (TPM2_PT_MANUFACTURER..=TPM2_PT_VENDOR_STRING_4).contains(&property.property))
            .flat_map(|property| property.value.to_be_bytes())
            .map(|byte| if byte.is_ascii_graphic() { byte } else { b' ' })
            .collect();
        let words: Vec<&str> = std::str::from_utf8(&text)
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        Ok(Model {
            software: words.contains(&"SW") || words.contains(&"xCG"),
            name: words.join(" "),
        })
    }

    /// Banks that are in use and known here.
    ///
    /// # Errors
    /// [`TpmError::Refused`], or [`TpmError::Malformed`] when there is no SHA-256 bank.
    pub fn banks(&self) -> Result<Vec<Bank>, TpmError> {
        let data = self.capability(TPM2_CAP_PCRS, 0, 1)?;
        // SAFETY: the union holds the assigned registers, because those were asked for and the library checked the answer's kind.
        let assigned = unsafe { data.data.assignedPCR };
        let count = usize::try_from(assigned.count).unwrap_or(0);
        let banks: Vec<Bank> = assigned
            .pcrSelections
            .iter()
            .take(count)
            .filter(|bank| bank.pcrSelect.iter().any(|byte| *byte != 0))
            .filter_map(|bank| Bank::from_number(bank.hash))
            .collect();
        match banks.contains(&Bank::Sha256) {
            true => Ok(banks),
            false => Err(TpmError::Malformed(
                "this TPM has no bank of SHA-256 registers in use".into(),
            )),
        }
    }

    /// TPM2_PCR_Read of at most eight registers.
    ///
    /// # Errors
    /// [`TpmError::Refused`], or [`TpmError::Malformed`] when not all of them come back.
    pub fn registers(&self, bank: Bank, pcrs: &[u32]) -> Result<PcrValues, TpmError> {
        let selection = selection(bank, pcrs);
        let (mut counter, mut selected, mut values) = (0, null_mut(), null_mut());
        // SAFETY: the context is open, the selection outlives the call, the library writes a number and two pointers.
        let code = unsafe {
            Esys_PCR_Read(
                self.raw(),
                NONE,
                NONE,
                NONE,
                &raw const selection,
                &raw mut counter,
                &raw mut selected,
                &raw mut values,
            )
        };
        check("TPM2_PCR_Read", code)?;
        taken(selected);
        let values = taken(values);
        let mut sorted = pcrs.to_vec();
        sorted.sort_unstable();
        let count = usize::try_from(values.count).unwrap_or(0);
        if count != sorted.len() {
            return Err(TpmError::Malformed(format!(
                "{count} of {} registers came back",
                sorted.len()
            )));
        }
        let bytes = |digest: &TPM2B_DIGEST| {
            digest
                .buffer
                .iter()
                .take(usize::from(digest.size))
                .copied()
                .collect()
        };
        Ok(sorted.into_iter().zip(values.digests.iter().map(bytes)).collect())
    }

    /// TPM2_PCR_Event: the TPM hashes `content` itself and extends the register in every bank, also in those unknown here.
    ///
    /// # Errors
    /// [`TpmError::Refused`], or [`TpmError::Malformed`] when the content is longer than 1024 bytes.
    pub fn extend(&self, pcr: u32, content: &[u8]) -> Result<(), TpmError> {
        let event: TPM2B_EVENT = sized!(TPM2B_EVENT, buffer, content)?;
        let mut digests = null_mut();
        // SAFETY: the context is open, the event outlives the call, the library writes one pointer. A register's number is its ESYS_TR.
        let code = unsafe {
            Esys_PCR_Event(
                self.raw(),
                pcr,
                PASSWORD,
                NONE,
                NONE,
                &raw const event,
                &raw mut digests,
            )
        };
        check("TPM2_PCR_Event", code)?;
        taken(digests);
        Ok(())
    }
}
