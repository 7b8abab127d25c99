//! `backstop rules`: what the people who write the rules type. None of it needs a running system, and
//! none of it can reach one.
//!
//! | module | holds |
//! |---|---|
//! | [`folder`] | where the rules are, and the limits they run under |
//! | [`check`] | what is wrong with them, and what to write instead |
//! | [`scene`] | one request with the history and stock it meets, and what the rules make of it |

mod check;
mod folder;
mod scene;

use std::process::ExitCode;

use clap::Subcommand;

use self::folder::Folder;

/// Some of it is not as it must be.
const REFUSED: u8 = 1;
/// It could not be tried.
const FAILED: u8 = 2;

/// Write, check, test, price and try the rules
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say what is wrong with the rules: file, line, and what to write instead
    Check,
}

/// Exits with 0 when all is well, with 1 when the rules are not, and with 2 when there is no telling.
pub fn run(args: &Args) -> ExitCode {
    let outcome = match &args.action {
        Action::Check => check::run(&args.folder),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Why there is no telling.
#[derive(Debug, thiserror::Error)]
enum RulesError {
    /// There is no folder of rules.
    #[error("no rules in {0}; go to a folder that has policies/, or give --rules DIR")]
    Nowhere(String),
    /// The rules cannot be read or used.
    #[error(transparent)]
    Bundle(#[from] backstop_lua::BundleError),
    /// The limits cannot be read.
    #[error(transparent)]
    Settings(#[from] backstop_settings::SettingsError),
    /// The sandbox cannot be asked what is in it.
    #[error("the sandbox cannot be built: {0}")]
    Sandbox(String),
}
