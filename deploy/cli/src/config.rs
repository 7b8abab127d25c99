//! `backstop config check`: what an operator wrote, checked as `up` would.

use std::path::PathBuf;
use std::process::ExitCode;

use backstop_settings::{Layout, Merchants, Settings};
use clap::Subcommand;

use crate::dir::Dir;
use crate::up::UpError;
use crate::up::preflight::{check_edge_certificate, check_rules};

/// Something is not as it must be.
const REFUSED: u8 = 2;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check backstop.toml, merchants.toml and the rules; print ok or what is wrong
    Check {
        /// The policies and defaults; by default `rules` in the directory
        #[arg(long, value_name = "DIR")]
        rules: Option<PathBuf>,
    },
}

/// Prints `ok`, or the first thing that is wrong.
pub fn run(args: Args) -> ExitCode {
    let Action::Check { rules } = args.action;
    match check(&args.dir.layout(), rules) {
        Ok(()) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

fn check(layout: &Layout, rules: Option<PathBuf>) -> Result<(), UpError> {
    let settings = Settings::load(&layout.settings()).map_err(UpError::Settings)?;
    check_edge_certificate(&settings.edge)?;
    Merchants::load(&layout.merchants()).map_err(UpError::Settings)?;
    let rules = rules.unwrap_or_else(|| layout.rules());
    check_rules(&rules, settings.core.policy_memory_bytes_max).map_err(UpError::Rules)?;
    Ok(())
}
