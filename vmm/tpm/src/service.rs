//! Requests in, replies out: one line of JSON each, in order, until the input ends.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use referee_attest::{Bundle, Facts, Open, Reply, Request, Spoke};
use referee_evidence::{
    Claims, Content, Cost, CounterReference, Evidence, KeyReference, Measurement, RECEIPT_AAD, Receipt,
    Reference, Submodule, TOKEN_AAD, Token, TpmKind, from_hex, to_hex,
};
use tss_esapi::structures::Public;
use tss_esapi::traits::Marshall as _;
use tss_esapi::tss2_esys::ESYS_TR_RH_ENDORSEMENT;

use crate::commands::malformed;
use crate::error::TpmError;
use crate::esys::Esys;
use crate::measure::Measured;
use crate::registers::Model;
use crate::software::SoftwareTpm;
use crate::state::State;
use crate::templates;
use crate::vault::{InstanceKey, Keys, Vault};

/// Where a TPM's own certificates are (TCG EK Credential Profile 2.5, 2.2.1.4): RSA 2048, P-256, P-384.
const CERTIFICATES: [u32; 3] = [0x01C0_0002, 0x01C0_000A, 0x01C0_0016];
/// Longest request: evidence of many muscles.
const LINE_MAX: u64 = 16 << 20;

/// Serves until the input ends.
///
/// # Errors
/// When input or output fails; what a request asks for fails in its reply.
pub fn serve(mut input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    let mut session = None;
    loop {
        let mut line = String::new();
        if std::io::Read::take(&mut input, LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        output.write_all(&reply(&mut session, &line)?)?;
        output.flush()?;
        scrub_stack();
    }
}

/// The line that a line is answered with. A function of its own, so that its frame is gone when [`scrub_stack`] comes; and it gives text,
/// because a larger value is copied with its unused bytes, in which anything may be.
#[inline(never)]
fn reply(session: &mut Option<Session>, line: &str) -> std::io::Result<Vec<u8>> {
    let reply = serde_json::from_str(line)
        .map_err(|error| TpmError::Request(error.to_string()))
        .and_then(|request| answer(session, request))
        .unwrap_or_else(|error| match error {
            TpmError::Rejected(below) => Reply::Rejected {
                rule: below.rule,
                message: below.message,
            },
            error => Reply::Failed {
                name: error.name().into(),
                message: error.to_string(),
            },
        });
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    Ok(text)
}

/// Overwrites what earlier calls left on the stack below this one: a value that is moved, or passed to the library, leaves copies there
/// that nobody owns.
#[inline(never)]
fn scrub_stack() {
    /// Deeper than anything here goes.
    const DEPTH: usize = 512 << 10;
    let mut below = [0u8; DEPTH];
    std::hint::black_box(&mut below);
}

fn answer(session: &mut Option<Session>, request: Request) -> Result<Reply, TpmError> {
    if let Request::Open(open) = request {
        // One after the other: the software TPM of the first must be asleep before the second is woken.
        *session = None;
        *session = Some(Session::open(*open)?);
        return Ok(Reply::Done);
    }
    if let Request::Restart { tpm } = &request {
        *session = None;
        let Some(directory) = tpm.strip_prefix("swtpm:") else {
            return Err(TpmError::Request(
                "only a software TPM (swtpm:DIR) can be restarted; restart the host".into(),
            ));
        };
        SoftwareTpm::forget_boot(Path::new(directory))?;
        return Ok(Reply::Done);
    }
    let Some(session) = session else {
        return Err(TpmError::Request("the first request must be `open`".into()));
    };
    session.answer(request)
}

struct Session {
    // Dropped before the TPM that it may be a connection of is put to sleep.
    state: State,
    open: Open,
    software: Option<SoftwareTpm>,
}

impl Session {
    fn open(open: Open) -> Result<Session, TpmError> {
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

    fn connect(&self) -> Result<Esys, TpmError> {
        match (&self.software, self.open.tpm.strip_prefix("tcti:")) {
            (Some(software), _) => Esys::open(&software.tcti()),
            (None, Some(tcti)) => Esys::open(tcti),
            (None, None) => Esys::open(&self.open.tpm),
        }
    }

    fn vault(&self, measured: &Measured<'_>) -> Vault<'_> {
        let registers = &self.open.registers;
        Vault::new(
            &self.state,
            self.open.counter,
            registers.identity,
            measured.identity_value(),
        )
    }

    fn answer(&self, request: Request) -> Result<Reply, TpmError> {
        let mut esys = self.connect()?;
        let mut measured = Measured::open(&esys, &self.state, &self.open.registers)?;
        measured.identity(&esys, &self.open.components)?;
        match request {
            Request::Init { replace } => {
                let keys = self.vault(&measured).initialise(&mut esys, replace)?;
                Ok(described(&keys))
            }
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
            Request::Rotate => {
                let vault = self.vault(&measured);
                let keys = vault.open(&mut esys)?;
                Ok(described(&vault.rotate(&mut esys, &keys)?))
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

    fn reference(&self, esys: &mut Esys, measured: &Measured<'_>) -> Result<String, TpmError> {
        let (_, epoch) = self.vault(measured).counter(esys)?;
        let (key, public) = esys.primary(ESYS_TR_RH_ENDORSEMENT, &templates::attestation_key()?)?;
        esys.flush(key);
        let software = self.kind(&esys.model()?) == TpmKind::Software;
        let components = &self.open.components;
        let reference = Reference {
            allow_software_tpm: software,
            allow_resettable_registers: self.open.registers.allow_resettable,
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

    fn kind(&self, model: &Model) -> TpmKind {
        match model.software || self.software.is_some() {
            true => TpmKind::Software,
            false => TpmKind::Hardware,
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

    fn evidence(
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

fn receipt(facts: Facts, epoch: u64) -> Result<Receipt, TpmError> {
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
fn now() -> u64 {
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

fn certificates(esys: &Esys) -> Result<Vec<Vec<u8>>, TpmError> {
    let mut found = Vec::new();
    for index in CERTIFICATES {
        if let Some(index) = esys.find(index)? {
            found.push(esys.nv_contents(index)?);
        }
    }
    Ok(found)
}

fn attestation_name(public: &Public) -> Result<[u8; 34], TpmError> {
    let public = public.marshall().map_err(malformed)?;
    referee_evidence::AttestationKey::parse(&public)
        .map(|key| key.name())
        .map_err(|error| TpmError::Malformed(error.to_string()))
}

fn token(instance: &InstanceKey, aad: &[u8], payload: Vec<u8>) -> Result<Token, TpmError> {
    Token::sign(payload, aad, &instance.public(), |signed| instance.sign(signed))
        .map_err(|error| TpmError::Malformed(error.to_string()))
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

fn bytes(text: &str) -> Result<Vec<u8>, TpmError> {
    from_hex(text).ok_or_else(|| TpmError::Request("not hexadecimal digits".into()))
}
