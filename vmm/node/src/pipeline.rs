//! Pipelines: calls of one deployment after another, each with what the one before answered.
//!
//! ```text
//!   arguments ─► parse/run ─ answer ─► price/quote ─ answer ─► risk/check ─► result
//! ```
//! A pipeline is a name for steps and gives nobody a power: whoever calls it must be permitted to call each of its steps, and each step is
//! an ordinary call with records of its own. The muscles know nothing of it and need no slots for it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use referee_trace::Trace;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::Origin;
use crate::error::NodeError;
use crate::forms::all_from_maps;
use crate::line::Failure;
use crate::messages::arguments;
use crate::node::Node;
use crate::settings::is_name;

/// Most steps of a pipeline.
pub const STEPS_MAX: usize = 16;
/// Most pipelines of a node.
const PIPELINES_MAX: usize = 1024;

/// Steps that are called one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The first is called with the caller's arguments, each other one with the answer of the one before as its only argument.
    #[serde(deserialize_with = "all_from_maps")]
    #[schema(min_items = 1, max_items = 16)]
    pub steps: Vec<Step>,
}

/// A function of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The deployment's name.
    pub deployment: String,
    /// One of its `exports`.
    pub function: String,
}

/// Why a text is no pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pipeline: write DEPLOYMENT/FUNCTION | DEPLOYMENT/FUNCTION, 1 to {STEPS_MAX} of them")]
pub struct NotAPipeline(String);

impl FromStr for Pipeline {
    type Err = NotAPipeline;

    /// `DEPLOYMENT/FUNCTION | DEPLOYMENT/FUNCTION`.
    fn from_str(text: &str) -> Result<Pipeline, NotAPipeline> {
        let wrong = || NotAPipeline(text.to_owned());
        let step = |part: &str| {
            let (deployment, function) = part.trim().split_once('/').ok_or_else(wrong)?;
            match is_name(deployment) && !function.is_empty() && !function.contains(['/', ' ']) {
                true => Ok(Step {
                    deployment: deployment.to_owned(),
                    function: function.to_owned(),
                }),
                false => Err(wrong()),
            }
        };
        let steps = text.split('|').map(step).collect::<Result<Vec<_>, _>>()?;
        match steps.len() <= STEPS_MAX {
            true => Ok(Pipeline { steps }),
            false => Err(wrong()),
        }
    }
}

/// The pipelines of a node, by name.
#[derive(Debug, Default)]
pub(crate) struct Pipelines(RwLock<BTreeMap<String, Arc<Pipeline>>>);

impl Pipelines {
    pub(crate) fn of(kept: Vec<(String, Pipeline)>) -> Pipelines {
        let all = kept
            .into_iter()
            .map(|(name, pipeline)| (name, Arc::new(pipeline)));
        Pipelines(RwLock::new(all.collect()))
    }

    pub(crate) fn all(&self) -> Vec<(String, Arc<Pipeline>)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(name, pipeline)| (name.clone(), Arc::clone(pipeline)))
            .collect()
    }

    /// # Errors
    /// [`NodeError::NoPipeline`].
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Pipeline>, NodeError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name)
            .cloned()
            .ok_or_else(|| NodeError::NoPipeline(name.to_owned()))
    }

    pub(crate) fn put(&self, name: &str, pipeline: Option<Pipeline>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match pipeline {
            Some(pipeline) => all.insert(name.to_owned(), Arc::new(pipeline)),
            None => all.remove(name),
        };
    }

    fn has_room_for(&self, name: &str) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.len() < PIPELINES_MAX || all.contains_key(name)
    }

    /// Refuses what no call could go through, and one more than there may be.
    ///
    /// # Errors
    /// [`NodeError`].
    pub(crate) fn check(&self, node: &Node, name: &str, pipeline: &Pipeline) -> Result<(), NodeError> {
        let invalid = |name: &str, message: String| {
            Err(NodeError::Rejected {
                name: name.into(),
                message,
            })
        };
        if !is_name(name) {
            let message = "a pipeline's name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit";
            return invalid("name-invalid", message.into());
        }
        if pipeline.steps.is_empty() || pipeline.steps.len() > STEPS_MAX {
            let count = pipeline.steps.len();
            return invalid(
                "steps-invalid",
                format!("a pipeline has 1 to {STEPS_MAX} steps, and this has {count}"),
            );
        }
        for (at, step) in pipeline.steps.iter().enumerate() {
            let place = place(pipeline, at);
            let Ok(deployment) = node.deployment(&step.deployment) else {
                return invalid("step-unknown", format!("{place}: there is no such deployment"));
            };
            if !deployment.assessment().exports.contains(&step.function) {
                return invalid("step-unknown", format!("{place}: it exports no such function"));
            }
        }
        match self.has_room_for(name) {
            true => Ok(()),
            false => Err(NodeError::Busy {
                what: "pipelines",
                limit: PIPELINES_MAX,
            }),
        }
    }
}

/// `step 2 of 3, price/quote`.
pub(crate) fn place(pipeline: &Pipeline, at: usize) -> String {
    let step = pipeline.steps.get(at).map_or(String::new(), |step| {
        format!("{}/{}", step.deployment, step.function)
    });
    format!("step {} of {}, {step}", at + 1, pipeline.steps.len())
}

/// What a pipeline's call came to.
#[derive(Debug)]
pub(crate) struct Flowed {
    /// The last step's answer, as CBOR.
    pub result: Vec<u8>,
    /// How long the steps had a slot together.
    pub used: Duration,
    /// The last step's number in the logs.
    pub call: u64,
}

/// Which step had no answer, and why.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// The node or the host had none.
    Node(usize, NodeError),
    /// The muscle had none.
    Muscle(usize, Failure),
}

impl Node {
    /// Calls a pipeline. No cell and no slot is held between two steps.
    ///
    /// # Errors
    /// [`Stuck`]; the steps before had their effect.
    pub(crate) async fn flow(
        &self,
        pipeline: &Pipeline,
        mut payload: Vec<u8>,
        trace: &Trace,
    ) -> Result<Flowed, Stuck> {
        let mut flowed = Flowed {
            result: Vec::new(),
            used: Duration::ZERO,
            call: 0,
        };
        for (at, step) in pipeline.steps.iter().enumerate() {
            let stuck = |error| Stuck::Node(at, error);
            let stage = trace.stage("step");
            let deployment = self.deployment(&step.deployment).map_err(stuck)?;
            let function = step.function.clone();
            let reply = self
                .call(deployment, function, payload, stage.call(), Origin::default())
                .await
                .map_err(stuck)?;
            flowed.used = flowed.used.saturating_add(reply.used);
            flowed.call = reply.call;
            flowed.result = reply.result.map_err(|failure| Stuck::Muscle(at, failure))?;
            payload = match at + 1 < pipeline.steps.len() {
                true => arguments(&flowed.result),
                false => Vec::new(),
            };
        }
        Ok(flowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_read_from_its_text() {
        let pipeline: Pipeline = " parse/run| price/quote".parse().expect("is one");
        let steps: Vec<(&str, &str)> = pipeline
            .steps
            .iter()
            .map(|step| (step.deployment.as_str(), step.function.as_str()))
            .collect();
        assert_eq!(steps, [("parse", "run"), ("price", "quote")]);
        assert_eq!(place(&pipeline, 1), "step 2 of 2, price/quote");
        for bad in [
            "",
            "a",
            "a/",
            "/f",
            "a/f |",
            "A/f",
            "a/f/g",
            "a/f g",
            "a/f || b/g",
        ] {
            assert!(bad.parse::<Pipeline>().is_err(), "{bad}");
        }
        let steps = |text: &str| serde_json::from_str::<Pipeline>(text).is_ok();
        assert!(steps(r#"{"steps": [{"deployment": "a", "function": "f"}]}"#));
        assert!(!steps(r#"{"steps": [["a", "f"]]}"#), "an array is no step");
        let long = ["a/f"; STEPS_MAX + 1];
        assert!(long.join("|").parse::<Pipeline>().is_err());
        assert!(long[1..].join("|").parse::<Pipeline>().is_ok());
    }
}
