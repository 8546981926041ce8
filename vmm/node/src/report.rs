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
    let _ = writeln!(std::io::stderr(), "{level}referee-vmm: {message}");
}
