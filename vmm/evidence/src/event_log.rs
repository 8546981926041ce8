//! The events that the registers are made of, in the information model of the TCG Canonical Event Log (version 1.0): record number,
//! register, digests, content. A log is a CBOR sequence (RFC 8742) of records; [`EventLog::to_json`] exports it.
//!
//! ```text
//!   record  = { 0: number, 1: register, 3: { TPM_ALG_ID: digest, … }, 4: content in bytes }
//!   content = { 0: kind, 1: name, 2: SHA-256 of what is measured, 3: more about it }
//!   digest  = H(content in bytes), in each bank's algorithm;  register = H(register ‖ digest)
//! ```

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384};

use crate::error::{Malformed, encode};
use crate::hex::to_hex;

/// A bank of registers, by its hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Bank {
    /// SHA-256.
    Sha256 = 0x000B,
    /// SHA-384.
    Sha384 = 0x000C,
}

impl Bank {
    /// Every bank that this version knows.
    pub const ALL: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

    /// TPM_ALG_ID (TCG Algorithm Registry).
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// As `tpm2-tools` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Bank::Sha256 => "sha256",
            Bank::Sha384 => "sha384",
        }
    }

    /// The bank with this number.
    pub fn from_number(number: u16) -> Option<Bank> {
        Bank::ALL.into_iter().find(|bank| bank.number() == number)
    }

    /// Hashes bytes.
    pub fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Bank::Sha256 => Sha256::digest(bytes).to_vec(),
            Bank::Sha384 => Sha384::digest(bytes).to_vec(),
        }
    }

    /// What a register becomes when it is extended by a digest (Part 3, 22.2).
    pub fn extend(self, register: &[u8], digest: &[u8]) -> Vec<u8> {
        self.hash(&[register, digest].concat())
    }

    /// A register that nothing was measured into.
    pub fn zero(self) -> Vec<u8> {
        vec![0; self.hash(&[]).len()]
    }
}

/// Values of registers of one bank.
pub type PcrValues = BTreeMap<u32, Vec<u8>>;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Content {
    /// `boot`, `component` or `bundle`.
    #[n(0)]
    pub kind: String,
    /// Which one: `vmm`, `policy`, `thumbnail 1.0.0`.
    #[n(1)]
    pub name: String,
    /// SHA-256 of what is measured.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// More about it: a bundle's signer and security epoch, a boot's counts.
    #[n(3)]
    pub detail: BTreeMap<String, String>,
}

impl Content {
    /// The boot in which a log begins; its digest is over the counts.
    pub const BOOT: &'static str = "boot";
    /// A part of what enforces the rules.
    pub const COMPONENT: &'static str = "component";
    /// A muscle's bundle.
    pub const BUNDLE: &'static str = "bundle";
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Event {
    #[n(0)]
    number: u64,
    #[n(1)]
    pcr: u32,
    #[n(3)]
    digests: BTreeMap<u16, ByteVec>,
    #[n(4)]
    content: ByteVec,
}

impl Event {
    /// Makes the record that follows `number` others.
    pub fn new(number: u64, pcr: u32, content: &Content, banks: &[Bank]) -> Event {
        let content = encode(content);
        let digests = banks
            .iter()
            .map(|bank| (bank.number(), bank.hash(&content).into()))
            .collect();
        Event {
            number,
            pcr,
            digests,
            content: content.into(),
        }
    }

    /// The register.
    pub fn pcr(&self) -> u32 {
        self.pcr
    }

    /// The digest for a bank.
    pub fn digest(&self, bank: Bank) -> Option<&[u8]> {
        self.digests.get(&bank.number()).map(|digest| digest.as_slice())
    }

    /// Banks that the record has digests for.
    pub fn banks(&self) -> Vec<Bank> {
        self.digests
            .keys()
            .filter_map(|number| Bank::from_number(*number))
            .collect()
    }

    /// What is hashed.
    pub fn content_bytes(&self) -> &[u8] {
        &self.content
    }

    /// What was measured.
    ///
    /// # Errors
    /// [`Malformed`], and when a digest is not that of the content.
    pub fn content(&self) -> Result<Content, Malformed> {
        let document = "event";
        for (number, digest) in &self.digests {
            let bank = Bank::from_number(*number)
                .ok_or_else(|| Malformed::new(document, format!("unknown hash algorithm {number:#06x}")))?;
            if bank.hash(&self.content) != **digest {
                return Err(Malformed::new(
                    document,
                    format!(
                        "record {}: its {} digest is not that of its content",
                        self.number,
                        bank.name()
                    ),
                ));
            }
        }
        crate::error::decode(document, &self.content)
    }

    /// The record in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Records of one boot, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventLog(Vec<Event>);

impl EventLog {
    /// Most records of one log.
    pub const EVENTS_MAX: usize = 1 << 20;

    /// Reads every whole record; what is left of one that was being written is given back as its length in bytes.
    ///
    /// # Errors
    /// [`Malformed`] when a record's number, form or digests are wrong.
    pub fn parse(bytes: &[u8]) -> Result<(EventLog, usize), Malformed> {
        let mut events: Vec<Event> = Vec::new();
        let mut decoder = minicbor::Decoder::new(bytes);
        while decoder.position() < bytes.len() {
            let start = decoder.position();
            let event: Event = match decoder.decode() {
                Ok(event) => event,
                Err(error) if error.is_end_of_input() => return Ok((EventLog(events), bytes.len() - start)),
                Err(error) => {
                    return Err(Malformed::new(
                        "event log",
                        format!("record {}: offset {start}: {error}", events.len()),
                    ));
                }
            };
            if encode(&event) != bytes[start..decoder.position()] {
                return Err(Malformed::new(
                    "event log",
                    format!("record {}: not in its deterministic form", events.len()),
                ));
            }
            if event.number != events.len() as u64 || events.len() >= EventLog::EVENTS_MAX {
                return Err(Malformed::new(
                    "event log",
                    format!("record {} says that it is {}", events.len(), event.number),
                ));
            }
            event.content()?;
            events.push(event);
        }
        Ok((EventLog(events), 0))
    }

    /// The records.
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// Adds a record.
    pub fn push(&mut self, event: Event) {
        self.0.push(event);
    }

    /// Makes the next record.
    pub fn next(&self, pcr: u32, content: &Content, banks: &[Bank]) -> Event {
        Event::new(self.0.len() as u64, pcr, content, banks)
    }

    /// Takes the last record off.
    pub fn pop(&mut self) -> Option<Event> {
        self.0.pop()
    }

    /// Values that the registers of `base` have after the first `count` records, when they began as `base` says.
    pub fn replay(&self, bank: Bank, base: &PcrValues, count: usize) -> PcrValues {
        let mut values = base.clone();
        for event in self.0.iter().take(count) {
            if let (Some(value), Some(digest)) = (values.get_mut(&event.pcr), event.digest(bank)) {
                *value = bank.extend(value, digest);
            }
        }
        values
    }

    /// The log in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(Event::to_bytes).collect()
    }

    /// The log as the specification's JSON encoding has it, contents under the name `referee`.
    pub fn to_json(&self) -> Value {
        let record = |event: &Event| {
            let digests: Vec<Value> = event
                .digests
                .iter()
                .map(|(number, digest)| {
                    let name = Bank::from_number(*number).map_or("unknown", Bank::name);
                    json!({ "hashAlg": name, "digest": to_hex(digest) })
                })
                .collect();
            let content = event.content().map_or(Value::Null, |content| {
                json!({ "kind": content.kind, "name": content.name, "digest": to_hex(&content.digest), "detail": content.detail })
            });
            json!({
                "recnum": event.number, "pcr": event.pcr, "digests": digests, "content_type": "referee",
                "content": content, "content_bytes": to_hex(&event.content),
            })
        };
        Value::Array(self.0.iter().map(record).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(name: &str) -> Content {
        Content {
            kind: Content::BUNDLE.into(),
            name: name.into(),
            digest: [7; 32],
            detail: BTreeMap::from([("signer".into(), "abc".into())]),
        }
    }

    fn log(names: &[String]) -> EventLog {
        let mut log = EventLog::default();
        for name in names {
            log.push(log.next(13, &content(name), &Bank::ALL));
        }
        log
    }

    proptest! {
        #[test]
        fn a_log_survives_a_round_trip_and_a_torn_tail_is_measured(
            names in proptest::collection::vec("[a-z]{0,12}", 1..6), cut in any::<proptest::sample::Index>()
        ) {
            let log = log(&names);
            let bytes = log.to_bytes();
            prop_assert_eq!(EventLog::parse(&bytes), Ok((log.clone(), 0)));
            let cut = cut.index(bytes.len());
            let (whole, torn) = EventLog::parse(&bytes[..cut]).expect("a cut log is a shorter one");
            let kept = whole.to_bytes();
            prop_assert_eq!(kept.len() + torn, cut);
            prop_assert!(bytes.starts_with(&kept));
        }

        #[test]
        fn a_changed_byte_is_an_error_or_another_log(names in proptest::collection::vec("[a-z]{0,12}", 1..4),
            at in any::<proptest::sample::Index>(), bit in 0u8..8
        ) {
            let log = log(&names);
            let mut bytes = log.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok((changed, 0)) = EventLog::parse(&bytes) {
                prop_assert_ne!(changed, log);
            }
        }
    }

    #[test]
    fn registers_are_what_the_specification_says() {
        // Part 3, 22.2: PCR.new = H(PCR.old || digest).
        let log = log(&["a".into()]);
        let digest = log.events()[0].digest(Bank::Sha256).expect("has one").to_vec();
        let by_hand = Sha256::digest([vec![0; 32], digest].concat()).to_vec();
        let base = PcrValues::from([(13, Bank::Sha256.zero()), (14, vec![9; 32])]);
        assert_eq!(
            log.replay(Bank::Sha256, &base, 1),
            PcrValues::from([(13, by_hand), (14, vec![9; 32])])
        );
        assert_eq!(log.replay(Bank::Sha256, &base, 0), base);
    }
}
