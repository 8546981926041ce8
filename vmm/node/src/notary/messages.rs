//! What nursery and notary say to each other, and what is asked and answered on the line that comes with a job. All of it is the same program,
//! so the form has no versions.

use referee::voucher::Vouched;
use referee_attest::Bundle;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::vouching::{Asking, TpmAnswer};

/// Something to be done, by the nursery. With it comes the line on which the supervisor waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub number: u64,
    /// When it was given, by [`now_ms`].
    pub given_ms: u64,
    pub commission: Commission,
}

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Commission {
    /// To measure a bundle, as the nursery verified it.
    Measure {
        bundle: Bundle,
        /// Whether something is to be signed for it, so that a TPM without a key is refused now.
        to_be_signed: bool,
    },
    /// To give evidence of this node. On the line comes an [`EvidenceFor`].
    Evidence,
    /// To ask for a muscle, of which the nursery says this. On the line comes a [`Speaking`].
    Speak(Box<Vouched>),
    /// To see whether the TPM answers, and still has what was measured.
    Look,
}

/// A job is over, to the nursery, before whoever waits for it hears.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub number: u64,
    /// Whether a bundle is measured and may run.
    pub measured: bool,
}

/// For whom evidence is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EvidenceFor {
    /// The verifier's.
    pub nonce: Vec<u8>,
    /// How many records the audit log has, and the hash of the last.
    pub audit_head: (u64, String),
}

/// What a muscle asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Speaking {
    /// The call that asks; evidence names it.
    pub call: u64,
    pub asking: Asking,
}

/// What came of a job, on the line that came with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The bundle is measured; whether for the first time in this boot.
    Measured { first: bool },
    /// What was asked for.
    Given(#[serde(with = "serde_bytes")] Vec<u8>),
    /// What the muscle is told.
    Told(TpmAnswer),
    /// All is as it was measured.
    AsMeasured,
    /// A rule says no.
    Rejected { name: String, message: String },
    /// The TPM does not serve.
    Failed { message: String },
}

/// Milliseconds of a clock that all processes of this host have.
pub(crate) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
