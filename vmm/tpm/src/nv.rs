//! Commands about NV indices: the counter, and certificates (Part 3: 31).

use std::ptr::null_mut;

use tss_esapi::constants::tss::*;
use tss_esapi::tss2_esys::*;

use crate::commands::{NONE, NV_WRITTEN, PASSWORD};
use crate::error::TpmError;
use crate::esys::{Esys, check, taken};

impl Esys {
    /// TPM2_NV_DefineSpace of a counter that only counts up.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn define_counter(&self, index: u32) -> Result<ESYS_TR, TpmError> {
        let public = TPM2B_NV_PUBLIC {
            size: 0,
            nvPublic: TPMS_NV_PUBLIC {
                nvIndex: index,
                nameAlg: TPM2_ALG_SHA256,
                attributes: referee_evidence::COUNTER_ATTRIBUTES & !NV_WRITTEN,
                dataSize: 8,
                ..TPMS_NV_PUBLIC::default()
            },
        };
        let auth = TPM2B_AUTH::default();
        let mut handle = 0;
        // SAFETY: the context is open, both inputs outlive the call, the library writes one number.
        let code = unsafe {
            Esys_NV_DefineSpace(
                self.raw(),
                ESYS_TR_RH_OWNER,
                PASSWORD,
                NONE,
                NONE,
                &raw const auth,
                &raw const public,
                &raw mut handle,
            )
        };
        check("TPM2_NV_DefineSpace", code)?;
        Ok(handle)
    }

    /// TPM2_NV_Increment.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn increment(&self, counter: ESYS_TR) -> Result<(), TpmError> {
        // SAFETY: the context is open and the index is one of it.
        let code = unsafe { Esys_NV_Increment(self.raw(), counter, counter, PASSWORD, NONE, NONE) };
        check("TPM2_NV_Increment", code)
    }

    /// TPM2_NV_Read of the counter.
    ///
    /// # Errors
    /// [`TpmError::Refused`], or [`TpmError::Malformed`] when it has not eight bytes.
    pub fn counter(&self, counter: ESYS_TR) -> Result<u64, TpmError> {
        let bytes = self.nv_read(counter, counter, 8, 0)?;
        let value = <[u8; 8]>::try_from(&bytes[..])
            .map_err(|_| TpmError::Malformed(format!("the counter has {} bytes", bytes.len())))?;
        Ok(u64::from_be_bytes(value))
    }

    /// Attributes of an NV index, TPMA_NV.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn nv_attributes(&self, index: ESYS_TR) -> Result<u32, TpmError> {
        Ok(self.nv_public(index)?.attributes)
    }

    fn nv_public(&self, index: ESYS_TR) -> Result<TPMS_NV_PUBLIC, TpmError> {
        let (mut public, mut name) = (null_mut(), null_mut());
        // SAFETY: the context is open and the index is one of it; the library writes two pointers.
        let code = unsafe {
            Esys_NV_ReadPublic(
                self.raw(),
                index,
                NONE,
                NONE,
                NONE,
                &raw mut public,
                &raw mut name,
            )
        };
        check("TPM2_NV_ReadPublic", code)?;
        taken(name);
        Ok(taken(public).nvPublic)
    }

    /// Everything in an NV index that the owner may read, such as a certificate.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn nv_contents(&self, index: ESYS_TR) -> Result<Vec<u8>, TpmError> {
        /// TPMs give at least this much at once.
        const CHUNK: u16 = 512;
        let size = self.nv_public(index)?.dataSize;
        let mut contents = Vec::new();
        let mut offset = 0;
        while offset < size {
            let chunk = self.nv_read(ESYS_TR_RH_OWNER, index, CHUNK.min(size - offset), offset)?;
            if chunk.is_empty() {
                return Err(TpmError::Malformed("an NV index gave nothing".into()));
            }
            offset = offset.saturating_add(u16::try_from(chunk.len()).unwrap_or(u16::MAX));
            contents.extend(chunk);
        }
        Ok(contents)
    }

    fn nv_read(
        &self,
        authority: ESYS_TR,
        index: ESYS_TR,
        size: u16,
        offset: u16,
    ) -> Result<Vec<u8>, TpmError> {
        let mut data = null_mut();
        // SAFETY: the context is open, both handles are of it, the library writes one pointer.
        let code = unsafe {
            Esys_NV_Read(
                self.raw(),
                authority,
                index,
                PASSWORD,
                NONE,
                NONE,
                size,
                offset,
                &raw mut data,
            )
        };
        check("TPM2_NV_Read", code)?;
        let data = taken(data);
        Ok(data.buffer.iter().take(usize::from(data.size)).copied().collect())
    }
}
