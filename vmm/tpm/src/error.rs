//! Why the TPM, or what is kept beside it, does not serve.

use std::path::PathBuf;

use referee_attest::StateOwner;
use thiserror::Error;

use crate::floors::BelowFloor;

/// An error of this program. Its [`TpmError::name`] goes to the VMM with the text.
#[derive(Debug, Error)]
pub enum TpmError {
    /// Nothing answers there.
    #[error("no TPM at `{tcti}`: {why}; name another with --tpm, or use a software TPM: --tpm swtpm:DIR")]
    Unreachable {
        /// Where.
        tcti: String,
        /// Why not.
        why: String,
    },
    /// A command did not succeed.
    #[error("the TPM refused {operation}: {why}")]
    Refused {
        /// Which.
        operation: &'static str,
        /// TSS2_RC.
        code: u32,
        /// The code in words.
        why: String,
    },
    /// An answer made no sense.
    #[error("the TPM's answer is not understood: {0}")]
    Malformed(String),
    /// The software TPM could not be made or started.
    #[error("software TPM in {}: {why}", directory.display())]
    Software {
        /// Where it keeps its state.
        directory: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file beside the TPM.
    #[error("{}: {source}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error("{}: {why}", path.display())]
    LogBroken {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Somebody else extended the registers, or the log was changed.
    #[error(
        "the event log {} does not account for register {pcr}: something else was measured into it, or the log was changed; \
         nothing runs measured until the host is restarted", path.display()
    )]
    LogMismatch {
        /// The log.
        path: PathBuf,
        /// The register.
        pcr: u32,
    },
    /// Another VMM, policy or trust store was measured in this boot.
    #[error(
        "this boot was measured with another {components}; restart the host to measure anew \
         (a software TPM: referee-vmm tpm restart), or run without --tpm"
    )]
    IdentityDiffers {
        /// Which components.
        components: String,
    },
    /// There is no key yet.
    #[error("this TPM has no key of Referee's yet: referee-vmm tpm init")]
    NotInitialised,
    /// There is one already.
    #[error("this TPM has a key of Referee's in epoch {epoch} already")]
    AlreadyInitialised {
        /// Which.
        epoch: u64,
    },
    /// Files from before the last rotation.
    #[error(
        "the counter stands at epoch {counter} and {} has no key of it (it has: {found}): it was put back to an older copy, or lost; \
         restore the newer one, or begin anew: referee-vmm tpm init --replace", directory.display()
    )]
    RolledBack {
        /// The TPM's counter.
        counter: u64,
        /// Epochs of the keys that are there.
        found: String,
        /// Where.
        directory: PathBuf,
    },
    /// The sealed key does not open for this identity.
    #[error(
        "the key of epoch {epoch} does not open: it is sealed to another identity of this host (VMM, policy, trust store), or to another \
         TPM ({why}); go back to that identity, or begin anew: referee-vmm tpm init --replace"
    )]
    KeyClosed {
        /// Which.
        epoch: u64,
        /// What the TPM said.
        why: String,
    },
    /// The table of floors was changed.
    #[error(
        "the floors beside the key of epoch {epoch} are not those that were written with it: the file was changed"
    )]
    FloorsForged {
        /// Which.
        epoch: u64,
    },
    /// The offline key does not open what is there.
    #[error(
        "the recovery key does not open the key of epoch {epoch}: it is another one, or the file was changed"
    )]
    RecoveryRefused {
        /// Which.
        epoch: u64,
    },
    /// There is nothing that an offline key could open.
    #[error(
        "{} has no key that was wrapped for recovery: a recovery key must be set (referee-vmm tpm set-recovery) before it is needed",
        directory.display()
    )]
    NothingToRecover {
        /// Where.
        directory: PathBuf,
    },
    /// Something older, or too new.
    #[error("{}", .0.message)]
    Rejected(BelowFloor),
    /// The NV index is used for something else.
    #[error(
        "NV index {index:#010x} is defined as something else than a counter that only counts up, so it proves nothing; \
         undefine it (tpm2_nvundefine) or choose another with --tpm-counter"
    )]
    CounterUnsound {
        /// Which.
        index: u32,
    },
    /// A register that software can set back.
    #[error(
        "register {0} can be set back by any program of the host; choose another, or insist with --allow-resettable-registers"
    )]
    Resettable(u32),
    /// The file of a muscle's state is gone, or is not the one that counts.
    #[error(
        "the state `{slot}` of {muscle} ({publisher}), saved {sequence} times, is not in {} as it was saved: {why}; put its file back, or give \
         it up: referee-vmm tpm forget-state --publisher '{publisher}' --muscle '{muscle}' --slot '{slot}'",
        directory.display(), publisher = owner.publisher, muscle = owner.muscle, slot = owner.slot
    )]
    StateLost {
        /// Whose.
        owner: Box<StateOwner>,
        /// How many times it was saved.
        sequence: u64,
        /// What is wrong.
        why: String,
        /// Where it should be.
        directory: PathBuf,
    },
    /// Another cell saved in between.
    #[error(
        "the state, saved {found} times, is not the one that was loaded: another cell of this muscle saved in between"
    )]
    StateConflict {
        /// How many times it was saved.
        found: u64,
    },
    /// There is none of this owner.
    #[error("no such state is kept here: referee-vmm tpm status lists them")]
    NoSuchState,
    /// There are too many.
    #[error(
        "this host keeps as many states of muscles, or of this publisher's, as it may; give one up: referee-vmm tpm forget-state"
    )]
    TooManyStates,
    /// A security epoch for which there is no key.
    #[error("a muscle that keeps a state has a security epoch of at most {most}, not {epoch}")]
    BeyondLadder {
        /// The bundle's.
        epoch: u64,
        /// The highest.
        most: u64,
    },
    /// A request that makes no sense.
    #[error("request: {0}")]
    Request(String),
}

impl TpmError {
    /// A stable name for machines.
    pub fn name(&self) -> &'static str {
        match self {
            TpmError::Unreachable { .. } => "tpm-unreachable",
            TpmError::Refused { .. } => "tpm-refused",
            TpmError::Malformed(_) => "tpm-malformed",
            TpmError::Software { .. } => "software-tpm",
            TpmError::State { .. } => "tpm-state",
            TpmError::LogBroken { .. } => "event-log-broken",
            TpmError::LogMismatch { .. } => "event-log-mismatch",
            TpmError::IdentityDiffers { .. } => "identity-differs",
            TpmError::NotInitialised => "tpm-not-initialised",
            TpmError::AlreadyInitialised { .. } => "tpm-already-initialised",
            TpmError::RolledBack { .. } => "state-rolled-back",
            TpmError::KeyClosed { .. } => "key-closed",
            TpmError::FloorsForged { .. } => "floors-forged",
            TpmError::RecoveryRefused { .. } => "recovery-refused",
            TpmError::NothingToRecover { .. } => "nothing-to-recover",
            TpmError::Rejected(below) => below.rule.name(),
            TpmError::CounterUnsound { .. } => "counter-unsound",
            TpmError::Resettable(_) => "register-resettable",
            TpmError::StateLost { .. } => "muscle-state-lost",
            TpmError::StateConflict { .. } => "state-conflict",
            TpmError::NoSuchState => "no-such-state",
            TpmError::TooManyStates => "too-many-states",
            TpmError::BeyondLadder { .. } => "epoch-beyond-ladder",
            TpmError::Request(_) => "tpm-request",
        }
    }
}
