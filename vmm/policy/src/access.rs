//! Who may use a node's API: the same language, another schema (`policies/api/schema.cedarschema`).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{
    Context, Decision as CedarDecision, Entities, Entity, EntityUid, Request, RestrictedExpression, Schema,
};

use crate::model::uid;
use crate::policies::{PolicyError, PolicySet, texts_of};

/// The schema as people read it.
pub const ACCESS_SCHEMA: &str = include_str!("../../../policies/api/schema.cedarschema");
/// The policies that hold when the operator names none.
const DEFAULT_ACCESS: &str = include_str!("../../../policies/api/default.cedar");

/// Policies about an API, ready to decide.
#[derive(Debug, Clone)]
pub struct AccessPolicies(PolicySet);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Somebody of this host, as the kernel says.
    User {
        /// Number of the user.
        uid: u32,
        /// Number of the main group.
        gid: u32,
        /// Whether it is the user that the node runs as.
        service: bool,
    },
    /// Somebody from elsewhere.
    Client {
        /// As a certificate has it that was checked.
        name: Arc<str>,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access<'a> {
    /// To deploy a bundle, by the hexadecimal digits of its SHA-256.
    Deploy {
        /// The deployment.
        name: &'a str,
        /// The bundle.
        bundle: &'a str,
    },
    /// To call a function.
    Call {
        /// The deployment.
        name: &'a str,
        /// The function.
        function: &'a str,
    },
    /// To take back one grant of a deployment's running cells, or to make it smaller.
    Grant {
        /// The deployment.
        name: &'a str,
        /// The slot.
        slot: &'a str,
        /// The schema's action: `revoke`, `narrow`.
        action: &'static str,
    },
    /// Something else with a deployment.
    Deployment {
        /// The deployment.
        name: &'a str,
        /// The schema's action: `see`, `logs`, `remove`, `pause`, `resume`, `kill`, `snapshot`, `restore`.
        action: &'static str,
    },
    /// Something with a pipeline.
    Pipeline {
        /// The pipeline.
        name: &'a str,
        /// The schema's action: `define`, `see`, `remove`.
        action: &'static str,
    },
    /// Something with the node.
    Node {
        /// The schema's action: `send`, `reload`, `stats`, `audit`, `attest`.
        action: &'static str,
    },
}

impl AccessPolicies {
    /// The policies compiled into this program, `policies/api/default.cedar`.
    ///
    /// # Errors
    /// [`PolicyError`] if the program was built from policies that are none.
    pub fn shipped() -> Result<AccessPolicies, PolicyError> {
        AccessPolicies::parse(&[("api.cedar", DEFAULT_ACCESS)])
    }

    /// Reads and checks policies from files, and from the `.cedar` files of folders.
    ///
    /// # Errors
    /// [`PolicyError`]; one bad policy refuses them all.
    pub fn load<P: AsRef<Path>>(paths: &[P]) -> Result<AccessPolicies, PolicyError> {
        let texts = texts_of(paths)?;
        let borrowed: Vec<(&str, &str)> = texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        AccessPolicies::parse(&borrowed)
    }

    /// Reads and checks policies from texts, each with a name for messages.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(texts: &[(&str, &str)]) -> Result<AccessPolicies, PolicyError> {
        let (schema, _) = Schema::from_cedarschema_str(ACCESS_SCHEMA)
            .map_err(|error| PolicyError::AccessSchema(Box::new(error)))?;
        PolicySet::parse_against(texts, schema).map(AccessPolicies)
    }

    /// Whether it is permitted. A policy that cannot be evaluated permits nothing.
    pub fn permit(&self, caller: &Caller, access: Access<'_>) -> bool {
        self.decide(caller, access).unwrap_or(false)
    }

    fn decide(&self, caller: &Caller, access: Access<'_>) -> Result<bool, Box<dyn std::error::Error>> {
        let long = |number: u32| RestrictedExpression::new_long(i64::from(number));
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let (action, resource, context) = match access {
            Access::Deploy { name, bundle } => ("deploy", Some(name), Some(("bundle", bundle))),
            Access::Call { name, function } => ("call", Some(name), Some(("function", function))),
            Access::Grant { name, slot, action } => (action, Some(name), Some(("slot", slot))),
            Access::Deployment { name, action } => (action, Some(name), None),
            Access::Node { action } => (action, None, None),
            Access::Pipeline { name, action } => (action, Some(name), None),
        };
        let (principal, attributes) = match caller {
            Caller::User {
                uid: number,
                gid,
                service,
            } => {
                let service = RestrictedExpression::new_bool(*service);
                let attributes = HashMap::from([
                    ("uid".to_owned(), long(*number)),
                    ("gid".to_owned(), long(*gid)),
                    ("service".to_owned(), service),
                ]);
                (uid("User", &number.to_string())?, attributes)
            }
            Caller::Client { name } => {
                let attributes = HashMap::from([("name".to_owned(), text(name))]);
                (uid("Client", name)?, attributes)
            }
        };
        let who = Entity::new(principal.clone(), attributes, HashSet::new())?;
        let (resource, thing): (EntityUid, Entity) = match resource {
            Some(name) => {
                let kind = match access {
                    Access::Pipeline { .. } => "Pipeline",
                    Access::Deploy { .. }
                    | Access::Call { .. }
                    | Access::Grant { .. }
                    | Access::Deployment { .. }
                    | Access::Node { .. } => "Deployment",
                };
                let resource = uid(kind, name)?;
                let attributes = HashMap::from([("name".to_owned(), text(name))]);
                let thing = Entity::new(resource.clone(), attributes, HashSet::new())?;
                (resource, thing)
            }
            None => {
                let resource = uid("Node", "node")?;
                let thing = Entity::new(resource.clone(), HashMap::new(), HashSet::new())?;
                (resource, thing)
            }
        };
        let context = context.map(|(name, value)| (name.to_owned(), text(value)));
        let request = Request::new(
            principal,
            uid("Action", action)?,
            resource,
            Context::from_pairs(context)?,
            self.0.schema.as_ref(),
        )?;
        let entities = Entities::from_entities([who, thing], None)?;
        let response = cedar_policy::Authorizer::new().is_authorized(&request, &self.0.cedar, &entities);
        // Cedar leaves out a policy that fails, even one that would have forbidden.
        let failed = response.diagnostics().errors().next().is_some();
        Ok(!failed && response.decision() == CedarDecision::Allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Caller = Caller::User {
        uid: 0,
        gid: 0,
        service: false,
    };
    const SOMEBODY: Caller = Caller::User {
        uid: 1000,
        gid: 100,
        service: false,
    };
    const CALL: Access<'_> = Access::Call {
        name: "risk",
        function: "limits",
    };

    /// One of each.
    const ALL: [Access<'_>; 20] = [
        CALL,
        Access::Deploy {
            name: "risk",
            bundle: "ab",
        },
        deployment("see"),
        deployment("logs"),
        deployment("remove"),
        deployment("pause"),
        deployment("resume"),
        deployment("kill"),
        deployment("snapshot"),
        deployment("restore"),
        pipeline("define"),
        pipeline("see"),
        pipeline("remove"),
        Access::Node { action: "send" },
        Access::Node { action: "reload" },
        Access::Node { action: "stats" },
        Access::Node { action: "audit" },
        Access::Node { action: "attest" },
        grant("revoke"),
        grant("narrow"),
    ];

    const fn grant(action: &'static str) -> Access<'static> {
        Access::Grant {
            name: "risk",
            slot: "output",
            action,
        }
    }

    fn client(name: &str) -> Caller {
        Caller::Client { name: name.into() }
    }

    #[test]
    fn who_may_narrow_one_slot_may_neither_revoke_it_nor_narrow_another() {
        let text = r#"
            @id("desk") permit (principal is Client, action == Action::"narrow", resource == Deployment::"risk")
            when { context.slot == "output" };
        "#;
        let policies = AccessPolicies::parse(&[("p.cedar", text)]).expect("valid");
        let desk = client("desk.example");
        let permitted: Vec<_> = ALL
            .iter()
            .filter(|access| policies.permit(&desk, **access))
            .collect();
        assert_eq!(permitted, [&grant("narrow")]);
        let other = |name, slot| {
            let action = "narrow";
            policies.permit(&desk, Access::Grant { name, slot, action })
        };
        assert!(!other("risk", "input") && !other("other", "output"));
    }

    #[test]
    fn a_client_is_known_by_its_name_and_is_no_user() {
        let text = r#"
            @id("desk") permit (principal == Client::"spiffe://desk.example/risk", action == Action::"call", resource);
            @id("watchers") permit (principal is Client, action == Action::"stats", resource)
            when { principal.name like "*.watch.example" };
        "#;
        let policies = AccessPolicies::parse(&[("desk.cedar", text)]).expect("valid");
        let stats = Access::Node { action: "stats" };
        assert!(policies.permit(&client("spiffe://desk.example/risk"), CALL));
        assert!(!policies.permit(&client("spiffe://desk.example/risk"), stats));
        assert!(!policies.permit(&client("spiffe://desk.example/risk2"), CALL));
        assert!(policies.permit(&client("a.watch.example"), stats));
        assert!(!policies.permit(&ROOT, CALL) && !policies.permit(&ROOT, stats));
    }

    const fn deployment(action: &'static str) -> Access<'static> {
        Access::Deployment { name: "risk", action }
    }

    const fn pipeline(action: &'static str) -> Access<'static> {
        Access::Pipeline { name: "risk", action }
    }

    #[test]
    fn by_default_root_and_the_node_s_own_user_may_do_everything_and_nobody_else_anything() {
        let policies = AccessPolicies::shipped().expect("shipped");
        let own = Caller::User {
            uid: 1000,
            gid: 100,
            service: true,
        };
        for access in ALL {
            assert!(policies.permit(&ROOT, access), "{access:?}");
            assert!(policies.permit(&own, access), "{access:?}");
            assert!(!policies.permit(&SOMEBODY, access), "{access:?}");
            // A client's name is never a user's number.
            for name in ["0", "spiffe://desk.example/risk"] {
                assert!(!policies.permit(&client(name), access), "{name}: {access:?}");
            }
        }
    }

    #[test]
    fn a_policy_speaks_of_users_deployments_and_functions() {
        let text = r#"
            @id("desk") permit (principal is User, action == Action::"call", resource == Deployment::"risk")
            when { principal.gid == 100 && context.function like "lim*" };
            @id("not-kill") forbid (principal, action == Action::"kill", resource);
        "#;
        let policies = AccessPolicies::parse(&[("desk.cedar", text)]).expect("valid");
        assert!(policies.permit(&SOMEBODY, CALL));
        assert!(!policies.permit(&ROOT, CALL), "another group");
        for other in ALL.into_iter().skip(1) {
            assert!(!policies.permit(&SOMEBODY, other), "{other:?}");
        }
        let elsewhere = Access::Call {
            name: "other",
            function: "limits",
        };
        assert!(!policies.permit(&SOMEBODY, elsewhere));
    }

    #[test]
    fn what_the_schema_does_not_have_is_refused_when_it_is_loaded() {
        for bad in [
            r#"@id("a") permit (principal, action == Action::"cal", resource);"#,
            r#"@id("a") permit (principal, action, resource) when { principal.name == "x" };"#,
            r#"@id("a") permit (principal == Publisher::"acme", action, resource);"#,
            // Not every principal has a number.
            r#"@id("a") permit (principal, action, resource) when { principal.uid == 0 };"#,
        ] {
            let parsed = AccessPolicies::parse(&[("bad.cedar", bad)]);
            assert!(matches!(parsed, Err(PolicyError::Invalid { .. })), "{bad}");
        }
    }
}
