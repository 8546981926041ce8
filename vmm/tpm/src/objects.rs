//! Commands about keys, sealed objects and the policies under which they open (Part 3: 11, 12, 23, 24, 28).

use std::ptr::null_mut;

use referee_evidence::Bank;
use tss_esapi::constants::tss::*;
use tss_esapi::structures::{Private, Public};
use tss_esapi::tss2_esys::*;
use zeroize::Zeroizing;

use crate::commands::{NONE, PASSWORD, malformed, selection, sized};
use crate::error::TpmError;
use crate::esys::{Esys, absent, check, taken};

impl Esys {
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

    /// TPM2_PolicySecret: whoever asks may use the endorsement hierarchy (whose password is empty).
    ///
    /// # Errors
    /// [`TpmError::Refused`].
    pub fn policy_endorsement(&self, session: ESYS_TR) -> Result<(), TpmError> {
        let (nonce, hash, reference) = (
            TPM2B_NONCE::default(),
            TPM2B_DIGEST::default(),
            TPM2B_NONCE::default(),
        );
        let (mut timeout, mut ticket) = (null_mut(), null_mut());
        // SAFETY: the context is open, the session is one of it, all inputs outlive the call, the library writes two pointers.
        let code = unsafe {
            Esys_PolicySecret(
                self.raw(),
                ESYS_TR_RH_ENDORSEMENT,
                session,
                PASSWORD,
                NONE,
                NONE,
                &raw const nonce,
                &raw const hash,
                &raw const reference,
                0,
                &raw mut timeout,
                &raw mut ticket,
            )
        };
        check("TPM2_PolicySecret", code)?;
        taken(timeout);
        taken(ticket);
        Ok(())
    }

    /// TPM2_ActivateCredential: the secret in a credential, if both keys are in this TPM.
    ///
    /// # Errors
    /// [`TpmError::Refused`] when it was made for other keys.
    pub fn activate_credential(
        &self,
        activated: ESYS_TR,
        key: ESYS_TR,
        session: ESYS_TR,
        credential: &[u8],
        seed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let credential: TPM2B_ID_OBJECT = sized!(TPM2B_ID_OBJECT, credential, credential)?;
        let seed: TPM2B_ENCRYPTED_SECRET = sized!(TPM2B_ENCRYPTED_SECRET, secret, seed)?;
        let mut secret = null_mut();
        // SAFETY: the context is open, keys and session are of it, both inputs outlive the call, the library writes one pointer.
        let code = unsafe {
            Esys_ActivateCredential(
                self.raw(),
                activated,
                key,
                PASSWORD,
                session,
                NONE,
                &raw const credential,
                &raw const seed,
                &raw mut secret,
            )
        };
        check("TPM2_ActivateCredential", code)?;
        let secret = Zeroizing::new(Wiped(taken(secret)));
        let bytes = secret.0.buffer.iter().take(usize::from(secret.0.size));
        Ok(Zeroizing::new(bytes.copied().collect()))
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

fn to_tpm(public: &Public) -> Result<TPM2B_PUBLIC, TpmError> {
    public.clone().try_into().map_err(malformed)
}

fn from_tpm(public: TPM2B_PUBLIC) -> Result<Public, TpmError> {
    Public::try_from(public).map_err(malformed)
}
