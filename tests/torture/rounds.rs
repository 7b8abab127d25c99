//! Kills under load, round after round, and the account of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::audit::{Audit, Findings};
use super::blows::Hail;
use super::demand::Demand;
use super::dice::Dice;
use super::ground::{Ground, Store, has_failpoints};
use super::notes::Notes;
use super::settled::settled;
use super::traffic::Traffic;
use super::watch::Watch;

/// A request passes each of these about once, but that few of them are of an advice: so many times as
/// often it is the last one.
const POINTS: [(&str, f64); 4] = [
    ("book.after_append", 1.0),
    ("core.before_commit", 1.0),
    ("core.after_commit", 1.0),
    ("advice.before_send", 20.0),
];
/// Sets these dice apart from those of the requests.
const HAIL: u64 = 1 << 50;

/// How hard and how long.
pub struct Form {
    pub store: Store,
    /// First attempts a second.
    pub rate: u32,
    pub connections: usize,
    /// The latest that an id is asked for again.
    pub again_within: Duration,
    /// Between two blows, about.
    pub every: Duration,
    /// Of each round; every process is stopped in good order between two.
    pub round: Duration,
    pub rounds: usize,
    /// How often a process ends by itself at each of its points, in every other round, about.
    pub aborts: u32,
}

/// What came of it.
pub struct Account {
    pub notes: Notes,
    pub hail: Hail,
    pub findings: Findings,
    /// What the processes said last.
    pub logs: String,
    asked: usize,
    restarts: u64,
    /// Rounds in which processes could end by themselves, and rounds in which they should have.
    named: usize,
    left_out: usize,
}

impl Form {
    /// Kills under load, then lets everything come to rest, and compares all books.
    pub fn play(&self, demand: Demand) -> Account {
        let seconds = usize::try_from(self.round.as_secs()).unwrap();
        let stock = Demand::stock(seconds * self.rate as usize * self.rounds);
        let failpoints = self.failpoints();
        let mut ground = Ground::open(self.store, &[]);
        ground.stock_up(&stock);
        let hail = Hail::new(Dice::new(demand.seed, HAIL), self.every);
        let mut account = Account {
            notes: Notes::default(),
            hail,
            findings: Findings::default(),
            logs: String::new(),
            asked: 0,
            restarts: 0,
            named: 0,
            left_out: 0,
        };
        let watch = Arc::new(Watch::default());
        for round in 0..self.rounds {
            let may_abort = round % 2 == 1 && account.may_abort(round);
            ground = match round {
                0 => ground,
                _ if may_abort => ground.again(&[("FAILPOINTS", &failpoints)]),
                _ => ground.again(&[]),
            };
            watch.let_abort(may_abort);
            self.round(&ground, &watch, demand, &mut account);
        }
        // Those that ended by themselves do so no more.
        watch.let_abort(false);
        let ground = ground.again(&[]);
        ground.recover();
        settled(&ground.system);
        let (notes, watch, asked) = (&account.notes, &*watch, account.asked);
        let audit = Audit { demand, notes, watch, ground: &ground, stock: &stock, asked };
        account.findings = audit.pass();
        account.logs = ground.system.logs();
        account
    }

    /// As the `fail` crate reads them.
    fn failpoints(&self) -> String {
        let requests = self.round.as_secs_f64() * f64::from(self.rate);
        let percent = 100.0 * f64::from(self.aborts) / requests;
        let point = |(name, often): (&str, f64)| format!("{name}={:.3}%return", percent * often);
        POINTS.map(point).join(";")
    }

    fn round(&self, ground: &Ground, watch: &Arc<Watch>, demand: Demand, account: &mut Account) {
        let lost_before = account.notes.lost;
        let traffic = Traffic {
            door: ground.system.plain,
            key: ground.system.key(false),
            demand,
            first: account.asked,
            rate: self.rate,
            connections: self.connections,
            again_within: self.again_within,
        };
        let running = traffic.start(std::mem::take(&mut account.notes), watch.clone());
        account.hail.fall(self.round, ground, watch);
        (account.notes, account.asked) = running.stop();
        let restarts = ground.restarts();
        account.restarts += restarts.values().sum::<u64>();
        let lost = account.notes.lost - lost_before;
        if lost > 0 && restarts[&("proxy".to_owned(), String::new())] == 0 {
            account.notes.complain(format!("{lost} answers were lost, and no proxy died"));
        }
    }
}

impl Account {
    /// Whether processes can end by themselves; where they can not, that is said.
    fn may_abort(&mut self, round: usize) -> bool {
        let can = has_failpoints();
        if can {
            self.named += 1;
        } else {
            println!("round {round}: no ends at named points, the binaries have no `failpoints`");
            self.left_out += 1;
        }
        can
    }

    /// How often a process ended by itself, at a point that was named for it, at least.
    fn aborts(&self) -> u64 {
        let kills: usize = self.hail.kills.values().sum();
        self.restarts.saturating_sub(kills as u64)
    }

    /// All that was not as promised.
    pub fn complaints(&self) -> Vec<String> {
        let is_tame = self.named > 0 && self.aborts() == 0;
        let tame = is_tame.then(|| "no process ended at a point that was named for it".to_owned());
        let found = [self.notes.complaints(), self.findings.complaints.clone()].concat();
        found.into_iter().chain(tame).collect()
    }

    /// The whole torture.
    pub fn table(&self, form: &Form) -> String {
        let Self { notes, hail, findings, asked, left_out, .. } = self;
        let aborts = self.aborts();
        let list = |counts: &BTreeMap<String, usize>| {
            let each = counts.iter().map(|(name, count)| format!("{count} {name}"));
            each.collect::<Vec<_>>().join(", ")
        };
        let [p50, p99, p100] = [500, 990, 1_000].map(|share| notes.within(share));
        let lines = [
            ("kills and crashes", hail.deadly.to_string()),
            ("blows", list(&hail.struck)),
            ("ends at named points", format!("{aborts}; rounds without: {left_out}")),
            ("ids asked, answered", format!("{asked}, {}", notes.told.len())),
            ("answered by", list(&notes.by_who())),
            ("first answers: p50, p99, p100", format!("{p50:.1?}, {p99:.1?}, {p100:.1?}")),
            ("lost with the proxy", notes.lost.to_string()),
            ("longest from loss to answer", format!("{:.1?}", notes.longest_loss)),
            ("asked again", notes.again.to_string()),
            ("of these said to be replayed", notes.replayed.to_string()),
            ("with another body, refused", notes.refused.to_string()),
            ("not durable", notes.undurable.to_string()),
            ("of these forgotten by a dead proxy", notes.forgotten.to_string()),
            ("of these other in the books", findings.exempt.to_string()),
            ("rows by standing", list(&findings.standings)),
            ("differences", findings.complaints.len().to_string()),
        ];
        let (store, rounds, round, rate) = (form.store, form.rounds, form.round, form.rate);
        let mut text = format!("\n{store:?}: {rounds} rounds of {round:?} at {rate}/s\n");
        for (name, what) in lines {
            let _ = writeln!(text, "  {name:36} {what}");
        }
        text
    }
}
