//! What is done only where a person looks on: colours, and a line of progress.
//!
//! Whether standard error is a terminal is asked once, at the start, because the question is an `ioctl` that the
//! cell's filters do not allow. `NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb` mean what they mean elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

static ERRORS_IN_COLOUR: OnceLock<bool> = OnceLock::new();

/// Something is wrong and somebody is to blame.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something is not as good as it could be.
pub const WEAK: Style = AnsiColor::Yellow.on_default();
/// All is well.
pub const GOOD: Style = AnsiColor::Green.on_default();

/// Finds out whether standard error takes colours. Must be called before any filter is installed.
pub fn look() {
    ERRORS_IN_COLOUR.get_or_init(|| AutoStream::choice(&stderr()) != ColorChoice::Never);
}

/// Gives `label` in a style if standard error takes colours, and as it is otherwise.
pub fn on_errors(style: Style, label: &str) -> String {
    if ERRORS_IN_COLOUR.get() == Some(&true) {
        format!("{style}{label}{style:#}")
    } else {
        label.to_owned()
    }
}

/// A line on standard error that says how far something is, once that has taken a second. Nothing where no person
/// looks on.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u64,
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    const FIRST: Duration = Duration::from_secs(1);
    const EACH: Duration = Duration::from_millis(200);

    /// Begins; `total` is what will be done at the end.
    pub fn begin(what: String, total: u64) -> Progress {
        Progress {
            what,
            total,
            next: stderr().is_terminal().then(|| Instant::now() + Self::FIRST),
            shown: false,
        }
    }

    /// So much is done.
    pub fn at(&mut self, done: u64) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + Self::EACH);
        self.shown = true;
        let percent = (u128::from(done) * 100)
            .checked_div(self.total.into())
            .map_or(100, |percent| percent.min(100));
        let _ = write!(stderr(), "\r{}: {percent} %", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // Carriage return, then erase the line (ECMA-48, EL).
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
