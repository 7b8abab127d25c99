//! Replacing a process while it serves: its successor starts beside it, shows that it can, and takes its
//! place; only then does the one before finish what it has begun, and end. Until that moment nothing has
//! changed, and a successor that fails is all that is lost.
//!
//! An api or core takes the place by its socket, which rename(2) puts where the other was: whoever connects
//! from then on meets the successor. The edge takes over in two steps, since only one of them may have the
//! book: the one before gives it up, and what arrives meanwhile waits.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use backstop_settings::{DRAIN_TIME_MAX, Settings};
use hyper::StatusCode;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{DATABASE_UNUSABLE, Health, Keeper, Kept, Life, Stage, reached, stop};
use crate::exchange::{ExchangeError, Place, get};
use crate::up::health::ANSWER_TIME_MAX;
use crate::up::ready;

/// How often a successor is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Whoever connected just before the socket's place was taken is accepted, and has sent its request, by then.
const LAST_CALLERS_TIME: Duration = Duration::from_millis(100);
/// What a process that was replaced needs to end, beyond what it waits for.
const END_TIME: Duration = Duration::from_secs(2);
/// The edge waits this long for its successor, beyond the idle time of the connections it still has.
const PASS_ON_TIME: Duration = Duration::from_secs(30);
/// A stack in which core decided before must do so again by then.
const PROVE_TIME_MAX: Duration = Duration::from_secs(5);

/// How often a core is started that finds its database locked, as it may under load on SQLite.
const TRIES_MAX: u32 = 5;

/// Why a successor is not one.
struct Failed {
    why: String,
    /// Another try may find the database free.
    is_of_database: bool,
}

impl Keeper {
    /// Replaces the process by one of `programs`. Where that fails the one before serves on, or again.
    pub(super) async fn replace(
        &mut self,
        life: &mut Life,
        programs: Option<PathBuf>,
        health: &mut Health,
        kept: &mut Kept,
    ) -> Result<(), String> {
        let programs = programs.unwrap_or_else(|| self.programs.clone());
        if self.process.stack.is_none() {
            return self.replace_edge(life, programs, health, kept).await;
        }
        let before = std::mem::replace(&mut self.programs, programs);
        let decided = self.does_core_decide().await;
        let replaced = self.replace_tier(life, decided, health, kept).await;
        let failed = match replaced {
            Err(why) => why,
            // Through the api of the same stack, which has to find its way to the successor.
            Ok(()) if !decided || self.proves_itself().await => return Ok(()),
            Ok(()) => {
                let why = format!("core did not decide within {PROVE_TIME_MAX:?} of it");
                self.programs.clone_from(&before);
                match self.replace_tier(life, false, health, kept).await {
                    Ok(()) => format!("{why}; the release before was started again"),
                    Err(error) => format!("{why}, and going back failed: {error}"),
                }
            }
        };
        self.programs = before;
        Err(failed)
    }

    async fn does_core_decide(&self) -> bool {
        let socket = self.layout.socket("api", self.process.stack.as_deref().unwrap_or_default());
        ready::probe(&Place::Socket(socket), &self.probe_policy).await.is_ok()
    }

    async fn proves_itself(&self) -> bool {
        let until = Instant::now() + PROVE_TIME_MAX;
        while !self.does_core_decide().await {
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Starts the successor beside `life`, and puts it in its place once it answers.
    async fn replace_tier(
        &self,
        life: &mut Life,
        must_decide: bool,
        health: &mut Health,
        kept: &mut Kept,
    ) -> Result<(), String> {
        let mut tries = 1;
        let next = loop {
            let mut next = self.start_beside(kept).map_err(|error| error.to_string())?;
            match self.wait_for(self.answers(must_decide), &mut next, Some(life)).await {
                Ok(()) => break next,
                Err(failed) if failed.is_of_database && tries < TRIES_MAX => tries += 1,
                Err(failed) => return Err(failed.why),
            }
        };
        self.put_in_place().map_err(|error| error.to_string())?;
        let before = std::mem::replace(life, next);
        *health = Health::new(Instant::now());
        self.note_started(life);
        let (name, stage) = (self.name(), self.stage.clone());
        kept.leaving.spawn(async move {
            sleep(LAST_CALLERS_TIME).await;
            leave(before, name, stage, DRAIN_TIME_MAX + END_TIME).await;
        });
        Ok(())
    }

    /// Resolves once the successor of an api or core answers, and decides where it must.
    async fn answers(&self, must_decide: bool) {
        let place = Place::Socket(self.layout.next_socket());
        let must_decide = must_decide && self.process.tier == "api";
        loop {
            let answer = get(&place, self.health.1, ANSWER_TIME_MAX).await;
            let is_alive = answer.is_ok_and(|status| status.is_success());
            let decides = || ready::probe(&place, &self.probe_policy);
            if is_alive && (!must_decide || decides().await.is_ok()) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn replace_edge(
        &mut self,
        life: &mut Life,
        programs: PathBuf,
        health: &mut Health,
        kept: &mut Kept,
    ) -> Result<(), String> {
        let before = std::mem::replace(&mut self.programs, programs);
        let started = self.start_beside(kept).map_err(|error| error.to_string());
        let prepared = match started {
            Ok(mut next) => self.is_prepared(&mut next, Some(life)).await.map(|()| next),
            Err(error) => Err(error),
        };
        let mut next = prepared.inspect_err(|_why| self.programs.clone_from(&before))?;
        life.hand_over().await;
        let serves = async {
            // Any answer at all: it takes requests up once it has the book.
            while !matches!(self.ask_edge().await, Ok(_status)) {
                sleep(LOOK_EVERY).await;
            }
        };
        // The one before ends as soon as it has no connection left.
        let outcome = self.wait_for(serves, &mut next, None).await;
        let failed = match outcome {
            Ok(()) => {
                let former = std::mem::replace(life, next);
                self.let_edge_leave(former, kept);
                None
            }
            Err(Failed { why, .. }) => {
                self.programs = before;
                if get(&self.health.0, self.health.1, ANSWER_TIME_MAX).await.is_ok() {
                    return Err(format!("{why}; the edge before did not hand over, and serves on"));
                }
                let mut again = self.start_beside(kept).map_err(|error| error.to_string())?;
                let prepared = self.is_prepared(&mut again, None).await;
                let former = std::mem::replace(life, again);
                self.let_edge_leave(former, kept);
                Some(match prepared {
                    Ok(()) => format!("{why}; the release before was started again"),
                    Err(error) => format!("{why}, and going back failed: {error}"),
                })
            }
        };
        *health = Health::new(Instant::now());
        self.note_started(life);
        failed.map_or(Ok(()), Err)
    }

    /// The successor of an edge is prepared when it listens for what is passed on: all that it lacks then
    /// is the book.
    async fn is_prepared(&self, next: &mut Life, life: Option<&mut Life>) -> Result<(), String> {
        let listens = async {
            while UnixStream::connect(self.layout.next_socket()).await.is_err() {
                sleep(LOOK_EVERY).await;
            }
        };
        self.wait_for(listens, next, life).await.map_err(|failed| failed.why)?;
        self.put_in_place().map_err(|error| error.to_string())
    }

    async fn ask_edge(&self) -> Result<StatusCode, ExchangeError> {
        get(&Place::Socket(self.layout.edge_socket()), "/", ANSWER_TIME_MAX).await
    }

    fn start_beside(&self, kept: &Kept) -> io::Result<Life> {
        // What an upgrade that broke off left there is nobody's.
        match std::fs::remove_file(self.layout.next_socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let program = self.process.program(&self.programs);
        let beside = [OsString::from("--beside")];
        Life::start(&program, self.arguments.iter().chain(&beside), &self.doors, &kept.log)
    }

    fn put_in_place(&self) -> io::Result<()> {
        let place = match &self.process.stack {
            Some(stack) => self.layout.socket(&self.process.tier, stack),
            None => self.layout.edge_socket(),
        };
        std::fs::rename(self.layout.next_socket(), place)
    }

    /// Waits until the successor is as far as `done` says; else it is ended, and this says why.
    async fn wait_for(
        &self,
        done: impl Future<Output = ()>,
        next: &mut Life,
        life: Option<&mut Life>,
    ) -> Result<(), Failed> {
        let mut is_of_database = false;
        let life_ended = async {
            match life {
                Some(life) => drop(life.ended().await),
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            ready = timeout(self.settings.ready_within, done) => match ready {
                Ok(()) => return Ok(()),
                Err(_elapsed) => format!("it was not ready within {:?}", self.settings.ready_within),
            },
            exit = next.ended() => {
                let code = exit.as_ref().ok().and_then(ExitStatus::code);
                is_of_database = code == Some(DATABASE_UNUSABLE);
                match next.last_words().await {
                    Some(words) => words,
                    None => exit.map_or_else(|error| error.to_string(), |exit| format!("it ended: {exit}")),
                }
            }
            () = life_ended => "the one before ended meanwhile, and is started again".to_owned(),
            () = self.reached(self.stops_at) => "`up` is about to stop".to_owned(),
        };
        next.kill(&self.name()).await;
        Err(Failed { why, is_of_database })
    }

    /// The edge that was replaced still has connections, and passes on what comes in on them.
    fn let_edge_leave(&self, former: Life, kept: &mut Kept) {
        let idle_timeout = Settings::in_force(&self.layout)
            .map_or(Duration::from_hours(1), |(settings, _)| settings.edge.idle_timeout);
        let (name, stage, stops_at) = (self.name(), self.stage.clone(), self.stops_at);
        kept.leaving.spawn(async move {
            let mut former = former;
            let time_max = idle_timeout + DRAIN_TIME_MAX + PASS_ON_TIME;
            tokio::select! {
                _ended = timeout(time_max, former.ended()) => {}
                () = reached(stage.clone(), stops_at) => {}
            }
            // Without effect on what has ended.
            leave(former, name, stage, END_TIME).await;
        });
    }
}

/// Ends a process that was replaced, once it has finished what it began.
async fn leave(life: Life, name: String, stage: watch::Receiver<Stage>, time_max: Duration) {
    let ended = timeout(time_max, stop(life, name.clone(), stage)).await;
    if ended.is_err() {
        // Dropped with its wait, it is killed.
        tracing::warn!(process = name, "was replaced and did not end: killed");
    }
}
