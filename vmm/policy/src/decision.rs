//! Deciding: each slot and each limit is bound, asked about, and answered.

use std::fmt;
use std::time::Duration;

use referee_bundle::{Delegated, Manifest, Slot, VerifiedBundle};

use crate::binding::Binding;
use crate::grants::{Grant, GrantedLimits, Grants, Power};
use crate::model::{Hearing, Question, Verdict};
use crate::narrow::{narrow, same_ports, stray_bindings};
use crate::policies::PolicySet;
use crate::questions::{asked, bytes, number, onward, questions_of};
use crate::rejected::Rejected;
use crate::{DEFAULT_CPU_MS, DEFAULT_DEADLINE_MS};

/// Who asks: a manifest and who signed it.
#[derive(Debug, Clone)]
pub struct Applicant<'a> {
    /// What is asked.
    pub manifest: &'a Manifest,
    /// The publisher's name in the trust store.
    pub publisher: &'a str,
    /// The signing key's id in hexadecimal digits.
    pub key_id: String,
}

/// What was asked, bound and answered, whether granted or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub(crate) muscle: MuscleName,
    pub(crate) publisher: String,
    pub(crate) key_id: String,
    pub(crate) policy_digest: [u8; 32],
    pub(crate) policy_sources: Vec<String>,
    items: Vec<Item>,
    stray: Vec<Rejected>,
    limits: GrantedLimits,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MuscleName {
    pub name: String,
    pub version: String,
    pub epoch: u64,
}

/// One slot or limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The slot's name; for a limit `memory`, `cpu` or `deadline`.
    pub name: String,
    /// The capability's name, the action that policy was asked about.
    pub capability: &'static str,
    /// What is asked for, as people read it.
    pub asked: String,
    /// What the operator bound.
    pub bound: Option<String>,
    /// What came of it.
    pub answer: Answer,
    power: Option<Power>,
    delegated: Option<Delegated>,
}

/// What came of one slot or limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Permitted by these policies.
    Permitted {
        /// The policies.
        by: Vec<PolicyRef>,
    },
    /// Refused.
    Refused(Rejected),
}

/// A policy that took part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct PolicyRef {
    /// Its `@id`.
    pub id: String,
    /// Its `@reason`.
    pub reason: Option<String>,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{} ({reason})", self.id),
            None => f.write_str(&self.id),
        }
    }
}

/// Decides everything that a muscle asks for, and goes on after a refusal, so that a person sees all of them.
pub fn assess(applicant: &Applicant<'_>, bindings: &[Binding], policies: &PolicySet) -> Decision {
    let manifest = applicant.manifest;
    let hearing = Hearing::new(policies, applicant);
    let asker = Asker {
        applicant,
        policies,
        hearing: hearing.as_ref().map_err(Vec::as_slice),
    };
    let mut items: Vec<Item> = manifest
        .slots
        .iter()
        .map(|slot| asker.slot(slot, bindings))
        .collect();
    let limits = GrantedLimits {
        memory_bytes: manifest.limits.memory_bytes,
        stack_bytes: manifest.limits.stack_bytes,
        cpu_ms: manifest.limits.cpu_ms.unwrap_or(DEFAULT_CPU_MS),
        deadline_ms: manifest.limits.deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS),
    };
    items.push(asker.memory(&limits));
    items.push(asker.time("cpu", manifest.limits.cpu_ms, limits.cpu_ms));
    items.push(asker.time("deadline", manifest.limits.deadline_ms, limits.deadline_ms));
    let mut stray = stray_bindings(manifest, bindings);
    stray.extend(same_ports(manifest));
    Decision {
        muscle: MuscleName {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            epoch: manifest.security_epoch,
        },
        publisher: applicant.publisher.to_owned(),
        key_id: applicant.key_id.clone(),
        policy_digest: policies.digest(),
        policy_sources: policies.sources().to_vec(),
        items,
        stray,
        limits,
    }
}

/// The same for somebody who wants to run the muscle: refuses with the first reason.
///
/// # Errors
/// [`Rejected`], unless every slot and every limit is permitted.
pub fn decide(
    applicant: &Applicant<'_>,
    bindings: &[Binding],
    policies: &PolicySet,
) -> Result<Decision, Rejected> {
    let decision = assess(applicant, bindings, policies);
    decision.grants().map(|_| decision)
}

impl<'a> Applicant<'a> {
    /// Who asks by a bundle whose signature was checked.
    pub fn of(bundle: &'a VerifiedBundle) -> Applicant<'a> {
        let signer = bundle.signer();
        Applicant {
            manifest: bundle.manifest(),
            publisher: &signer.publisher,
            key_id: signer.key_id.to_string(),
        }
    }
}

impl Decision {
    /// Each slot, then each limit.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// SHA-256 of the policies that decided.
    pub fn policy_digest(&self) -> [u8; 32] {
        self.policy_digest
    }

    /// What is wrong with the bindings, apart from single slots.
    pub fn stray(&self) -> &[Rejected] {
        &self.stray
    }

    /// Every refusal, in the order in which a person would mend them.
    pub fn refusals(&self) -> impl Iterator<Item = &Rejected> {
        let refused = self.items.iter().filter_map(|item| match &item.answer {
            Answer::Permitted { .. } => None,
            Answer::Refused(rejected) => Some(rejected),
        });
        self.stray.iter().chain(refused)
    }

    /// Asks besides whether cells may keep a core busy while calls keep coming, and notes it when they may.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn ask_spin(
        &mut self,
        applicant: &Applicant<'_>,
        idle: Duration,
        policies: &PolicySet,
    ) -> Result<(), Rejected> {
        let hearing = Hearing::new(policies, applicant);
        let asker = Asker {
            applicant,
            policies,
            hearing: hearing.as_ref().map_err(Vec::as_slice),
        };
        let item = asker.spin(idle);
        if let Answer::Refused(rejected) = item.answer {
            return Err(rejected);
        }
        self.items.push(item);
        Ok(())
    }

    /// What the cell may do, if all that it asks for is permitted.
    ///
    /// # Errors
    /// The first of [`Decision::refusals`].
    pub fn grants(&self) -> Result<Grants, Rejected> {
        if let Some(first) = self.refusals().next() {
            return Err(first.clone());
        }
        let granted = |item: &Item| {
            item.power
                .clone()
                .map(|power| Grant::new(item.name.clone(), power, item.delegated.clone()))
        };
        Ok(Grants::new(
            self.items.iter().filter_map(granted).collect(),
            self.limits,
        ))
    }
}

/// Asks policy on an applicant's behalf.
struct Asker<'a> {
    applicant: &'a Applicant<'a>,
    policies: &'a PolicySet,
    hearing: Result<&'a Hearing<'a>, &'a [String]>,
}

impl Asker<'_> {
    fn slot(&self, slot: &Slot, bindings: &[Binding]) -> Item {
        let binding = bindings.iter().find(|binding| binding.slot == slot.name);
        let (answer, power) = match narrow(slot, binding) {
            Ok(power) => {
                let questions = questions_of(&slot.name, &power).map(|mut questions| {
                    questions.extend(onward(slot));
                    questions
                });
                (self.ask_all(&slot.name, questions), Some(power))
            }
            Err(rejected) => (Answer::Refused(rejected), None),
        };
        Item {
            name: slot.name.clone(),
            capability: slot.request.kind().name(),
            asked: asked(slot),
            bound: binding.map(|binding| binding.bound.to_string()),
            answer,
            power,
            delegated: slot.delegated.clone(),
        }
    }

    fn memory(&self, limits: &GrantedLimits) -> Item {
        let arguments = [
            ("bytes", limits.memory_bytes),
            ("stack_bytes", limits.stack_bytes),
        ]
        .map(|(name, value)| number("memory", value).map(|argument| (name, argument)));
        let question = arguments
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map(|arguments| Question {
                action: "memory",
                arguments,
            });
        let asked = format!(
            "{}, {} of it stack",
            bytes(limits.memory_bytes),
            bytes(limits.stack_bytes)
        );
        self.limit("memory", asked, question)
    }

    fn time(&self, action: &'static str, asked: Option<u64>, ms: u64) -> Item {
        let question = number(action, ms).map(|argument| Question {
            action,
            arguments: vec![("ms", argument)],
        });
        let asked = match asked {
            Some(ms) => format!("{ms} ms"),
            None => format!("{ms} ms (the default)"),
        };
        self.limit(action, asked, question)
    }

    fn spin(&self, idle: Duration) -> Item {
        let micros = u64::try_from(idle.as_micros()).unwrap_or(u64::MAX);
        let question = number("spin", micros).map(|argument| Question {
            action: "spin",
            arguments: vec![("idle_us", argument)],
        });
        self.limit("spin", format!("a core until {micros} us after a call"), question)
    }

    fn limit(&self, name: &'static str, asked: String, question: Result<Question, Rejected>) -> Item {
        Item {
            name: name.to_owned(),
            capability: name,
            asked,
            bound: None,
            answer: self.ask_all(name, question.map(|question| vec![question])),
            power: None,
            delegated: None,
        }
    }

    /// Permitted only when every question is; no question at all permits nothing.
    fn ask_all(&self, what: &str, questions: Result<Vec<Question>, Rejected>) -> Answer {
        let questions = match questions {
            Ok(questions) => questions,
            Err(rejected) => return Answer::Refused(rejected),
        };
        let undecidable = |errors: &[String]| Rejected::Undecidable {
            what: what.to_owned(),
            errors: errors.to_vec(),
        };
        let hearing = match self.hearing {
            Ok(hearing) if !questions.is_empty() => hearing,
            Ok(_) => return Answer::Refused(undecidable(&[])),
            Err(errors) => return Answer::Refused(undecidable(errors)),
        };
        let mut permitted = Vec::new();
        for question in &questions {
            let rejected = match hearing.ask(question) {
                Verdict::Permitted(by) => {
                    permitted.extend(self.refs(by));
                    continue;
                }
                Verdict::Forbidden(by) => Rejected::Forbidden {
                    what: what.to_owned(),
                    by: self.refs(by),
                },
                Verdict::Silent => Rejected::NotPermitted {
                    what: what.to_owned(),
                    would: question.permitting_policy(self.applicant),
                },
                Verdict::Failed(errors) => undecidable(&errors),
            };
            return Answer::Refused(rejected);
        }
        permitted.sort();
        permitted.dedup();
        Answer::Permitted { by: permitted }
    }

    fn refs(&self, ids: Vec<String>) -> Vec<PolicyRef> {
        ids.into_iter()
            .map(|id| PolicyRef {
                reason: self.policies.reason(&id).map(str::to_owned),
                id,
            })
            .collect()
    }
}
