//! Measuring: log, flush, extend, and only then run. Whatever does not fit fails closed.
//!
//! A boot's log begins with an event about the boot. Then comes the identity, component by component, once: a VMM that is started
//! again finds it there, and goes on if it is the same. Bundles follow as they are run for the first time.
//!
//! ```text
//!   log on disk            registers                    what it means
//!   n events               are those after n            all is well
//!   n events               are those after n − 1        a crash between flush and extend: the last is extended now
//!   n events of boot b     the TPM's boot is not b      a new boot: that log is put aside
//!   anything else                                       refused: somebody else measured, or changed the log
//! ```

use std::collections::BTreeMap;

use referee_attest::{Component, Registers};
use referee_evidence::{Bank, Content, Event, EventLog, NULL_PCRS_RESETTABLE, PcrValues, from_hex, to_hex};

use crate::error::TpmError;
use crate::esys::Esys;
use crate::registers::Boot;
use crate::state::State;

/// The log and the registers, found to agree.
pub struct Measured<'a> {
    state: &'a State,
    registers: &'a Registers,
    banks: Vec<Bank>,
    log: EventLog,
}

impl<'a> Measured<'a> {
    /// Reads both and makes them agree where a crash left them one event apart.
    ///
    /// # Errors
    /// [`TpmError::LogMismatch`], [`TpmError::Resettable`], and those of the TPM and the files.
    pub fn open(esys: &Esys, state: &'a State, registers: &'a Registers) -> Result<Measured<'a>, TpmError> {
        let resettable = registers
            .both()
            .into_iter()
            .find(|pcr| NULL_PCRS_RESETTABLE.contains(pcr));
        if let Some(pcr) = resettable
            && !registers.allow_resettable
        {
            return Err(TpmError::Resettable(pcr));
        }
        let measured = Measured {
            state,
            registers,
            banks: esys.banks()?,
            log: state.log()?,
        };
        let boot = esys.boot()?;
        let known = known_boot(&measured.log);
        if known.is_none_or(|known| known.resets != boot.resets) {
            return measured.begin(esys, known, boot);
        }
        let count = measured.log.events().len();
        if measured.agrees(esys, count)? {
            return Ok(measured);
        }
        if let Some(last) = measured.log.events().last()
            && measured.agrees(esys, count - 1)?
        {
            measured.extend(esys, last)?;
            return Ok(measured);
        }
        // A TPM that was restarted without being reset has its registers again as they were before the log, or at zero.
        if known != Some(boot) && (measured.agrees(esys, 0)? || measured.all_zero(esys)?) {
            return measured.begin(esys, known, boot);
        }
        Err(TpmError::LogMismatch {
            path: state.log_path(),
            pcr: measured.first_difference(esys, count)?,
        })
    }

    /// The events.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// The TPM's reset and restart counts when the log began.
    pub fn boot(&self) -> String {
        match known_boot(&self.log) {
            Some(boot) => format!("{} {}", boot.resets, boot.restarts),
            None => String::new(),
        }
    }

    /// Measures the identity where it is not measured yet.
    ///
    /// # Errors
    /// [`TpmError::IdentityDiffers`] when another is.
    pub fn identity(&mut self, esys: &Esys, components: &[Component]) -> Result<(), TpmError> {
        let known: Vec<Content> = self.contents(Content::COMPONENT)?;
        let wanted: Vec<Content> = components.iter().map(component).collect();
        let differs = |wanted: &&Content| !known.contains(wanted);
        // A crash may have left only the first of them, but then nothing has run.
        let unfinished = known.len() < wanted.len() && self.bundles()?.is_empty();
        if !(known == wanted || (unfinished && wanted.starts_with(&known))) {
            let names: Vec<&str> = wanted
                .iter()
                .filter(differs)
                .map(|content| content.name.as_str())
                .collect();
            let components = if names.is_empty() {
                "set of components".to_owned()
            } else {
                names.join(", ")
            };
            return Err(TpmError::IdentityDiffers { components });
        }
        for content in wanted.iter().skip(known.len()) {
            self.add(esys, self.registers.identity, content)?;
        }
        Ok(())
    }

    /// Measures a bundle unless this boot has it already.
    ///
    /// # Errors
    /// Those of the TPM and the files; the bundle must then not run.
    pub fn bundle(&mut self, esys: &Esys, content: &Content) -> Result<bool, TpmError> {
        if self.bundles()?.contains(content) {
            return Ok(false);
        }
        self.add(esys, self.registers.muscles, content)?;
        Ok(true)
    }

    /// The bank that is quoted and sealed to.
    pub const BANK: Bank = Bank::Sha256;

    /// Value of the identity's register, by the log.
    pub fn identity_value(&self) -> Vec<u8> {
        let base = self.base(Self::BANK);
        let values = self.log.replay(Self::BANK, &base, self.log.events().len());
        values
            .get(&self.registers.identity)
            .cloned()
            .unwrap_or_else(|| Self::BANK.zero())
    }

    /// Value that the identity's register will have when these components are measured into it first after the host's next start.
    pub fn identity_value_of(&self, components: &[Component]) -> Vec<u8> {
        let mut log = EventLog::default();
        for content in components.iter().map(component) {
            log.push(log.next(self.registers.identity, &content, &[Self::BANK]));
        }
        let values = log.replay(Self::BANK, &self.base(Self::BANK), components.len());
        values
            .get(&self.registers.identity)
            .cloned()
            .unwrap_or_else(|| Self::BANK.zero())
    }

    /// Bundles of this boot.
    ///
    /// # Errors
    /// [`TpmError::LogBroken`].
    pub fn bundles(&self) -> Result<Vec<Content>, TpmError> {
        self.contents(Content::BUNDLE)
    }

    /// What the quoted bank's registers had in them when the log began, where that is not zero, for a verifier.
    pub fn base_of_bank(&self) -> BTreeMap<String, String> {
        let base = self.base(Self::BANK).into_iter();
        base.filter(|(_, value)| *value != Self::BANK.zero())
            .map(|(pcr, value)| (pcr.to_string(), to_hex(&value)))
            .collect()
    }

    fn contents(&self, kind: &str) -> Result<Vec<Content>, TpmError> {
        let content = |event: &Event| event.content().map_err(|error| self.broken(error.to_string()));
        let contents: Result<Vec<Content>, TpmError> = self.log.events().iter().map(content).collect();
        Ok(contents?
            .into_iter()
            .filter(|content| content.kind == kind)
            .collect())
    }

    fn broken(&self, why: String) -> TpmError {
        TpmError::LogBroken {
            path: self.state.log_path(),
            why,
        }
    }

    /// Begins the log of this boot.
    fn begin(mut self, esys: &Esys, before: Option<Boot>, boot: Boot) -> Result<Measured<'a>, TpmError> {
        if let Some(before) = before {
            self.state
                .archive_log(&format!("{}-{}", before.resets, before.restarts))?;
        }
        self.log = EventLog::default();
        let mut detail = BTreeMap::from([
            ("resets".to_owned(), boot.resets.to_string()),
            ("restarts".to_owned(), boot.restarts.to_string()),
        ]);
        for bank in &self.banks {
            for (pcr, value) in esys.registers(*bank, &self.registers.both())? {
                if value != bank.zero() {
                    detail.insert(base_key(*bank, pcr), to_hex(&value));
                }
            }
        }
        let counts = format!("{} {}", boot.resets, boot.restarts);
        let content = Content {
            kind: Content::BOOT.into(),
            name: "tpm".into(),
            digest: sha256(counts.as_bytes()),
            detail,
        };
        self.add(esys, self.registers.muscles, &content)?;
        Ok(self)
    }

    fn add(&mut self, esys: &Esys, pcr: u32, content: &Content) -> Result<(), TpmError> {
        let event = self.log.next(pcr, content, &self.banks);
        self.state.append(&event)?;
        self.extend(esys, &event)?;
        self.log.push(event);
        Ok(())
    }

    fn extend(&self, esys: &Esys, event: &Event) -> Result<(), TpmError> {
        esys.extend(event.pcr(), event.content_bytes())
    }

    fn agrees(&self, esys: &Esys, count: usize) -> Result<bool, TpmError> {
        for bank in &self.banks {
            if esys.registers(*bank, &self.registers.both())?
                != self.log.replay(*bank, &self.base(*bank), count)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn all_zero(&self, esys: &Esys) -> Result<bool, TpmError> {
        for bank in &self.banks {
            let values = esys.registers(*bank, &self.registers.both())?;
            if values.values().any(|value| *value != bank.zero()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn first_difference(&self, esys: &Esys, count: usize) -> Result<u32, TpmError> {
        for bank in &self.banks {
            let replayed = self.log.replay(*bank, &self.base(*bank), count);
            for (pcr, value) in esys.registers(*bank, &self.registers.both())? {
                if replayed.get(&pcr) != Some(&value) {
                    return Ok(pcr);
                }
            }
        }
        Ok(self.registers.identity)
    }

    /// What the registers had in them when the log began, by its first event.
    fn base(&self, bank: Bank) -> PcrValues {
        let first = self.log.events().first().and_then(|event| event.content().ok());
        let value = |pcr: u32| {
            let text = first
                .as_ref()
                .and_then(|first| first.detail.get(&base_key(bank, pcr)));
            text.and_then(|text| from_hex(text))
                .unwrap_or_else(|| bank.zero())
        };
        self.registers
            .both()
            .into_iter()
            .map(|pcr| (pcr, value(pcr)))
            .collect()
    }
}

fn base_key(bank: Bank, pcr: u32) -> String {
    format!("base.{}.{pcr}", bank.name())
}

fn component(component: &Component) -> Content {
    Content {
        kind: Content::COMPONENT.into(),
        name: component.name.clone(),
        digest: component.digest,
        detail: BTreeMap::new(),
    }
}

fn known_boot(log: &EventLog) -> Option<Boot> {
    let first = log.events().first()?.content().ok()?;
    let count = |key: &str| first.detail.get(key)?.parse().ok();
    (first.kind == Content::BOOT).then_some(())?;
    Some(Boot {
        resets: count("resets")?,
        restarts: count("restarts")?,
    })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}
