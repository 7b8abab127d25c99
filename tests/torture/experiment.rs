//! The experiment that the classic stack fails: timeouts are forced, so that tiers stand in although
//! core decides later. There, all of 607 stand-ins were also committed, and nothing knew. Here every one
//! of them is settled, and the books say what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::audit::{Audit, Findings, SETTLED};
use super::blows::CORE;
use super::books::Books;
use super::demand::Demand;
use super::ground::{Ground, MERCHANT, Store};
use super::notes::Notes;
use super::settled::settled;
use super::traffic::Traffic;
use super::watch::Watch;
use crate::postgres::Frozen;

/// Longer than a budget, so that somebody stands in; and then core goes on with what it has.
const HOLD: Duration = Duration::from_millis(450);
/// Long enough for a breaker to close again, so that core is asked, and late, the next time.
const CALM: Duration = Duration::from_millis(1_400);

/// How hard and how long.
pub struct Form {
    pub rate: u32,
    pub connections: usize,
    pub length: Duration,
}

/// What makes core late.
#[derive(Clone, Copy, Debug)]
enum Late {
    /// Its database stands still, perhaps amid a commit.
    Database,
    /// It stands still itself.
    Core,
    /// Somebody holds rows that many want.
    Rows,
}

impl Late {
    fn strike(self, ground: &Ground) {
        let Books::Server(server) = &ground.books else { return };
        match self {
            Self::Database => {
                let _frozen = Frozen::stop(server.cluster);
                sleep(HOLD);
            }
            Self::Core => {
                let pid = ground.send(CORE, Signal::SIGSTOP).expect("nobody killed it");
                sleep(HOLD);
                kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
            }
            Self::Rows => {
                let rows = "SELECT count(*) FROM (SELECT FROM history FOR UPDATE) AS row";
                let _locks = server.lock(rows);
                sleep(HOLD);
            }
        }
    }
}

/// What was seen.
pub struct Seen {
    pub notes: Notes,
    pub findings: Findings,
    /// How often core was made late.
    pub bursts: usize,
    /// Stand-ins by tier and what became of them; `unknown` is what nobody recorded.
    pub outcomes: BTreeMap<(String, String), usize>,
}

/// Forces timeouts under load, then compares all books.
pub fn run(form: &Form, demand: Demand) -> Seen {
    let expected = usize::try_from(form.length.as_secs()).unwrap() * form.rate as usize;
    let stock = Demand::stock(expected);
    let ground = Ground::open(Store::Postgres, &[]);
    ground.stock_up(&stock);
    let watch = Arc::new(Watch::default());
    let traffic = Traffic {
        door: ground.system.plain,
        key: ground.system.key(false),
        demand,
        first: 0,
        rate: form.rate,
        connections: form.connections,
        again_within: Duration::from_secs(3),
    };
    let running = traffic.start(Notes::default(), watch.clone());
    let (end, mut bursts) = (Instant::now() + form.length, 0);
    while Instant::now() < end {
        sleep(CALM);
        [Late::Database, Late::Core, Late::Rows][bursts % 3].strike(&ground);
        bursts += 1;
    }
    let (notes, asked) = running.stop();
    ground.recover();
    settled(&ground.system);
    let audit =
        Audit { demand, notes: &notes, watch: &watch, ground: &ground, stock: &stock, asked };
    let findings = audit.pass();
    let outcomes = outcomes(&notes, &ground);
    Seen { notes, findings, bursts, outcomes }
}

/// Of each stand-in that the client has, what core's books say became of it.
fn outcomes(notes: &Notes, ground: &Ground) -> BTreeMap<(String, String), usize> {
    let query = format!(
        "SELECT id, coalesce(standing, 'decided') FROM decisions WHERE merchant = '{MERCHANT}'"
    );
    let rows = ground.books.rows(&query).into_iter();
    let rows: BTreeMap<_, _> =
        rows.filter_map(|[id, standing]| Some((Demand::number(&id)?, standing))).collect();
    let mut outcomes = BTreeMap::new();
    for (number, told) in &notes.told {
        let by = told.json()["decided_by"].as_str().unwrap_or_default().to_owned();
        if by == "core" {
            continue;
        }
        let standing = rows.get(number).filter(|it| SETTLED.contains(&it.as_str()));
        let standing = standing.map_or("unknown", String::as_str).to_owned();
        *outcomes.entry((by, standing)).or_default() += 1;
    }
    outcomes
}

impl Seen {
    /// Stand-ins, of any tier, that ended like this.
    pub fn ended(&self, standing: &str) -> usize {
        self.outcomes.iter().filter(|((_, it), _)| it == standing).map(|(_, count)| count).sum()
    }

    /// The whole experiment.
    pub fn table(&self) -> String {
        let stand_ins: usize = self.outcomes.values().sum();
        let settled = stand_ins - self.ended("unknown");
        let cells = self.outcomes.iter();
        let cells: Vec<_> = cells
            .map(|((by, ended), count)| format!("    {by:5} {ended:11} {count:>7}\n"))
            .collect();
        format!(
            "\nforced timeouts: core late {} times, {} ids answered\n{}    {stand_ins} stand-ins, {settled} settled, \
             {} unknown\n",
            self.bursts,
            self.notes.told.len(),
            cells.concat(),
            self.ended("unknown"),
        )
    }
}
