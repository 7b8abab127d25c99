//! The promise under every fault we can think of: each request is answered, with 200, in time, by a
//! tier that says truly who it is and why, on a connection that lives on.
//!
//! A fault is played beside a steady open-loop load. `cargo test --test faults` is the short form, with
//! generous margins; `make faults` plays each for ten seconds at 300/s on the release binaries and
//! prints the table. `BACKSTOP_FAULT=word` plays only the faults with that word in their name.
//!
//! The wall clock is stepped by libfaketime, under the processes alone; where that is not installed, the row is
//! left out and says so. An edge whose clock is an hour off asks the api, too.

mod cluster;
mod postgres;
mod system;

mod faults {
    pub mod bombs;
    pub mod clients;
    pub mod clock;
    pub mod false_api;
    pub mod ground;
    pub mod load;
    pub mod postgres;
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
use faults::{bombs, clients, clock};

/// A fault under which requests are only late is played again, so often in all.
const TRIES: usize = 3;

/// How far an edge's clock is off, in milliseconds.
const HOUR: i64 = 3_600_000;

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
const BROKEN: &[&str] = &["error"];
/// Why an edge stands in for a false api, and the same once its breaker has opened.
const ALONE: [&[Who]; 2] = [&[("edge", &["unavailable"])], &[("edge", GONE)]];
const WAITED: [&[Who]; 2] = [&[("edge", &["deadline"])], &[("edge", FROZEN)]];
const LIED_TO: [&[Who]; 2] = [&[("edge", &["error"])], &[("edge", &["error", "breaker"])]];

const fn expect(may: &'static [Who], must: &'static [Who]) -> Expected {
    Expected { may, must, verdict: "approve", late_max: Duration::from_millis(500) }
}

/// All tiers, asked without TLS.
const fn tiers(name: &'static str, act: Act, may: &'static [Who], must: &'static [Who]) -> Fault {
    let (door, policies): (fn(&Ground) -> Door, _) = (Ground::plain_door, &["payment"]);
    Fault { name, stage: Stage::Tiers, door, act, policies, expected: expect(may, must) }
}

/// An edge alone, for which `act` is the api.
const fn edge(
    name: &'static str,
    act: fn(&Scene) -> Box<dyn Any>,
    [must, may]: [&'static [Who]; 2],
) -> Fault {
    Fault { stage: Stage::Edge, ..tiers(name, Throughout(act), may, must) }
}

/// Rules that break instead of deciding; a tier that stands in breaks as well.
const fn broken(
    name: &'static str,
    (stage, act): (Stage, Act),
    may: &'static [Who],
    must: &'static [Who],
) -> Fault {
    let late_max = Duration::from_secs(2);
    let expected = Expected { verdict: "decline", late_max, ..expect(may, must) };
    Fault { stage, policies: &bombs::NAMES, expected, ..tiers(name, act, may, must) }
}

fn lying(scene: &Scene, lie: Lie) -> Box<dyn Any> {
    Box::new(FalseApi::lying(&scene.api_socket(), lie))
}

const ONLY_CORE: &[Who] = &[CORE];
const CORE_GONE: &[Who] = &[CORE, ("api", GONE), ("edge", FROZEN)];
const CORE_HUNG: &[Who] = &[CORE, ("api", HUNG), ("edge", FROZEN)];
const API_GONE: &[Who] = &[CORE, ("edge", GONE)];
const API_HUNG: &[Who] = &[CORE, ("edge", FROZEN)];
const BOTH_GONE: &[Who] = &[CORE, ("api", GONE), ("edge", GONE)];
/// A rule that computes until it is stopped takes a share of the machine from everybody, so that a tier
/// behind may be late.
const ALL_BROKEN: &[Who] = &[("core", BROKEN), ("api", BROKEN), ("edge", BROKEN)];
const CORE_BROKEN: &[Who] = &[("core", BROKEN)];
const API_BROKEN: &[Who] = &[("api", BROKEN)];
const EDGE_BROKEN: &[Who] = &[("edge", BROKEN)];

/// Nothing broken, and clients that do harm to others.
fn of_clients() -> Vec<Fault> {
    let quiet = |name, door| Fault { door, ..tiers(name, Nothing, ONLY_CORE, ONLY_CORE) };
    let beside = |name, act| tiers(name, During(act), ONLY_CORE, ONLY_CORE);
    vec![
        quiet("none", Ground::plain_door),
        quiet("none, over TLS", Ground::tls_door),
        quiet("the edge's clock an hour ahead", |it| it.api_door(HOUR)),
        quiet("the edge's clock an hour behind", |it| it.api_door(-HOUR)),
        beside("slow headers", clients::slow_headers),
        Fault { door: Ground::tls_door, ..beside("slow handshakes", clients::slow_handshakes) },
        beside("slow bodies", clients::slow_bodies),
        beside("clients that never read", clients::never_reading),
        beside("clients that take nothing over h2", clients::closed_windows),
        beside("clients that vanish", clients::vanishing),
        beside("a flood of connections", clients::flood),
    ]
}

/// Processes that starve, freeze and die; the deaths last, since each makes the next restart later.
fn of_processes() -> Vec<Fault> {
    use processes::{
        hold_the_write_lock, kill_api, kill_core, kill_in_a_loop, stop_api, stop_both, stop_core,
    };
    let tiers = |name, act, may, must| tiers(name, During(act), may, must);
    let mut busy = tiers("every core busy", |_| Ok(()), CORE_HUNG, &[]);
    busy.act = Throughout(|_| Box::new(Busy::start()));
    busy.expected.late_max = Duration::from_secs(3);
    vec![
        busy,
        tiers("database locked", hold_the_write_lock, CORE_HUNG, &[CORE, ("api", HUNG)]),
        tiers("core frozen", stop_core, CORE_HUNG, &[CORE, ("api", HUNG)]),
        tiers("api frozen", stop_api, API_HUNG, API_HUNG),
        tiers("core and api frozen", stop_both, CORE_HUNG, API_HUNG),
        tiers("core killed", kill_core, CORE_GONE, &[CORE, ("api", GONE)]),
        tiers("api killed", kill_api, API_GONE, API_GONE),
        tiers("core and api killed in a loop", kill_in_a_loop, BOTH_GONE, API_GONE),
    ]
}

/// Time must not depend on the wall clock.
fn of_the_clock() -> Vec<Fault> {
    if clock::library().is_none() {
        println!(
            "left out: the clock stepped; install it, on Debian with: sudo apt-get install faketime"
        );
        return Vec::new();
    }
    let fault =
        tiers("the clock stepped an hour, both ways", During(clock::step), ONLY_CORE, ONLY_CORE);
    vec![Fault { stage: Stage::SteppedTiers, ..fault }]
}

/// The books on PostgreSQL, and what may befall it. A restart may be over before anybody has noticed.
fn of_postgresql() -> Vec<Fault> {
    use faults::postgres::{freeze, hold_history, restart};
    let hung: &[Who] = &[CORE, ("api", HUNG)];
    let on =
        |name, act, may, must| Fault { stage: Stage::PostgresTiers, ..tiers(name, act, may, must) };
    vec![
        on("none, on PostgreSQL", Nothing, ONLY_CORE, ONLY_CORE),
        on("PostgreSQL frozen", During(freeze), CORE_HUNG, hung),
        on("PostgreSQL restarted", During(restart), CORE_HUNG, ONLY_CORE),
        on("history in PostgreSQL locked", During(hold_history), CORE_HUNG, &[CORE, ("api", HUNG)]),
    ]
}

fn of_rules() -> Vec<Fault> {
    let (named, stop_core) = (During(bombs::are_named), During(processes::stop_core));
    vec![
        broken("rules break in core", (Stage::BrokenTiers, named), ALL_BROKEN, CORE_BROKEN),
        broken("rules break in api", (Stage::BrokenTiers, stop_core), ALL_BROKEN, API_BROKEN),
        broken("rules break at the edge", (Stage::BrokenEdge, named), EDGE_BROKEN, EDGE_BROKEN),
    ]
}

/// A false api, or none, in place of the real one.
fn of_the_api() -> Vec<Fault> {
    let full = |it: &Scene| Box::new(FalseApi::with_full_backlog(&it.api_socket())) as _;
    vec![
        edge("no api", |_| Box::new(()), ALONE),
        edge("api drips", |it| lying(it, false_api::DRIPS), WAITED),
        edge("api never answers", |it| lying(it, false_api::NEVER_ANSWERS), WAITED),
        edge("api hangs up", |it| lying(it, false_api::HANGS_UP), ALONE),
        edge("api answers garbage", |it| lying(it, false_api::GARBAGE), LIED_TO),
        edge("api answers no decision", |it| lying(it, false_api::NO_DECISION), LIED_TO),
        edge("api answers for another id", |it| lying(it, false_api::ANOTHER_ID), LIED_TO),
        edge("api's body is cut short", |it| lying(it, false_api::TRUNCATED), ALONE),
        edge("api's body is 10 MB", |it| lying(it, false_api::TEN_MEGABYTES), LIED_TO),
        edge("api answers 503", |it| lying(it, false_api::REFUSES), LIED_TO),
        edge("api's backlog is full", full, ALONE),
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
            let (lead, hold, tail) = (ms(300), ms(1000), ms(400));
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

    /// Plays it and looks at everything: the row of the table, and what is wrong but for the delays.
    fn judge(&self, fault: &Fault, ground: &Ground) -> (Row, Vec<String>) {
        let (run, outcome) = self.play(fault, ground);
        let by_core = run.by_core();
        let row = Row::new(fault.name, run, ground.recovered());
        let mut wrong = row.complaints(&fault.expected);
        wrong.extend(ground.discrepancies(&by_core));
        wrong.extend(outcome.err().map(|what| format!("{}: {what}", fault.name)));
        if !wrong.is_empty() || !row.delays(&fault.expected).is_empty() {
            println!("{}:\n{}", fault.name, ground.logs());
        }
        (row, wrong)
    }
}

#[test]
fn every_request_is_answered_in_time_whatever_breaks() {
    let _quiet = QUIET.lock();
    let form = Form::chosen();
    let only = std::env::var("BACKSTOP_FAULT").unwrap_or_default();
    let (mut rows, mut complaints) = (Vec::new(), Vec::new());
    let mut ground: Option<Ground> = None;
    let all =
        [of_clients(), of_processes(), of_the_clock(), of_postgresql(), of_rules(), of_the_api()];
    for fault in all.iter().flatten().filter(|fault| fault.name.contains(&only)) {
        for tries_left in (0..TRIES).rev() {
            let same = ground.take().filter(|it| it.stage == fault.stage && it.stage.is_shared());
            let ground = ground.insert(same.unwrap_or_else(|| Ground::new(fault.stage)));
            let (row, wrong) = form.judge(fault, ground);
            let delays = row.delays(&fault.expected);
            rows.push(row);
            if wrong.is_empty() && !delays.is_empty() && tries_left > 0 {
                println!("{}; played again", delays.join("\n"));
                continue;
            }
            complaints.extend([wrong, delays].concat());
            break;
        }
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
        let expected_of_all = expect(&[CORE], &[]);
        let complaints = [row.complaints(&expected_of_all), row.delays(&expected_of_all)].concat();
        let complaints = complaints.join("\n");
        assert_eq!(complaints.is_empty(), expected.is_empty(), "{name}: {complaints}");
        for part in expected {
            assert!(complaints.contains(part), "{part} in {complaints}");
        }
    }
}
