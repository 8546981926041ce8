//! A connection to a TPM by the ESYS library: the one place with unsafe code of this program (docs/adr/0015-tpm-process.md).
//!
//! `tss-esapi`'s own `Context` lacks four commands that are needed here and cannot reach a TPM behind a Unix socket; so its re-exported
//! bindings are called directly, and its types are used for everything that is built or taken apart. A connection is short: it is
//! opened for one piece of work, and everything that it loaded is flushed when it is dropped, because a TPM has room for three objects.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::ptr::{null, null_mut};

use tss_esapi::constants::response_code::Tss2ResponseCode;
use tss_esapi::tss2_esys::{
    ESYS_CONTEXT, ESYS_TR, ESYS_TR_NONE, Esys_Finalize, Esys_FlushContext, Esys_Free, Esys_Initialize,
    TSS2_RC, TSS2_TCTI_CONTEXT, Tss2_TctiLdr_Finalize, Tss2_TctiLdr_Initialize,
};

use crate::error::TpmError;

/// An open connection.
pub struct Esys {
    context: *mut ESYS_CONTEXT,
    tcti: *mut TSS2_TCTI_CONTEXT,
    loaded: Vec<ESYS_TR>,
}

impl Esys {
    /// Connects; `tcti` is in the library's own notation: `device:/dev/tpmrm0`, `swtpm:path=/run/x.sock`.
    ///
    /// # Errors
    /// [`TpmError::Unreachable`].
    pub fn open(tcti: &str) -> Result<Esys, TpmError> {
        let unreachable = |code: TSS2_RC| TpmError::Unreachable {
            tcti: tcti.to_owned(),
            why: describe(code),
        };
        if let Some(device) = tcti.strip_prefix("device:") {
            // The library says only that it did not work.
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(device)
                .map_err(|error| TpmError::Unreachable {
                    tcti: tcti.to_owned(),
                    why: error.to_string(),
                })?;
        }
        let name = CString::new(tcti).map_err(|_| TpmError::Unreachable {
            tcti: tcti.to_owned(),
            why: "a zero byte in its name".into(),
        })?;
        let mut esys = Esys {
            context: null_mut(),
            tcti: null_mut(),
            loaded: Vec::new(),
        };
        // SAFETY: the name ends with a zero byte and outlives the call; the pointer's place is ours to write.
        let code = unsafe { Tss2_TctiLdr_Initialize(name.as_ptr(), &raw mut esys.tcti) };
        if code != 0 {
            return Err(unreachable(code));
        }
        // SAFETY: the TCTI was just made and outlives the context, which is finalized first; no ABI version is asked for.
        let code = unsafe { Esys_Initialize(&raw mut esys.context, esys.tcti, null_mut()) };
        match code {
            0 => Ok(esys),
            code => Err(unreachable(code)),
        }
    }

    /// The context, for a call of the library.
    pub(crate) fn raw(&self) -> *mut ESYS_CONTEXT {
        self.context
    }

    /// Has an object or session flushed at the latest when the connection is dropped.
    pub(crate) fn adopt(&mut self, handle: ESYS_TR) -> ESYS_TR {
        self.loaded.push(handle);
        handle
    }

    /// Flushes an object or a session now.
    pub fn flush(&mut self, handle: ESYS_TR) {
        self.loaded.retain(|loaded| *loaded != handle);
        // SAFETY: the context is open. The handle is one of it; one that is gone already is an error, which matters to nobody.
        let _ = unsafe { Esys_FlushContext(self.context, handle) };
    }
}

impl Drop for Esys {
    fn drop(&mut self) {
        for handle in std::mem::take(&mut self.loaded) {
            if handle != ESYS_TR_NONE {
                self.flush(handle);
            }
        }
        if !self.context.is_null() {
            // SAFETY: the context was made by Esys_Initialize and is not used again.
            unsafe { Esys_Finalize(&raw mut self.context) };
        }
        if !self.tcti.is_null() {
            // SAFETY: the TCTI was made by the loader, and its only user is gone.
            unsafe { Tss2_TctiLdr_Finalize(&raw mut self.tcti) };
        }
    }
}

/// An error unless the library says that all is well.
pub(crate) fn check(operation: &'static str, code: TSS2_RC) -> Result<(), TpmError> {
    match code {
        0 => Ok(()),
        code => Err(TpmError::Refused {
            operation,
            code,
            why: describe(code),
        }),
    }
}

fn describe(code: TSS2_RC) -> String {
    /// TSS2_TCTI_RC_IO_ERROR, which the library has no words for.
    const TCTI_IO_ERROR: TSS2_RC = 0x000A_000A;
    if code == TCTI_IO_ERROR {
        return "the connection failed".into();
    }
    format!("{} ({code:#x})", Tss2ResponseCode::from(code))
}

/// Takes a value that the library allocated: copies it, wipes the library's copy, because it may be a secret, and frees it.
pub(crate) fn taken<T: Copy + Default>(value: *mut T) -> T {
    if value.is_null() {
        return T::default();
    }
    // SAFETY: the library gave this pointer for a whole, aligned T of its own, after a call that succeeded.
    let copy = unsafe { value.read() };
    // SAFETY: as above; nobody else has the pointer. Volatile, so that it is not left out before the free.
    unsafe { value.write_volatile(T::default()) };
    // SAFETY: the library allocated it, and it is not used again.
    unsafe { Esys_Free(value.cast()) };
    copy
}

/// No nonce of the caller's: the library makes one.
pub(crate) const fn absent<T>() -> *const T {
    null()
}
