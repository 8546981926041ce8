//! What a relying party holds to be good: a TOML file of its own. `referee-vmm tpm reference` prints one for a host as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Malformed;
use crate::event_log::{Bank, Content, PcrValues};
use crate::hex::from_hex;
use crate::tpm::name;

/// TPMA_NV of the anti-rollback counter once it was written: AUTHWRITE, COUNTER, OWNERREAD, AUTHREAD, NO_DA, WRITTEN; neither
/// ORDERLY, which a crash turns back, nor CLEAR_STCLEAR (Part 2, 13.4).
pub const COUNTER_ATTRIBUTES: u32 = 1 << 2 | 1 << 4 | 1 << 17 | 1 << 18 | 1 << 25 | 1 << 29;

/// Name of a counter at this index with our attributes; another index, or one defined otherwise, has another.
pub fn counter_name(index: u32) -> [u8; 34] {
    let mut public = Vec::with_capacity(14);
    public.extend(index.to_be_bytes());
    public.extend(Bank::Sha256.number().to_be_bytes());
    public.extend(COUNTER_ATTRIBUTES.to_be_bytes());
    // No policy; eight bytes of data.
    public.extend(0u16.to_be_bytes());
    public.extend(8u16.to_be_bytes());
    name(&public)
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Whether a TPM that is a program of the host will do.
    #[serde(default)]
    pub allow_software_tpm: bool,
    /// Whether registers will do that software can set back.
    #[serde(default)]
    pub allow_resettable_registers: bool,
    /// Whether the instance key must have a second half, ML-DSA-65.
    #[serde(default)]
    pub require_ml_dsa: bool,
    /// The anti-rollback counter.
    #[serde(default)]
    pub counter: CounterReference,
    /// What registers had in them before the first event, in hexadecimal digits; zero where nothing is said.
    #[serde(default)]
    pub base: BTreeMap<String, String>,
    /// Good values of each component, by its name; any of them will do.
    pub identity: BTreeMap<String, Vec<String>>,
    /// Attestation keys that are known to be in a TPM.
    #[serde(default)]
    pub attestation_key: Vec<KeyReference>,
    /// Bundles that may have run; each event must fit one of them.
    #[serde(default)]
    pub bundle: Vec<Measurement>,
}

/// An attestation key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyReference {
    /// Its TPM name, in hexadecimal digits.
    pub name: String,
    /// Whether its TPM is a program of the host.
    pub software: bool,
}

/// The counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterReference {
    /// NV index.
    pub index: u32,
    /// Least epoch.
    pub minimum: u64,
}

impl Default for CounterReference {
    fn default() -> CounterReference {
        CounterReference {
            index: 0x0180_0100,
            minimum: 1,
        }
    }
}

/// A bundle; what is left out may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// SHA-256 of the file.
    pub digest: Option<String>,
    /// Name without version.
    pub muscle: Option<String>,
    /// Key id of the signer.
    pub signer: Option<String>,
    /// Least security epoch.
    pub minimum_epoch: Option<u64>,
}

impl Measurement {
    /// Whether a bundle's event fits.
    pub fn fits(&self, digest: &str, content: &Content) -> bool {
        let detail = |key: &str| content.detail.get(key).map(String::as_str);
        let muscle = content.name.split(' ').next();
        let epoch = detail("epoch").and_then(|epoch| epoch.parse::<u64>().ok());
        self.digest.as_deref().is_none_or(|wanted| wanted == digest)
            && self.muscle.as_deref().is_none_or(|wanted| Some(wanted) == muscle)
            && self
                .signer
                .as_deref()
                .is_none_or(|wanted| Some(wanted) == detail("signer"))
            && self
                .minimum_epoch
                .is_none_or(|least| epoch.is_some_and(|epoch| epoch >= least))
    }
}

impl Reference {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Malformed`] with line and field.
    pub fn parse(text: &str) -> Result<Reference, Malformed> {
        toml::from_str(text).map_err(|error| Malformed::new("reference", error.to_string()))
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`Malformed`] when it cannot be written as TOML; no value of this type is known to make it.
    pub fn to_toml(&self) -> Result<String, Malformed> {
        toml::to_string(self).map_err(|error| Malformed::new("reference", error.to_string()))
    }

    /// Values that these registers began with.
    ///
    /// # Errors
    /// [`Malformed`] when a value is no digest of the bank.
    pub fn base(&self, bank: Bank, pcrs: &[u32]) -> Result<PcrValues, Malformed> {
        let value = |pcr: &u32| match self.base.get(&pcr.to_string()) {
            None => Ok((*pcr, bank.zero())),
            Some(text) => from_hex(text)
                .filter(|value| value.len() == bank.zero().len())
                .map(|value| (*pcr, value))
                .ok_or_else(|| {
                    Malformed::new(
                        "reference",
                        format!("base of register {pcr} is no {} digest", bank.name()),
                    )
                }),
        };
        pcrs.iter().map(value).collect()
    }
}
