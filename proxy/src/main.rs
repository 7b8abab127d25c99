//! Reads the configuration, builds the edge, runs it.

use std::process::ExitCode;

use clap::Parser as _;

use backstop_process::Panic;
use backstop_proxy::{Args, Config, run};

/// A tenth to a fifth less CPU a request than the system's allocator, measured on this path.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let _logs = backstop_process::start("proxy", None, Panic::Contain);
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Config::load(args).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
