//! What the muscles of a deployment write: the last of it, and a stream of what comes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

/// Lines that a slow follower may be behind before it misses some.
const BEHIND_MAX: usize = 128;
/// What a line takes besides its text, in bytes.
const LINE_COST: usize = 128;

/// A piece of output. Its text is untrusted: control characters but line feed and tab are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The call that it belongs to.
    pub call: u64,
    /// `out` or `err`.
    pub stream: String,
    /// What was written.
    pub text: String,
}

/// One deployment's output.
#[derive(Debug)]
pub(crate) struct Logs {
    kept: Mutex<Kept>,
    bytes_max: usize,
    followers: broadcast::Sender<LogLine>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl Logs {
    /// Keeps about so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Logs {
        Logs {
            kept: Mutex::default(),
            bytes_max,
            followers: broadcast::channel(BEHIND_MAX).0,
        }
    }

    pub(crate) fn push(&self, call: u64, errors: bool, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = LogLine {
            time_ms: now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            call,
            stream: if errors { "err" } else { "out" }.into(),
            text: printable(bytes),
        };
        let mut kept = self.lock();
        kept.bytes += line.text.len() + LINE_COST;
        kept.lines.push_back(line.clone());
        while kept.bytes > self.bytes_max
            && let Some(oldest) = kept.lines.pop_front()
        {
            kept.bytes -= oldest.text.len() + LINE_COST;
        }
        // Sent while the lock is held, so that `read` misses nothing and has nothing twice. Nobody may be listening.
        let _ = self.followers.send(line);
    }

    /// What is kept, and what will come.
    pub(crate) fn read(&self) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let kept = self.lock();
        (kept.lines.iter().cloned().collect(), self.followers.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_kept_and_control_characters_are_not() {
        let logs = Logs::new(8 + LINE_COST);
        for (call, text) in [(1, "first"), (2, "\x1b[2J"), (3, "12345")] {
            logs.push(call, call == 2, text.as_bytes());
        }
        let (lines, _) = logs.read();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["12345"]);
        logs.push(4, true, b"\x1b\r");
        let (lines, _) = logs.read();
        assert_eq!(
            lines
                .last()
                .map(|line| (line.stream.as_str(), line.text.as_str())),
            Some(("err", "\u{fffd}\u{fffd}"))
        );
    }

    #[test]
    fn a_follower_has_everything_once() {
        let logs = Logs::new(1 << 20);
        logs.push(1, false, b"before");
        let (kept, mut coming) = logs.read();
        logs.push(2, false, b"after");
        assert_eq!(kept.len(), 1);
        assert_eq!(coming.try_recv().map(|line| line.text), Ok("after".into()));
        assert!(coming.try_recv().is_err());
    }
}
