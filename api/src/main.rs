//! The process `backstop-api`: one for each stack.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use backstop_api::Config;
use backstop_process::Panic;
use backstop_settings::Layout;
use clap::Parser;

/// The system's allocator took a tenth of a request's CPU here.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Validates, asks core, and decides by policy when core cannot.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The directory of this installation.
    #[arg(long, default_value = ".backstop")]
    dir: PathBuf,
    /// The stack to serve.
    #[arg(long, value_parser = backstop_settings::STACKS)]
    stack: String,
    /// The rules, instead of those in DIR/rules.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Start beside an api that serves: listen on DIR/run/next.sock, which then takes the other's place.
    #[arg(long)]
    beside: bool,
    /// Also listen here, for edges on other hosts; they must show DIR/hop.token.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let Arguments { dir, stack, rules, beside, listen } = Arguments::parse();
    let _logs = backstop_process::start("api", Some(&stack), Panic::Abort);
    let config = match Config::read(Layout::new(dir), stack, rules, listen) {
        Ok(config) => Config { beside, ..config },
        Err(error) => return refuse(&error),
    };
    match backstop_process::runtime(config.settings.threads) {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => refuse(&error),
    }
}

async fn run(config: Config) -> ExitCode {
    match backstop_api::start(config) {
        Ok(api) => {
            backstop_process::lifeline().await;
            api.stop().await;
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}
