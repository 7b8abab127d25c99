//! The process `backstop-core`: one for each stack.
//!
//! It exits with 2 when its configuration or its rules cannot be used, and with 3 when its database
//! cannot: whether that is a reason to refuse or to stand in is for its supervisor to say.

use std::path::PathBuf;
use std::process::ExitCode;

use backstop_core::{Config, CoreError};
use backstop_process::Panic;
use backstop_settings::Layout;
use clap::Parser;

/// The system's allocator took a tenth of a request's CPU here.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The database does the work of the others: one thread keeps it busy, and wakes nobody for it.
const THREADS: usize = 1;

/// Decides, one transaction each.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The directory of this installation.
    #[arg(long, default_value = ".backstop")]
    dir: PathBuf,
    /// The stack to serve.
    #[arg(long, value_parser = backstop_settings::STACKS)]
    stack: String,
    /// The database, instead of the configured one: sqlite:FILE, or the URL of a PostgreSQL database.
    #[arg(long)]
    database: Option<String>,
    /// The rules, instead of those in DIR/rules.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Start beside a core that serves: listen on DIR/run/next.sock, which then takes the other's place.
    #[arg(long)]
    beside: bool,
}

fn main() -> ExitCode {
    let Arguments { dir, stack, database, rules, beside } = Arguments::parse();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let _logs = backstop_process::start("core", Some(&stack), Panic::Abort);
    let run = async {
        let layout = Layout::new(dir);
        let mut config = Config::read(&layout, stack, database, rules)?;
        if beside {
            config.socket = layout.next_socket();
        }
        let core = backstop_core::start(config).await?;
        backstop_process::lifeline().await;
        core.stop().await;
        Ok(())
    };
    let runtime = backstop_process::runtime(THREADS).map_err(CoreError::Thread);
    match runtime.and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.is_of_the_database() { 3 } else { 2 })
        }
    }
}
