//! Keeps one process alive: starts it, watches its health, starts it again, replaces it when told to.

mod replace;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use backstop_settings::{Layout, Up};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::board;
use super::doors::Doors;
use super::health::{self, Health};
use super::life::Life;
use super::log_file::LogFile;
use crate::exchange::Place;
use crate::running::{Process, State};

/// The configuration is bad; the process has said what of it.
const BAD_CONFIGURATION: i32 = 2;
/// The database cannot be used.
const DATABASE_UNUSABLE: i32 = 3;

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

/// The wish to have a process replaced, under load, by one of this release.
#[derive(Debug)]
pub struct Replace {
    /// The folder of its program; none: the one it has, where another file may lie by now.
    pub programs: Option<PathBuf>,
    /// Told how it went, and if it did not go, why.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// One process to keep.
pub struct Keeper {
    /// Which one.
    pub process: Process,
    /// Where everything lies.
    pub layout: Layout,
    /// The folder of what to run.
    pub programs: PathBuf,
    /// How.
    pub arguments: Vec<OsString>,
    /// The sockets that it is handed.
    pub doors: Doors,
    /// Where it says that it lives.
    pub health: (Place, &'static str),
    /// The policy that its probes ask for.
    pub probe_policy: String,
    /// Where its state is noted.
    pub place: board::Place,
    /// Delays and limits.
    pub settings: Up,
    /// The stage at which it is to stop.
    pub stops_at: Stage,
    /// The stage that is reached.
    pub stage: watch::Receiver<Stage>,
    /// Wishes to have it replaced.
    pub wishes: mpsc::Receiver<Replace>,
}

/// What runs, and what of it is about to end.
struct Kept {
    log: Arc<Mutex<LogFile>>,
    /// Lives that were replaced, and finish what they have begun.
    leaving: JoinSet<()>,
}

/// Why one life of a process is over.
enum End {
    Exited(io::Result<ExitStatus>),
    Lost,
    Stopped,
    Wish(Replace),
}

impl Keeper {
    /// Keeps the process until its stage is reached.
    pub async fn keep(mut self) {
        let mut backoff = if self.process.is_edge() {
            Backoff::of_edge(&self.settings)
        } else {
            Backoff::new(&self.settings)
        };
        let log = self.layout.log(&self.process.tier, self.process.stack.as_deref());
        let log = Arc::new(Mutex::new(LogFile::new(log, self.settings.log_bytes_max)));
        let mut kept = Kept { log, leaving: JoinSet::new() };
        while self.is_to_run() {
            let mut health = Health::new(Instant::now());
            match self.start(&kept) {
                Ok(life) => {
                    if self.live(life, &mut health, &mut kept).await {
                        break;
                    }
                }
                Err(error) => tracing::error!(process = self.name(), %error, "cannot be started"),
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
        while kept.leaving.join_next().await.is_some() {}
    }

    fn name(&self) -> String {
        self.process.name()
    }

    fn is_to_run(&self) -> bool {
        *self.stage.borrow() < self.stops_at
    }

    /// Resolves once the end has come as far as `stage`.
    async fn reached(&self, stage: Stage) {
        reached(self.stage.clone(), stage).await;
    }

    fn start(&self, kept: &Kept) -> io::Result<Life> {
        let program = self.process.program(&self.programs);
        let life = Life::start(&program, &self.arguments, &self.doors, &kept.log)?;
        self.note_started(&life);
        Ok(life)
    }

    fn note_started(&self, life: &Life) {
        self.place.set(|process| (process.pid, process.state) = (life.pid(), State::Starting));
        tracing::debug!(process = self.name(), pid = life.pid(), "started");
    }

    /// Lives one life of the process. Whether it ended because it was to stop.
    async fn live(&mut self, mut life: Life, health: &mut Health, kept: &mut Kept) -> bool {
        loop {
            match self.watch(&mut life, health).await {
                End::Stopped => {
                    stop(life, self.name(), self.stage.clone()).await;
                    return true;
                }
                End::Lost => {
                    tracing::error!(process = self.name(), "silent for too long: killed");
                    // It is gone when the next one starts: there is one process of a tier and stack.
                    life.kill(&self.name()).await;
                    self.place.note_refusal(None);
                    return false;
                }
                End::Exited(exit) => {
                    self.note_exit(exit, life.last_words().await);
                    return false;
                }
                End::Wish(Replace { programs, done }) => {
                    let replaced = self.replace(&mut life, programs, health, kept).await;
                    // Whoever wished it may have gone.
                    let _ = done.send(replaced);
                }
            }
        }
    }

    async fn watch(&mut self, life: &mut Life, health: &mut Health) -> End {
        let (name, place) = (self.name(), &self.place);
        let on_state = |state: State| {
            if state == State::Hung {
                tracing::warn!(process = name, "alive, but silent");
            } else {
                tracing::debug!(process = name, state = state.as_str(), "state");
            }
            place.set_state(state);
        };
        tokio::select! {
            exit = life.ended() => End::Exited(exit),
            () = health::watch(health, &self.health, &self.settings, on_state) => End::Lost,
            () = reached(self.stage.clone(), self.stops_at) => End::Stopped,
            Some(wish) = self.wishes.recv() => End::Wish(wish),
        }
    }

    fn note_exit(&self, exit: io::Result<ExitStatus>, words: Option<String>) {
        let code = exit.as_ref().ok().and_then(ExitStatus::code);
        let exit = exit.map_or_else(|error| error.to_string(), |exit| exit.to_string());
        let is_refusal = matches!(code, Some(BAD_CONFIGURATION | DATABASE_UNUSABLE));
        // A refusal is said once, by whoever waits for readiness, and stands in the process's own log.
        if is_refusal {
            tracing::debug!(process = self.name(), exit, words, "refused to run");
        } else {
            tracing::warn!(process = self.name(), exit, words, "ended; it is started again");
        }
        self.place.note_refusal(is_refusal.then(|| words.unwrap_or(exit)));
    }
}

/// Resolves once the end has come as far as `stage`.
async fn reached(mut now: watch::Receiver<Stage>, stage: Stage) {
    // A closed channel means that `up` is ending in a way that was not foreseen.
    let _ = now.wait_for(|now| *now >= stage).await;
}

/// Asks the process to stop, and kills it when the last stage comes first.
async fn stop(mut life: Life, name: String, stage: watch::Receiver<Stage>) {
    life.ask_to_stop();
    tokio::select! {
        _ended = life.ended() => {}
        () = reached(stage, Stage::Kill) => {
            tracing::warn!(process = name, "did not stop in time: killed");
            life.kill(&name).await;
        }
    }
}
