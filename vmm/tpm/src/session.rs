//! One TPM and what this host is, for as long as the VMM asks about it. Every request sees first to it that log, registers and identity
//! agree.

use std::path::{Path, PathBuf};

use referee_attest::{Bundle, Open, Reply, Request};
use referee_evidence::{Challenge, Content, RECEIPT_AAD, TpmKind, to_hex};
use referee_tlog::{TreeHash, TreeHead};
use tss_esapi::tss2_esys::ESYS_TR_RH_ENDORSEMENT;
use zeroize::Zeroizing;

use crate::enrolment::{activate, enrolment_request};
use crate::error::TpmError;
use crate::esys::Esys;
use crate::measure::Measured;
use crate::service::bytes;
use crate::software::SoftwareTpm;
use crate::state::State;
use crate::statements::{attestation_name, now, receipt, token};
use crate::templates;
use crate::vault::{Keys, Vault};

/// A TPM, its state, and what the VMM said about this host.
pub struct Session {
    // Dropped before the TPM that it may be a connection of is put to sleep.
    state: State,
    pub(crate) open: Open,
    pub(crate) software: Option<SoftwareTpm>,
}

impl Session {
    pub(crate) fn open(open: Open) -> Result<Session, TpmError> {
        let software = match open.tpm.strip_prefix("swtpm:") {
            Some(directory) => Some(SoftwareTpm::start(Path::new(directory))?),
            None => None,
        };
        let directory = match (&open.state, open.tpm.strip_prefix("swtpm:")) {
            (Some(state), _) => state.clone(),
            (None, Some(directory)) => Path::new(directory).join("referee"),
            (None, None) => PathBuf::from("/var/lib/referee/tpm"),
        };
        Ok(Session {
            state: State::open(&directory)?,
            open,
            software,
        })
    }

    /// Where log and sealed files are.
    pub(crate) fn directory(&self) -> &State {
        &self.state
    }

    fn connect(&self) -> Result<Esys, TpmError> {
        match (&self.software, self.open.tpm.strip_prefix("tcti:")) {
            (Some(software), _) => Esys::open(&software.tcti()),
            (None, Some(tcti)) => Esys::open(tcti),
            (None, None) => Esys::open(&self.open.tpm),
        }
    }

    pub(crate) fn vault(&self, measured: &Measured<'_>) -> Vault<'_> {
        let registers = &self.open.registers;
        Vault::new(
            &self.state,
            self.open.counter,
            registers.identity,
            measured.identity_value(),
            self.software.as_ref(),
        )
    }

    pub(crate) fn answer(&self, request: Request) -> Result<Reply, TpmError> {
        let mut esys = self.connect()?;
        let mut measured = Measured::open(&esys, &self.state, &self.open.registers)?;
        measured.identity(&esys, &self.open.components)?;
        match request {
            Request::Init { replace } => {
                let keys = self.vault(&measured).initialise(&mut esys, replace)?;
                Ok(described(&keys))
            }
            Request::Identify => Ok(Reply::Identified {
                boot: measured.boot(),
            }),
            Request::Measure { bundle, to_be_signed } => {
                self.above_floors(&mut esys, &measured, &bundle, to_be_signed)?;
                let first = measured.bundle(&esys, &content(&bundle))?;
                Ok(Reply::Measured { first })
            }
            Request::Receipt { facts } => {
                let keys = self.vault(&measured).open(&mut esys)?;
                let receipt = receipt(*facts, keys.epoch)?;
                let token = token(&keys.instance(), RECEIPT_AAD, receipt.to_bytes())?;
                Ok(Reply::Bytes {
                    bytes: to_hex(&token.to_bytes()),
                })
            }
            Request::Rotate { older_than } => {
                let vault = self.vault(&measured);
                let keys = vault.open(&mut esys)?;
                let age = now().saturating_sub(keys.floors.rotated_at());
                if older_than.is_some_and(|seconds| age < seconds) {
                    return Ok(described(&keys));
                }
                Ok(described(&vault.rotate(&mut esys, &keys)?))
            }
            Request::SetRecovery { public } => {
                let vault = self.vault(&measured);
                let keys = vault.open(&mut esys)?;
                let public = public.map(|public| key_bytes(&public)).transpose()?;
                let floors = keys.floors.with_recovery(public);
                Ok(described(&vault.raise(&mut esys, &keys, floors)?))
            }
            Request::Recover { private } => {
                let private = Zeroizing::new(key_bytes(&Zeroizing::new(private))?);
                Ok(described(&self.vault(&measured).recover(&mut esys, &*private)?))
            }
            Request::Enrol => Ok(Reply::Bytes {
                bytes: to_hex(&enrolment_request(&mut esys)?.to_bytes()),
            }),
            Request::Activate { challenge } => {
                let challenge = Challenge::parse(&bytes(&challenge)?);
                let challenge = challenge.map_err(|error| TpmError::Request(error.to_string()))?;
                let secret = activate(&mut esys, &challenge)?;
                Ok(Reply::Bytes {
                    bytes: to_hex(&secret),
                })
            }
            Request::LogFloor { origin } => {
                let keys = self.vault(&measured).open(&mut esys)?;
                Ok(Reply::LogFloor {
                    size: keys.floors.log(&origin).size,
                })
            }
            Request::Checkpoint {
                origin,
                size,
                root,
                proof,
            } => {
                let head = TreeHead {
                    size,
                    root: tree_hash(&root)?,
                };
                let proof: Vec<TreeHash> = proof
                    .iter()
                    .map(|hash| tree_hash(hash))
                    .collect::<Result<_, _>>()?;
                self.checkpoint(&mut esys, &measured, &origin, head, &proof)
            }
            Request::LoadState { owner, epoch } => self.load_state(&mut esys, &measured, &owner, epoch),
            Request::SaveState {
                owner,
                bundle,
                after,
                bytes,
            } => {
                let bytes = Zeroizing::new(bytes);
                self.save_state(&mut esys, &measured, &owner, &bundle, after, &bytes)
            }
            Request::ForgetState { owner } => {
                Ok(described(&self.forget_state(&mut esys, &measured, &owner)?))
            }
            Request::PrepareUpdate { components } => {
                let vault = self.vault(&measured);
                let keys = vault.open(&mut esys)?;
                vault.prepare(&mut esys, &keys, &measured.identity_value_of(&components))?;
                Ok(described(&keys))
            }
            Request::Status => {
                let keys = self.vault(&measured).open(&mut esys)?;
                let (_, public) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
                let model = esys.model()?;
                Ok(Reply::Status {
                    epoch: keys.epoch,
                    instance_key: to_hex(&keys.instance().public()),
                    attestation_key: to_hex(&attestation_name(&public)?),
                    software: self.kind(&model) == TpmKind::Software,
                    model: model.name,
                    states: keys.floors.kept_states(),
                    events: measured.log().to_json(),
                })
            }
            Request::Reference => {
                let text = self.reference(&mut esys, &measured)?;
                Ok(Reply::Text { text })
            }
            Request::Evidence {
                nonce,
                spoke,
                audit_head,
            } => {
                let evidence = self.evidence(&mut esys, &measured, bytes(&nonce)?, &spoke, audit_head)?;
                Ok(Reply::Bytes {
                    bytes: to_hex(&evidence.to_bytes()),
                })
            }
            Request::Open(_) | Request::Restart { .. } => Err(TpmError::Request("out of order".into())),
        }
    }

    /// Refuses what is older than what ran here before, and raises the floors to what runs now. A TPM without a key of Referee's
    /// measures only.
    fn above_floors(
        &self,
        esys: &mut Esys,
        measured: &Measured<'_>,
        bundle: &Bundle,
        key_needed: bool,
    ) -> Result<(), TpmError> {
        let vault = self.vault(measured);
        let keys = match vault.open(esys) {
            Err(TpmError::NotInitialised) if !key_needed => return Ok(()),
            opened => opened?,
        };
        let mut floors = keys.floors.clone();
        if let Some(raised) = floors
            .with_trust(self.open.trust_version)
            .map_err(TpmError::Rejected)?
        {
            floors = raised;
        }
        if let Some(raised) = floors.with_bundle(bundle).map_err(TpmError::Rejected)? {
            floors = raised;
        }
        if floors != keys.floors {
            vault.raise(esys, &keys, floors)?;
        }
        Ok(())
    }
}

/// 32 bytes of a key.
fn key_bytes(text: &str) -> Result<[u8; 32], TpmError> {
    let bytes = Zeroizing::new(bytes(text)?);
    <[u8; 32]>::try_from(&bytes[..]).map_err(|_| TpmError::Request("a recovery key has 32 bytes".into()))
}

fn tree_hash(text: &str) -> Result<TreeHash, TpmError> {
    let bytes = bytes(text)?.try_into();
    bytes
        .map(TreeHash)
        .map_err(|_| TpmError::Request("a hash of a tree has 32 bytes".into()))
}

fn described(keys: &Keys) -> Reply {
    Reply::Keys {
        epoch: keys.epoch,
        instance_key: to_hex(&keys.instance().public()),
    }
}

fn content(bundle: &Bundle) -> Content {
    Content {
        kind: Content::BUNDLE.into(),
        name: bundle.muscle.clone(),
        digest: bundle.digest,
        detail: [
            ("epoch".to_owned(), bundle.epoch.to_string()),
            ("signer".to_owned(), to_hex(&bundle.signer)),
        ]
        .into(),
    }
}
