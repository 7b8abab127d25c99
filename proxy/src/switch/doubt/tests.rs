//! What raises a doubt, what does not, and how much is mirrored then.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::switch::charge::Kind;
use crate::switch::choice::Choice;
use crate::switch::evidence::{Counts, Evidence};
use crate::switch::standing::{Signs, Standing};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// So many decisions every half second, and among all of them so many errors and late ones.
struct Served {
    halves: u32,
    each: u64,
    errors: u64,
    misses: u64,
}

const fn served(halves: u32, each: u64, errors: u64, misses: u64) -> Served {
    Served { halves, each, errors, misses }
}

fn look(served: &Served, choice: &Choice, breakers: [State; 2]) -> Option<Doubt> {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    let mut evidence = Evidence::new(&settings, start);
    let mut now = start;
    let Served { halves, each, errors, misses } = *served;
    for half in 0..halves {
        now = start + HALF_A_SECOND * half;
        let part = |all: u64| {
            let up_to = |half| all * u64::from(half) / u64::from(halves);
            up_to(half + 1) - up_to(half)
        };
        let (errors, misses) = (part(errors), part(misses));
        let bad = errors + misses;
        let counts =
            Counts { decisions: each, errors, misses, stand_ins: bad, bad, ..Counts::default() };
        evidence.served(Stack::Prod, counts, now);
    }
    let standings = breakers.map(|breaker| Standing { signs: Signs::default(), breaker });
    let at = Timestamp::from_millis(1_700_000_000_000);
    let view = View { now, at, choice, evidence: &evidence, standings: &standings };
    Doubter::new(settings).look(&view)
}

#[test]
fn answers_over_a_limit_are_a_doubt_at_once_and_answers_within_all_of_them_never() {
    let well = [State::Closed; 2];
    for (what, served, expected) in [
        ("nothing is known", served(1, 0, 0, 0), None),
        ("all are well", served(60, 500, 0, 0), None),
        ("one error", served(60, 500, 1, 0), None),
        ("0.2 % errors, 0.6 % late", served(60, 500, 60, 180), None),
        ("1 % errors for two seconds", served(4, 500, 20, 0), Some(Doubt::Answers(Kind::Errors))),
        ("all late for a moment", served(1, 500, 0, 500), Some(Doubt::Answers(Kind::Misses))),
        ("5 % late for two seconds", served(4, 500, 0, 100), Some(Doubt::Answers(Kind::Misses))),
        ("two errors of few", served(4, 5, 2, 0), Some(Doubt::Answers(Kind::Errors))),
    ] {
        assert_eq!(look(&served, &Choice::default(), well), expected, "{what}");
    }
}

#[test]
fn a_stack_is_in_doubt_by_its_breaker_and_for_a_while_after_a_switch() {
    let (well, nothing) = ([State::Closed; 2], served(1, 0, 0, 0));
    let choice = Choice::default();
    for (breakers, expected) in [
        ([State::Open, State::Closed], Some(Doubt::Breaker)),
        ([State::HalfOpen, State::Closed], Some(Doubt::Breaker)),
        ([State::Closed, State::Open], None), // it does not serve
    ] {
        assert_eq!(look(&nothing, &choice, breakers), expected, "{breakers:?}");
    }
    // Seconds since the switch, by a wall clock that may have been stepped.
    for (seconds, expected) in
        [(0, Some(Doubt::Switched)), (59, Some(Doubt::Switched)), (60, None), (-3_600, None)]
    {
        let switched_at = Some(Timestamp::from_millis(1_700_000_000_000 - seconds * 1_000));
        let choice = Choice { switched_at, ..Choice::default() };
        assert_eq!(look(&nothing, &choice, well), expected, "{seconds}");
    }
}

#[test]
fn in_doubt_more_is_mirrored_and_never_less() {
    for (percent, in_doubt, expected) in [(1, 10, (1, 10)), (50, 10, (50, 50)), (0, 10, (0, 10))] {
        let settings = settings::Switch {
            mirror_percent: percent,
            mirror_percent_in_doubt: in_doubt,
            ..settings::Switch::default()
        };
        let doubter = Doubter::new(settings);
        let got = (doubter.percent(None), doubter.percent(Some(Doubt::Mix)));
        assert_eq!(got, expected);
    }
}
