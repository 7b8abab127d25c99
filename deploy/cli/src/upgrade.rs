//! `backstop upgrade`: the processes of a running system, one after another, by those of the next release,
//! while it serves.

use std::path::PathBuf;
use std::process::ExitCode;

use backstop_settings::{Layout, STACKS};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::dir::Dir;
use crate::up::{Order, Told};

/// It did not go as wished; what was said says how far it went.
const FAILED: u8 = 1;
/// Nothing was tried.
const REFUSED: u8 = 2;
/// How often `up` is told until it says something.
const TRIES_MAX: u32 = 3;

/// Replaces core and api of the stack that is not active, then of the active one, then the proxy, each
/// while it serves. The first that fails ends it, and serves on as it was. A restart of `up` itself goes by
/// backstop.toml and the programs beside `backstop` again.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The folder of the new programs [default: where those that run lie]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Replace only these
    #[arg(long, value_parser = ["proxy", "api", "core"])]
    only: Option<String>,
    /// Replace only what belongs to this stack
    #[arg(long, value_parser = STACKS)]
    stack: Option<String>,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
enum UpgradeError {
    /// No `up` answers.
    #[error("nothing runs in {}: {source}; start it with `backstop up`", dir.display())]
    NotRunning {
        /// The directory.
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The folder is none.
    #[error("--binaries {}: {source}", folder.display())]
    Folder {
        /// As it was given.
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// `up` went away, or does not know the order.
    #[error(
        "`backstop up` broke off; if it is of an earlier release it cannot upgrade: restart it"
    )]
    BrokeOff,
}

/// Orders an upgrade, and prints what becomes of it. The exit code is 1 when a process was not replaced, 2
/// when none was tried.
pub async fn run(args: Args) -> ExitCode {
    match order(&args.dir.layout(), args.binaries, args.only, args.stack).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

async fn order(
    layout: &Layout,
    binaries: Option<PathBuf>,
    only: Option<String>,
    stack: Option<String>,
) -> Result<bool, UpgradeError> {
    let absolute = |folder: PathBuf| {
        let found = std::fs::canonicalize(&folder);
        found.map_err(|source| UpgradeError::Folder { folder, source })
    };
    let binaries = binaries.map(absolute).transpose()?;
    let order = Order { binaries, only, stack };
    for _ in 0..TRIES_MAX {
        if let Some(is_done) = tell(layout, &order).await? {
            return Ok(is_done);
        }
    }
    Err(UpgradeError::BrokeOff)
}

/// Tells `up`, and prints what it says of it, until the last word; `None` when it said nothing, which is how
/// it looks when the order came too late on a machine that is busy.
async fn tell(layout: &Layout, order: &Order) -> Result<Option<bool>, UpgradeError> {
    let dir = layout.root().to_owned();
    let stream = UnixStream::connect(layout.up_socket()).await;
    let stream = stream.map_err(|source| UpgradeError::NotRunning { dir, source })?;
    let (read, mut write) = stream.into_split();
    let order = serde_json::to_string(order).unwrap_or_default() + "\n";
    if write.write_all(order.as_bytes()).await.is_err() {
        return Ok(None);
    }
    let mut lines = BufReader::new(read).lines();
    // The first line is the status, which everybody gets.
    let _status = lines.next_line().await;
    let mut was_told = false;
    while let Ok(Some(line)) = lines.next_line().await {
        was_told = true;
        match serde_json::from_str(&line) {
            Ok(Told::Said(words)) => println!("{words}"),
            Ok(Told::Done(words)) => {
                println!("{words}");
                return Ok(Some(true));
            }
            Ok(Told::Failed(why)) => {
                eprintln!("error: {why}");
                return Ok(Some(false));
            }
            Err(_of_a_later_release) => {}
        }
    }
    if was_told { Err(UpgradeError::BrokeOff) } else { Ok(None) }
}
