//! A tree head with the name of its log, as text (c2sp.org/tlog-checkpoint). Extension lines are refused: witnesses do not sign them.

use std::fmt;

use crate::error::TlogError;
use crate::hash::TreeHash;
use crate::note::key_name_is_valid;
use crate::tree::TreeHead;

/// What a log says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log; a URL without scheme, by convention. 1 to 255 bytes, no spaces, no `+`.
    pub origin: String,
    /// Its tree.
    pub head: TreeHead,
}

impl Checkpoint {
    /// Puts the two together.
    ///
    /// # Errors
    /// [`TlogError::Malformed`] when the name cannot be one.
    pub fn new(origin: &str, head: TreeHead) -> Result<Checkpoint, TlogError> {
        if !key_name_is_valid(origin) {
            return Err(TlogError::malformed(
                "checkpoint",
                format!("origin {origin:?}: 1 to 255 bytes, no spaces, no control characters, no +"),
            ));
        }
        Ok(Checkpoint {
            origin: origin.to_owned(),
            head,
        })
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse(text: &str) -> Result<Checkpoint, TlogError> {
        let no = |what: &str| TlogError::malformed("checkpoint", what);
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some("")) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(no("has not three lines: origin, size, root"));
        };
        if lines.next().is_some() {
            return Err(no("has extension lines"));
        }
        let size = decimal(size).ok_or_else(|| no("its size is no decimal number"))?;
        let root = TreeHash::from_base64(root).ok_or_else(|| no("its root is not 32 bytes of base64"))?;
        if size == 0 && root != TreeHash::empty() {
            return Err(no("an empty tree has another root"));
        }
        Checkpoint::new(origin, TreeHead { size, root })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, self.head.root)
    }
}

/// A number as C2SP writes it: ASCII digits, no leading zero, no sign.
pub fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    (digits && plain).then(|| text.parse().ok()).flatten()
}
