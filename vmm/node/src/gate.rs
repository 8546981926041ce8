//! Who may do what through the API: Cedar is asked once for each question, and its answers are kept until policies are read again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use referee_policy::{Access, AccessPolicies, Caller};

use crate::error::NodeError;

/// Answers that are kept; beyond that all are forgotten, so that who asks much does not take the memory.
const KEPT_MAX: usize = 4096;

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    sources: Vec<PathBuf>,
    rules: RwLock<Rules>,
}

#[derive(Debug)]
struct Rules {
    policies: AccessPolicies,
    answers: HashMap<(Caller, String), bool>,
}

impl Gate {
    /// Reads the policies, or takes those compiled in when none are named.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(crate) fn open(sources: Vec<PathBuf>) -> Result<Gate, NodeError> {
        let policies = read(&sources)?;
        Ok(Gate {
            sources,
            rules: RwLock::new(Rules {
                policies,
                answers: HashMap::new(),
            }),
        })
    }

    /// Reads them again; [`Gate::put_in_force`] has them decide.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(crate) fn read_again(&self) -> Result<AccessPolicies, NodeError> {
        read(&self.sources)
    }

    pub(crate) fn put_in_force(&self, policies: AccessPolicies) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.policies = policies;
        rules.answers.clear();
    }

    /// Whether it is permitted.
    pub(crate) fn permits(&self, caller: &Caller, access: Access<'_>) -> bool {
        // Written so that no two questions look alike: names are quoted.
        let question = (caller.clone(), format!("{access:?}"));
        {
            let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = rules.answers.get(&question) {
                return *answer;
            }
        }
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let answer = rules.policies.permit(caller, access);
        if rules.answers.len() >= KEPT_MAX {
            rules.answers.clear();
        }
        rules.answers.insert(question, answer);
        answer
    }
}

fn read(sources: &[PathBuf]) -> Result<AccessPolicies, NodeError> {
    if sources.is_empty() {
        AccessPolicies::shipped()
    } else {
        AccessPolicies::load(sources)
    }
    .map_err(|error| NodeError::Rejected {
        name: "policy-invalid".into(),
        message: format!("api.policies: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_when_policies_are_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("api.cedar");
        let caller = Caller::User {
            uid: 7,
            gid: 7,
            service: false,
        };
        let stats = Access::Node { action: "stats" };
        std::fs::write(&file, "@id(\"a\") permit (principal, action, resource);").expect("written");
        let gate = Gate::open(vec![file.clone()]).expect("valid");
        assert!(gate.permits(&caller, stats) && gate.permits(&caller, stats));
        std::fs::write(&file, "@id(\"a\") permit (principal, action, resour);").expect("written");
        assert!(gate.read_again().is_err());
        assert!(gate.permits(&caller, stats), "what was read before holds");
        std::fs::write(&file, "@id(\"a\") forbid (principal, action, resource);").expect("written");
        gate.put_in_force(gate.read_again().expect("valid"));
        assert!(!gate.permits(&caller, stats));
    }

    #[test]
    fn no_two_questions_share_an_answer() {
        let text = r#"@id("a") permit (principal, action == Action::"call", resource == Deployment::"a") when { context.function == "b" };"#;
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("api.cedar");
        std::fs::write(&file, text).expect("written");
        let gate = Gate::open(vec![file]).expect("valid");
        let caller = Caller::User {
            uid: 7,
            gid: 7,
            service: false,
        };
        let call = |name, function| gate.permits(&caller, Access::Call { name, function });
        assert!(call("a", "b"));
        assert!(!call("a\", function: \"b", ""));
        assert!(!call("a", "c"));
    }
}
