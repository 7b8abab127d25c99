//! `backstop rules`: what the people who write the rules type. None of it needs a running system but what
//! publishes, and what asks for a request that was decided; none of it but that can reach one.
//!
//! | module | holds |
//! |---|---|
//! | [`folder`] | where the rules are, and the limits they run under |
//! | [`new`], [`types`] | a rule to begin with, and what editors know of it |
//! | [`check`] | what is wrong with the rules, and what to write instead |
//! | [`test`] | the tests that lie beside them |
//! | [`attempt`] | `try`: one request, and everything that became of it |
//! | [`recalled`] | a request for it that the running system has decided |
//! | [`books`] | what such a request meets besides: what core could move, and how far history goes back |
//! | [`bench`] | what a decision costs |
//! | [`backtest`] | what would have been decided otherwise |
//! | [`made`] | requests that nobody sent |
//! | [`publish`] | a draft through its gates and into force; and back |
//! | [`status`], [`follow`] | draft, tried and live at once, and which tier decides by what |

mod attempt;
mod backtest;
mod bench;
mod books;
mod check;
mod folder;
mod follow;
mod made;
mod new;
mod publish;
mod recalled;
mod status;
mod test;
mod types;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use self::folder::Folder;
use crate::replay::error::ReplayError;

/// Some of it is not as it must be.
const REFUSED: u8 = 1;
/// It could not be tried.
const FAILED: u8 = 2;
/// It was done, and a tier that runs does not follow.
const UNFOLLOWED: u8 = 3;

/// Exits with 0 when all is well, with 1 when the rules are not, with 2 when there is no telling, and with 3
/// when they are published and a tier that runs does not follow.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write a rule to begin with: policy, default, test, and settings for editors
    New(new::Args),
    /// Say what is wrong with the rules: file, line, and what to write instead
    Check,
    /// Write what a rule sees and may return, for editors
    Types,
    /// Run the tests in tests/
    Test(test::Args),
    /// Decide one request, from a file or by its id, and show what was read, what would move, time and memory
    Try(attempt::Args),
    /// Say what a decision costs; refused when it is over its slice
    Bench(bench::Args),
    /// Decide a file of requests, and show what would have been decided otherwise
    Backtest(backtest::Args),
    /// Take the rules through check, test, bench and backtest, and put them in force: into the shadow, for a share of the accounts, or live
    Publish(publish::Args),
    /// Take the last step back: what is tried, or else what is live
    Rollback(publish::Back),
    /// Show the draft, what is tried, what is live, and what each tier decides by
    Status(status::Args),
}

/// Runs the command, on a thread that may wait for files.
pub async fn run(args: Args) -> ExitCode {
    let done = tokio::task::spawn_blocking(move || args.run()).await;
    let outcome = done.unwrap_or_else(|lost| Err(RulesError::Run(lost.into())));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            eprintln!("error: {error}");
            let is_done = matches!(error, RulesError::Unfollowed);
            ExitCode::from(if is_done { UNFOLLOWED } else { FAILED })
        }
    }
}

impl Args {
    /// Whether all is well.
    fn run(&self) -> Result<bool, RulesError> {
        let folder = &self.folder;
        match &self.action {
            Action::New(args) => new::run(folder, args),
            Action::Check => check::run(folder),
            Action::Types => types::run(folder),
            Action::Test(args) => test::run(folder, args),
            Action::Try(args) => attempt::run(folder, args),
            Action::Bench(args) => bench::run(folder, args),
            Action::Backtest(args) => backtest::run(folder, args),
            Action::Publish(args) => publish::run(folder, args),
            Action::Rollback(args) => publish::roll_back(folder, args),
            Action::Status(args) => {
                status::run(folder, args);
                Ok(true)
            }
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
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A file cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// A file of requests is not one.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A request to try is none.
    #[error("{file}: {wrong}")]
    Case { file: String, wrong: String },
    /// There is no such request in the books, or nobody tells.
    #[error(transparent)]
    Recall(#[from] recalled::RecallError),
    /// The name of a rule to begin with is taken or none.
    #[error("{0}")]
    Name(String),
    /// There is nothing to do.
    #[error("{0}")]
    Nothing(String),
    /// The edge was not told, or did not do it.
    #[error(transparent)]
    Edge(#[from] crate::operator::OperatorError),
    /// The edge did it, and a tier that runs was not seen to.
    #[error(
        "it is published, and not every tier that runs follows it yet; see `backstop rules status`"
    )]
    Unfollowed,
    /// The machine gave no thread, or one of them broke.
    #[error("cannot go on: {0}")]
    Run(#[source] std::io::Error),
}
