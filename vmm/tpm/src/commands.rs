//! The TPM's commands that are needed, each once (TCG TPM 2.0 Library, Part 3). Every one is a safe method on [`Esys`].

use std::ptr::null_mut;

use tss_esapi::constants::tss::*;
use tss_esapi::structures::{Private, Public, Signature};
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::*;
use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::esys::{Esys, absent, check, taken};
use referee_evidence::{Bank, Certified, PcrValues};

const NONE: ESYS_TR = ESYS_TR_NONE;
const PASSWORD: ESYS_TR = ESYS_TR_PASSWORD;
/// TPMA_NV_WRITTEN: set by the TPM with the first write (Part 2, 13.4).
pub(crate) const NV_WRITTEN: u32 = 1 << 29;

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

    /// A persistent object or an NV index by its TPM handle; `None` when there is none.
    ///
    /// # Errors
    /// [`TpmError::Refused`] for any other reason.
    pub fn find(&self, handle: u32) -> Result<Option<ESYS_TR>, TpmError> {
        /// TPM_RC_HANDLE: no such handle (Part 2, 6.6.3), wherever the library says it came from.
        const RC_HANDLE: u32 = 0x08B;
        let mut object = 0;
        // SAFETY: the context is open; the library writes one number.
        let code = unsafe { Esys_TR_FromTPMPublic(self.raw(), handle, NONE, NONE, NONE, &raw mut object) };
        match code & 0xBF {
            RC_HANDLE => Ok(None),
            _ => check("Esys_TR_FromTPMPublic", code).map(|()| Some(object)),
        }
    }

    /// TPM2_CreatePrimary in a hierarchy (`ESYS_TR_RH_OWNER`, `ESYS_TR_RH_ENDORSEMENT`), and the key's public area.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn primary(&mut self, hierarchy: ESYS_TR, template: &Public) -> Result<(ESYS_TR, Public), TpmError> {
        let template = to_tpm(template)?;
        let (sensitive, outside, creation) = (
            TPM2B_SENSITIVE_CREATE::default(),
            TPM2B_DATA::default(),
            TPML_PCR_SELECTION::default(),
        );
        let mut handle = 0;
        let (mut public, mut data, mut hash, mut ticket) = (null_mut(), null_mut(), null_mut(), null_mut());
        // SAFETY: the context is open, all inputs outlive the call, the library writes a number and four pointers.
        let code = unsafe {
            Esys_CreatePrimary(
                self.raw(),
                hierarchy,
                PASSWORD,
                NONE,
                NONE,
                &raw const sensitive,
                &raw const template,
                &raw const outside,
                &raw const creation,
                &raw mut handle,
                &raw mut public,
                &raw mut data,
                &raw mut hash,
                &raw mut ticket,
            )
        };
        check("TPM2_CreatePrimary", code)?;
        self.adopt(handle);
        taken(data);
        taken(hash);
        taken(ticket);
        Ok((handle, from_tpm(taken(public))?))
    }

    /// TPM2_EvictControl: keeps a primary key at a persistent handle.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn persist(&self, object: ESYS_TR, handle: u32) -> Result<ESYS_TR, TpmError> {
        let mut kept = 0;
        // SAFETY: the context is open and the object is one of it; the library writes one number.
        let code = unsafe {
            Esys_EvictControl(
                self.raw(),
                ESYS_TR_RH_OWNER,
                object,
                PASSWORD,
                NONE,
                NONE,
                handle,
                &raw mut kept,
            )
        };
        check("TPM2_EvictControl", code)?;
        Ok(kept)
    }

    /// TPM2_Create of a sealed object under a parent.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn seal(
        &self,
        parent: ESYS_TR,
        template: &Public,
        secret: &[u8],
    ) -> Result<(Private, Public), TpmError> {
        let template = to_tpm(template)?;
        let mut sensitive = Zeroizing::new(Wiped(TPM2B_SENSITIVE_CREATE::default()));
        sensitive.0.sensitive.data = sized!(TPM2B_SENSITIVE_DATA, buffer, secret)?;
        let (outside, creation) = (TPM2B_DATA::default(), TPML_PCR_SELECTION::default());
        let (mut private, mut public) = (null_mut(), null_mut());
        let (mut data, mut hash, mut ticket) = (null_mut(), null_mut(), null_mut());
        // SAFETY: the context is open, all inputs outlive the call, the library writes five pointers.
        let code = unsafe {
            Esys_Create(
                self.raw(),
                parent,
                PASSWORD,
                NONE,
                NONE,
                &raw const sensitive.0,
                &raw const template,
                &raw const outside,
                &raw const creation,
                &raw mut private,
                &raw mut public,
                &raw mut data,
                &raw mut hash,
                &raw mut ticket,
            )
        };
        check("TPM2_Create", code)?;
        taken(data);
        taken(hash);
        taken(ticket);
        let private = Private::try_from(taken(private)).map_err(malformed)?;
        Ok((private, from_tpm(taken(public))?))
    }

    /// TPM2_Load.
    ///
    /// # Errors
    /// [`TpmError::Refused`]; a blob of another TPM is refused here.
    pub fn load(&mut self, parent: ESYS_TR, private: &Private, public: &Public) -> Result<ESYS_TR, TpmError> {
        let (private, public) = (TPM2B_PRIVATE::from(private.clone()), to_tpm(public)?);
        let mut handle = 0;
        // SAFETY: the context is open, both inputs outlive the call, the library writes one number.
        let code = unsafe {
            Esys_Load(
                self.raw(),
                parent,
                PASSWORD,
                NONE,
                NONE,
                &raw const private,
                &raw const public,
                &raw mut handle,
            )
        };
        check("TPM2_Load", code)?;
        Ok(self.adopt(handle))
    }

    /// TPM2_StartAuthSession of a policy session whose answers are encrypted on the way: its key comes from a salt that only
    /// the holder of `salted_to` can read.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn policy_session(&mut self, salted_to: ESYS_TR) -> Result<ESYS_TR, TpmError> {
        let mut symmetric = TPMT_SYM_DEF {
            algorithm: TPM2_ALG_AES,
            ..TPMT_SYM_DEF::default()
        };
        symmetric.keyBits.aes = 128;
        symmetric.mode.aes = TPM2_ALG_CFB;
        let mut session = 0;
        // SAFETY: the context is open, the key is one of it, the definition outlives the call, the library writes one number.
        let code = unsafe {
            Esys_StartAuthSession(
                self.raw(),
                salted_to,
                NONE,
                NONE,
                NONE,
                NONE,
                absent(),
                TPM2_SE_POLICY,
                &raw const symmetric,
                TPM2_ALG_SHA256,
                &raw mut session,
            )
        };
        check("TPM2_StartAuthSession", code)?;
        self.adopt(session);
        let flags = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT;
        // SAFETY: the context is open and the session is one of it.
        let code = unsafe { Esys_TRSess_SetAttributes(self.raw(), session, flags, 0xFF) };
        check("Esys_TRSess_SetAttributes", code)?;
        Ok(session)
    }

    /// TPM2_PolicyPCR: the registers are what they are now.
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn policy_pcr(&self, session: ESYS_TR, pcr: u32) -> Result<(), TpmError> {
        let (digest, selection) = (TPM2B_DIGEST::default(), selection(Bank::Sha256, &[pcr]));
        // SAFETY: the context is open, the session is one of it, both inputs outlive the call.
        let code = unsafe {
            Esys_PolicyPCR(
                self.raw(),
                session,
                NONE,
                NONE,
                NONE,
                &raw const digest,
                &raw const selection,
            )
        };
        check("TPM2_PolicyPCR", code)
    }

    /// TPM2_PolicyNV: the counter is exactly this.
    ///
    /// # Errors
    /// [`TpmError::Refused`] when it is not.
    pub fn policy_counter(&self, session: ESYS_TR, counter: ESYS_TR, value: u64) -> Result<(), TpmError> {
        let operand: TPM2B_OPERAND = sized!(TPM2B_OPERAND, buffer, &value.to_be_bytes())?;
        // SAFETY: the context is open, session and index are of it, the operand outlives the call.
        let code = unsafe {
            Esys_PolicyNV(
                self.raw(),
                counter,
                counter,
                session,
                PASSWORD,
                NONE,
                NONE,
                &raw const operand,
                0,
                TPM2_EO_EQ,
            )
        };
        check("TPM2_PolicyNV", code)
    }

    /// TPM2_Unseal under a policy session.
    ///
    /// # Errors
    /// [`TpmError::Refused`] when the policy does not hold.
    pub fn unseal(&self, object: ESYS_TR, session: ESYS_TR) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let mut data = null_mut();
        // SAFETY: the context is open, object and session are of it, the library writes one pointer.
        let code = unsafe { Esys_Unseal(self.raw(), object, session, NONE, NONE, &raw mut data) };
        check("TPM2_Unseal", code)?;
        let data = Zeroizing::new(Wiped(taken(data)));
        Ok(Zeroizing::new(
            data.0
                .buffer
                .iter()
                .take(usize::from(data.0.size))
                .copied()
                .collect(),
        ))
    }

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

/// A structure of the library that may hold a secret, wiped when it is dropped.
struct Wiped<T: Default>(T);

impl<T: Default> zeroize::Zeroize for Wiped<T> {
    fn zeroize(&mut self) {
        // A volatile write by `zeroize`'s own fence: the value is replaced, then the compiler may not drop the store.
        self.0 = T::default();
        std::hint::black_box(&self.0);
    }
}

fn selection(bank: Bank, pcrs: &[u32]) -> TPML_PCR_SELECTION {
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

fn to_tpm(public: &Public) -> Result<TPM2B_PUBLIC, TpmError> {
    public.clone().try_into().map_err(malformed)
}

fn from_tpm(public: TPM2B_PUBLIC) -> Result<Public, TpmError> {
    Public::try_from(public).map_err(malformed)
}

pub(crate) fn malformed(error: tss_esapi::Error) -> TpmError {
    TpmError::Malformed(error.to_string())
}
