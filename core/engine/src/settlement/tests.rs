//! The whole table, and that no order of advices of one node makes a difference.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const VERDICTS: [Verdict; 3] = [Verdict::Approve, Verdict::Decline, Verdict::Review];

fn hash(byte: u8) -> RequestHash {
    RequestHash::from_bytes(&[byte; 32]).unwrap()
}

fn advised(verdict: Verdict, node: &str) -> Advised<'_> {
    Advised { hash: hash(1), verdict, node }
}

/// What the books hold once a step has been taken.
fn after<'a>(known: Option<Known<'a>>, advised: Advised<'a>) -> (Outcome, Option<Known<'a>>) {
    let Advised { hash, verdict, node } = advised;
    let step = step(known, advised);
    let settled = |standing, decided_first| {
        Some(Known { hash, standing, verdict, released_by: Some(node), decided_first })
    };
    let first = known.map(|known| known.verdict);
    let now = match step {
        Step::Apply => settled(Standing::Applied, None),
        Step::Confirm => settled(Standing::Match, first),
        Step::Correct => settled(Standing::Overridden, first),
        Step::Clash => known.map(|known| Known { standing: Standing::Conflict, ..known }),
        Step::Repeat(_) | Step::Refuse => known,
    };
    (step.outcome(), now)
}

/// Everything that the books can hold under a key: no node is known where core alone has spoken.
fn states() -> Vec<Option<Known<'static>>> {
    let mut states = vec![None];
    for verdict in VERDICTS {
        let known = |standing, released_by, decided_first| {
            Some(Known { hash: hash(1), standing, verdict, released_by, decided_first })
        };
        states.push(known(Standing::Decided, None, None));
        states.push(known(Standing::Applied, Some("a"), None));
        states.push(known(Standing::Match, Some("a"), Some(verdict)));
        states.push(known(Standing::Conflict, Some("a"), None));
        states.push(known(Standing::Conflict, Some("a"), Some(verdict)));
        for other in VERDICTS.into_iter().filter(|other| *other != verdict) {
            states.push(known(Standing::Overridden, Some("a"), Some(other)));
            states.push(known(Standing::Conflict, Some("a"), Some(other)));
        }
    }
    states
}

#[test]
fn every_advice_has_its_step() {
    for state in states() {
        for verdict in VERDICTS {
            for node in ["a", "b"] {
                let step = step(state, advised(verdict, node));
                let Some(known) = state else {
                    assert_eq!(step, Step::Apply);
                    continue;
                };
                let by_the_same = known.released_by == Some(node);
                let expected = match (known.standing, known.decided_first) {
                    (Standing::Decided, _) if verdict == known.verdict => Step::Confirm,
                    (Standing::Decided, _) => Step::Correct,
                    _ if verdict != known.verdict => Step::Clash,
                    _ if !by_the_same => Step::Repeat(Standing::Match),
                    (Standing::Conflict, None) => Step::Repeat(Standing::Applied),
                    (Standing::Conflict, Some(first)) if first == verdict => {
                        Step::Repeat(Standing::Match)
                    }
                    (Standing::Conflict, Some(_)) => Step::Repeat(Standing::Overridden),
                    (standing, _) => Step::Repeat(standing),
                };
                assert_eq!(step, expected, "{known:?} {verdict:?} {node}");
            }
        }
    }
}

#[test]
fn an_advice_for_another_request_is_refused_whatever_stands_there() {
    for state in states().into_iter().flatten() {
        for verdict in VERDICTS {
            for node in ["a", "b"] {
                let other = Advised { hash: hash(2), ..advised(verdict, node) };
                assert_eq!(step(Some(state), other), Step::Refuse);
            }
        }
    }
}

#[test]
fn every_step_has_its_outcome() {
    for (step, outcome) in [
        (Step::Apply, Outcome::Applied),
        (Step::Confirm, Outcome::Match),
        (Step::Correct, Outcome::Overridden),
        (Step::Clash, Outcome::Conflict),
        (Step::Refuse, Outcome::Refused),
        (Step::Repeat(Standing::Applied), Outcome::Applied),
        (Step::Repeat(Standing::Match), Outcome::Match),
        (Step::Repeat(Standing::Overridden), Outcome::Overridden),
    ] {
        assert_eq!(step.outcome(), outcome, "{step:?}");
    }
}

#[test]
fn an_advice_that_comes_again_is_told_the_same_and_changes_nothing() {
    for state in states() {
        for verdict in VERDICTS {
            for node in ["a", "b"] {
                let advised = advised(verdict, node);
                let (first, settled) = after(state, advised);
                let (again, unchanged) = after(settled, advised);
                assert_eq!((again, unchanged), (first, settled), "{state:?} {advised:?}");
            }
        }
    }
}

#[test]
fn the_money_between_is_that_of_the_approval_that_only_one_side_saw() {
    use Verdict::{Approve, Decline, Review};
    for (told, booked, expected) in [
        (Approve, Decline, 7),
        (Approve, Review, 7),
        (Decline, Approve, -7),
        (Review, Approve, -7),
        (Approve, Approve, 0),
        (Decline, Review, 0),
        (Review, Review, 0),
    ] {
        assert_eq!(between(told, booked, 7), expected, "{told:?} over {booked:?}");
    }
    assert_eq!(between(Approve, Decline, u64::MAX), i64::MAX);
}

proptest! {
    /// One node says one thing of a key. However often and whenever it says so, before or after others
    /// are heard, it ends where it would have ended at once.
    #[test]
    fn what_one_node_said_stands_however_often_and_late_it_is_heard(
        decided in prop::option::of(select(&VERDICTS[..])),
        told in select(&VERDICTS[..]),
        others in prop::collection::vec((select(&VERDICTS[..]), prop::bool::ANY), 0..12),
    ) {
        let decided = decided.map(|verdict| Known {
            hash: hash(1), standing: Standing::Decided, verdict, released_by: None, decided_first: None,
        });
        let (first, mut known) = after(decided, advised(told, "a"));
        for (verdict, is_another) in others {
            if is_another {
                let (outcome, now) = after(known, advised(verdict, "b"));
                let expected = if verdict == told { Outcome::Match } else { Outcome::Conflict };
                prop_assert_eq!(outcome, expected);
                known = now;
            }
            let (again, unchanged) = after(known, advised(told, "a"));
            prop_assert_eq!(&again, &first);
            prop_assert_eq!(unchanged, known);
            prop_assert_eq!(unchanged.map(|it| it.verdict), Some(told));
        }
    }
}
