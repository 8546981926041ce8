//! A receipt: what one run or call was, signed by the instance key that evidence vouches for.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::claims::{InstanceKey, Token};
use crate::error::{Malformed, decode, encode};
use crate::event_log::Content;
use crate::evidence::Evidence;
use crate::hex::to_hex;
use crate::report::Report;

/// What every signature of a receipt is also over, so that no other signature of the key can be taken for one.
pub const RECEIPT_AAD: &[u8] = b"referee receipt 1";

/// What was used.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Cost {
    /// Wall-clock time in microseconds.
    #[n(0)]
    pub wall_us: u64,
    /// CPU time in microseconds.
    #[n(1)]
    pub cpu_us: u64,
    /// Exits of the guest.
    #[n(2)]
    pub exits: u64,
    /// Heap in bytes.
    #[n(3)]
    pub heap_bytes: u64,
}

/// A receipt's claims.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Receipt {
    /// Version of the format, 1.
    #[n(0)]
    pub format: u32,
    /// Name and version.
    #[n(1)]
    pub muscle: String,
    /// SHA-256 of the bundle.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub bundle: [u8; 32],
    /// Key id of its signer.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub signer: [u8; 32],
    /// Its security epoch.
    #[n(4)]
    pub security_epoch: u64,
    /// SHA-256 of what was granted, with its arguments.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub grants: [u8; 32],
    /// SHA-256 of the policies.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub policy: [u8; 32],
    /// The function that was called; none for `main`.
    #[n(7)]
    pub function: Option<String>,
    /// SHA-256 of all that came in.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub input: [u8; 32],
    /// SHA-256 of all that went out.
    #[n(9)]
    #[cbor(with = "minicbor::bytes")]
    pub output: [u8; 32],
    /// How it ended: `exited 0`, `answered`, `fault page-fault`.
    #[n(10)]
    pub outcome: String,
    /// What it used.
    #[n(11)]
    pub cost: Cost,
    /// When it was signed, in seconds since 1970, by the host's clock.
    #[n(12)]
    pub issued_at: u64,
    /// How many records the audit log has after the last one of this run, and that one's hash.
    #[n(13)]
    pub log_records: u64,
    /// Hash of that record.
    #[n(14)]
    #[cbor(with = "minicbor::bytes")]
    pub log_hash: [u8; 32],
    /// Granted powers through which something came in that another run would not get.
    #[n(15)]
    pub nondeterminism: Vec<String>,
    /// Value of the anti-rollback counter when it was signed.
    #[n(16)]
    pub epoch: u64,
}

impl Receipt {
    /// The claims in bytes, to be signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the claims of a signed receipt, whoever signed it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn of(token: &Token) -> Result<Receipt, Malformed> {
        let receipt: Receipt = decode("receipt", token.payload())?;
        match receipt.format {
            1 => Ok(receipt),
            other => Err(Malformed::new(
                "receipt",
                format!("format {other}; this program reads format 1"),
            )),
        }
    }

    /// Whether the run could be repeated, as far as its powers go.
    pub fn is_deterministic(&self) -> bool {
        self.nondeterminism.is_empty()
    }

    /// As people and machines read it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "muscle": self.muscle, "bundle": to_hex(&self.bundle), "signer": to_hex(&self.signer),
            "security_epoch": self.security_epoch, "grants": to_hex(&self.grants), "policy": to_hex(&self.policy),
            "function": self.function, "input": to_hex(&self.input), "output": to_hex(&self.output), "outcome": self.outcome,
            "cost": self.cost, "issued_at": self.issued_at, "log_records": self.log_records, "log_hash": to_hex(&self.log_hash),
            "deterministic": self.is_deterministic(), "nondeterminism": self.nondeterminism, "epoch": self.epoch,
        })
    }
}

/// Checks that a receipt is by this instance key, and adds the findings.
///
/// Whose key that is must come from evidence that holds, or be known otherwise.
pub fn check_receipt(report: &mut Report, bytes: &[u8], instance_key: &InstanceKey) -> Option<Receipt> {
    let signed = Token::parse(bytes).and_then(|token| {
        let receipt = Receipt::of(&token)?;
        token.verify(RECEIPT_AAD, instance_key)?;
        let shown = format!("{} {}", receipt.muscle, receipt.outcome);
        Ok((receipt, shown))
    });
    report.note("receipt", signed)
}

/// Checks that the bundle of a receipt is among those that evidence says ran.
pub fn check_receipt_fits(report: &mut Report, receipt: &Receipt, evidence: &Evidence) {
    let fits = || {
        let ran = |content: &Content| content.kind == Content::BUNDLE && content.digest == receipt.bundle;
        let log = evidence.event_log()?;
        match log
            .events()
            .iter()
            .filter_map(|event| event.content().ok())
            .any(|content| ran(&content))
        {
            true => Ok(((), "its bundle is among those that were measured".to_owned())),
            false => Err(Malformed::new(
                "receipt",
                "its bundle was not measured in the boot that the evidence is of",
            )),
        }
    };
    report.note("receipt-fits", fits());
}

/// Compares two receipts of what should be the same run, and adds the findings.
pub fn check_replay(report: &mut Report, first: &Receipt, second: &Repeated) {
    let same = |what: &'static str, first: &[u8], second: &[u8]| match first == second {
        true => Ok(((), to_hex(first))),
        false => Err(Malformed::new(
            what,
            format!("{}, and {} in the other", to_hex(first), to_hex(second)),
        )),
    };
    report.note("same-bundle", same("bundle", &first.bundle, &second.bundle));
    report.note("same-input", same("input", &first.input, &second.input));
    let outcome = same("outcome", first.outcome.as_bytes(), second.outcome.as_bytes());
    report.note("same-outcome", outcome.map(|((), _)| ((), first.outcome.clone())));
    let output = same("output", &first.output, &second.output);
    report.note(
        "same-output",
        match (output, first.is_deterministic()) {
            (Err(error), false) => Err(Malformed::new(
                "output",
                format!(
                    "{error}; these powers let something else in: {}",
                    first.nondeterminism.join(", ")
                ),
            )),
            (compared, _) => compared,
        },
    );
}

/// What is compared of a run that was repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// SHA-256 of the bundle.
    pub bundle: [u8; 32],
    /// SHA-256 of all that came in.
    pub input: [u8; 32],
    /// SHA-256 of all that went out.
    pub output: [u8; 32],
    /// How it ended.
    pub outcome: String,
}

impl From<Receipt> for Repeated {
    fn from(receipt: Receipt) -> Repeated {
        Repeated {
            bundle: receipt.bundle,
            input: receipt.input,
            output: receipt.output,
            outcome: receipt.outcome,
        }
    }
}

/// What somebody signed about an audit log, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// Where it stands.
    pub who: String,
    /// How many records the log had.
    pub records: u64,
    /// Hash of the last of them.
    pub hash: [u8; 32],
    /// Hash of that record as it is now.
    pub found: Option<[u8; 32]>,
}

/// Adds the findings about an audit log: whether its chain is whole (what was seen, or why not), and whether it has what was signed about
/// it. `otherwise` says that its end is vouched for in another way, by a checkpoint.
pub fn check_log(report: &mut Report, chain: Result<String, String>, signed: &[SignedHead], otherwise: bool) {
    report.note("chain", chain.map(|shown| ((), shown)));
    if signed.is_empty() && !otherwise {
        report.note::<(), _>(
            "end",
            Err("nobody signed anything about this log, so its end may have been cut off"),
        );
    }
    for SignedHead {
        who,
        records,
        hash,
        found,
    } in signed
    {
        report.note(
            "end",
            match found {
                Some(found) if found == hash => {
                    Ok(((), format!("{who} knows {records} records, and they are there")))
                }
                Some(found) => Err(format!(
                    "{who} knows record {records} as {}; here it is {}: the log was written anew",
                    to_hex(hash),
                    to_hex(found)
                )),
                None => Err(format!(
                    "{who} knows {records} records; the log has fewer: its end was cut off"
                )),
            },
        );
    }
}
