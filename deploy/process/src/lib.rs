//! What every Backstop process does alike: logs, what a panic means, when to stop, metrics, and how often its
//! fallback agrees with core, and the sockets between the tiers.

pub mod doors;
mod faults;
mod fidelity;
mod files;
mod lifeline;
mod logs;
pub mod metrics;
mod panic;
mod runtime;
mod socket;

pub use faults::Faults;
pub use fidelity::Fidelity;
pub use lifeline::{HAND_OVER, Order, Orders, lifeline};
pub use logs::Logs;
pub use metrics::Metrics;
pub use panic::Panic;
pub use runtime::runtime;
pub use socket::Socket;

/// Opens the logs and installs the panic hook; the first thing that `main` does.
///
/// Keep what it returns until the process ends: dropped, it waits a moment for the last lines.
pub fn start(process: &'static str, stack: Option<&str>, panic: Panic) -> Logs {
    let name = stack.map_or_else(|| process.to_owned(), |stack| format!("{process}-{stack}"));
    let logs = logs::open(&name);
    panic::install(name, panic);
    files::raise_limit();
    logs
}

#[cfg(test)]
mod tests;
