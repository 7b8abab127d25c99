//! What counts, for how long, and what two stacks made of the same request.

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_decision_counts_by_who_decided_why_and_when() {
    let of = |tier: Tier, cause: Option<Cause>, is_late| {
        Counts::of(&tier, cause.as_ref(), is_late, Verdict::Decline).map(Counts::to_array)
    };
    for (tier, cause, is_late, expected) in [
        (Tier::Core, None, false, Some([1, 0, 0, 0, 0, 0, 1, 0])),
        (Tier::Core, None, true, Some([1, 0, 0, 1, 1, 0, 1, 0])),
        (Tier::Api, Some(Cause::Error), false, Some([1, 1, 1, 0, 1, 0, 0, 0])),
        (Tier::Edge, Some(Cause::Unavailable), false, Some([1, 1, 1, 0, 1, 0, 0, 0])),
        (Tier::Edge, Some(Cause::Deadline), false, Some([1, 0, 1, 1, 1, 0, 0, 0])),
        (Tier::Edge, Some(Cause::Breaker), false, Some([1, 0, 1, 0, 1, 0, 0, 0])),
        (Tier::Edge, Some(Cause::Overload), true, Some([1, 0, 1, 1, 1, 0, 0, 0])),
        (Tier::Edge, Some(Cause::Newer("moon".into())), false, Some([1, 0, 1, 0, 1, 0, 0, 0])),
        (Tier::Api, Some(Cause::Forced), false, None),
    ] {
        assert_eq!(of(tier.clone(), cause.clone(), is_late), expected, "{tier:?} {cause:?}");
    }
}

#[test]
fn a_tally_gives_each_count_once() {
    let tally = Tally::default();
    let one = Counts::of(&Tier::Core, None, true, Verdict::Approve).unwrap();
    tally.add(one);
    tally.add(one);
    let mut two = one;
    two += one;
    assert_eq!((tally.take(), tally.take()), (two, Counts::default()));
}

#[test]
fn what_is_older_than_a_window_does_not_count_in_it() {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    let mut evidence = Evidence::new(&settings, start);
    let counts = |decisions| Counts { decisions, ..Counts::default() };
    for second in 0..7_200 {
        evidence.served(Stack::Prod, counts(1), start + seconds(second));
    }
    let now = start + seconds(7_199);
    evidence.advance(now);
    for span in Span::ALL {
        let (got, length) =
            (evidence.of_served(Stack::Prod, span).decisions, span.length(&settings).as_secs());
        // To the slot.
        assert!(got <= length && got + length.div_ceil(60) + 1 >= length, "{span:?}: {got}");
        assert_eq!(evidence.of_served(Stack::OldProd, span), Counts::default());
    }
    assert!(evidence.usual().decisions > 3_200);
    evidence.advance(now + seconds(31));
    assert_eq!(evidence.of_served(Stack::Prod, Span::Short).decisions, 0);
    evidence.advance(now + seconds(10_000));
    assert_eq!(evidence.of_served(Stack::Prod, Span::Burn).decisions, 0);
    // A long silence, and then it counts again.
    evidence.served(Stack::Prod, counts(7), now + seconds(100_000));
    assert_eq!(evidence.of_served(Stack::Prod, Span::Burn).decisions, 7);
}

#[test]
fn moments_come_the_latest_first() {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    let mut evidence = Evidence::new(&settings, start);
    for slot in 0..75_u32 {
        let counts = Counts { decisions: u64::from(slot), ..Counts::default() };
        evidence.served(Stack::Prod, counts, start + seconds(1) * slot / 2);
    }
    let moments: Vec<_> =
        evidence.moments(Stack::Prod, Span::Short).map(|it| it.decisions).collect();
    assert_eq!(moments, (15..75).rev().collect::<Vec<_>>());
}

#[test]
fn a_pair_is_what_both_cores_made_of_one_request() {
    let (settings, now) = (settings::Switch::default(), Instant::now());
    let mut evidence = Evidence::new(&settings, now);
    let mirrored = |verdict: Option<Verdict>, served| {
        let cause = verdict.is_none().then_some(Cause::Error);
        let tier = if verdict.is_none() { Tier::Api } else { Tier::Core };
        let answer = Counts::of(&tier, cause.as_ref(), false, Verdict::Review).unwrap();
        Mirrored { answer, served, verdict }
    };
    let (approve, decline) = (Some(Verdict::Approve), Some(Verdict::Decline));
    evidence.mirrored(Stack::OldProd, mirrored(approve, decline), now);
    evidence.mirrored(Stack::OldProd, mirrored(None, decline), now);
    evidence.mirrored(Stack::OldProd, mirrored(approve, None), now);
    let pairs = |stack| evidence.of_pairs(stack, Span::Short);
    assert_eq!((pairs(Stack::OldProd).approved, pairs(Stack::OldProd).decisions), (1, 1));
    assert_eq!((pairs(Stack::Prod).declined, pairs(Stack::Prod).decisions), (1, 1));
    let answers = evidence.of_mirrored(Stack::OldProd, Span::Short);
    assert_eq!((answers.decisions, answers.errors), (3, 1));
}

#[test]
fn a_long_window_that_is_nearly_as_long_as_the_longest_leaves_nothing_that_is_usual() {
    let (window_long, burn_window) = (seconds(595), seconds(600));
    let settings = settings::Switch { window_long, burn_window, ..settings::Switch::default() };
    let start = Instant::now();
    let mut evidence = Evidence::new(&settings, start);
    for second in 0..3_600 {
        let counts = Counts { decisions: 1, ..Counts::default() };
        evidence.served(Stack::Prod, counts, start + seconds(second));
        assert!(evidence.usual().decisions < 20, "{second}: {:?}", evidence.usual());
    }
}
