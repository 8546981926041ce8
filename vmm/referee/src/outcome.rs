//! How a cell ends.

use referee_cell::FaultReport;

/// How a cell ended.
#[derive(Debug)]
pub enum Outcome {
    /// The muscle exited with this code, 0 to 99.
    Exited(u8),
    /// The muscle broke a rule or its time was over.
    Faulted(Box<FaultReport>),
    /// What it was made for was answered.
    Answered,
    /// Somebody wanted the cell to end.
    Stopped,
}
