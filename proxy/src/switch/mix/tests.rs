//! Who is charged when two stacks differ, and when they only seem to.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// So many decisions by core in each verdict.
fn mix(approved: u64, declined: u64, reviewed: u64) -> Counts {
    let decisions = approved + declined + reviewed;
    Counts { decisions, approved, declined, reviewed, ..Counts::default() }
}

#[test]
fn who_is_charged_when_two_stacks_differ_is_the_one_that_is_not_as_usual() {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    let (healthy, nothing) = (mix(180, 10, 10), Counts::default());
    let (declines_all, approves_all) = (mix(0, 200, 0), mix(200, 0, 0));
    let reviews_more = mix(120, 10, 70);
    let prod = Some(Some(Stack::Prod));
    let old_prod = Some(Some(Stack::OldProd));
    let unclear = Some(None);
    for (what, usual, of_prod, of_old_prod, expected) in [
        ("alike", healthy, healthy, healthy, None),
        ("prod declines all", healthy, declines_all, healthy, prod),
        ("old-prod declines all", healthy, healthy, declines_all, old_prod),
        ("prod reviews more", healthy, reviews_more, healthy, prod),
        ("10 points are fine", healthy, mix(160, 10, 30), healthy, None),
        ("both decline all: so it may have to be", healthy, declines_all, declines_all, None),
        ("too few", healthy, mix(0, 99, 0), mix(99, 0, 0), None),
        ("nothing is usual yet", nothing, declines_all, healthy, prod),
        ("nothing is usual yet", nothing, healthy, declines_all, old_prod),
        ("nothing is usual yet", nothing, approves_all, mix(140, 60, 0), unclear),
        ("neither is as usual", mix(100, 100, 0), declines_all, approves_all, unclear),
        ("much is declined as usual", mix(10, 190, 0), mix(10, 190, 0), approves_all, old_prod),
    ] {
        let mut evidence = Evidence::new(&settings, start);
        evidence.served(Stack::Prod, usual, start);
        let now = start + Duration::from_mins(20);
        evidence.paired(Stack::Prod, of_prod, of_old_prod, now);
        for asked in Stack::ALL {
            let charged = match of_mix(asked, &evidence, &settings) {
                Mix::Alike => None,
                Mix::Charged(stack, _) => Some(Some(stack)),
                Mix::Unclear(_) => Some(None),
            };
            assert_eq!(charged, expected, "{what}, asked of {asked}");
        }
    }
}

/// So many pairs every half second for half a minute, and so many in its last seconds, in which prod declines
/// all.
fn half_a_minute(quiet: u64, seconds: u32, then: u64) -> Evidence {
    let (settings, start) = (settings::Switch::default(), Instant::now());
    let mut evidence = Evidence::new(&settings, start);
    evidence.served(Stack::Prod, mix(900, 60, 40), start);
    for half in 0..60_u32 {
        let now = start + Duration::from_mins(20) + Duration::from_millis(500) * half;
        let alike = mix(quiet, 0, 0);
        let (own, other) = if half < 60 - 2 * seconds {
            (alike, alike)
        } else {
            (mix(0, then, 0), mix(then, 0, 0))
        };
        evidence.paired(Stack::Prod, own, other, now);
    }
    evidence
}

#[test]
fn what_differed_for_a_while_counts_for_that_while_however_much_of_it_was_mirrored() {
    let settings = settings::Switch::default();
    for (quiet, seconds, then, expected) in [
        (25, 5, 25, false),
        (25, 9, 25, true),
        (5, 5, 50, false), // two thirds of the pairs
        (5, 9, 50, true),
        (1, 9, 10, true),
        (1, 9, 1, false), // too few
    ] {
        let evidence = half_a_minute(quiet, seconds, then);
        let is_charged =
            matches!(of_mix(Stack::Prod, &evidence, &settings), Mix::Charged(Stack::Prod, _));
        assert_eq!(is_charged, expected, "{quiet} {seconds} {then}");
    }
}

#[test]
fn stacks_seem_to_differ_by_a_few_pairs_and_more_of_them_tell_until_there_are_enough() {
    let settings = settings::Switch::default();
    for (quiet, seconds, then, expected) in [
        (1, 0, 1, (false, false)),
        (1, 4, 1, (false, false)), // eight pairs are too few even for that
        (1, 6, 1, (true, false)),
        (4, 1, 4, (false, false)),
        (4, 2, 5, (true, false)),
        (5, 2, 10, (true, true)), // there are 320, by which it shows soon enough
    ] {
        let evidence = half_a_minute(quiet, seconds, then);
        let got = (seems_other(&evidence, &settings), has_enough_pairs(&evidence, &settings));
        assert_eq!(got, expected, "{quiet} {seconds} {then}");
    }
    let terms = |percent, deviations| settings::Switch {
        mix_percent: percent,
        mix_deviations_percent: deviations,
        ..settings::Switch::default()
    };
    for (terms, enough) in [(terms(20, 500), 313), (terms(5, 500), 5_000), (terms(100, 200), 100)] {
        assert_eq!(pairs_enough(&terms), enough);
    }
}
