//! What goes wrong on a node, by whose fault it is.

use std::error::Error;

use referee::StartError;

/// Why the node did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Bundle, trust store, policy or a binding says no.
    #[error("{message} [{name}]")]
    Rejected {
        /// A stable name for machines.
        name: String,
        /// What, where and what to do.
        message: String,
    },
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// There is no such deployment.
    #[error("there is no deployment `{0}`")]
    NoDeployment(String),
    /// The deployment has no such slot.
    #[error("{0}")]
    NoSlot(String),
    /// There is no such pipeline.
    #[error("there is no pipeline `{0}`")]
    NoPipeline(String),
    /// There is no such snapshot.
    #[error("there is no snapshot `{0}`")]
    NoSnapshot(String),
    /// The muscle exports no such function.
    #[error("the muscle exports no function `{0}`")]
    NoFunction(String),
    /// Policy about the API does not permit it.
    #[error("policy does not permit {who} to {what}; see api.policies")]
    NotPermitted {
        /// Who asked.
        who: String,
        /// For what.
        what: String,
    },
    /// The deployment takes no calls at present.
    #[error("the deployment `{0}` is paused")]
    Paused(String),
    /// More is asked for than the node may hold or do at once.
    #[error("{what}: {limit} is the most")]
    Busy {
        /// Of what there is too much.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// There is not so much memory to give out.
    #[error(
        "{what} can take {wanted} bytes of memory more, and {free} of the {limit} of {limited_by} are left; {advice}"
    )]
    Memory {
        /// For what it was asked.
        what: String,
        /// How much was asked for, in bytes.
        wanted: u64,
        /// How much is left, in bytes.
        free: u64,
        /// Of how much, in bytes.
        limit: u64,
        /// By which key of the configuration.
        limited_by: String,
        /// What to do.
        advice: &'static str,
    },
    /// The node is about to end.
    #[error("the node is ending and takes no more calls")]
    Draining,
    /// The worker process with the call's cell ended.
    #[error("the worker that ran the call {how}; whether the call had an effect is not known")]
    WorkerGone {
        /// How it ended.
        how: String,
    },
    /// The host failed.
    #[error("{what}")]
    Host {
        /// What it failed at.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl NodeError {
    /// Wraps an error of the host.
    pub(crate) fn host<E: Into<Box<dyn Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl FnOnce(E) -> NodeError {
        move |source| NodeError::Host {
            what,
            source: source.into(),
        }
    }

    /// The message with those of its causes.
    pub fn with_causes(&self) -> String {
        with_causes(self)
    }
}

/// An error's message with those of its causes.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<StartError> for NodeError {
    fn from(error: StartError) -> NodeError {
        match error {
            StartError::Rejected { name, message } => NodeError::Rejected {
                name: name.to_owned(),
                message,
            },
            StartError::Host { what, source } => NodeError::Host { what, source },
        }
    }
}

/// Results whose errors are the host's.
pub(crate) trait OrHost<T> {
    /// Says what the host failed at.
    ///
    /// # Errors
    /// [`NodeError::Host`] around the error.
    fn or_host(self, what: &'static str) -> Result<T, NodeError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> OrHost<T> for Result<T, E> {
    fn or_host(self, what: &'static str) -> Result<T, NodeError> {
        self.map_err(NodeError::host(what))
    }
}
