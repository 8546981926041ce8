//! A seccomp policy as written in `policies/seccomp/*.json`: an allow-list with the reason beside each entry.
//!
//! The files are in the format of `seccompiler`, so that its own tool can check them; the `comment` of
//! an entry is its reason and is required here. This module is also part of the build script, which
//! compiles the policies into BPF, so that a start does not pay for it.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, TargetArch};
use serde::{Deserialize, Serialize};

/// The key under which a policy is handed to the compiler.
const KEY: &str = "policy";

/// Why a policy is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is not JSON, or not of the policy format.
    #[error("not a seccomp policy")]
    Json(#[from] serde_json::Error),
    /// The file does not hold exactly one policy.
    #[error("the file holds {count} policies and must hold one")]
    Policies {
        /// How many it holds.
        count: usize,
    },
    /// The policy does more, or less, than to allow what it lists and kill the process at all else.
    #[error("the policy must kill the process at what it does not list and allow what it does")]
    Actions,
    /// An entry has no reason.
    #[error("entry {index} ({syscall}) has no reason beside it")]
    NoReason {
        /// Its place, from 0.
        index: usize,
        /// The call.
        syscall: String,
    },
    /// A call is listed both with and without conditions; the compiler would drop the one without.
    #[error("{syscall} is allowed both with and without conditions, or twice without")]
    Ambiguous {
        /// The call.
        syscall: String,
    },
    /// There is no such entry to remove.
    #[error("the policy has no entry {syscall}#{nth}")]
    NoEntry {
        /// The call.
        syscall: String,
        /// Which of the call's entries, from 0.
        nth: usize,
    },
    /// `seccompiler` refuses the policy: an unknown call, a condition on an argument that does not exist.
    #[error("the policy does not compile")]
    Compile(#[from] seccompiler::Error),
}

/// One allowed call, perhaps only with certain arguments.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    syscall: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<serde_json::Value>,
    comment: String,
}

impl Entry {
    /// Returns the call's name.
    #[must_use]
    pub fn syscall(&self) -> &str {
        &self.syscall
    }

    /// Returns why the call is allowed.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.comment
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    mismatch_action: String,
    match_action: String,
    filter: Vec<Entry>,
}

/// What one thread may call; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct FilterSet {
    entries: Vec<Entry>,
}

impl FilterSet {
    /// Reads one policy file.
    ///
    /// # Errors
    /// Every [`PolicyError`] but `NoEntry` and `Compile`.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        let mut policies: BTreeMap<String, PolicyFile> = serde_json::from_str(text)?;
        let count = policies.len();
        let (1, Some((_, policy))) = (count, policies.pop_first()) else {
            return Err(PolicyError::Policies { count });
        };
        if policy.mismatch_action != "kill_process" || policy.match_action != "allow" {
            return Err(PolicyError::Actions);
        }
        Self {
            entries: policy.filter,
        }
        .checked()
    }

    /// Allows what either of two policies allows.
    ///
    /// # Errors
    /// [`PolicyError::Ambiguous`] if both allow the same call without conditions.
    pub fn merged(mut self, other: Self) -> Result<Self, PolicyError> {
        self.entries.extend(other.entries);
        self.checked()
    }

    /// Removes the `nth` entry, from 0, of a call.
    ///
    /// # Errors
    /// [`PolicyError::NoEntry`].
    pub fn without(mut self, syscall: &str, nth: usize) -> Result<Self, PolicyError> {
        let found = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.syscall == syscall)
            .nth(nth);
        let Some((index, _)) = found else {
            return Err(PolicyError::NoEntry {
                syscall: syscall.to_owned(),
                nth,
            });
        };
        self.entries.remove(index);
        Ok(self)
    }

    /// Returns the entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the number of different calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.by_call().len()
    }

    /// Compiles the policy for this machine. `violation` is what `seccompiler` calls the mismatch action.
    pub(crate) fn compile(&self, violation: &str) -> Result<BpfProgram, PolicyError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(seccompiler::Error::Backend)?;
        let file = PolicyFile {
            mismatch_action: violation.to_owned(),
            match_action: "allow".to_owned(),
            filter: self.entries.clone(),
        };
        let text = serde_json::to_vec(&BTreeMap::from([(KEY, file)]))?;
        let mut programs = seccompiler::compile_from_json(text.as_slice(), arch)?;
        programs.remove(KEY).ok_or(PolicyError::Policies { count: 0 })
    }

    fn checked(self) -> Result<Self, PolicyError> {
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.comment.trim().is_empty() {
                return Err(PolicyError::NoReason {
                    index,
                    syscall: entry.syscall.clone(),
                });
            }
        }
        for (syscall, entries) in self.by_call() {
            if entries.len() > 1 && entries.iter().any(|entry| entry.args.is_empty()) {
                return Err(PolicyError::Ambiguous {
                    syscall: syscall.to_owned(),
                });
            }
        }
        Ok(self)
    }

    fn by_call(&self) -> BTreeMap<&str, Vec<&Entry>> {
        let mut calls: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.entries {
            calls.entry(&entry.syscall).or_default().push(entry);
        }
        calls
    }
}
