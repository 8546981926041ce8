//! What a deployment is told beside its bundle.

use serde::{Deserialize, Serialize};

use crate::error::NodeError;

/// Most cells of one deployment: beyond that, what the kernel does for every VM of a process when memory changes costs too much.
pub const CELLS_MAX: usize = 128;

/// A deployment's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `NAME=THING` for each slot that needs one, as `--bind` takes them.
    pub bindings: Vec<String>,
    /// Calls that may be under way at once, each in a cell of its own.
    pub cells: usize,
    /// Cells that are kept loaded ahead while the worker is there.
    pub ahead: usize,
    /// Whether each call has a cell as it was just started; otherwise a cell keeps its memory from call to call.
    pub fresh: bool,
    /// Lowers the wall-clock time of each call, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Lowers the CPU time of each call, in milliseconds.
    pub cpu_ms: Option<u64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            bindings: Vec::new(),
            cells: 4,
            ahead: 0,
            fresh: true,
            deadline_ms: None,
            cpu_ms: None,
        }
    }
}

impl Settings {
    /// Refuses settings without sense.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with the name `settings-invalid`.
    pub fn check(&self) -> Result<(), NodeError> {
        let wrong = |message: String| {
            Err(NodeError::Rejected {
                name: "settings-invalid".into(),
                message,
            })
        };
        match self {
            _ if self.cells == 0 || self.cells > CELLS_MAX => {
                wrong(format!("cells must be 1 to {CELLS_MAX}, and is {}", self.cells))
            }
            _ if self.ahead > self.cells => wrong(format!(
                "ahead must be no more than cells, {}, and is {}",
                self.cells, self.ahead
            )),
            _ => Ok(()),
        }
    }
}

/// Whether this can be a deployment's name: 1 to 64 of `a-z 0-9 . _ -`, a letter or digit first.
pub(crate) fn is_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|byte| first(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "order-risk", "0.x_y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", ".a", "A", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn settings_without_sense_are_refused() {
        let with = |cells, ahead| Settings {
            cells,
            ahead,
            ..Settings::default()
        };
        assert!(Settings::default().check().is_ok());
        for bad in [with(0, 0), with(CELLS_MAX + 1, 0), with(2, 3)] {
            assert!(matches!(bad.check(), Err(NodeError::Rejected { name, .. }) if name == "settings-invalid"));
        }
    }
}
