//! What the service says of itself on standard error, which the service manager takes into its journal.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Something that an operator should see, at the journal's level of warnings (sd-daemon(3)).
pub(crate) fn problem(message: &str) {
    say("<4>", message);
}

/// Something that an operator may want to know.
pub(crate) fn notice(message: &str) {
    say("<6>", message);
}

/// Problems that others can make happen as often as they like: of those that come soon after one that was said, only the number is.
#[derive(Debug, Default)]
pub(crate) struct Rarely(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    said_at: Option<Instant>,
    since: u64,
}

impl Rarely {
    pub(crate) fn problem(&self, message: &str) {
        if let Some(message) = self.due(message, Instant::now()) {
            problem(&message);
        }
    }

    fn due(&self, message: &str, now: Instant) -> Option<String> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if untold
            .said_at
            .is_some_and(|at| now.saturating_duration_since(at) < QUIET)
        {
            untold.since += 1;
            return None;
        }
        untold.said_at = Some(now);
        match std::mem::take(&mut untold.since) {
            0 => Some(message.to_owned()),
            since => Some(format!(
                "{message}; and {since} more times since it was last said"
            )),
        }
    }
}

/// How long after a problem others of its kind are only counted.
const QUIET: Duration = Duration::from_secs(5);

fn say(level: &str, message: &str) {
    use std::io::Write;
    // Without a journal the level is noise.
    let level = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => level,
        None => "",
    };
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{level}referee-vmm: {}", one_line(message));
}

/// Most characters of a message.
const MESSAGE_MAX: usize = 2048;

/// A message as one line: some of it may come from a client or a worker, which must not write lines of its own into the journal.
fn one_line(message: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    message.chars().take(MESSAGE_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_make_happen_is_said_once_in_a_while() {
        let rarely = Rarely::default();
        let begun = Instant::now();
        assert_eq!(rarely.due("full", begun).as_deref(), Some("full"));
        for _ in 0..3 {
            assert_eq!(rarely.due("full", begun + QUIET / 2), None);
        }
        assert_eq!(
            rarely.due("full", begun + QUIET).as_deref(),
            Some("full; and 3 more times since it was last said")
        );
        assert_eq!(rarely.due("full", begun + QUIET * 2).as_deref(), Some("full"));
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\n<0>b\x1b[2J"), "a <0>b [2J");
        assert_eq!(
            one_line(&"é".repeat(MESSAGE_MAX + 1)).chars().count(),
            MESSAGE_MAX
        );
    }
}
