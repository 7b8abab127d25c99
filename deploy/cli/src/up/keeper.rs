//! Keeps one process alive: starts it, holds its lifeline, watches its health, starts it again.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_settings::Up;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::board;
use super::health::{self, Health};
use super::log_file::{self, LogFile};
use crate::exchange::Place;
use crate::running::State;

/// The configuration is bad; the process has said what of it.
const BAD_CONFIGURATION: i32 = 2;
/// The database cannot be used.
const DATABASE_UNUSABLE: i32 = 3;

/// How long the last words of a process that ended are waited for.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// How far the end has come. Each stage ends more, so requests in flight still find the next tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everything is to run.
    Serve,
    /// The edge is to stop.
    StopEdge,
    /// The rest is to stop.
    StopAll,
    /// What has not stopped is killed.
    Kill,
}

/// One process to keep.
pub struct Keeper {
    /// Its name in logs.
    pub name: String,
    /// What to run.
    pub program: PathBuf,
    /// How.
    pub arguments: Vec<OsString>,
    /// Where it says that it lives.
    pub health: (Place, &'static str),
    /// Where its output goes.
    pub log: PathBuf,
    /// Where its state is noted.
    pub place: board::Place,
    /// Delays and limits.
    pub settings: Up,
    /// The stage at which it is to stop.
    pub stops_at: Stage,
    /// The stage that is reached.
    pub stage: watch::Receiver<Stage>,
}

/// One life of the process.
struct Life {
    child: Child,
    /// Closed, it says to stop. Held here, since waiting for a child would close its stdin.
    lifeline: Option<ChildStdin>,
    last_words: oneshot::Receiver<Option<String>>,
}

/// Why one life of a process is over.
enum End {
    Exited(io::Result<ExitStatus>),
    Lost,
    Stopped,
}

impl Keeper {
    /// Keeps the process until its stage is reached.
    pub async fn keep(self) {
        let mut backoff = Backoff::new(&self.settings);
        let log = Arc::new(Mutex::new(LogFile::new(self.log.clone(), self.settings.log_bytes_max)));
        while self.is_to_run() {
            let mut health = Health::new(Instant::now());
            match self.start(&log) {
                Ok(life) => {
                    if self.live(life, &mut health).await {
                        break;
                    }
                }
                Err(error) => tracing::error!(process = self.name, %error, "cannot be started"),
            }
            self.place.set(|process| (process.pid, process.state) = (None, State::Restarting));
            let delay = backoff.after_end(health.healthy_since(), Instant::now());
            tokio::select! {
                () = sleep(delay) => {}
                () = self.reached(self.stops_at) => break,
            }
            self.place.set(|process| process.restarts += 1);
        }
        self.place.set(|process| (process.pid, process.state) = (None, State::Stopped));
    }

    fn is_to_run(&self) -> bool {
        *self.stage.borrow() < self.stops_at
    }

    /// Resolves once the end has come as far as `stage`.
    async fn reached(&self, stage: Stage) {
        let mut reached = self.stage.clone();
        // A closed channel means that `up` is ending in a way that was not foreseen.
        let _ = reached.wait_for(|now| *now >= stage).await;
    }

    fn start(&self, log: &Arc<Mutex<LogFile>>) -> io::Result<Life> {
        let (from, to) = io::pipe()?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(to.try_clone()?)
            .stderr(to)
            // Ctrl-C is for `up` alone: it ends the others in their order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.place.set(|process| {
            (process.pid, process.state) = (child.id(), State::Starting);
        });
        tracing::debug!(process = self.name, pid = child.id(), "started");
        let lifeline = child.stdin.take();
        Ok(Life { child, lifeline, last_words: log_file::copy(from, Arc::clone(log)) })
    }

    /// Lives one life of the process. Whether it ended because it was to stop.
    async fn live(&self, mut life: Life, health: &mut Health) -> bool {
        let on_state = |state: State| {
            if state == State::Hung {
                tracing::warn!(process = self.name, "alive, but silent");
            } else {
                tracing::debug!(process = self.name, state = state.as_str(), "state");
            }
            self.place.set_state(state);
        };
        let end = tokio::select! {
            exit = life.child.wait() => End::Exited(exit),
            () = health::watch(health, &self.health, &self.settings, on_state) => End::Lost,
            () = self.reached(self.stops_at) => End::Stopped,
        };
        match end {
            End::Stopped => {
                self.stop(life).await;
                return true;
            }
            End::Lost => {
                tracing::error!(process = self.name, "silent for too long: killed");
                // It is gone when the next one starts: there is one process of a tier and stack.
                if let Err(error) = life.child.kill().await {
                    tracing::error!(process = self.name, %error, "cannot be killed");
                }
                self.place.note_refusal(None);
            }
            End::Exited(exit) => self.note_exit(exit, life.last_words).await,
        }
        false
    }

    async fn note_exit(
        &self,
        exit: io::Result<ExitStatus>,
        last_words: oneshot::Receiver<Option<String>>,
    ) {
        let words = timeout(LAST_WORDS_TIME_MAX, last_words).await;
        let words = words.ok().and_then(Result::ok).flatten();
        let code = exit.as_ref().ok().and_then(ExitStatus::code);
        let exit = exit.map_or_else(|error| error.to_string(), |exit| exit.to_string());
        let is_refusal = matches!(code, Some(BAD_CONFIGURATION | DATABASE_UNUSABLE));
        // A refusal is said once, by whoever waits for readiness, and stands in the process's own log.
        if is_refusal {
            tracing::debug!(process = self.name, exit, words, "refused to run");
        } else {
            tracing::warn!(process = self.name, exit, words, "ended; it is started again");
        }
        self.place.note_refusal(is_refusal.then(|| words.unwrap_or(exit)));
    }

    /// Asks the process to stop, and kills it when the last stage comes first.
    async fn stop(&self, Life { mut child, lifeline, .. }: Life) {
        drop(lifeline);
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        tokio::select! {
            _ended = child.wait() => {}
            () = self.reached(Stage::Kill) => {
                tracing::warn!(process = self.name, "did not stop in time: killed");
                if let Err(error) = child.kill().await {
                    tracing::error!(process = self.name, %error, "cannot be killed");
                }
            }
        }
    }
}
