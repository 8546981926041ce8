//! Commands by which the TPM states something and signs it (Part 3: 18.4, 31.16).

use std::ptr::null_mut;

use referee_evidence::{Bank, Certified};
use tss_esapi::constants::tss::*;
use tss_esapi::structures::Signature;
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::*;

use crate::commands::{NONE, PASSWORD, malformed, selection, sized};
use crate::error::TpmError;
use crate::esys::{Esys, check, taken};

impl Esys {
    /// TPM2_Quote.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn quote(
        &self,
        key: ESYS_TR,
        qualifying: &[u8],
        bank: Bank,
        pcrs: &[u32],
    ) -> Result<Certified, TpmError> {
        let qualifying: TPM2B_DATA = sized!(TPM2B_DATA, buffer, qualifying)?;
        let (scheme, selection) = (null_scheme(), selection(bank, pcrs));
        let (mut attest, mut signature) = (null_mut(), null_mut());
        // SAFETY: the context is open, the key is one of it, all inputs outlive the call, the library writes two pointers.
        let code = unsafe {
            Esys_Quote(
                self.raw(),
                key,
                PASSWORD,
                NONE,
                NONE,
                &raw const qualifying,
                &raw const scheme,
                &raw const selection,
                &raw mut attest,
                &raw mut signature,
            )
        };
        check("TPM2_Quote", code)?;
        certified(taken(attest), taken(signature))
    }

    /// TPM2_NV_Certify of the counter.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn certify_counter(
        &self,
        key: ESYS_TR,
        counter: ESYS_TR,
        qualifying: &[u8],
    ) -> Result<Certified, TpmError> {
        let qualifying: TPM2B_DATA = sized!(TPM2B_DATA, buffer, qualifying)?;
        let scheme = null_scheme();
        let (mut attest, mut signature) = (null_mut(), null_mut());
        // SAFETY: the context is open, key and index are of it, all inputs outlive the call, the library writes two pointers.
        let code = unsafe {
            Esys_NV_Certify(
                self.raw(),
                key,
                counter,
                counter,
                PASSWORD,
                PASSWORD,
                NONE,
                &raw const qualifying,
                &raw const scheme,
                8,
                0,
                &raw mut attest,
                &raw mut signature,
            )
        };
        check("TPM2_NV_Certify", code)?;
        certified(taken(attest), taken(signature))
    }
}

fn null_scheme() -> TPMT_SIG_SCHEME {
    TPMT_SIG_SCHEME {
        scheme: TPM2_ALG_NULL,
        ..TPMT_SIG_SCHEME::default()
    }
}

fn certified(attest: TPM2B_ATTEST, signature: TPMT_SIGNATURE) -> Result<Certified, TpmError> {
    let statement: Vec<u8> = attest
        .attestationData
        .iter()
        .take(usize::from(attest.size))
        .copied()
        .collect();
    let signature = Signature::try_from(signature)
        .and_then(|signature| signature.marshall())
        .map_err(malformed)?;
    Ok(Certified {
        statement: statement.into(),
        signature: signature.into(),
    })
}
