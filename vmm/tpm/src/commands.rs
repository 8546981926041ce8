//! What the commands in `registers.rs`, `objects.rs`, `nv.rs` and `quotes.rs` share. Each of them is a safe method on
//! [`crate::esys::Esys`], and each command is there once.

use referee_evidence::Bank;
use tss_esapi::tss2_esys::{ESYS_TR, ESYS_TR_NONE, ESYS_TR_PASSWORD, TPML_PCR_SELECTION};

use crate::error::TpmError;

/// No session.
pub(crate) const NONE: ESYS_TR = ESYS_TR_NONE;
/// Authorization by an empty password, as everything that is made here has.
pub(crate) const PASSWORD: ESYS_TR = ESYS_TR_PASSWORD;
/// TPMA_NV_WRITTEN: set by the TPM with the first write (Part 2, 13.4).
pub(crate) const NV_WRITTEN: u32 = 1 << 29;

/// Fills a TPM2B structure, if the bytes fit.
macro_rules! sized {
    ($type:ident, $field:ident, $bytes:expr) => {{
        let bytes: &[u8] = $bytes;
        let mut value = $type::default();
        match value.$field.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                value.size = u16::try_from(bytes.len()).unwrap_or(0);
                Ok(value)
            }
            None => Err(TpmError::Malformed(format!(
                "{} bytes do not fit into a {}",
                bytes.len(),
                stringify!($type)
            ))),
        }
    }};
}
pub(crate) use sized;

/// One bank's registers.
pub(crate) fn selection(bank: Bank, pcrs: &[u32]) -> TPML_PCR_SELECTION {
    let mut selection = TPML_PCR_SELECTION {
        count: 1,
        ..TPML_PCR_SELECTION::default()
    };
    let [first, ..] = &mut selection.pcrSelections;
    first.hash = bank.number();
    first.sizeofSelect = 3;
    for pcr in pcrs {
        if let Some(byte) = first.pcrSelect.get_mut((pcr / 8) as usize) {
            *byte |= 1 << (pcr % 8);
        }
    }
    selection
}

/// An error of the library's types.
pub(crate) fn malformed(error: tss_esapi::Error) -> TpmError {
    TpmError::Malformed(error.to_string())
}
