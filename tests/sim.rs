//! The simulator: clients, edges, apis, cores, disks and the network between them in one thread and in
//! virtual time, and everything that can break breaks, as a seed decides. The machines are the real ones:
//! the book of the edge, the rules of all tiers, the sets in which core decides and settles.
//!
//! `cargo test --test sim` tries a few hundred seeds, `BACKSTOP_SIM_SEEDS=10000` that many, from
//! `BACKSTOP_SIM_FROM` on. A seed that fails is printed; `BACKSTOP_SIM_SEED=…` replays it, and shows what
//! happened last. `BACKSTOP_SIM_WITHOUT=…` leaves out a rule of the protocol, as the last test does with
//! each.

mod sim {
    pub mod answers;
    pub mod api;
    pub mod audit;
    pub mod books;
    pub mod checker;
    pub mod clients;
    pub mod clock;
    pub mod core;
    pub mod dice;
    pub mod disk;
    pub mod edge;
    pub mod event;
    pub mod faults;
    pub mod parcel;
    pub mod plan;
    pub mod rules;
    pub mod world;
}

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::plan::{Plan, Safety};
use sim::world::World;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 300;
/// A rule left out is caught within so many.
const CAUGHT_WITHIN: u64 = 3_000;

/// Failures that are named.
const SHOWN_MAX: usize = 20;

/// A run that broke a promise.
struct Failure {
    seed: u64,
    why: String,
}

/// What many runs came to.
#[derive(Default)]
struct Tally {
    failures: Vec<Failure>,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

fn run(plan: Plan) -> (World, Result<(), String>) {
    let mut world = World::new(plan);
    let ended = world.run();
    (world, ended)
}

/// Shows what happened last, and fails.
fn show(plan: Plan) {
    let (world, ended) = run(Plan { is_traced: true, ..plan });
    println!("{:#?}", world.plan);
    world.last_lines().for_each(|line| println!("{line}"));
    println!("{} events, digest {:016x}", world.events, world.digest);
    if let Err(why) = ended {
        let seed = world.plan.seed;
        panic!("BACKSTOP_SIM_SEED={seed} cargo test --test sim\n{why}");
    }
}

/// Runs these seeds on all cores, each on one; stops early where the first failure is all that is asked for.
fn run_all(from: u64, seeds: u64, without: Option<Safety>, to_the_end: bool) -> Tally {
    let (next, tally) = (AtomicU64::new(from), Mutex::new(Tally::default()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= from + seeds || (!to_the_end && !tally.lock().unwrap().failures.is_empty()) {
            return;
        }
        // A machine that panics fails its seed, which has to be named.
        let ran = catch_unwind(|| run(Plan::of(seed, without)));
        let Ok((world, ended)) = ran else {
            let why = "it panicked".to_owned();
            tally.lock().unwrap().failures.push(Failure { seed, why });
            continue;
        };
        let mut tally = tally.lock().unwrap();
        tally.events += world.events;
        for (what, count) in &world.counts {
            *tally.counts.entry(what).or_default() += count;
        }
        if let Err(why) = ended {
            tally.failures.push(Failure { seed, why });
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(work);
        }
    });
    let mut tally = tally.into_inner().unwrap();
    tally.failures.sort_unstable_by_key(|failure| failure.seed);
    tally
}

#[test]
fn every_seed_keeps_every_promise() {
    let without = std::env::var("BACKSTOP_SIM_WITHOUT").ok();
    let without = without.map(|name| {
        let named = Safety::ALL.into_iter().find(|safety| format!("{safety:?}") == name);
        named.unwrap_or_else(|| panic!("there is no {name} among {:?}", Safety::ALL))
    });
    if let Some(seed) = setting("BACKSTOP_SIM_SEED") {
        return show(Plan::of(seed, without));
    }
    let from = setting("BACKSTOP_SIM_FROM").unwrap_or(0);
    let seeds = setting("BACKSTOP_SIM_SEEDS").unwrap_or(SEEDS);
    let tally = run_all(from, seeds, without, true);
    println!("{seeds} seeds, {} events: {:#?}", tally.events, tally.counts);
    for Failure { seed, why } in tally.failures.iter().take(SHOWN_MAX) {
        println!("seed {seed}: {why}");
    }
    if let Some(Failure { seed, why }) = tally.failures.first() {
        println!("{} of {seeds} seeds fail; the first is {seed}", tally.failures.len());
        show(Plan::of(*seed, without));
        panic!("seed {seed} failed and then did not: {why}");
    }
}

/// Without power a removed segment came back, and with it a debt that core had settled, under an id that
/// was answered otherwise since: the book sent core that answer under the number of the first.
#[test]
fn a_segment_that_comes_back_owes_nothing_that_was_settled() {
    let (_, ended) = run(Plan::of(2_941, None));
    assert_eq!(ended, Ok(()));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let (one, _) = run(Plan::of(seed, None));
        let (other, _) = run(Plan::of(seed, None));
        assert_eq!((one.events, one.digest), (other.events, other.digest), "seed {seed}");
    }
}

#[test]
fn each_rule_left_out_is_caught() {
    for safety in Safety::ALL {
        let tally = run_all(0, CAUGHT_WITHIN, Some(safety), false);
        let Some(Failure { seed, why }) = tally.failures.first() else {
            panic!("without {safety:?}, {CAUGHT_WITHIN} seeds are clean");
        };
        println!("without {safety:?}, seed {seed} fails: {why}");
    }
}
