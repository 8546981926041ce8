//! Checkpoints of audit logs: signed only for a log that has grown, and only after the floor has gone up with the counter. A disk that
//! was put back, the log's or this program's, is noticed here.

use referee_attest::Reply;
use referee_evidence::{Anchor, to_hex};
use referee_tlog::{Algorithm, Checkpoint, Note, TlogError, TreeHash, TreeHead, VerifierKey};
use sha2::{Digest as _, Sha256};
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::ESYS_TR_RH_ENDORSEMENT;

use crate::commands::malformed;
use crate::error::TpmError;
use crate::esys::Esys;
use crate::measure::Measured;
use crate::session::Session;
use crate::statements::now;
use crate::templates;
use crate::vault::Keys;

impl Session {
    /// Signs a checkpoint with the instance key, cosigns it, and has the TPM certify its counter over it.
    pub(crate) fn checkpoint(
        &self,
        esys: &mut Esys,
        measured: &Measured<'_>,
        origin: &str,
        head: TreeHead,
        proof: &[TreeHash],
    ) -> Result<Reply, TpmError> {
        let request = |error: TlogError| TpmError::Request(error.to_string());
        let checkpoint = Checkpoint::new(origin, head).map_err(request)?;
        let vault = self.vault(measured);
        let keys = vault.open(esys)?;
        let raised = keys
            .floors
            .with_log(origin, head, proof)
            .map_err(TpmError::Rejected)?;
        let keys = match raised {
            Some(floors) => vault.raise(esys, &keys, floors)?,
            None => keys,
        };
        let mut note = Note::unsigned(checkpoint.to_string());
        let instance = keys.instance();
        let key = VerifierKey::new(origin, Algorithm::Ed25519, &instance.public()).map_err(request)?;
        note.signatures
            .push(key.line(instance.sign(referee_bundle::Algorithm::Ed25519, note.text.as_bytes())));
        let cosigner = keys.log(origin)?;
        note.signatures
            .push(cosigner.cosign_ml_dsa(&note, now()).map_err(request)?);
        let [_, second] = cosigner.public().map_err(request)?;

        let (counter, _) = vault.counter(esys)?;
        let (attestation, public) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
        let certified = esys.certify_counter(attestation, counter, &Anchor::qualifying(&note.text))?;
        esys.flush(attestation);
        let anchor = Anchor::new(public.marshall().map_err(malformed)?, certified);
        Ok(Reply::Checkpoint {
            note: note.to_string(),
            anchor: to_hex(&anchor.to_bytes()),
            keys: vec![key.to_string(), second.to_string()],
        })
    }
}

/// SHA-256 of the ML-DSA-44 key that cosigns every log of this host.
pub(crate) fn log_key(keys: &Keys) -> Result<[u8; 32], TpmError> {
    let public = keys.log("any")?.public();
    let [_, key] = public.map_err(|error| TpmError::Request(error.to_string()))?;
    Ok(Sha256::digest(key.public()).into())
}
