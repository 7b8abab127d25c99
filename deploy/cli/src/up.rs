//! `backstop up`: everything, from one command. What is missing is made, what is wrong is said before
//! anything starts, and what dies is started again.
//!
//! | module | holds |
//! |---|---|
//! | [`first_run`], [`certificate`] | making what a directory needs |
//! | [`preflight`] | checking settings, merchants, rules, addresses |
//! | [`doors`] | the sockets that merchants and operators connect to |
//! | [`lock`] | that one `up` runs in a directory, and nothing of an earlier one |
//! | [`keeper`] | one process: its lives, its successors, its end; with [`life`], [`backoff`], [`health`], [`log_file`] |
//! | [`board`], [`control`] | who runs and how, for `backstop status`, and orders of `backstop upgrade` |
//! | [`upgrade`] | one process after another by its next release |
//! | [`ready`] | when it may be called ready |

mod backoff;
mod board;
mod certificate;
mod control;
mod doors;
mod first_run;
mod health;
mod keeper;
mod life;
mod lock;
mod log_file;
pub mod preflight;
mod ready;
mod upgrade;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use backstop_process::Panic;
use backstop_settings::{Layout, write_atomically};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::dir::Dir;
use crate::running::{Process, Running, Status};
use board::Board;
use doors::Doors;
use keeper::{Keeper, Replace, Stage};
use lock::Lock;
use preflight::Plan;
use upgrade::Upgrader;

pub use health::ANSWER_TIME_MAX;
pub use log_file::older;
pub use upgrade::{Order, Told};

/// Nothing was started, or all was ended again, because something is not as it must be.
const REFUSED: u8 = 2;

/// Of `stop_within`, what is kept back to kill what did not stop.
const KILL_TIME: Duration = Duration::from_millis(500);

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Where merchants reach the edge, by TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8443")]
    listen: String,
    /// Where operators reach it: health, metrics, administration
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9901")]
    admin: String,
    /// Where a balancer that ends TLS reaches it, without TLS
    #[arg(long, value_name = "HOST:PORT")]
    listen_plain: Option<String>,
    /// Where the books are: `sqlite:FILE` or `postgres://USER@HOST/NAME`; by default a file in the directory
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The policies and defaults; by default `rules` in the directory
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
}

/// Why `up` did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another one has this directory.
    #[error("{} is in use: `backstop up` runs there with pid {pid}", dir.display())]
    Running {
        /// Of the other one.
        pid: String,
        /// Which directory.
        dir: PathBuf,
    },
    /// The kernel would not take the sockets' paths.
    #[error("{} is longer than the 107 bytes of a socket's path; choose a shorter --dir", .0.display())]
    SocketPath(PathBuf),
    /// A file or directory could not be made or read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file says what it may not.
    #[error(transparent)]
    Settings(backstop_settings::SettingsError),
    /// The rules cannot run.
    #[error(transparent)]
    Rules(backstop_lua::BundleError),
    /// No certificate could be made.
    #[error(transparent)]
    Made(certificate::CertificateError),
    /// A certificate or key that was brought could not be read.
    #[error("{}: no PEM that can be used: {source}", file.display())]
    Pem {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate and its key cannot be served.
    #[error("{}: the certificate and certificate_key of [edge] cannot be served: {source}", file.display())]
    Pair {
        /// The certificate.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The system gave no random bytes.
    #[error("no key could be made: the system gave no random bytes")]
    Random,
    /// A program is not there.
    #[error("{} is missing; the programs of a release lie beside one another", .0.display())]
    Missing(PathBuf),
    /// A program may not be run.
    #[error("{} is not executable", .0.display())]
    NotExecutable(PathBuf),
    /// An address is none.
    #[error("{flag} {address}: no address to listen on; give HOST:PORT, such as 127.0.0.1:8443")]
    Address {
        /// Which one.
        flag: &'static str,
        /// As it was given.
        address: String,
    },
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}; free it, or choose another with {flag}")]
    Listen {
        /// Which one.
        flag: &'static str,
        /// As it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A process said that it cannot run.
    #[error("{0}")]
    Refused(String),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> UpError {
    let path = path.to_owned();
    move |source| UpError::File { path, source }
}

/// Runs everything until a signal ends it.
pub async fn run(args: Args) -> ExitCode {
    let _logs = backstop_process::start("up", None, Panic::Contain);
    match up(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

async fn up(args: &Args) -> Result<(), UpError> {
    let layout = args.dir.layout();
    if let Some(path) = layout.socket_too_long() {
        return Err(UpError::SocketPath(path));
    }
    first_run::make_directories(&layout)?;
    let _lock = Lock::take(&layout).await?;
    first_run::make_files(&layout)?;
    let plan = preflight::check(args, &layout).await?;
    let board = Board::new(Status::stopped(&layout, &plan.listen));
    let control = control::listen(&layout).map_err(at(&layout.up_socket()))?;
    write_run_json(args, &layout, &plan)?;
    let (stage, reached) = watch::channel(Stage::Serve);
    let (mut keepers, mut wishes) = (JoinSet::new(), Vec::new());
    for (process, place) in board.places() {
        let (wish, receiver) = mpsc::channel(1);
        wishes.push((process.clone(), wish));
        let stage = reached.clone();
        keepers.spawn(keeper(args, &layout, &plan, process, place, stage, receiver).keep());
    }
    let upgrader = Arc::new(Upgrader::new(board.clone(), plan.admin, wishes));
    let mut telling = JoinSet::new();
    telling.spawn(control::serve(control, board.clone(), upgrader));
    telling.spawn(board.clone().copy_to(layout.processes()));
    telling.spawn(board.clone().follow(plan.admin));
    let outcome = tokio::select! {
        outcome = serve(&layout, &plan, &board) => outcome,
        () = signalled() => Ok(()),
    };
    stop(&mut keepers, &stage, &board, plan.settings.up.stop_within).await;
    telling.shutdown().await;
    for gone in [layout.run_json(), layout.up_socket()] {
        // What is left is replaced by the next run.
        let _ = std::fs::remove_file(gone);
    }
    outcome
}

/// Says when the system is ready; from then on it only ends by a signal.
async fn serve(layout: &Layout, plan: &Plan, board: &Board) -> Result<(), UpError> {
    let address = format!("https://{}", plan.listen);
    let line = match ready::wait(layout, plan, board).await {
        ready::Outcome::Ready => format!("ready {address}"),
        ready::Outcome::StandingIn(reason) => format!("ready {address} (standing in: {reason})"),
        ready::Outcome::Refused(words) => return Err(UpError::Refused(words)),
    };
    let served = layout.served();
    if !served.exists() {
        let remark = b"This directory has served. From now on it starts whatever is broken.\n";
        write_atomically(&served, remark, 0o644).map_err(at(&served))?;
    }
    // Whoever started us may have stopped reading.
    let _ = writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
    std::future::pending().await
}

fn keeper(
    args: &Args,
    layout: &Layout,
    plan: &Plan,
    process: Process,
    place: board::Place,
    stage: watch::Receiver<Stage>,
    wishes: mpsc::Receiver<Replace>,
) -> Keeper {
    let mut arguments: Vec<OsString> = vec!["--dir".into(), layout.root().into()];
    let mut pass = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
    if let Some(stack) = &process.stack {
        pass("--stack", stack.into());
    } else {
        pass("--listen", plan.listen_address.to_string().into());
        pass("--admin", plan.admin.to_string().into());
        if let Some(plain) = plan.listen_plain {
            pass("--listen-plain", plain.to_string().into());
        }
    }
    if let Some(database) = args.database.as_ref().filter(|_| process.tier == "core") {
        pass("--database", database.into());
    }
    if let Some(rules) = &args.rules {
        pass("--rules", rules.into());
    }
    Keeper {
        layout: layout.clone(),
        programs: plan.programs_of(layout, process.stack.as_deref()),
        arguments,
        doors: if process.stack.is_none() { plan.doors.clone() } else { Doors::default() },
        health: process.health(layout, plan.admin),
        probe_policy: plan.probe_policy.clone(),
        place,
        settings: plan.settings.up.clone(),
        stops_at: if process.stack.is_none() { Stage::StopEdge } else { Stage::StopAll },
        stage,
        wishes,
        process,
    }
}

fn write_run_json(args: &Args, layout: &Layout, plan: &Plan) -> Result<(), UpError> {
    let dir = std::fs::canonicalize(layout.root()).map_err(at(layout.root()))?;
    let named = args.database.as_ref().or(plan.settings.core.database.as_ref());
    let is_postgres = named.is_some_and(|name| name.starts_with("postgres"));
    let running = Running {
        pid: std::process::id(),
        listen: plan.listen.clone(),
        admin: plan.admin,
        listen_plain: plan.listen_plain.map(|address| address.to_string()),
        dir,
        database: if is_postgres { "postgres" } else { "sqlite" }.to_owned(),
    };
    let file = layout.run_json();
    let json = serde_json::to_vec(&running).map_err(io::Error::from).map_err(at(&file))?;
    write_atomically(&file, &json, 0o600).map_err(at(&file))
}

/// Ends everything within `stop_within`: the edge first, so that requests in flight are still decided.
async fn stop(
    keepers: &mut JoinSet<()>,
    stage: &watch::Sender<Stage>,
    board: &Board,
    stop_within: Duration,
) {
    let start = Instant::now();
    let all = async {
        stage.send_replace(Stage::StopEdge);
        let is_edge_down = || {
            let processes = board.status().processes;
            processes.iter().all(|process| process.stack.is_some() || process.pid.is_none())
        };
        while !is_edge_down() && start.elapsed() < stop_within / 2 {
            sleep(Duration::from_millis(10)).await;
        }
        stage.send_replace(Stage::StopAll);
        while keepers.join_next().await.is_some() {}
    };
    let patience = start + stop_within.saturating_sub(KILL_TIME);
    if timeout_at(patience, all).await.is_err() {
        stage.send_replace(Stage::Kill);
        // What the kernel cannot end even now is left to it.
        let _ =
            timeout_at(start + stop_within, async { while keepers.join_next().await.is_some() {} })
                .await;
    }
}

async fn signalled() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => signals.recv().await.map_or((), |()| ()),
            Err(error) => {
                tracing::error!(%error, "a signal cannot be waited for");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}
