//! The TPM's endorsement key, and a verifier's challenge to it (Part 1, 24; Part 3, 12.5). Enrolment needs none of Referee's own keys.

use referee_evidence::{Challenge, EnrolmentRequest};
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::ESYS_TR_RH_ENDORSEMENT;
use zeroize::Zeroizing;

use crate::commands::malformed;
use crate::error::TpmError;
use crate::esys::Esys;
use crate::statements::certificates;
use crate::templates;
use crate::vault::storage_root;

/// What a verifier needs to become sure of this TPM's keys.
pub fn enrolment_request(esys: &mut Esys) -> Result<EnrolmentRequest, TpmError> {
    let (key, attestation) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
    esys.flush(key);
    let (key, endorsement) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::endorsement_key()?)?;
    esys.flush(key);
    Ok(EnrolmentRequest::new(
        attestation.marshall().map_err(malformed)?,
        endorsement.marshall().map_err(malformed)?,
        certificates(esys)?,
    ))
}

/// The secret of a challenge.
pub fn activate(esys: &mut Esys, challenge: &Challenge) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let salted_to = storage_root(esys)?;
    let (attestation, _) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
    let (endorsement, _) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::endorsement_key()?)?;
    let session = esys.policy_session(salted_to)?;
    let secret = esys.policy_endorsement(session).and_then(|()| {
        esys.activate_credential(
            attestation,
            endorsement,
            session,
            &challenge.credential,
            &challenge.seed,
        )
    });
    esys.flush(session);
    esys.flush(endorsement);
    esys.flush(attestation);
    secret
}
