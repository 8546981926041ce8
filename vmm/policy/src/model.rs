//! A request in Cedar's words: principal, action, resource, context.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Decision as CedarDecision, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    Response, RestrictedExpression,
};

use crate::decision::Applicant;
use crate::policies::PolicySet;

/// One question to policy: an action with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Name of the action in the schema.
    pub action: &'static str,
    /// The context's attributes.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// An attribute of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// What policy said to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Permitted by these.
    Permitted(Vec<String>),
    /// Forbidden by these.
    Forbidden(Vec<String>),
    /// Permitted by none, forbidden by none.
    Silent,
    /// A policy could not be evaluated.
    Failed(Vec<String>),
}

/// The applicant in Cedar's words, asked about many questions.
pub(crate) struct Hearing<'a> {
    policies: &'a PolicySet,
    authorizer: cedar_policy::Authorizer,
    entities: Entities,
    principal: EntityUid,
    resource: EntityUid,
}

impl<'a> Hearing<'a> {
    pub fn new(policies: &'a PolicySet, applicant: &Applicant<'_>) -> Result<Hearing<'a>, Vec<String>> {
        let said = |error: &dyn std::error::Error| vec![error.to_string()];
        let manifest = applicant.manifest;
        let epoch = i64::try_from(manifest.security_epoch).unwrap_or(i64::MAX);
        let principal = uid("Publisher", applicant.publisher).map_err(|error| said(&*error))?;
        let resource = uid("Muscle", &manifest.name).map_err(|error| said(&*error))?;
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let attributes = |pairs: Vec<(&str, RestrictedExpression)>| {
            pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<HashMap<_, _>>()
        };
        let publisher = Entity::new(
            principal.clone(),
            attributes(vec![
                ("name", text(applicant.publisher)),
                ("key_id", text(&applicant.key_id)),
            ]),
            HashSet::new(),
        );
        let muscle = Entity::new(
            resource.clone(),
            attributes(vec![
                ("name", text(&manifest.name)),
                ("version", text(&manifest.version)),
                ("epoch", RestrictedExpression::new_long(epoch)),
            ]),
            HashSet::new(),
        );
        let entities = [
            publisher.map_err(|error| said(&error))?,
            muscle.map_err(|error| said(&error))?,
        ];
        Ok(Hearing {
            policies,
            authorizer: cedar_policy::Authorizer::new(),
            entities: Entities::from_entities(entities, None).map_err(|error| said(&error))?,
            principal,
            resource,
        })
    }

    /// Asks. Anything that goes wrong is [`Verdict::Failed`], which permits nothing.
    pub fn ask(&self, question: &Question) -> Verdict {
        match self.respond(question) {
            Ok(response) => verdict_of(&response),
            Err(error) => Verdict::Failed(vec![error.to_string()]),
        }
    }

    fn respond(&self, question: &Question) -> Result<Response, Box<dyn std::error::Error>> {
        let pairs = question.arguments.iter().map(|(name, argument)| {
            let value = match argument {
                Argument::Text(text) => RestrictedExpression::new_string(text.clone()),
                Argument::Number(number) => RestrictedExpression::new_long(*number),
                Argument::Flag(flag) => RestrictedExpression::new_bool(*flag),
            };
            ((*name).to_owned(), value)
        });
        let request = Request::new(
            self.principal.clone(),
            uid("Action", question.action)?,
            self.resource.clone(),
            Context::from_pairs(pairs)?,
            self.policies.schema.as_ref(),
        )?;
        Ok(self
            .authorizer
            .is_authorized(&request, &self.policies.cedar, &self.entities))
    }
}

impl Question {
    /// A policy that permits just this question to just this applicant.
    pub fn permitting_policy(&self, applicant: &Applicant<'_>) -> String {
        let conditions: Vec<String> = self
            .arguments
            .iter()
            .filter(|(name, _)| *name != "slot")
            .map(|(name, argument)| match argument {
                Argument::Text(text) => format!("context.{name} == {}", quoted(text)),
                Argument::Number(number) => format!("context.{name} <= {number}"),
                Argument::Flag(flag) => format!("context.{name} == {flag}"),
            })
            .collect();
        let when = match conditions.as_slice() {
            [] => String::new(),
            conditions => format!(" when {{ {} }}", conditions.join(" && ")),
        };
        format!(
            "@id(\"{}-{}\") permit (principal == Publisher::{}, action == Action::\"{}\", resource == Muscle::{}){when};",
            applicant.manifest.name,
            self.action,
            quoted(applicant.publisher),
            self.action,
            quoted(&applicant.manifest.name),
        )
    }
}

fn verdict_of(response: &Response) -> Verdict {
    let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
    if !errors.is_empty() {
        // Cedar leaves out a policy that fails, even one that would have forbidden.
        return Verdict::Failed(errors);
    }
    let mut by: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    by.sort();
    match (response.decision(), by.is_empty()) {
        (CedarDecision::Allow, _) => Verdict::Permitted(by),
        (CedarDecision::Deny, true) => Verdict::Silent,
        (CedarDecision::Deny, false) => Verdict::Forbidden(by),
    }
}

pub(crate) fn uid(kind: &str, id: &str) -> Result<EntityUid, Box<dyn std::error::Error>> {
    let name: EntityTypeName = kind.parse()?;
    Ok(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
}

/// A Cedar string literal.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            letter if letter.is_control() => out.extend(letter.escape_unicode()),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
