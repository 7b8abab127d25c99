//! Both sides of each limit.

use super::*;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn counts(decisions: u64, with: impl FnOnce(&mut Counts)) -> Counts {
    let mut counts = Counts { decisions, ..Counts::default() };
    with(&mut counts);
    counts
}

/// Serves so many within five seconds, ten slots of the short window.
fn serve(evidence: &mut Evidence, what: Counts, start: Instant) {
    for slot in 0..10_u32 {
        let part = |all: u64| all / 10 + u64::from(u64::from(slot) < all % 10);
        let counts = Counts {
            decisions: part(what.decisions),
            errors: part(what.errors),
            misses: part(what.misses),
            stand_ins: part(what.stand_ins),
            bad: part(what.bad),
            ..Counts::default()
        };
        evidence.served(Stack::Prod, counts, start + SECOND * slot / 2);
    }
}

#[test]
fn a_share_is_over_its_limit_when_chance_does_not_explain_it_and_the_sample_is_large_enough() {
    let (settings, now) = (settings::Switch::default(), Instant::now());
    for (what, expected) in [
        (counts(2_000, |it| it.errors = 6), None), // 0.3 %: at the limit
        (counts(2_000, |it| it.errors = 12), None), // 0.6 %: it may be chance
        (counts(2_000, |it| it.errors = 20), None), // 1 % of few
        (counts(5_000, |it| it.errors = 50), Some(Kind::Errors)),
        (counts(1_000, |it| it.errors = 40), Some(Kind::Errors)),
        (counts(499, |it| it.errors = 499), None), // too few, whatever they say
        (counts(900, |it| (it.misses, it.stand_ins) = (900, 900)), Some(Kind::Misses)),
        (counts(30_000, |it| it.misses = 900), None),
        (counts(30_000, |it| it.stand_ins = 1_500), None),
        (counts(30_000, |it| it.stand_ins = 1_900), Some(Kind::StandIns)),
        (counts(30_000, |it| it.bad = 1_400), None), // a rate is of the whole window
    ] {
        let mut evidence = Evidence::new(&settings, now);
        serve(&mut evidence, what, now);
        let charge = of_served(Stack::Prod, &evidence, &settings);
        assert_eq!(charge.map(|it| it.kind), expected, "{what:?}");
        assert_eq!(of_served(Stack::OldProd, &evidence, &settings), None);
    }
}

#[test]
fn what_was_bad_for_a_moment_is_no_charge() {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    for (seconds, expected) in [(2, None), (3, Some(Kind::Misses)), (9, Some(Kind::Misses))] {
        let mut evidence = Evidence::new(&settings, start);
        for slot in 0..20_u32 {
            let misses = if slot < 2 * seconds { 500 } else { 0 };
            let what = counts(500, |it| (it.misses, it.bad) = (misses, misses));
            evidence.served(Stack::Prod, what, start + SECOND * slot / 2);
        }
        let charge = of_served(Stack::Prod, &evidence, &settings);
        assert_eq!(charge.map(|it| it.kind), expected, "{seconds} s");
    }
}

#[test]
fn with_few_requests_a_longer_window_makes_sure_and_the_short_one_that_it_goes_on() {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    let mut evidence = Evidence::new(&settings, start);
    let mut shown_after = None;
    // 20 requests a second, every hundredth an error.
    for second in 0..300_u32 {
        let now = start + SECOND * second;
        evidence.served(Stack::Prod, counts(20, |it| it.errors = u64::from(second % 5 == 0)), now);
        if of_served(Stack::Prod, &evidence, &settings).is_some() {
            shown_after.get_or_insert(second);
        }
    }
    assert!(shown_after.is_some_and(|seconds| (60..200).contains(&seconds)), "{shown_after:?}");
    for second in 300..340_u32 {
        evidence.served(Stack::Prod, counts(20, |_| {}), start + SECOND * second);
    }
    assert_eq!(of_served(Stack::Prod, &evidence, &settings), None, "it has passed");
}

#[test]
fn the_objective_is_spent_too_fast_when_the_hour_and_the_last_minutes_show_it_or_ten_minutes_alone()
{
    let (settings, start) = (settings::Switch::default(), Instant::now());
    // Bad in a thousand in the first 55 minutes, and in the last five.
    for (before, lately, expected) in [
        (0, 10, None),
        (0, 40, Some(600)), // the hour does not show it; ten minutes do
        (20, 20, Some(3_600)),
        (20, 0, None),
        (20, 10, None),
    ] {
        let mut evidence = Evidence::new(&settings, start);
        for second in 0..=3_600_u32 {
            let bad = if second < 3_300 { before } else { lately };
            evidence.served(Stack::Prod, counts(1_000, |it| it.bad = bad), start + SECOND * second);
        }
        let charge = of_served(Stack::Prod, &evidence, &settings);
        let window = charge.map(|it| (it.kind, it.window.as_secs()));
        assert_eq!(window, expected.map(|seconds| (Kind::Burn, seconds)), "{before} {lately}");
    }
}

#[test]
fn a_stack_is_no_worse_for_a_moment_in_which_much_was_mirrored() {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    // In ten minutes of ten answers a second: so long all are late, of which so many more are mirrored.
    for (seconds, mirrored, expected) in [
        (0, 10, None),
        (2, 10, None),
        (2, 100, None), // 3 % of the answers, but no more of the time
        (20, 10, Some(Kind::Misses)),
        (20, 100, Some(Kind::Misses)),
    ] {
        let mut evidence = Evidence::new(&settings, start);
        for second in 0..600_u32 {
            let is_late = (300..300 + seconds).contains(&second);
            // The doubt outlasts its cause.
            let count = if (300..320).contains(&second) { mirrored } else { 10 };
            let late = if is_late { count } else { 0 };
            let answers = counts(count, |it| (it.misses, it.bad) = (late, late));
            evidence.answered_mirrored(Stack::OldProd, answers, start + SECOND * second);
        }
        let charge = of_answers(Stack::OldProd, Span::BurnSingle, &evidence, &settings);
        assert_eq!(charge.map(|it| it.kind), expected, "{seconds} {mirrored}");
    }
}

#[test]
fn a_charge_is_a_part_of_a_plain_sentence() {
    let settings = settings::Switch::default();
    let counts = counts(2_104, |it| it.errors = 23);
    let charge = charge(Kind::Errors, &counts, Span::Short, &settings);
    assert_eq!(
        charge.of(Stack::Prod),
        "23 of prod's 2104 decisions in the last 30 s were stand-ins by error or unavailability (1.1 %; the limit is 0.3 %)"
    );
    assert_eq!(charge.numbers()["bad"], 23);
    for (share, text) in
        [(0.0, "0.00 %"), (0.000_4, "0.04 %"), (0.003, "0.3 %"), (0.095, "9.5 %"), (1.0, "100 %")]
    {
        assert_eq!(percent(share), text);
    }
}
