//! `backstop`, the command people type: each subcommand is a module with its `Args` and its `run`.

mod audit;
mod client;
mod config;
mod decide;
mod dir;
mod exchange;
mod fidelity;
mod generate;
mod logs;
mod merchant;
mod operator;
mod reconcile;
mod replay;
mod report;
mod rules;
mod running;
mod status;
mod switch;
mod up;
mod upgrade;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A decision for every transaction, within its budget, whatever is broken.
#[derive(Parser)]
#[command(name = "backstop", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything: the edge, both stacks, their database; made ready on the first run
    Up(up::Args),
    /// Replace the processes by those of the next release, one after another, while they serve
    Upgrade(upgrade::Args),
    /// Send requests to the other stack, and see which one serves
    Switch(switch::Args),
    /// Show who switched what, when and why
    Audit(audit::Args),
    /// Show what runs
    Status(status::Args),
    /// Ask for one decision, from flags
    Decide(decide::Args),
    /// Send a file of transactions, each at the moment it is due, and report
    Replay(replay::Args),
    /// Make a file of transactions to replay
    Generate(generate::Args),
    /// Show where the time of one decision went
    Why(why::Args),
    /// Show how often the fallbacks say what core says, on live requests
    Fidelity(fidelity::Args),
    /// Show what a merchant was told and what the books say of it, side by side
    Reconcile(reconcile::Args),
    /// Add or remove a merchant, rotate or revoke its keys, list them all
    Merchant(merchant::Args),
    /// Show what the processes logged
    Logs(logs::Args),
    /// Write, check, test, price and try the rules
    Rules(rules::Args),
    /// Check backstop.toml, merchants.toml and the rules
    Config(config::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Installed twice is the same provider: nothing to report.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Up(args) => up::run(args).await,
        Command::Upgrade(args) => upgrade::run(args).await,
        Command::Switch(args) => switch::run(args).await,
        Command::Audit(args) => audit::run(&args),
        Command::Status(args) => status::run(args).await,
        Command::Decide(args) => decide::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Generate(args) => generate::run(&args),
        Command::Why(args) => why::run(args).await,
        Command::Fidelity(args) => fidelity::run(args).await,
        Command::Reconcile(args) => reconcile::run(args).await,
        Command::Merchant(args) => merchant::run(args),
        Command::Logs(args) => logs::run(args).await,
        Command::Rules(args) => rules::run(args).await,
        Command::Config(args) => config::run(args),
    }
}
