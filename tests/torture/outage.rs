//! A core that is away while many are answered without it, and then comes back: everything is settled,
//! oldest first, and whoever asks meanwhile hardly notices.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::blows::CORE;
use super::books::Books;
use super::flood::{Flood, Poured};
use super::ground::{Ground, MERCHANT, Store};
use super::settled::owed;
use crate::faults::load::{Door, Load, Run};
use crate::postgres;
use crate::system::{PATIENCE, fresh_id, payment, until};

/// The database that is always there.
const OF_OPERATORS: &str = "postgres";

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much and how hard.
pub struct Form {
    pub debts: usize,
    pub connections: usize,
    /// The live load beside it, a second.
    pub rate: u32,
    /// How long the live load is measured at a time.
    pub measure: Duration,
}

/// What whoever asked meanwhile saw.
#[derive(Debug, Default)]
pub struct Live {
    name: &'static str,
    latencies: Vec<Duration>,
    by_core: usize,
}

/// What was seen.
pub struct Seen {
    pub poured: Poured,
    progress: Progress,
    /// Debts by their standing in core's books.
    pub standings: Vec<(String, usize)>,
    /// By how many debts one was settled later than a younger one, at most.
    pub overtaken: usize,
    pub live: Vec<Live>,
    pub set_aside: usize,
}

/// Lets core go, pours, lets it return, and measures.
pub fn run(form: &Form) -> Seen {
    let ground = Ground::open(Store::Postgres, &[]);
    ground.recover();
    let mut live = vec![measure(form, &ground, "before")];

    leave(&ground);
    let flood = Flood {
        door: ground.system.plain,
        key: ground.system.key(false),
        total: form.debts,
        connections: form.connections,
    };
    let poured = flood.pour();
    live.push(measure(form, &ground, "while core is away"));
    assert!(owed(&ground.system).unsettled >= form.debts, "{:?}", owed(&ground.system));

    let mut progress = Progress::from(owed(&ground.system).unsettled);
    let mut during = Live { name: "while it is told of them", ..Live::default() };
    admit(&ground, true);
    while !progress.is_done() {
        let load = load(form, &ground).start();
        while !load.is_finished() {
            progress.look(&ground);
            sleep(LOOK_EVERY);
        }
        // Before the first of them arrived, core was still away.
        let run = load.join().unwrap();
        if progress.has_begun() {
            during.add(&run);
        }
    }
    live.push(during);
    live.push(measure(form, &ground, "after"));
    let set_aside = owed(&ground.system).set_aside;
    let (standings, overtaken) = (standings(&ground), overtaken(&ground));
    Seen { poured, progress, standings, overtaken, live, set_aside }
}

/// How core gets on with what it has not heard of.
struct Progress {
    total: usize,
    unsettled: usize,
    changed: Instant,
    began: Option<Instant>,
}

impl Progress {
    fn from(total: usize) -> Self {
        Self { total, unsettled: total, changed: Instant::now(), began: None }
    }

    /// Panics when nothing has changed for too long.
    fn look(&mut self, ground: &Ground) {
        let unsettled = owed(&ground.system).unsettled;
        if unsettled < self.unsettled {
            self.changed = Instant::now();
            self.began.get_or_insert(self.changed);
        }
        // The live load makes debts of its own until core is back.
        self.unsettled = unsettled;
        let waited = self.changed.elapsed();
        assert!(self.is_done() || waited < PATIENCE, "{unsettled} unsettled after {waited:?}");
    }

    const fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    const fn is_done(&self) -> bool {
        self.unsettled == 0
    }

    /// From the first to the last.
    fn took(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| self.changed - began)
    }
}

/// The database lets nobody in, and both cores die of it.
fn leave(ground: &Ground) {
    admit(ground, false);
    ground.send(CORE, Signal::SIGKILL);
    ground.send(("core", "old-prod"), Signal::SIGKILL);
    until("somebody stands in", || {
        let answer = ground.system.decide(&payment(&fresh_id()));
        (answer.json()["decided_by"] != "core").then_some(())
    });
}

fn server(ground: &Ground) -> &postgres::Books<'static> {
    match &ground.books {
        Books::Server(server) => server,
        Books::File(file) => panic!("{} has no server", file.display()),
    }
}

/// Whether the database lets anybody in; who is in is put out.
fn admit(ground: &Ground, is_open: bool) {
    let server = server(ground);
    let (place, query) = server.database.split_once('?').unwrap();
    let (address, name) = place.rsplit_once('/').unwrap();
    let operators = postgres::Books {
        cluster: server.cluster,
        database: format!("{address}/{OF_OPERATORS}?{query}"),
    };
    operators.rows::<0>(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {is_open}"));
    let sessions = format!("pg_stat_activity WHERE datname = '{name}'");
    operators.count(&format!("SELECT count(pg_terminate_backend(pid)) FROM {sessions}"));
}

fn load(form: &Form, ground: &Ground) -> Load {
    Load {
        rate: form.rate,
        length: form.measure,
        connections: 16,
        door: Door::Plain(ground.system.plain),
        key: ground.system.key(false),
        policies: &["payment"],
    }
}

fn measure(form: &Form, ground: &Ground, name: &'static str) -> Live {
    let mut live = Live { name, ..Live::default() };
    live.add(&load(form, ground).start().join().unwrap());
    live
}

fn standings(ground: &Ground) -> Vec<(String, usize)> {
    let query = format!(
        "SELECT coalesce(standing, 'decided'), count(*) FROM decisions \
         WHERE merchant = '{MERCHANT}' AND id LIKE 'debt-%' GROUP BY 1 ORDER BY 1"
    );
    let rows = ground.books.rows(&query).into_iter();
    rows.map(|[standing, count]| (standing, count.parse().unwrap())).collect()
}

/// By the order in which core wrote them down.
fn overtaken(ground: &Ground) -> usize {
    let query = format!(
        "SELECT substr(id, 6) FROM outbox WHERE merchant = '{MERCHANT}' AND id LIKE 'debt-%' ORDER BY seq"
    );
    let (mut youngest, mut worst) = (0, 0);
    for [number] in ground.books.rows(&query) {
        let number: usize = number.parse().unwrap();
        youngest = std::cmp::max(youngest, number);
        worst = std::cmp::max(worst, youngest - number);
    }
    worst
}

impl Live {
    fn add(&mut self, run: &Run) {
        assert!(run.samples.iter().all(|it| it.answer.is_ok()), "everybody was answered");
        self.by_core += run.by_core().len();
        self.latencies.extend(run.samples.iter().map(|sample| sample.latency));
        self.latencies.sort_unstable();
    }

    fn within(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Seen {
    /// Answers without core.
    pub fn stand_ins(&self) -> usize {
        let by_others = self.poured.told.iter().filter(|((_, by, _), _)| by != "core");
        by_others.map(|(_, count)| count).sum()
    }

    /// The whole of it.
    pub fn table(&self) -> String {
        let (debts, took) = (self.stand_ins(), self.progress.took());
        let live: Vec<_> = self
            .live
            .iter()
            .map(|it| {
                format!(
                    "    live {:26} n {:>6}, by core {:>6}, p50 {:?}, p99 {:?}, p100 {:?}\n",
                    it.name,
                    it.latencies.len(),
                    it.by_core,
                    it.within(50),
                    it.within(99),
                    it.within(100)
                )
            })
            .collect();
        format!(
            "\ncore away for {debts} stand-ins, made in {:?} ({:.0}/s): {:?}, {} not durable\n    settled in \
             {:?}, {:.0}/s: {:?}; overtaken by {} at most\n{}",
            self.poured.took,
            debts as f64 / self.poured.took.as_secs_f64(),
            self.poured.told,
            self.poured.undurable,
            took,
            self.progress.total as f64 / took.as_secs_f64(),
            self.standings,
            self.overtaken,
            live.concat(),
        )
    }
}
