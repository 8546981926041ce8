//! What a program gives to a cell.

use referee_capabilities::{BrokerLimits, ChannelLine, ConsoleStreams, Input, Output, TpmQuestions};

use crate::functions::Functions;

/// What a cell is given besides its powers.
#[derive(Debug)]
pub struct Inputs {
    /// Command-line arguments, seen by a muscle with an `args` slot; the first is the program's name.
    pub arguments: Vec<Vec<u8>>,
    /// Environment; of it, a muscle sees what its `env` slots name.
    pub environment: Vec<(String, Vec<u8>)>,
    /// Functions of this program, for a muscle with a `functions` slot.
    pub functions: Functions,
    /// Where its messages go, for a muscle with a `channel` slot: only a node carries any.
    pub channels: Option<ChannelLine>,
    /// Where its questions to the TPM go, for a muscle with an `attest` or `state` slot, if somebody carries them: a node does. Otherwise they go to the
    /// TPM that [`crate::Config::tpm`] names.
    pub tpm: Option<TpmQuestions>,
    /// Where its console leads.
    pub console: ConsoleStreams,
    /// Bounds that hold whatever was granted.
    pub limits: BrokerLimits,
}

impl Default for Inputs {
    /// No arguments, no environment, no functions, a console that leads nowhere.
    fn default() -> Inputs {
        Inputs {
            arguments: Vec::new(),
            environment: Vec::new(),
            functions: Functions::default(),
            channels: None,
            tpm: None,
            console: ConsoleStreams {
                out: Output::Nowhere,
                err: Output::Nowhere,
                input: Input::Empty,
            },
            limits: BrokerLimits::default(),
        }
    }
}
