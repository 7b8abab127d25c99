//! What raises a doubt, what does not, for how long, and how much is mirrored then.

use backstop_contract::canary::{By, Canary, Percent, Share};

use super::*;
use crate::switch::charge::Kind;
use crate::switch::choice::Choice;
use crate::switch::evidence::{Counts, Evidence};
use crate::switch::standing::{Signs, Standing};

const HALF_A_SECOND: Duration = Duration::from_millis(500);
const NOW: i64 = 1_700_000_000_000;

/// So many decisions every half second, and among all of them so many errors and late ones.
#[derive(Clone, Copy)]
struct Served {
    halves: u32,
    each: u64,
    errors: u64,
    misses: u64,
}

const fn served(halves: u32, each: u64, errors: u64, misses: u64) -> Served {
    Served { halves, each, errors, misses }
}

const NOTHING: Served = served(1, 0, 0, 0);

/// What is looked at.
struct Scene {
    settings: settings::Switch,
    choice: Choice,
    served: [Served; 2],
    breakers: [State; 2],
    /// Changes how old-prod shows itself, whose probes are well since a minute.
    old_prod: fn(&mut Signs),
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            settings: settings::Switch::default(),
            choice: Choice::default(),
            served: [NOTHING; 2],
            breakers: [State::Closed; 2],
            old_prod: |_| {},
        }
    }
}

impl Scene {
    fn look(&self) -> Option<Doubt> {
        let start = Instant::now();
        let mut evidence = Evidence::new(&self.settings, start);
        let mut end = start;
        for stack in Stack::ALL {
            let Served { halves, each, errors, misses } = *stack.of(&self.served);
            for half in 0..halves {
                let now = start + HALF_A_SECOND * half;
                let part = |all: u64| {
                    let up_to = |half| all * u64::from(half) / u64::from(halves);
                    up_to(half + 1) - up_to(half)
                };
                let (errors, misses) = (part(errors), part(misses));
                let bad = errors + misses;
                let counts = Counts {
                    decisions: each,
                    errors,
                    misses,
                    stand_ins: bad,
                    bad,
                    ..<_>::default()
                };
                evidence.served(stack, counts, now);
                end = std::cmp::max(end, now);
            }
        }
        self.look_at(&evidence, end, &mut Doubter::new(self.settings.clone()))
    }

    fn look_at(&self, evidence: &Evidence, now: Instant, doubter: &mut Doubter) -> Option<Doubt> {
        let good_since = now.checked_sub(Duration::from_mins(1));
        let mut signs = Signs { good_since, probed_at: Some(now), ..Signs::default() };
        (self.old_prod)(&mut signs);
        let standings = self.breakers.map(|breaker| Standing { signs, breaker });
        let at = Timestamp::from_millis(NOW);
        let view = View { now, at, choice: &self.choice, evidence, standings: &standings };
        doubter.look(&view)
    }
}

/// So many seconds ago, by a wall clock that may have been stepped.
const fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOW - seconds * 1_000)
}

const ALL_LATE: Served = served(1, 500, 0, 500);
const LATE: Option<Doubt> = Some(Doubt::Answers(Kind::Misses));

#[test]
fn answers_over_a_limit_are_a_doubt_at_once_and_answers_within_all_of_them_never() {
    for (what, served, expected) in [
        ("nothing is known", NOTHING, None),
        ("all are well", served(60, 500, 0, 0), None),
        ("one error", served(60, 500, 1, 0), None),
        ("0.2 % errors, 0.6 % late", served(60, 500, 60, 180), None),
        ("1 % errors for two seconds", served(4, 500, 20, 0), Some(Doubt::Answers(Kind::Errors))),
        ("all late for a moment", ALL_LATE, LATE),
        ("5 % late for two seconds", served(4, 500, 0, 100), LATE),
        ("two errors of few", served(4, 5, 2, 0), Some(Doubt::Answers(Kind::Errors))),
    ] {
        let scene = Scene { served: [served, NOTHING], ..Scene::default() };
        assert_eq!(scene.look(), expected, "{what}");
    }
}

/// A merchant that was pinned to old-prod, whom nobody else shared it with, had one failing request every
/// half minute: ten times as much was mirrored for ever.
#[test]
fn a_stack_that_serves_none_but_pinned_merchants_is_not_in_doubt_and_a_canary_is() {
    let share = Share::Percent(Percent::try_from(14.0).unwrap());
    let canary = Canary { to: Stack::OldProd, share, by: By::Account };
    let mut choice = Choice::default();
    choice.pins.insert("demo".into(), Stack::OldProd);
    for (canary, expected) in [(None, None), (Some(canary), Some(Doubt::Answers(Kind::Errors)))] {
        choice.course.canary = canary;
        let old_prod = served(2, 1, 1, 0);
        let scene =
            Scene { choice: choice.clone(), served: [NOTHING, old_prod], ..Scene::default() };
        assert_eq!(scene.look(), expected);
    }
}

#[test]
fn a_stack_is_in_doubt_by_its_breaker_and_for_a_while_after_a_switch() {
    for (breaker, expected) in [
        (State::Open, Some(Doubt::Breaker)),
        (State::HalfOpen, Some(Doubt::Breaker)),
        (State::Closed, None),
    ] {
        let scene = Scene { breakers: [breaker, State::Closed], ..Scene::default() };
        assert_eq!(scene.look(), expected, "{breaker:?}");
    }
    for (seconds, expected) in
        [(0, Some(Doubt::Switched)), (59, Some(Doubt::Switched)), (60, None), (-3_600, None)]
    {
        let choice = Choice { switched_at: Some(ago(seconds)), ..Choice::default() };
        assert_eq!(Scene { choice, ..Scene::default() }.look(), expected, "{seconds}");
    }
}

/// Ten times the rehearsals were a load on a stack in trouble, though the edge was not to go anywhere.
#[test]
fn no_doubt_is_raised_where_the_edge_could_not_act_upon_it_in_time() {
    let chosen =
        |ordered_at, automatic_at| Choice { ordered_at, automatic_at, ..Choice::default() };
    let mode = |mode| settings::Switch { mode, ..settings::Switch::default() };
    let warm_after = |minutes| settings::Switch {
        warm_after: Duration::from_mins(minutes),
        ..settings::Switch::default()
    };
    let all = Scene::default;
    let minutes = |minutes: i64| Some(ago(60 * minutes));
    for (what, scene, expected) in [
        ("it may", all(), LATE),
        ("it only says so", Scene { settings: mode(Mode::Recommend), ..all() }, LATE),
        ("it is off", Scene { settings: mode(Mode::Off), ..all() }, None),
        ("an order", Scene { choice: chosen(minutes(9), None), ..all() }, None),
        (
            "one five minutes before its end",
            Scene { choice: chosen(minutes(10), None), ..all() },
            LATE,
        ),
        ("it switched itself", Scene { choice: chosen(None, minutes(54)), ..all() }, None),
        ("the same, near the end", Scene { choice: chosen(None, minutes(55)), ..all() }, LATE),
        ("an old release", Scene { old_prod: |it| it.refuses_rehearsals = true, ..all() }, None),
        ("a failed probe", Scene { old_prod: |it| it.good_since = None, ..all() }, None),
        ("no probe yet", Scene { old_prod: |it| it.probed_at = None, ..all() }, None),
        ("no way there", Scene { breakers: [State::Closed, State::Open], ..all() }, None),
        ("warm in four minutes", Scene { settings: warm_after(5), ..all() }, LATE),
        ("warm in an hour", Scene { settings: warm_after(60), ..all() }, None),
        ("ill itself", Scene { served: [ALL_LATE; 2], ..all() }, None),
    ] {
        let [_, old_prod] = scene.served;
        let scene = Scene { served: [ALL_LATE, old_prod], ..scene };
        assert_eq!(scene.look(), expected, "{what}");
    }
}

/// With every second answer of a few it was raised or dispelled.
#[test]
fn a_doubt_that_was_raised_lasts_a_few_seconds() {
    let (scene, start) = (Scene::default(), Instant::now());
    let mut doubter = Doubter::new(scene.settings.clone());
    let mut evidence = Evidence::new(&scene.settings, start);
    let nothing = Evidence::new(&scene.settings, start);
    evidence.served(
        Stack::Prod,
        Counts { decisions: 10, misses: 10, bad: 10, ..<_>::default() },
        start,
    );
    let mut look = |evidence: &_, millis| {
        scene.look_at(evidence, start + Duration::from_millis(millis), &mut doubter)
    };
    assert_eq!(look(&evidence, 0), LATE);
    assert_eq!((look(&nothing, 250), look(&nothing, 2_999)), (LATE, LATE));
    assert_eq!(look(&nothing, 3_000), None);
    assert_eq!(look(&nothing, 3_250), None);
}

/// A hundred requests a second have at most 300 pairs to show in half a minute: fewer than would tell
/// whatever the difference, so that one which was there to stay held the doubt for ever.
#[test]
fn stacks_that_differ_for_good_are_in_doubt_for_one_window_and_again_much_later() {
    let (scene, start) = (Scene::default(), Instant::now());
    let mut doubter = Doubter::new(scene.settings.clone());
    let mut evidence = Evidence::new(&scene.settings, start);
    let (mut spans, mut was_in_doubt) = (Vec::new(), false);
    for half in 0..1_200_u32 {
        let now = start + HALF_A_SECOND * half;
        let pairs =
            |declined| Counts { decisions: 4, approved: 4 - declined, declined, ..<_>::default() };
        // A quarter of all: as much apart as is not fine, and by chance more in one moment than in another.
        evidence.paired(Stack::Prod, pairs(1), pairs(0), now);
        let doubt = scene.look_at(&evidence, now, &mut doubter);
        if doubt.is_some() != was_in_doubt {
            spans.push(half / 2);
            was_in_doubt = !was_in_doubt;
        }
    }
    // Seconds: when it begins, and when it ends.
    let &[begun, ended, again, over] = spans.as_slice() else { panic!("{spans:?}") };
    assert!(
        (25..=30).contains(&(ended - begun)) && (25..=30).contains(&(over - again)),
        "{spans:?}"
    );
    assert!((300..=301).contains(&(again - ended)), "{spans:?}");
}

#[test]
fn in_doubt_more_is_mirrored_and_never_less_and_never_where_nothing_is_to_be() {
    for (percent, in_doubt, rate_min, expected) in [
        (1, 10, 2, (1, 10)),
        (50, 10, 2, (50, 50)),
        (0, 10, 2, (0, 10)),
        (1, 10, 0, (1, 10)),
        (0, 10, 0, (0, 0)),
    ] {
        let settings = settings::Switch {
            mirror_percent: percent,
            mirror_percent_in_doubt: in_doubt,
            mirror_rate_min: rate_min,
            ..settings::Switch::default()
        };
        let doubter = Doubter::new(settings);
        let got = (doubter.percent(None), doubter.percent(Some(Doubt::Mix)));
        assert_eq!(got, expected);
    }
}
