//! What this host states about itself: evidence, receipts, and the reference that a verifier compares later evidence with.

use std::collections::BTreeMap;

use referee_attest::{Facts, Spoke};
use referee_evidence::{
    Claims, Cost, CounterReference, Evidence, KeyReference, Measurement, Receipt, Reference, Submodule,
    TOKEN_AAD, Token, TpmKind, to_hex,
};
use tss_esapi::structures::Public;
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::ESYS_TR_RH_ENDORSEMENT;

use crate::checkpoints::log_key;
use crate::commands::malformed;
use crate::error::TpmError;
use crate::esys::Esys;
use crate::measure::Measured;
use crate::registers::Model;
use crate::service::bytes;
use crate::session::Session;
use crate::templates;
use crate::vault::InstanceKey;

/// Where a TPM's own certificates are (TCG EK Credential Profile 2.5, 2.2.1.4): RSA 2048, P-256, P-384.
const CERTIFICATES: [u32; 3] = [0x01C0_0002, 0x01C0_000A, 0x01C0_0016];

impl Session {
    pub(crate) fn reference(&self, esys: &mut Esys, measured: &Measured<'_>) -> Result<String, TpmError> {
        let (_, epoch) = self.vault(measured).counter(esys)?;
        let (key, public) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
        esys.flush(key);
        let software = self.kind(&esys.model()?) == TpmKind::Software;
        let components = &self.open.components;
        let reference = Reference {
            allow_software_tpm: software,
            allow_resettable_registers: self.open.registers.allow_resettable,
            require_ml_dsa: true,
            counter: CounterReference {
                index: self.open.counter,
                minimum: epoch,
            },
            base: measured.base_of_bank(),
            identity: components
                .iter()
                .map(|component| (component.name.clone(), vec![to_hex(&component.digest)]))
                .collect(),
            attestation_key: vec![KeyReference {
                name: to_hex(&attestation_name(&public)?),
                software,
            }],
            bundle: measured
                .bundles()?
                .iter()
                .map(|bundle| Measurement {
                    digest: Some(to_hex(&bundle.digest)),
                    ..Measurement::default()
                })
                .collect(),
        };
        reference
            .to_toml()
            .map_err(|error| TpmError::Malformed(error.to_string()))
    }

    pub(crate) fn kind(&self, model: &Model) -> TpmKind {
        match model.software || self.software.is_some() {
            true => TpmKind::Software,
            false => TpmKind::Hardware,
        }
    }

    pub(crate) fn evidence(
        &self,
        esys: &mut Esys,
        measured: &Measured<'_>,
        nonce: Vec<u8>,
        spoke: &BTreeMap<String, Spoke>,
        audit_head: Option<(u64, String)>,
    ) -> Result<Evidence, TpmError> {
        let vault = self.vault(measured);
        let keys = vault.open(esys)?;
        let (counter, epoch) = vault.counter(esys)?;
        let instance = keys.instance();
        let model = esys.model()?;
        let registers = &self.open.registers;
        let audit_head = match audit_head {
            None => None,
            Some((sequence, hash)) => {
                let hash = bytes(&hash)?.try_into();
                let hash =
                    hash.map_err(|_| TpmError::Request("the audit log's hash has not 32 bytes".into()))?;
                Some((sequence, hash))
            }
        };
        let claims = Claims {
            issued_at: now(),
            instance_key: instance.public(),
            nonce,
            submodules: spoke
                .iter()
                .map(|(cell, spoke)| Ok((cell.clone(), submodule(spoke)?)))
                .collect::<Result<_, TpmError>>()?,
            tpm: self.kind(&model),
            tpm_model: model.name,
            identity_pcr: registers.identity,
            muscle_pcr: registers.muscles,
            events: measured.log().events().len() as u64,
            epoch,
            audit_head,
            log_key: Some(log_key(&keys)?),
            ml_dsa_key: instance.both().ml_dsa,
        };
        let token = token(&instance, TOKEN_AAD, claims.to_bytes())?;
        let (key, public) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
        let quote = esys.quote(key, &token.digest(), Measured::BANK, &registers.both())?;
        let certified = esys.certify_counter(key, counter, &token.digest())?;
        esys.flush(key);
        let public = public.marshall().map_err(malformed)?;
        Ok(Evidence::new(
            &token,
            quote,
            certified,
            public,
            certificates(esys)?,
            measured.log(),
        ))
    }
}

pub(crate) fn receipt(facts: Facts, epoch: u64) -> Result<Receipt, TpmError> {
    let log_hash = bytes(&facts.log_hash)?.try_into();
    Ok(Receipt {
        format: 1,
        muscle: facts.bundle.muscle,
        bundle: facts.bundle.digest,
        signer: facts.bundle.signer,
        security_epoch: facts.bundle.epoch,
        grants: facts.grants,
        policy: facts.policy,
        function: facts.function,
        input: facts.input,
        output: facts.output,
        outcome: facts.outcome,
        cost: Cost {
            wall_us: facts.wall_us,
            cpu_us: facts.cpu_us,
            exits: facts.exits,
            heap_bytes: facts.heap_bytes,
        },
        issued_at: now(),
        log_records: facts.log_records,
        log_hash: log_hash.map_err(|_| TpmError::Request("the audit log's hash has not 32 bytes".into()))?,
        nondeterminism: facts.nondeterminism,
        epoch,
    })
}

/// Seconds since 1970, by the host's clock.
pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn submodule(spoke: &Spoke) -> Result<Submodule, TpmError> {
    Ok(Submodule {
        bundle: spoke.bundle.digest,
        muscle: spoke.bundle.muscle.clone(),
        signer: spoke.bundle.signer,
        epoch: spoke.bundle.epoch,
        grants: spoke.grants,
        // Cells cannot be debugged yet.
        debug: false,
        user_data: bytes(&spoke.user_data)?.into(),
        nonce: bytes(&spoke.nonce)?.into(),
        public_key: bytes(&spoke.public_key)?.into(),
    })
}

pub(crate) fn certificates(esys: &Esys) -> Result<Vec<Vec<u8>>, TpmError> {
    let mut found = Vec::new();
    for index in CERTIFICATES {
        if let Some(index) = esys.find(index)? {
            found.push(esys.nv_contents(index)?);
        }
    }
    Ok(found)
}

pub(crate) fn attestation_name(public: &Public) -> Result<[u8; 34], TpmError> {
    let public = public.marshall().map_err(malformed)?;
    referee_evidence::AttestationKey::parse(&public)
        .map(|key| key.name())
        .map_err(|error| TpmError::Malformed(error.to_string()))
}

pub(crate) fn token(instance: &InstanceKey, aad: &[u8], payload: Vec<u8>) -> Result<Token, TpmError> {
    Token::sign(payload, aad, &instance.both(), |algorithm, signed| {
        instance.sign(algorithm, signed)
    })
    .map_err(|error| TpmError::Malformed(error.to_string()))
}
