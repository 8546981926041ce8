//! Functions of the embedding program that a muscle may call.

use std::fmt::Display;

use referee_capabilities::HostFunctions;
use referee_policy::Grants;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StartError;
use crate::values;

/// Functions that are offered to a cell. A muscle reaches those that its manifest names in a `functions` slot and policy permits.
///
/// ```
/// let mut functions = referee::Functions::default();
/// functions.register("price", |symbol: String| match symbol.as_str() {
///     "ACME" => Ok(12.5),
///     other => Err(format!("{other} is not traded here")),
/// });
/// ```
#[derive(Debug, Clone, Default)]
pub struct Functions(HostFunctions);

impl Functions {
    /// Offers `function` under this name, in place of one that had it before. Its argument is one value; use a tuple for several. An
    /// argument of another type, and an error of the function, reach the muscle as an error's words and end nothing.
    ///
    /// It is called on the thread that runs the cell, while the muscle waits: its time counts against the muscle's deadline. It must trust
    /// nothing in its argument. If it panics, the muscle's call fails.
    pub fn register<A, R, E>(
        &mut self,
        name: &str,
        function: impl Fn(A) -> Result<R, E> + Send + Sync + 'static,
    ) -> &mut Functions
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Display,
    {
        self.0.insert(name, values::function(function));
        self
    }

    /// Refuses unless everything that was granted is there.
    pub(crate) fn cover(&self, grants: &Grants) -> Result<(), StartError> {
        match grants.function_names().find(|name| !self.0.contains(name)) {
            None => Ok(()),
            Some(name) => Err(StartError::Rejected {
                name: "host-function-missing",
                message: format!(
                    "the muscle was granted the function `{name}`, and none is offered: register it in Inputs::functions"
                ),
            }),
        }
    }

    pub(crate) fn into_inner(self) -> HostFunctions {
        self.0
    }
}
