//! One answer per transaction, whatever dies: every process is killed again and again under load, and
//! what the client wrote down is compared with all that the books say, to the unit.
//!
//! `cargo test --test torture` is the short form. `make torture` is the long one, on the release
//! binaries: with `BACKSTOP_TORTURE=full` ten minutes of at least 200 kills, an experiment with forced
//! timeouts, and a core that was away for a million payments. A run prints its seed; `BACKSTOP_SEED`
//! asks and strikes the same again, though processes never interleave twice alike.
//!
//! Where the binaries end at the points that `FAILPOINTS` names (the feature `failpoints` of the
//! book and of core), some rounds do that as well; where they do not, these are left out and say so.

mod cluster;
mod postgres;
mod system;

#[path = "claims"]
mod claims {
    pub mod audit;
    pub mod demand;
    pub mod traffic;
}

#[path = "faults"]
mod faults {
    pub mod bombs;
    pub mod clock;
    pub mod ground;
    pub mod load;
    pub mod scene;
    pub mod tally;
    pub mod tls;
}

mod torture {
    pub mod audit;
    pub mod blows;
    pub mod books;
    pub mod demand;
    pub mod dice;
    pub mod experiment;
    pub mod flood;
    pub mod ground;
    pub mod notes;
    pub mod outage;
    pub mod rounds;
    pub mod settled;
    pub mod statement;
    pub mod tampering;
    pub mod traffic;
    pub mod watch;
    pub mod wire;
}

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use torture::audit::SETTLED;
use torture::demand::Demand;
use torture::ground::Store;
use torture::notes::Notes;
use torture::rounds::Form;
use torture::watch::Watch;
use torture::wire::Reply;
use torture::{experiment, outage, tampering};

/// Messages to core are under way at the same time, and PostgreSQL gives numbers of the outbox to each
/// session in hundreds.
const OVERTAKEN_MAX: usize = 1_000;

/// One at a time keeps the machine busy.
static QUIET: Mutex<()> = Mutex::new(());

/// Whether this is the long form.
fn is_full() -> bool {
    std::env::var("BACKSTOP_TORTURE").is_ok_and(|form| form == "full")
}

/// The seed of this run, printed.
fn seed() -> u64 {
    let given = std::env::var("BACKSTOP_SEED").ok();
    let by_chance = || {
        let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
        high ^ low
    };
    let seed = given.map_or_else(by_chance, |seed| seed.parse().expect("BACKSTOP_SEED: a number"));
    println!("seed {seed}: to ask and strike the same again, BACKSTOP_SEED={seed}");
    seed
}

/// A torture: its form, how many kills it takes to be one, and the longest from an answer that was lost
/// with the proxy to the one that came instead.
fn torture(store: Store) -> (Form, usize, Duration) {
    let ms = Duration::from_millis;
    let short = Form {
        store,
        rate: 80,
        connections: 48,
        again_within: ms(3_000),
        every: ms(500),
        round: ms(8_000),
        rounds: if store == Store::Postgres { 2 } else { 1 },
        aborts: 3,
    };
    if !is_full() {
        return (short, 5, ms(15_000));
    }
    let (rounds, deadly_min) = if store == Store::Postgres { (4, 200) } else { (1, 40) };
    let (round, every, again_within, aborts) = (ms(150_000), ms(1_900), ms(20_000), 10);
    let full =
        Form { rate: 300, connections: 128, again_within, every, round, rounds, aborts, ..short };
    (full, deadly_min, ms(2_000))
}

fn every_book_agrees(store: Store) {
    let _quiet = QUIET.lock();
    let (form, deadly_min, loss_max) = torture(store);
    let account = form.play(Demand { seed: seed() });
    println!("{}", account.table(&form));
    let (loss, deadly) = (account.notes.longest_loss, account.hail.deadly);
    let mut complaints = account.complaints();
    if loss > loss_max {
        complaints.push(format!("an answer that died with the proxy came only {loss:?} later"));
    }
    if deadly < deadly_min {
        complaints.push(format!("only {deadly} kills: this was no torture"));
    }
    if !complaints.is_empty() {
        println!("{}", account.logs);
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_id_has_one_answer_and_one_effect_while_everything_is_killed_on_postgresql() {
    every_book_agrees(Store::Postgres);
}

#[test]
fn every_id_has_one_answer_and_one_effect_while_everything_is_killed_on_sqlite() {
    every_book_agrees(Store::Sqlite);
}

#[test]
fn whoever_stands_in_for_a_core_that_is_late_is_settled_with_it() {
    let _quiet = QUIET.lock();
    let seconds = Duration::from_secs(if is_full() { 120 } else { 6 });
    let (rate, connections) = if is_full() { (400, 256) } else { (80, 64) };
    let form = experiment::Form { rate, connections, length: seconds };
    let seen = experiment::run(&form, Demand { seed: seed() });
    println!("{}", seen.table());
    let complaints = [seen.notes.complaints(), seen.findings.complaints.clone()].concat();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let settled: usize = SETTLED.iter().map(|standing| seen.ended(standing)).sum();
    assert!(settled > 0, "somebody stood in");
    assert_eq!(seen.ended("unknown"), 0);
}

#[test]
fn a_core_that_was_away_is_told_of_everything_oldest_first() {
    let _quiet = QUIET.lock();
    let (debts, rate, seconds) = if is_full() { (1_000_000, 100, 5) } else { (3_000, 20, 1) };
    let measure = Duration::from_secs(seconds);
    let seen = outage::run(&outage::Form { debts, connections: 64, rate, measure });
    println!("{}", seen.table());
    assert_eq!(seen.poured.wrong, BTreeMap::new());
    assert_eq!(seen.stand_ins(), debts, "core was away");
    assert_eq!(seen.standings, [("applied".to_owned(), debts)]);
    assert_eq!(seen.set_aside, 0);
    assert!(seen.overtaken <= OVERTAKEN_MAX, "{} were settled before an older one", seen.overtaken);
}

#[test]
fn the_audit_sees_whatever_is_done_to_the_books() {
    let _quiet = QUIET.lock();
    let (calm, unseen) = tampering::unseen(Demand { seed: 7 });
    assert_eq!(calm, [""; 0], "nobody has touched them");
    assert_eq!(unseen, [""; 0]);
}

/// Two answers to one id, and what the client says of that: `durable` of the first, whether the proxy
/// died between them, and of the second its status, its tier and whether it is another decision.
#[test]
fn the_client_notes_what_is_not_as_promised() {
    for (is_durable, dies, status, tier, is_other, complains) in [
        (true, false, 200, "core", false, false),
        (true, true, 200, "core", false, false),
        (true, true, 200, "core", true, true),
        (false, false, 200, "core", true, true),
        (false, true, 200, "core", true, false),
        (true, false, 200, "api", false, true),
        (true, false, 200, "client", false, true),
        (true, false, 503, "core", false, true),
    ] {
        let (mut notes, watch) = (Notes::default(), Watch::default());
        let reply = |status, tier: &str, decision: &str, is_durable: bool| {
            let body = serde_json::json!({
                "id": "order-7", "decision": decision, "decided_by": tier, "cause": null,
                "durable": is_durable, "elapsed_ms": 1.5,
            });
            Reply { status, is_replayed: false, body: body.to_string().into() }
        };
        notes.hear(7, &reply(200, "core", "approve", is_durable), &watch);
        assert_eq!(notes.complaints(), [""; 0]);
        if dies {
            watch.proxy_dies();
        }
        let decision = if is_other { "decline" } else { "approve" };
        notes.hear(7, &reply(status, tier, decision, true), &watch);
        let case = (is_durable, dies, status, tier, is_other);
        assert_eq!(!notes.complaints().is_empty(), complains, "{case:?}: {:?}", notes.complaints());
    }
}
