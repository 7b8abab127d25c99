//! The promise under every fault we can think of: each request is answered, with 200, in time, by a
//! tier that says truly who it is and why, on a connection that lives on.
//!
//! A fault is played beside a steady open-loop load. `cargo test --test faults` is the short form, with
//! generous margins; `make faults` plays each for ten seconds at 300/s on the release binaries and
//! prints the table. `BACKSTOP_FAULT=word` plays only the faults with that word in their name.
//!
//! No fault steps the machine's wall clock: every process would be struck, this one included. In its
//! stead the api is asked by an edge whose clock is an hour off, both ways.

mod system;

mod faults {
    pub mod bombs;
    pub mod clients;
    pub mod false_api;
    pub mod ground;
    pub mod load;
    pub mod processes;
    pub mod scene;
    pub mod tally;
    pub mod tls;
}

use std::any::Any;
use std::sync::Mutex;
use std::time::Duration;

use faults::false_api::{self, FalseApi, Lie, Then};
use faults::ground::{Ground, Stage};
use faults::load::{Door, Load, Run};
use faults::processes::{self, Busy};
use faults::scene::{Outcome, Scene};
use faults::tally::{Expected, Row, Who, table};
use faults::{bombs, clients};

/// One measures at a time.
static QUIET: Mutex<()> = Mutex::new(());

/// A fault, and who may answer while it lasts.
struct Fault {
    name: &'static str,
    stage: Stage,
    door: fn(&Ground) -> Door,
    act: Act,
    policies: &'static [&'static str],
    expected: Expected,
}

/// What breaks, and when.
#[derive(Clone, Copy)]
enum Act {
    Nothing,
    /// From before the first request until after the last.
    Throughout(fn(&Scene) -> Box<dyn Any>),
    /// While requests go on; before and after, nothing is broken.
    During(fn(&Scene) -> Outcome),
}

use Act::{During, Nothing, Throughout};

const CORE: Who = ("core", &[""]);
const FROZEN: &[&str] = &["deadline", "breaker"];
const GONE: &[&str] = &["unavailable", "breaker"];
/// What waited for a core that hung may also see its connection end.
const HUNG: &[&str] = &["deadline", "unavailable", "overload", "breaker"];
/// A rule that broke at the edge, which answers since there is no api.
const BROKEN: &[&str] = &["unavailable", "error", "breaker"];
const LIED_TO: &[&str] = &["error", "breaker"];

const fn expect(may: &'static [Who], must: &'static [Who]) -> Expected {
    Expected { may, must, verdict: "approve", late_max: Duration::from_millis(500) }
}

/// All tiers, asked without TLS.
const fn tiers(name: &'static str, act: Act, may: &'static [Who], must: &'static [Who]) -> Fault {
    let (stage, expected) = (Stage::Tiers, expect(may, must));
    Fault { name, stage, door: |it| Door::Plain(it.plain()), act, policies: &["payment"], expected }
}

/// An edge alone, for which `act` is the api.
const fn edge(name: &'static str, act: fn(&Scene) -> Box<dyn Any>, may: &'static [Who]) -> Fault {
    Fault { stage: Stage::Edge, ..tiers(name, Throughout(act), may, may) }
}

/// The same fault where rules break instead of deciding.
const fn broken(fault: Fault, stage: Stage) -> Fault {
    let expected = Expected { verdict: "decline", ..fault.expected };
    Fault { stage, policies: &bombs::NAMES, expected, ..fault }
}

fn lying(scene: &Scene, lie: Lie) -> Box<dyn Any> {
    Box::new(FalseApi::lying(&scene.api_socket(), lie))
}

fn an_hour_off(ground: &Ground, sign: i64) -> Door {
    Door::Api { socket: ground.api_socket(), clock_off: sign * 3_600_000 }
}

/// Every fault, those of one stage together, the restarts last: each makes the next one wait longer.
fn all() -> Vec<Fault> {
    let core_only: &[Who] = &[CORE];
    let core_gone: &[Who] = &[CORE, ("api", GONE), ("edge", FROZEN)];
    let core_hung: &[Who] = &[CORE, ("api", HUNG), ("edge", FROZEN)];
    let api_gone: &[Who] = &[CORE, ("edge", GONE)];
    let all_gone: &[Who] = &[CORE, ("api", GONE), ("edge", GONE)];
    let api_hung: &[Who] = &[CORE, ("edge", FROZEN)];
    let all_hung: &[Who] = &[CORE, ("api", HUNG), ("edge", FROZEN)];
    let mut busy = tiers("all cores busy", Throughout(|_| Box::new(Busy::start())), all_hung, &[]);
    busy.expected.late_max = Duration::from_secs(3);
    vec![
        tiers("none", Nothing, core_only, core_only),
        Fault { door: Ground::tls, ..tiers("none, over TLS", Nothing, core_only, core_only) },
        Fault { door: |it| an_hour_off(it, 1), ..tiers("edge's clock an hour ahead", Nothing, core_only, core_only) },
        Fault { door: |it| an_hour_off(it, -1), ..tiers("edge's clock an hour behind", Nothing, core_only, core_only) },
        tiers("slow headers", During(clients::slow_headers), core_only, core_only),
        tiers("slow bodies", During(clients::slow_bodies), core_only, core_only),
        tiers("clients that never read", During(clients::never_reading), core_only, core_only),
        tiers("clients that vanish", During(clients::vanishing), core_only, core_only),
        tiers("a flood of connections", During(clients::flood), core_only, core_only),
        busy,
        tiers("database locked", During(processes::hold_the_write_lock), core_hung, &[CORE, ("api", HUNG)]),
        tiers("core frozen", During(processes::stop_core), core_hung, &[CORE, ("api", HUNG)]),
        tiers("api frozen", During(processes::stop_api), api_hung, &[CORE, ("edge", FROZEN)]),
        tiers("core and api frozen", During(processes::stop_both), all_hung, &[CORE, ("edge", FROZEN)]),
        tiers("core killed", During(processes::kill_core), core_gone, &[CORE, ("api", GONE)]),
        tiers("api killed", During(processes::kill_api), api_gone, &[CORE, ("edge", GONE)]),
        tiers("core and api killed in a loop", During(processes::kill_in_a_loop), all_gone, &[CORE, ("edge", GONE)]),
        broken(tiers("rules break in core", Nothing, &[("core", &["error"])], &[("core", &["error"])]), Stage::BrokenTiers),
        broken(tiers("rules break in api", During(processes::stop_core), &[("core", &["error"]), ("api", &["deadline", "unavailable", "error", "breaker"]), ("edge", FROZEN)], &[("api", &["deadline", "error", "breaker"])]), Stage::BrokenTiers),
        broken(tiers("rules break at the edge", Nothing, &[("edge", BROKEN)], &[("edge", BROKEN)]), Stage::BrokenEdge),
        edge("no api", |_| Box::new(()), &[("edge", GONE)]),
        edge("api drips", |it| lying(it, false_api::DRIPS), &[("edge", FROZEN)]),
        edge("api never answers", |it| lying(it, false_api::NEVER_ANSWERS), &[("edge", FROZEN)]),
        edge("api hangs up", |it| lying(it, false_api::HANGS_UP), &[("edge", GONE)]),
        edge("api answers garbage", |it| lying(it, false_api::GARBAGE), &[("edge", LIED_TO)]),
        edge("api answers no decision", |it| lying(it, false_api::NO_DECISION), &[("edge", LIED_TO)]),
        edge("api answers for another id", |it| lying(it, false_api::ANOTHER_ID), &[("edge", LIED_TO)]),
        edge("api's body is cut short", |it| lying(it, false_api::TRUNCATED), &[("edge", GONE)]),
        edge("api's body is 10 MB", |it| lying(it, false_api::TEN_MEGABYTES), &[("edge", LIED_TO)]),
        edge("api answers 503", |it| lying(it, false_api::REFUSES), &[("edge", LIED_TO)]),
        edge("api's backlog is full", |it| Box::new(FalseApi::with_full_backlog(&it.api_socket())), &[("edge", &["unavailable", "deadline", "breaker"])]),
    ]
}

/// How hard and how long.
struct Form {
    is_full: bool,
    rate: u32,
    connections: usize,
    lead: Duration,
    hold: Duration,
    tail: Duration,
}

impl Form {
    fn chosen() -> Self {
        let ms = Duration::from_millis;
        let is_full = std::env::var("BACKSTOP_FAULTS").is_ok_and(|form| form == "full");
        if is_full {
            let (lead, hold, tail) = (ms(2000), ms(5000), ms(3000));
            Self { is_full, rate: 300, connections: 128, lead, hold, tail }
        } else {
            let (lead, hold, tail) = (ms(400), ms(1200), ms(600));
            Self { is_full, rate: 60, connections: 32, lead, hold, tail }
        }
    }

    fn load(&self, fault: &Fault, ground: &Ground) -> Load {
        Load {
            rate: self.rate,
            length: self.lead + self.hold + self.tail,
            connections: self.connections,
            door: (fault.door)(ground),
            key: ground.key.clone(),
            policies: fault.policies,
        }
    }

    /// Plays one fault beside its load: what the load saw, and whether the fault was one.
    fn play(&self, fault: &Fault, ground: &Ground) -> (Run, Outcome) {
        let scene = Scene { ground, hold: self.hold, is_full: self.is_full };
        let _throughout = match fault.act {
            Throughout(act) => Some(act(&scene)),
            Nothing | During(_) => None,
        };
        let load = self.load(fault, ground).start();
        let outcome = match fault.act {
            During(act) => {
                std::thread::sleep(self.lead);
                act(&scene)
            }
            Nothing | Throughout(_) => Ok(()),
        };
        (load.join().unwrap(), outcome)
    }
}

#[test]
fn every_request_is_answered_in_time_whatever_breaks() {
    let _quiet = QUIET.lock();
    let form = Form::chosen();
    let only = std::env::var("BACKSTOP_FAULT").unwrap_or_default();
    let (mut rows, mut complaints) = (Vec::new(), Vec::new());
    let mut ground: Option<Ground> = None;
    for fault in all().iter().filter(|fault| fault.name.contains(&only)) {
        let same = ground.take().filter(|ground| ground.stage == fault.stage);
        let ground = ground.insert(same.unwrap_or_else(|| Ground::new(fault.stage)));
        let (run, outcome) = form.play(fault, ground);
        let row = Row::new(fault.name, run, ground.recovered());
        let mut wrong = row.complaints(&fault.expected);
        wrong.extend(outcome.err().map(|what| format!("{}: {what}", fault.name)));
        if !wrong.is_empty() {
            println!("{}:\n{}", fault.name, ground.logs());
        }
        complaints.extend(wrong);
        rows.push(row);
    }
    println!("{}", table(&rows));
    assert!(!rows.is_empty(), "no fault has {only:?} in its name");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What the load must say of an api, if anything.
const SEEN: [(&str, Lie, &[&str]); 6] = [
    ("honest", false_api::HONEST, &[]),
    ("slow", Lie { pause: Duration::from_millis(1), ..false_api::HONEST }, &["the last answer"]),
    ("closing", Lie { then: Then::Close, ..false_api::HONEST }, &["connections lost"]),
    ("gone", false_api::HANGS_UP, &["0 of 8 answered", "connections lost"]),
    ("refusing", false_api::REFUSES, &["0 of 8 answered", "503"]),
    ("mistaken", false_api::ANOTHER_ID, &["0 of 8 answered", "another's"]),
];

#[test]
fn the_load_sees_what_is_late_lost_or_unanswered() {
    let _quiet = QUIET.lock();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    for (name, lie, expected) in SEEN {
        let _api = FalseApi::lying(&socket, lie);
        let load = Load {
            rate: 40,
            length: Duration::from_millis(200),
            connections: 4,
            door: Door::Api { socket: socket.clone(), clock_off: 0 },
            key: String::new(),
            policies: &["payment"],
        };
        let row = Row::new(name, load.start().join().unwrap(), None);
        let complaints = row.complaints(&expect(&[CORE], &[])).join("\n");
        assert_eq!(complaints.is_empty(), expected.is_empty(), "{name}: {complaints}");
        for part in expected {
            assert!(complaints.contains(part), "{part} in {complaints}");
        }
    }
}
