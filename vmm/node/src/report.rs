//! What the service says of itself on standard error, which the service manager takes into its journal.

/// Something that an operator should see, at the journal's level of warnings (sd-daemon(3)).
pub(crate) fn problem(message: &str) {
    say("<4>", message);
}

/// Something that an operator may want to know.
pub(crate) fn notice(message: &str) {
    say("<6>", message);
}

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
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\n<0>b\x1b[2J"), "a <0>b [2J");
        assert_eq!(
            one_line(&"é".repeat(MESSAGE_MAX + 1)).chars().count(),
            MESSAGE_MAX
        );
    }
}
