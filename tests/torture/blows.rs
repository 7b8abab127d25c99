//! What befalls the processes: they are killed, they freeze, and so does the server of the database.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::books::Books;
use super::dice::Dice;
use super::ground::Ground;
use super::watch::Watch;
use crate::postgres::Frozen;

/// A process: its tier and, but for the proxy, its stack.
pub type Process = (&'static str, &'static str);

pub const PROXY: Process = ("proxy", "");
pub const CORE: Process = ("core", "prod");
const API: Process = ("api", "prod");
/// The stack that serves is struck the most.
const VICTIMS: [Process; 12] = [
    PROXY,
    PROXY,
    PROXY,
    API,
    API,
    API,
    CORE,
    CORE,
    CORE,
    CORE,
    ("api", "old-prod"),
    ("core", "old-prod"),
];

/// One of them.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// `kill -9`; the supervisor starts it again.
    Kill(Process),
    /// It does nothing for a while, wherever it was.
    Stop(Process, Duration),
    /// The server of the database ends at once, and recovers.
    Crash,
    /// No process of that server does anything for a while.
    Freeze(Duration),
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |(tier, stack): Process| format!("{tier} {stack}").trim().to_owned();
        match self {
            Self::Kill(process) => write!(f, "kill {}", name(*process)),
            Self::Stop(process, _) => write!(f, "stop {}", name(*process)),
            Self::Crash => f.write_str("crash PostgreSQL"),
            Self::Freeze(_) => f.write_str("freeze PostgreSQL"),
        }
    }
}

impl Blow {
    /// Mostly kills.
    pub fn rolled(dice: &mut Dice, books: &Books) -> Self {
        let has_server = matches!(books, Books::Server(_));
        let hold = Duration::from_millis(100 + dice.roll(900));
        match dice.roll(100) {
            0..8 if has_server => Self::Crash,
            8..12 if has_server => Self::Freeze(hold),
            12..22 => Self::Stop(dice.pick(&VICTIMS), hold),
            _ => Self::Kill(dice.pick(&VICTIMS)),
        }
    }

    /// Whether something ended by it.
    pub const fn is_deadly(&self) -> bool {
        matches!(self, Self::Kill(_) | Self::Crash)
    }

    /// Strikes; whether there was somebody to strike, since a process may be waiting to start again.
    pub fn strike(self, ground: &Ground, watch: &Watch) -> bool {
        match (self, &ground.books) {
            (Self::Kill(process), _) => {
                if process == PROXY {
                    watch.proxy_dies();
                }
                ground.send(process, Signal::SIGKILL).is_some()
            }
            (Self::Stop(process, hold), _) => {
                let Some(pid) = ground.send(process, Signal::SIGSTOP) else { return false };
                sleep(hold);
                // It may have been killed since.
                kill(Pid::from_raw(pid), Signal::SIGCONT).is_ok()
            }
            (Self::Crash, Books::Server(server)) => {
                server.cluster.crash();
                true
            }
            (Self::Freeze(hold), Books::Server(server)) => {
                let _frozen = Frozen::stop(server.cluster);
                sleep(hold);
                true
            }
            (Self::Crash | Self::Freeze(_), Books::File(_)) => false,
        }
    }
}

/// Blows at random moments, one about `every` so often.
pub struct Hail {
    pub dice: Dice,
    pub every: Duration,
    /// How often each of them struck.
    pub struck: BTreeMap<String, usize>,
    /// How often something was killed or crashed.
    pub deadly: usize,
    /// How often each process was killed, in the rounds until now.
    pub kills: BTreeMap<Process, usize>,
}

impl Hail {
    pub fn new(dice: Dice, every: Duration) -> Self {
        Self { dice, every, struck: BTreeMap::new(), deadly: 0, kills: BTreeMap::new() }
    }

    /// Strikes for so long.
    pub fn fall(&mut self, length: Duration, ground: &Ground, watch: &Watch) {
        let end = Instant::now() + length;
        loop {
            let every = u64::try_from(self.every.as_millis()).unwrap();
            let pause = Duration::from_millis(every / 2 + self.dice.roll(every));
            if Instant::now() + pause > end {
                return sleep(end.saturating_duration_since(Instant::now()));
            }
            sleep(pause);
            let blow = Blow::rolled(&mut self.dice, &ground.books);
            if blow.strike(ground, watch) {
                self.count(blow);
            }
        }
    }

    fn count(&mut self, blow: Blow) {
        *self.struck.entry(blow.to_string()).or_default() += 1;
        self.deadly += usize::from(blow.is_deadly());
        if let Blow::Kill(process) = blow {
            *self.kills.entry(process).or_default() += 1;
        }
    }
}
