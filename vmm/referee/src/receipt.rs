//! Receipts: a cell's whole life with one call or `main`, said in digests and signed by the host's TPM.
//!
//! A receipt is of a cell that is made for it: what an earlier call left in memory would be an input that nobody can give
//! again. So a receipt of this library and one of `referee-vmm` for the same bundle, grants and input say the same.

use muscle_abi::boot::Style;
use referee_attest::{Bundle, Facts};
use referee_audit::Head;
use referee_bundle::VerifiedBundle;
use referee_cell::{Answer, CellSpec, Usage};
use referee_policy::{Decision, Grants};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cell::{CellThread, Ended};
use crate::error::{CallError, ReceiptError, StartError};
use crate::inputs::Inputs;
use crate::muscle::Permit;
use crate::outcome::Outcome;
use crate::powers::{grants_digest, nondeterminism};
use crate::tpm::{HostTpm, measured};
use crate::transcript::{Digests, Transcript};
use crate::values;

/// What is known of a run before it begins.
#[derive(Debug)]
pub struct Planned {
    bundle: Bundle,
    grants: [u8; 32],
    policy: [u8; 32],
    function: Option<String>,
    nondeterminism: Vec<String>,
}

/// What a run was.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ran {
    input: [u8; 32],
    output: [u8; 32],
    outcome: String,
    wall_us: u64,
    cpu_us: u64,
    exits: u64,
    heap_bytes: u64,
    log_records: u64,
    log_hash: String,
}

impl Planned {
    /// `function` is the one to be called; none for `main`.
    pub fn new(
        bundle: &VerifiedBundle,
        decision: &Decision,
        grants: &Grants,
        function: Option<&str>,
    ) -> Planned {
        Planned {
            bundle: measured(bundle),
            grants: grants_digest(decision, grants),
            policy: decision.policy_digest(),
            function: function.map(str::to_owned),
            nondeterminism: nondeterminism(grants).into_iter().map(str::to_owned).collect(),
        }
    }

    /// Together with what the run was: what is signed.
    pub fn facts(self, ran: Ran) -> Facts {
        Facts {
            bundle: self.bundle,
            grants: self.grants,
            policy: self.policy,
            function: self.function,
            input: ran.input,
            output: ran.output,
            outcome: ran.outcome,
            wall_us: ran.wall_us,
            cpu_us: ran.cpu_us,
            exits: ran.exits,
            heap_bytes: ran.heap_bytes,
            log_records: ran.log_records,
            log_hash: ran.log_hash,
            nondeterminism: self.nondeterminism,
        }
    }
}

/// The transcript of a cell that is to be started: it begins with all that the cell is started with. `call` is the function and
/// its payload; none for `main`.
pub fn transcript(spec: &CellSpec, call: Option<(&str, &[u8])>) -> Transcript {
    let (function, payload) = call.unwrap_or_default();
    Transcript::of(&[&spec.argument_block, function.as_bytes(), payload])
}

impl Ran {
    /// A run that ended so, gave this answer to its call, used this much, and left the audit log there.
    pub fn new(
        transcript: &Transcript,
        outcome: &Outcome,
        answer: Option<&Answer>,
        usage: &Usage,
        head: &Head,
    ) -> Ran {
        let outcome = match outcome {
            Outcome::Exited(code) => format!("exited {code}"),
            Outcome::Faulted(report) => format!("fault {}", report.fault.name()),
            Outcome::Answered => "answered".to_owned(),
            Outcome::Stopped => "stopped".to_owned(),
        };
        let answered: (&[u8], &[u8]) = match answer {
            None => (&[], &[]),
            Some(answer) => (&[answer.kind as u8], &answer.payload),
        };
        let Digests { input, output } = transcript.digests(&[outcome.as_bytes(), answered.0, answered.1]);
        let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Ran {
            input,
            output,
            outcome,
            wall_us: micros(usage.wall),
            cpu_us: micros(usage.cpu),
            exits: usage.exits,
            heap_bytes: usage.heap_bytes,
            log_records: head.records,
            log_hash: head.hash.to_string(),
        }
    }
}

/// How a run ended, and the receipt of it, which `referee-verify receipt` reads.
#[derive(Debug)]
pub struct WithReceipt<T> {
    /// What a run without a receipt would have given.
    pub result: Result<T, CallError>,
    /// The signed receipt; a fault has one too.
    pub receipt: Vec<u8>,
}

impl Permit {
    /// Starts a cell, calls one function, ends the cell, and has the TPM sign what that was. Not from a snapshot.
    ///
    /// # Errors
    /// [`ReceiptError`] says whether anything ran.
    pub fn call_with_receipt<A, R>(
        &self,
        thread: &CellThread,
        inputs: Inputs,
        function: &str,
        arguments: &A,
    ) -> Result<WithReceipt<R>, ReceiptError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let mut payload = Vec::new();
        values::write_arguments(arguments, &mut payload).map_err(ReceiptError::Call)?;
        let done = self.receipted(thread, Style::Reactor, inputs, Some((function, &payload)))?;
        let result = done.result.and_then(Ended::answered);
        Ok(WithReceipt {
            result: result.and_then(|answer| values::read_result(&answer)),
            receipt: done.receipt,
        })
    }

    /// Starts a cell, runs `main` to its end, and has the TPM sign what that was. The result is the exit code.
    ///
    /// # Errors
    /// [`ReceiptError`] says whether anything ran.
    pub fn run_with_receipt(
        &self,
        thread: &CellThread,
        inputs: Inputs,
    ) -> Result<WithReceipt<u8>, ReceiptError> {
        let done = self.receipted(thread, Style::Command, inputs, None)?;
        Ok(WithReceipt {
            result: done.result.and_then(Ended::exited),
            receipt: done.receipt,
        })
    }

    fn receipted(
        &self,
        thread: &CellThread,
        style: Style,
        inputs: Inputs,
        call: Option<(&str, &[u8])>,
    ) -> Result<WithReceipt<Ended>, ReceiptError> {
        let tpm = self.signing_tpm()?;
        if self.beginning().is_some() {
            let refused = StartError::Rejected {
                name: "snapshot-without-receipt",
                message: "a receipt is of a run from its beginning, and this one would begin at a snapshot, which nobody can replay".to_owned(),
            };
            return Err(self.engine().refusal(refused, &self.title())?.into());
        }
        let mut heard = Transcript::default();
        let mut cell = self.start_observed(style, inputs, |spec| {
            heard = transcript(spec, call);
            Some(heard.clone())
        })?;
        let result = match call {
            Some((function, payload)) => cell.call_frame(thread, function, payload),
            None => cell.drive(thread),
        };
        let (outcome, result) = outcome_of(result).map_err(ReceiptError::Call)?;
        let answer = match &result {
            Ok(Ended::Answered(answer)) => Some(answer),
            _ => None,
        };
        let (usage, head) = cell.close(&outcome).map_err(ReceiptError::Call)?;
        let planned = Planned::new(
            self.bundle(),
            self.decision(),
            self.grants(),
            call.map(|(function, _)| function),
        );
        let facts = planned.facts(Ran::new(&heard, &outcome, answer, &usage, &head));
        let receipt = tpm.sign(facts).map_err(ReceiptError::Unsigned)?;
        Ok(WithReceipt { result, receipt })
    }

    /// The TPM, once it is known that it can sign.
    fn signing_tpm(&self) -> Result<&HostTpm, StartError> {
        let tpm = self.engine().tpm().ok_or_else(|| StartError::Rejected {
            name: "no-tpm",
            message: "a receipt is signed by a TPM's key: name one in `Config::tpm`".into(),
        })?;
        tpm.must_sign(self.bundle())?;
        Ok(tpm)
    }
}

/// How a cell ended whose call or `main` ended so; an error when the host failed or nothing was called.
fn outcome_of(result: Result<Ended, CallError>) -> Result<(Outcome, Result<Ended, CallError>), CallError> {
    let outcome = match &result {
        Ok(Ended::Answered(_)) => Some(Outcome::Answered),
        Ok(Ended::Exited(code)) => Some(Outcome::Exited(*code)),
        Err(CallError::Fault(report)) => Some(Outcome::Faulted(report.clone())),
        Err(CallError::Cancelled) => Some(Outcome::Stopped),
        Err(_) => None,
    };
    match (outcome, result) {
        (Some(outcome), result) => Ok((outcome, result)),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(CallError::Over),
    }
}
