//! Capability `functions`: what the program in which a cell is embedded offers to it, by name.
//!
//! A function takes one CBOR value and gives one, or an error's words, which are the muscle's to read. It runs on the thread that runs
//! the cell, while the muscle waits; its time counts against the muscle's deadline and not against its CPU time.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use muscle_abi::frame::ErrorCode;
use referee_audit::Value;

use crate::broker::Act;
use crate::error::{CallError, Refusal};
use crate::payload::{self, Arguments};

/// A function: one CBOR value in, one out, or an error's words.
pub type HostFunction = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync>;

/// Most bytes of an error's words; what is beyond is cut off.
const WORDS_MAX: usize = 4096;

/// Functions by name. Clones are the same functions.
#[derive(Clone, Default)]
pub struct HostFunctions(BTreeMap<String, HostFunction>);

impl HostFunctions {
    /// Offers a function under a name, in place of one that had it before.
    pub fn insert(&mut self, name: impl Into<String>, function: HostFunction) {
        self.0.insert(name.into(), function);
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl fmt::Debug for HostFunctions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// Calls a function that the grant names.
pub(crate) fn act<'p>(
    granted: &[String],
    functions: &HostFunctions,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    let mut arguments = Arguments::new(payload, 2)?;
    let (name, argument) = (arguments.text()?, arguments.bytes()?);
    arguments.finish()?;
    let function = functions.0.get(name);
    let (Some(function), true) = (function, granted.iter().any(|granted| granted == name)) else {
        return Err(CallError::new(ErrorCode::Denied, "the slot has no function of this name").into());
    };
    act.record(&[("function", Value::Text(name))])?;
    let called = catch_unwind(AssertUnwindSafe(|| function(argument)));
    let Ok(result) = called else {
        // Its hook has said where; the cell has broken no rule and goes on.
        return Err(CallError::new(ErrorCode::Io, "the function panicked").into());
    };
    if matches!(&result, Ok(value) if value.len() > act.max_chunk as usize) {
        return Err(CallError::new(
            ErrorCode::TooLarge,
            "the function's result is longer than one answer",
        )
        .into());
    }
    payload::write(act.reply, |out| match &result {
        Ok(value) => out.array(2)?.bool(false)?.bytes(value)?.ok(),
        Err(words) => {
            let end = words.floor_char_boundary(WORDS_MAX);
            out.array(2)?
                .bool(true)?
                .str(words.get(..end).unwrap_or_default())?
                .ok()
        }
    });
    Ok(())
}
