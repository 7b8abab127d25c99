//! What a panic means. In core and api it ends the process: the supervisor restarts it and its caller
//! answers meanwhile, which is better than going on with half a state. The edge contains it.

use std::backtrace::Backtrace;
use std::io::Write as _;

/// What follows a panic, once it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panic {
    /// The process ends at once.
    Abort,
    /// The task that panicked ends; the process goes on.
    Contain,
}

/// Logs every panic as one line, straight to stderr: the queue of logs may never be written again.
pub fn install(process: String, panic: Panic) {
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload_as_str().unwrap_or("a panic without words").escape_debug();
        let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
        let trace = Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("{trace}").replace('\n', " | "),
            _ => String::new(),
        };
        let now = crate::logs::now();
        // Nothing is left to do about a stderr that is gone.
        let _ =
            writeln!(std::io::stderr(), "{now} ERROR {process} panicked: {payload}{place}{trace}");
        if panic == Panic::Abort {
            std::process::abort();
        }
    }));
}
