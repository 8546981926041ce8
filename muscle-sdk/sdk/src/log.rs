//! Log lines with levels, by the `log` facade: `muscle::log::info!("{n} orders")`.
//!
//! Lines go to the host's log with level and target. Before main the level is `Info`; [`set_max_level`] changes it.

pub use log::{Level, LevelFilter, debug, error, info, log_enabled, max_level, set_max_level, trace, warn};

use guest_runtime::console;
use log::{Log, Metadata, Record};

/// Sends each record to the host.
struct HostLog;

static HOST_LOG: HostLog = HostLog;

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                Level::Error => 1,
                Level::Warn => 2,
                Level::Info => 3,
                Level::Debug => 4,
                Level::Trace => 5,
            };
            let _ = console::log(level, record.target(), &alloc::format!("{}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Sets the level above which lines are dropped, and sends the others to the host.
pub fn init(level: LevelFilter) {
    // Refused only when a logger is set already, which then stays.
    let _ = log::set_logger(&HOST_LOG);
    set_max_level(level);
}
