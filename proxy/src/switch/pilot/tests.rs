//! The automatic switch in virtual time: when it goes, how soon, and that it stays where it should.

mod world;

use std::time::Duration;

use backstop_contract::canary::{By, Canary, Percent, Share};
use backstop_contract::order::What;
use backstop_contract::{Stack, Timestamp};
use backstop_settings::settings::{Mode, Switch};

use super::Act;
use crate::switch::choice::{Course, Hand, Kind};
use world::{Manner, Traffic, WELL, World};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// How many worlds are tried of each kind.
const SEEDS: u64 = 6;

const fn traffic(rate: f64) -> Traffic {
    Traffic { rate, is_noisy: true }
}

/// Of which nothing but what a test does is to be seen.
const STEADY: Traffic = Traffic { rate: 1_000.0, is_noisy: false };

/// Well for twenty minutes, then prod behaves otherwise.
fn world(traffic: Traffic, seed: u64) -> World {
    world_of(Switch::default(), traffic, seed)
}

fn world_of(settings: Switch, traffic: Traffic, seed: u64) -> World {
    let mut world = World::new(settings, traffic, [WELL; 2], seed);
    world.run(20 * MINUTE);
    assert!(world.found.is_empty(), "{:?}", world.sentences());
    world
}

#[test]
fn a_bad_prod_is_left_for_a_better_old_prod_and_soon() {
    let slow = Manner { misses: 1.0, ..WELL };
    let half_slow = Manner { misses: 0.5, ..WELL };
    let failing = Manner { errors: 0.01, ..WELL };
    let dead = Manner { errors: 1.0, answers_probes: false, ..WELL };
    let declining = Manner { declines: 1.0, ..WELL };
    let burning = Manner { misses: 0.025, ..WELL };
    // At so many requests a second; within so many requests and seconds.
    for (what, prod, rate, requests_max, seconds_max) in [
        ("all of it 300 ms slow", slow, 1_000.0, 4_000, 3),
        ("half of it slow", half_slow, 1_000.0, 4_000, 3),
        ("dead", dead, 1_000.0, 4_000, 3),
        ("dead", dead, 10.0, 1_000, 25),
        ("1 % errors", failing, 1_000.0, 15_000, 15),
        ("1 % errors", failing, 3_000.0, 40_000, 12),
        ("1 % errors", failing, 100.0, 15_000, 150),
        ("1 % errors", failing, 30.0, 12_000, 400),
        ("declines everything", declining, 1_000.0, 15_000, 10),
        ("declines everything", declining, 200.0, 3_000, 10),
        ("declines everything", declining, 10.0, 1_000, 80),
        ("2.5 % late, which spends the objective", burning, 1_000.0, 600_000, 500),
        ("all of it slow", slow, 20.0, 1_500, 60),
    ] {
        let settings = Switch::default();
        let (requests, length) = gone_after(&settings, what, prod, rate);
        println!("{what} at {rate}/s: gone after {requests} requests, {length:?}");
        assert!(requests <= requests_max && length.as_secs() <= seconds_max, "{what}");
    }
}

/// The most requests and the longest time until this prod is left, of all seeds.
fn gone_after(settings: &Switch, what: &str, prod: Manner, rate: f64) -> (u64, Duration) {
    let mut worst = (0, Duration::ZERO);
    for seed in 0..SEEDS {
        let mut world = world_of(settings.clone(), traffic(rate), seed);
        world.manners = [prod, WELL];
        let gone = world.until_switched(20 * MINUTE);
        let Some((requests, length)) = gone else {
            panic!("{what} at {rate}/s, seed {seed}: {:?}", world.sentences())
        };
        worst = std::cmp::max(worst, (requests, length));
        assert_eq!(world.choice.course.active, Stack::OldProd);
        // And there it stays.
        world.run(10 * MINUTE);
        assert_eq!(world.switches(), 1, "{what}: {:?}", world.sentences());
    }
    worst
}

/// What is mirrored while all is well is enough to see how old-prod fares, and too little to prove it better.
#[test]
fn in_doubt_more_is_mirrored_and_without_that_a_failing_prod_would_be_left_far_later() {
    let thin = Switch { mirror_percent_in_doubt: 1, ..Switch::default() };
    for (settings, gone_min, gone_max) in [(Switch::default(), SEEDS, SEEDS), (thin, 0, SEEDS / 2)]
    {
        let gone = (0..SEEDS).filter(|seed| {
            let mut world = world_of(settings.clone(), traffic(1_000.0), *seed);
            let (mirrored, requests) = (world.mirrored, world.requests);
            assert!(mirrored * 1_000 < requests * 12, "{mirrored} of {requests} while all is well");
            world.manners = [Manner { errors: 0.01, ..WELL }, WELL];
            world.until_switched(MINUTE / 2).is_some()
        });
        let gone = gone.count() as u64;
        println!("{gone} of {SEEDS} are gone in half a minute");
        assert!((gone_min..=gone_max).contains(&gone), "{gone}");
    }
}

/// Both are late for a moment, as when their database pauses. While that raises a doubt ten times as much is
/// mirrored, and old-prod was held to be ill for ten minutes for the part of it that it had in those.
#[test]
fn what_befalls_both_for_a_moment_does_not_keep_it_for_long() {
    for seed in 0..SEEDS {
        let mut world = world_of(Switch::default(), STEADY, seed);
        let slow = Manner { misses: 1.0, ..WELL };
        world.manners = [slow; 2];
        world.run(Duration::from_millis(1_500));
        world.manners = [WELL; 2];
        world.run(MINUTE);
        assert!(world.found.is_empty(), "{:?}", world.sentences());
        world.manners = [slow, WELL];
        let gone = world.until_switched(MINUTE).map(|(_, length)| length.as_secs());
        assert!(gone.is_some_and(|seconds| seconds <= 5), "{gone:?}: {:?}", world.sentences());
    }
}

/// With the share raised by a doubt, a moment would weigh as much as ten.
#[test]
fn what_comes_out_otherwise_for_a_moment_switches_nothing() {
    for seed in 0..SEEDS {
        // The doubt is about something else, and is there already.
        let mut world = world_of(Switch::default(), STEADY, seed);
        world.manners = [Manner { misses: 0.02, ..WELL }, WELL];
        world.run(MINUTE / 2);
        world.manners = [Manner { misses: 0.02, declines: 1.0, ..WELL }, WELL];
        world.run(Duration::from_secs(4));
        world.manners = [WELL; 2];
        world.run(10 * MINUTE);
        assert_eq!(world.switches(), 0, "{:?}", world.sentences());
    }
}

/// Many times the load, and both are late alike. While that raised a doubt, old-prod's good rehearsals after it
/// displaced what was known of it before, and it was held to be proven better.
#[test]
fn a_surge_that_both_suffer_alike_proves_nothing() {
    // So many times the load for so many seconds, and again after so many; such a share is late. Of twelve
    // worlds so many may be left: the proof itself may be wrong once in a hundred times.
    for (factor, late, seconds, quiet, rounds, switches_max) in [
        (5.0, 0.14, 3, 60, 1, 0),
        (5.0, 0.10, 4, 60, 1, 0),
        (10.0, 0.10, 3, 60, 1, 0),
        (10.0, 0.05, 6, 60, 1, 0),
        (2.0, 0.30, 10, 60, 1, 0),
        // In the longer windows a surge is a part of one slot.
        (5.0, 0.14, 3, 17, 30, 3),
        (10.0, 0.10, 7, 50, 15, 3),
    ] {
        let mut switches = 0;
        for seed in 0..2 * SEEDS {
            let mut world = world_of(Switch::default(), STEADY, seed);
            for _ in 0..rounds {
                world.manners = [Manner { misses: late, ..WELL }; 2];
                world.traffic.rate = STEADY.rate * factor;
                world.run(Duration::from_secs(seconds));
                (world.manners, world.traffic) = ([WELL; 2], STEADY);
                world.run(Duration::from_secs(quiet));
            }
            switches += world.switches();
        }
        println!("x{factor}, {late} late, {seconds} s, {rounds} times: {switches} switches");
        assert!(switches <= switches_max, "x{factor}, {late} late for {seconds} s: {switches}");
    }
}

#[test]
fn hours_of_healthy_noisy_traffic_switch_nothing() {
    // Requests a second, share of errors and of late ones that are nobody's fault
    let mut hours = 0;
    for (rate, errors, misses) in [
        (5.0, 0.0, 0.0),
        (20.0, 0.0005, 0.001),
        (20.0, 0.001, 0.005),
        (100.0, 0.001, 0.005),
        (300.0, 0.002, 0.002),
        (1_000.0, 0.0, 0.0),
        (1_000.0, 0.001, 0.005),
        (1_000.0, 0.002, 0.008),
        (3_000.0, 0.002, 0.008),
    ] {
        let healthy = Manner { errors, misses, ..WELL };
        for seed in 0..2 {
            let mut world = World::new(Switch::default(), traffic(rate), [healthy; 2], seed);
            world.run(3 * HOUR);
            hours += 3;
            let doubted = world.doubted.as_secs_f64() / world.elapsed.as_secs_f64();
            println!("in doubt for {doubted:.4} of the time at {rate}/s");
            assert!(doubted < 0.03, "in doubt for {doubted} of the time at {rate}/s");
            assert_eq!(world.switches(), 0, "{rate}/s, seed {seed}: {:?}", world.sentences());
            let said = world.found.len();
            assert!(said <= 6, "{said} lines in three hours: {:?}", world.sentences());
        }
    }
    println!("{hours} hours of healthy noisy traffic: 0 switches");
}

#[test]
fn an_old_prod_that_is_no_better_is_not_gone_to_and_the_log_says_why() {
    let failing = Manner { errors: 0.01, ..WELL };
    let worse = Manner { errors: 0.05, ..WELL };
    let dead = Manner { errors: 1.0, answers_probes: false, ..WELL };
    let slow = Manner { misses: 1.0, ..WELL };
    let declining = Manner { declines: 1.0, ..WELL };
    for (what, rate, prod, old_prod, why) in [
        ("old-prod fails more", 1_000.0, failing, worse, "old-prod is not "),
        ("old-prod fails as much", 1_000.0, failing, failing, "old-prod is not "),
        ("old-prod fails as much", 100.0, failing, failing, "old-prod is not "),
        ("old-prod fails as much", 30.0, failing, failing, "old-prod is not "),
        ("old-prod is dead", 1_000.0, slow, dead, "old-prod is not ready: its last probe failed"),
        ("both are slow", 1_000.0, slow, slow, "old-prod is not ready: "),
        ("old-prod declines everything", 1_000.0, slow, declining, "old-prod decides otherwise"),
        ("both are dead", 1_000.0, dead, dead, "old-prod is not ready: its last probe failed"),
    ] {
        for seed in 0..3 {
            let mut world = world(traffic(rate), seed);
            world.manners = [WELL, old_prod];
            world.run(2 * MINUTE);
            world.manners = [prod, old_prod];
            world.run(HOUR);
            let sentences = world.sentences();
            assert_eq!(world.switches(), 0, "{what}: {:?}", world.found);
            assert!(sentences.iter().any(|it| it.contains(why)), "{what}: {sentences:?}");
            assert!(sentences.len() < 40, "said once, and not each second: {}", sentences.len());
        }
    }
}

#[test]
fn when_both_are_bad_it_does_not_flap() {
    // Whichever serves is bad, and the other looks well: as when the load itself is too much.
    for seed in 0..3 {
        let mut world = world(traffic(1_000.0), seed);
        let slow = Manner { misses: 0.4, ..WELL };
        for _ in 0..6 * 3_600 {
            let active = world.choice.course.active;
            *active.of_mut(&mut world.manners) = slow;
            *active.other().of_mut(&mut world.manners) = WELL;
            world.run(Duration::from_secs(1));
        }
        let switches = world.switches();
        assert!((1..=6).contains(&switches), "at most one an hour: {switches}");
        let sentences = world.sentences();
        let why = "the edge switched by itself not long ago";
        assert!(sentences.iter().any(|it| it.contains(why)), "{sentences:?}");
    }
}

#[test]
fn it_keeps_watching_after_a_switch() {
    let mut world = world(traffic(1_000.0), 7);
    world.manners = [Manner { errors: 0.02, ..WELL }, WELL];
    assert!(world.until_switched(MINUTE).is_some());
    // prod is mended, and old-prod breaks, soon and again after the period.
    world.manners = [WELL, Manner { errors: 0.02, ..WELL }];
    assert_eq!(world.until_switched(50 * MINUTE), None, "{:?}", world.sentences());
    let back = world.until_switched(20 * MINUTE);
    assert!(back.is_some(), "{:?}", world.sentences());
    assert_eq!(world.choice.course.active, Stack::Prod);
}

#[test]
fn an_operator_is_not_overruled_for_a_while() {
    let mut world = world(traffic(1_000.0), 3);
    let at = world.at();
    let hand = Hand { kind: Kind::Switch, at, who: "maria".into(), reason: "r".into() };
    world.choice = world.choice.ordered(&What::Switch(Stack::Prod), None, hand).unwrap();
    world.manners = [Manner { misses: 1.0, ..WELL }, WELL];
    let gone = world.until_switched(HOUR).map(|(_, length)| length.as_secs());
    assert!(gone.is_some_and(|seconds| (15 * 60..15 * 60 + 5).contains(&seconds)), "{gone:?}");
    let sentences = world.sentences();
    assert!(sentences[0].contains("an operator chose"), "{sentences:?}");
    assert!(sentences.len() <= 4, "{sentences:?}");
}

#[test]
fn a_wall_clock_that_is_stepped_far_locks_nothing() {
    let mut world = world(traffic(1_000.0), 3);
    world.choice.ordered_at = Some(Timestamp::from_millis(world.at().as_millis() + 86_400_000));
    world.manners = [Manner { misses: 1.0, ..WELL }, WELL];
    assert!(world.until_switched(MINUTE).is_some());
}

#[test]
fn the_mode_says_whether_it_acts_speaks_or_is_silent() {
    for (mode, acts, sentences) in [(Mode::Auto, 1, 1), (Mode::Recommend, 0, 1), (Mode::Off, 0, 0)]
    {
        let settings = Switch { mode, ..Switch::default() };
        let mut world = World::new(settings, traffic(1_000.0), [WELL; 2], 5);
        world.run(20 * MINUTE);
        world.manners = [Manner { misses: 1.0, ..WELL }, WELL];
        world.run(9 * MINUTE);
        assert_eq!((world.switches(), world.found.len()), (acts, sentences), "{mode:?}");
        if mode == Mode::Recommend {
            assert!(world.sentences()[0].starts_with("Recommended to switch to old-prod: "));
        }
    }
}

#[test]
fn a_stack_of_which_nothing_is_mirrored_or_probed_is_not_proven() {
    let slow = Manner { misses: 1.0, ..WELL };
    let unprobed = Manner { answers_probes: false, ..WELL };
    let before_rehearsals = Manner { rehearses: false, ..WELL };
    for (what, rate, (percent, rate_min), old_prod, why) in [
        ("no mirror", 1_000.0, (0, 0), WELL, "it answered no mirrored request lately"),
        ("a thin mirror", 10.0, (1, 0), WELL, "not proven better"),
        ("no probe", 1_000.0, (2, 2), unprobed, "its last probe failed"),
        ("an old release", 1_000.0, (2, 2), before_rehearsals, "its release knows no rehearsals"),
    ] {
        let settings = Switch {
            mirror_percent: percent,
            mirror_percent_in_doubt: percent,
            mirror_rate_min: rate_min,
            ..Switch::default()
        };
        let mut world = World::new(settings, traffic(rate), [WELL, old_prod], 1);
        world.run(20 * MINUTE);
        world.manners = [slow, old_prod];
        world.run(10 * MINUTE);
        let sentences = world.sentences();
        assert_eq!(world.switches(), 0, "{what}: {sentences:?}");
        assert!(sentences.iter().any(|it| it.contains(why)), "{what}: {sentences:?}");
    }
}

#[test]
fn a_bad_canary_is_ended_and_the_active_stack_stays() {
    let mut world = world(traffic(1_000.0), 11);
    let share = Share::Percent(Percent::try_from(14.0).unwrap());
    let canary = Canary { to: Stack::OldProd, share, by: By::Account };
    let at = world.at();
    let hand = Hand { kind: Kind::Canary, at, who: "maria".into(), reason: "r".into() };
    world.choice = world.choice.ordered(&What::Canary(Some(canary)), None, hand).unwrap();
    world.run(5 * MINUTE);
    assert!(world.found.is_empty(), "{:?}", world.sentences());
    world.manners = [WELL, Manner { errors: 0.05, ..WELL }];
    world.run(MINUTE);
    let (when, ended) = world.found.first().expect("it was ended");
    assert_eq!(ended.act, Act::Take(Course { active: Stack::Prod, canary: None }));
    assert!(ended.sentence.starts_with("Decided to end the canary to old-prod: "), "{ended:?}");
    assert!(*when < 25 * MINUTE + Duration::from_secs(20), "{when:?}");
    assert_eq!((world.switches(), world.choice.course.active), (1, Stack::Prod));
}

#[test]
fn what_it_decided_is_one_plain_sentence_with_its_numbers() {
    let mut world = world(traffic(1_000.0), 2);
    world.manners = [Manner { errors: 0.02, ..WELL }, WELL];
    world.until_switched(MINUTE).unwrap();
    let (_, finding) = world.found.last().unwrap();
    let sentence = &finding.sentence;
    assert!(sentence.starts_with("Decided to switch to old-prod: "), "{sentence}");
    assert!(
        sentence.contains("of prod's ") && sentence.contains("the limit is 0.3 %"),
        "{sentence}"
    );
    assert!(sentence.contains(" answers of old-prod in the last 30 s were bad"), "{sentence}");
    assert!(!sentence.contains('\n') && sentence.len() < 400, "{sentence}");
    for number in ["bad", "of", "share", "limit", "window_seconds", "other_bad", "other_of"] {
        assert!(finding.numbers.contains_key(number), "{number}: {finding:?}");
    }
    // What was wrong for a moment, and could not be helped, is said to be good again.
    let mut world = self::world(traffic(1_000.0), 2);
    let broken = Manner { errors: 0.05, answers_probes: false, ..WELL };
    world.manners = [broken, broken];
    world.run(MINUTE);
    world.manners = [WELL; 2];
    world.run(2 * MINUTE);
    let last = world.found.last().unwrap();
    assert_eq!(last.1.act, Act::Recovered, "{:?}", world.sentences());
    assert!(last.1.sentence.starts_with("prod is good again: "), "{:?}", world.sentences());
}
