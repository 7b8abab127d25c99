//! History against a plain list of events, which is slow and obviously right.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What really happened.
#[derive(Clone, Debug)]
struct Event {
    at: i64,
    amount: u64,
    verdict: Verdict,
    fraud: bool,
    /// Whom it was with.
    with: Option<u8>,
}

/// Events of an unsorted list within `(now - delay - window, now - delay]`.
fn naive(events: &[Event], window: i64, delay: i64, now: i64) -> Vec<&Event> {
    let until = now - delay;
    events.iter().filter(|event| event.at > until - window && event.at <= until).collect()
}

fn recorded(events: &[Event]) -> History {
    let mut history = History::default();
    for event in events {
        let with = event.with.map(|with| format!("shop-{with}"));
        history.record(time(event.at), event.amount, event.verdict, with.as_deref());
        history.label(time(event.at), event.fraud, None);
    }
    history
}

const fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

const fn length(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

/// Noon of 1 August 2018.
const NOON: i64 = 1_533_124_800_000;

fn events(count: usize, span: i64) -> impl Strategy<Value = Vec<Event>> {
    const VERDICTS: &[Verdict] = &[Verdict::Approve, Verdict::Decline, Verdict::Review];
    let with = prop_oneof![Just(None), (0..90_u8).prop_map(Some)];
    let event = (0..span, 0_u64..100_000, proptest::sample::select(VERDICTS), any::<bool>(), with)
        .prop_map(|(age, amount, verdict, fraud, with)| Event {
            at: NOON - age,
            amount,
            verdict,
            fraud,
            with,
        });
    proptest::collection::vec(event, 0..count)
}

#[test]
fn a_correction_touches_the_approved_sum_and_nothing_else() {
    use Verdict::{Approve, Decline, Review};
    for (was, now, approved) in [
        (Approve, Decline, 100),
        (Approve, Review, 100),
        (Decline, Approve, 107),
        (Review, Approve, 107),
        (Approve, Approve, 107),
        (Decline, Review, 100),
    ] {
        let mut history = History::default();
        history.record(time(NOON), 100, Approve, Some("shop"));
        history.record(time(NOON), 7, was, None);
        let before = history.clone();
        history.correct(time(NOON), 7, was, now);
        let (hour, noon) = (length(HOUR), time(NOON));
        assert_eq!(history.approved_sum(hour, Duration::ZERO, noon), approved, "{was:?} {now:?}");
        history.correct(time(NOON), 7, now, was);
        assert_eq!(history, before, "and back");
        history.correct(time(NOON - 1), 7, was, now);
        history.correct(time(NOON + 1), 7, was, now);
        assert_eq!(history, before, "no such event is kept");
    }
    let mut history = History::default();
    history.record(time(NOON), 7, Decline, None);
    history.correct(time(NOON), u64::MAX, Decline, Approve);
    assert_eq!(History::decode(&history.encode()), Ok(history), "never more than the sum");
}

proptest! {
    /// What was corrected is what would have been recorded at once.
    #[test]
    fn corrected_events_are_as_if_recorded_so(
        events in events(2 * BUCKETS_MAX, 43 * DAY), now in 0..3_usize,
    ) {
        let verdict = [Verdict::Approve, Verdict::Decline, Verdict::Review][now];
        let mut history = recorded(&events);
        for event in &events {
            history.correct(time(event.at), event.amount, event.verdict, verdict);
        }
        let at_once: Vec<_> = events.iter().map(|it| Event { verdict, ..it.clone() }).collect();
        prop_assert_eq!(history, recorded(&at_once));
    }

    #[test]
    fn every_window_is_exact_while_the_row_has_room(
        events in events(BUCKETS_MAX, 43 * DAY),
        window in 0..31 * DAY, delay in 0..8 * DAY, since in -DAY..20 * DAY,
    ) {
        let history = recorded(&events);
        let now = NOON + since;
        let seen = naive(&events, window, delay, now);
        let (window, delay, now) = (length(window), length(delay), time(now));
        prop_assert_eq!(history.count(window, delay, now), seen.len() as u64);
        prop_assert_eq!(history.sum(window, delay, now), seen.iter().map(|e| e.amount).sum::<u64>());
        let approved = seen.iter().filter(|e| e.verdict == Verdict::Approve);
        prop_assert_eq!(
            history.approved_sum(window, delay, now), approved.map(|e| e.amount).sum::<u64>()
        );
        prop_assert_eq!(
            history.frauds(window, delay, now), seen.iter().filter(|e| e.fraud).count() as u64
        );
        prop_assert_eq!(history.mean(window, delay, now).is_some(), !seen.is_empty());
        let last = events.iter().map(|e| e.at).filter(|at| *at <= now.as_millis()).max();
        prop_assert_eq!(history.last_seen(now), last.map(time));
    }

    /// Each end may be off by the bucket that straddles it. Its last event is younger than that end, so
    /// it is no wider than the grid at the age of the start.
    #[test]
    fn a_full_row_is_off_by_no_more_than_the_buckets_at_its_ends(
        events in events(2_000, 43 * DAY),
        (age, step) in proptest::sample::select(&GRID[..]), share in 1_u8..=10, delayed in any::<bool>(),
    ) {
        let history = recorded(&events);
        let age = std::cmp::min(age, 37 * DAY) * i64::from(share) / 10;
        let delay = if delayed { age / 2 } else { 0 };
        let window = age - delay;
        let count = history.count(length(window), length(delay), time(NOON));
        let most = naive(&events, window + 2 * step, delay - step, NOON).len() as u64;
        let least = naive(&events, window - 2 * step, delay + step, NOON).len() as u64;
        prop_assert!((least..=most).contains(&count), "{least} <= {count} <= {most}");
        // Nothing is lost: all of it together is exact.
        let (all, none) = (length(44 * DAY), Duration::ZERO);
        prop_assert_eq!(history.count(all, none, time(NOON)), events.len() as u64);
        prop_assert_eq!(
            history.frauds(all, none, time(NOON)), events.iter().filter(|e| e.fraud).count() as u64
        );
    }

    /// Below the maximum it is exact, at the maximum a lower bound, whatever the order of the events.
    #[test]
    fn counterparties_are_exact_until_there_are_too_many(
        events in events(300, 50 * DAY), window in 0..44 * DAY, since in 0..20 * DAY,
    ) {
        let now = NOON + since;
        let seen = naive(&events, window, 0, now);
        let met: BTreeSet<u8> = seen.iter().filter_map(|event| event.with).collect();
        let distinct = recorded(&events).distinct(length(window), time(now));
        prop_assert_eq!(distinct, std::cmp::min(met.len(), COUNTERPARTIES_MAX) as u64);
    }

    #[test]
    fn a_row_survives_encoding(events in events(400, 50 * DAY)) {
        let history = recorded(&events);
        prop_assert_eq!(History::decode(&history.encode()), Ok(history));
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics(
        mut row in proptest::collection::vec(any::<u8>(), 0..300),
        version in proptest::sample::select(&[None, Some(1), Some(2)][..]),
    ) {
        if let (Some(known), Some(version)) = (version, row.first_mut()) {
            *version = known;
        }
        if let Ok(history) = History::decode(&row) {
            prop_assert!(history.buckets.len() <= BUCKETS_MAX);
            prop_assert!(history.counterparties.0.len() <= COUNTERPARTIES_MAX);
            // What is accepted is safe to use.
            let mut history = history;
            history.record(time(NOON), u64::MAX, Verdict::Approve, Some("shop-1"));
            history.label(time(NOON), true, None);
            prop_assert!(history.count(length(i64::MAX), Duration::ZERO, time(i64::MAX)) > 0);
            prop_assert_eq!(History::decode(&history.encode()), Ok(history));
        }
    }

    #[test]
    fn one_changed_byte_never_panics(
        events in events(200, 43 * DAY), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut row = recorded(&events).encode();
        let at = at.index(row.len());
        row[at] = byte;
        let _either_way = History::decode(&row);
    }

    #[test]
    fn a_row_stays_bounded_whatever_the_traffic(
        start in 0_i64..253_402_300_800_000,
        steps in proptest::collection::vec((-3 * DAY..3 * DAY, 0_u64..=u64::MAX), 0..3_000),
    ) {
        let mut history = History::default();
        let mut at = start;
        for (step, amount) in steps {
            at = at.saturating_add(step / 40);
            history.record(time(at), amount, Verdict::Approve, Some(&amount.to_string()));
            prop_assert!(history.buckets.len() <= BUCKETS_MAX);
            prop_assert!(history.counterparties.0.len() <= COUNTERPARTIES_MAX);
        }
        prop_assert!(history.encode().len() <= ENCODED_BYTES_MAX);
        prop_assert!(history.buckets.windows(2).all(|pair| pair[0].last < pair[1].first));
    }
}

#[test]
fn the_window_excludes_its_start_and_includes_its_end() {
    let history = recorded(&[Event {
        at: NOON,
        amount: 5,
        verdict: Verdict::Approve,
        fraud: false,
        with: None,
    }]);
    let hour = Duration::from_hours(1);
    // (now, delay) -> count of one hour
    let cases = [
        (NOON - 1, Duration::ZERO, 0),
        (NOON, Duration::ZERO, 1),
        (NOON + HOUR - 1, Duration::ZERO, 1),
        (NOON + HOUR, Duration::ZERO, 0),
        (NOON + DAY - 1, Duration::from_hours(24), 0),
        (NOON + DAY, Duration::from_hours(24), 1),
        (NOON + DAY + HOUR - 1, Duration::from_hours(24), 1),
        (NOON + DAY + HOUR, Duration::from_hours(24), 0),
    ];
    for (now, delay, count) in cases {
        assert_eq!(history.count(hour, delay, time(now)), count, "now {now}, delay {delay:?}");
    }
}

#[test]
fn empty_windows_have_no_mean_and_no_risk() {
    let history = History::default();
    let day = Duration::from_hours(24);
    assert_eq!(history.mean(day, Duration::ZERO, time(NOON)), None);
    assert_eq!(history.risk(day, Duration::ZERO, time(NOON)), None);
    assert_eq!(history.last_seen(time(NOON)), None);
    assert_eq!(history.encode(), [1, 0], "an empty row is two bytes");
}

#[test]
fn labels_count_once_however_often_they_are_told_and_follow_their_change() {
    let mut history = recorded(&[
        Event { at: NOON, amount: 5, verdict: Verdict::Decline, fraud: false, with: None },
        Event { at: NOON + 1, amount: 5, verdict: Verdict::Approve, fraud: false, with: None },
    ]);
    // (new, old) -> frauds after it
    let cases = [
        ((true, None), 1),
        ((true, Some(true)), 1),
        ((false, Some(true)), 0),
        ((false, Some(false)), 0),
        ((true, Some(false)), 1),
    ];
    let (day, now) = (Duration::from_hours(24), time(NOON + HOUR));
    for ((fraud, was), frauds) in cases {
        history.label(time(NOON), fraud, was);
        assert_eq!(history.frauds(day, Duration::ZERO, now), frauds, "{fraud} after {was:?}");
    }
    assert_eq!(history.risk(day, Duration::ZERO, now), Some(0.5));
    history.label(time(NOON + 2), true, None);
    assert_eq!(history.frauds(day, Duration::ZERO, now), 1, "no event was at that time");
}

#[test]
fn what_is_over_44_days_older_than_the_newest_is_gone_or_never_comes() {
    let kept = millis(KEPT);
    let (all, now) = (Duration::from_hours(100 * 24), time(NOON));
    for (age, count) in [(kept, 2), (kept + 1, 1)] {
        for order in [[NOON - age, NOON], [NOON, NOON - age]] {
            let mut history = History::default();
            for at in order {
                history.record(time(at), 1, Verdict::Approve, None);
            }
            assert_eq!(history.count(all, Duration::ZERO, now), count, "age {age}, {order:?}");
        }
    }
}

#[test]
fn a_late_event_joins_the_bucket_that_spans_its_time() {
    let mut history = History::default();
    for second in 0..20_000 {
        history.record(time(NOON + second * 1000), 1, Verdict::Approve, None);
    }
    let before = history.buckets.len();
    assert!(history.buckets[0].count > 1, "the oldest are joined");
    history.record(time(history.buckets[0].first + 1), 1, Verdict::Approve, None);
    assert_eq!(history.buckets.len(), before);
    history.label(time(NOON + 1000), true, None);
    assert_eq!(history.buckets[0].frauds, 1, "a label finds the bucket of its event");
    let newest = &history.buckets[before - 1];
    assert_eq!((newest.first, newest.count), (newest.last, 1), "the newest are exact");
}

/// A hot account fills its row within seconds. "In the last minute" must not mean the last five.
#[test]
fn a_window_that_cuts_a_bucket_counts_its_share() {
    let mut history = History::default();
    for second in 0..20_000 {
        history.record(time(NOON + second * 1000), 100, Verdict::Approve, None);
        history.label(time(NOON + second * 1000), second % 2 == 0, None);
    }
    let (now, delay) = (time(NOON + 20_000_000), Duration::from_hours(1));
    for seconds in [60, 600, 3600, 10_000] {
        let window = Duration::from_secs(seconds);
        for delay in [Duration::ZERO, delay] {
            let count = history.count(window, delay, now);
            assert!(count.abs_diff(seconds) <= 2, "{count} in {seconds} s, {delay:?} ago");
            assert_eq!(history.sum(window, delay, now), count * 100, "events like their average");
            let frauds = history.frauds(window, delay, now);
            assert!(frauds.abs_diff(count / 2) <= 2, "{frauds} of {count}");
        }
    }
}

#[test]
fn a_busy_customer_of_44_days_is_small() {
    let mut history = History::default();
    for event in 0..88 {
        let at = NOON + event * DAY / 2 + event * 777;
        history.record(time(at), 5_716, Verdict::Approve, None);
    }
    assert!(history.encode().len() <= 88 * 8 + 8, "{} bytes", history.encode().len());
}

#[test]
fn past_the_maximum_whoever_was_met_longest_ago_makes_room() {
    let mut history = History::default();
    let mut meet = |at, name: &str| {
        history.record(time(NOON + at), 1, Verdict::Approve, Some(name));
        // Who was last met at each of these moments, and how many are known at all.
        let last_met = |at| history.distinct(length(1), time(NOON + at));
        let known = history.distinct(length(DAY), time(NOON + HOUR));
        ([0, 1, 2, 64, 65].map(last_met), known)
    };
    for name in 0..64 {
        meet(name, &name.to_string());
    }
    assert_eq!(meet(64, "0"), ([0, 1, 1, 1, 0], 64), "met again, it stays");
    assert_eq!(meet(65, "new"), ([0, 0, 1, 1, 1], 64), "another takes the place of the oldest");
    assert_eq!(meet(0, "late"), ([0, 0, 1, 1, 1], 64), "older than all of them, it takes none");
    assert_eq!(meet(1, "0"), ([0, 0, 1, 1, 1], 64), "an earlier meeting changes nothing");
}

#[test]
fn a_counterparty_is_hashed_alike_on_every_machine_and_in_every_release() {
    let mut history = History::default();
    history.record(time(0), 0, Verdict::Approve, Some("abc"));
    // One bucket at 1970; then one counterparty, met then: SHA-256("abc") begins with these bytes (FIPS 180-4).
    let hash = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];
    let row = [&[2, 1, 0, 0, 1, 0][..], &hash].concat();
    assert_eq!(history.encode(), row);
    for cut in 1..row.len() {
        assert_eq!(History::decode(&row[..cut]), Err(DecodeError::Short), "{cut} bytes");
    }
}

/// Old and new releases share the rows of a database. The first release knew no counterparties: its
/// rows are read, and rows without counterparties are still written as it writes them.
#[test]
fn a_row_without_counterparties_is_one_of_the_first_release() {
    let events = [
        Event { at: NOON, amount: 5_716, verdict: Verdict::Approve, fraud: false, with: None },
        Event { at: NOON, amount: 300, verdict: Verdict::Decline, fraud: true, with: None },
        Event { at: NOON + MINUTE, amount: 0, verdict: Verdict::Review, fraud: false, with: None },
    ];
    let first_release = [
        1, 2, // version, buckets
        54, 0x80, 0xb8, 0xdf, 0xd5, 0x9e, 0x59, 2, 0x80, 0x2f, 0xd4, 0x2c,
        1, // many, sum, part, frauds
        0, 0xc0, 0xa9, 0x07, // a minute later
    ];
    assert_eq!(History::decode(&first_release), Ok(recorded(&events)));
    assert_eq!(recorded(&events).encode(), first_release);
}

proptest! {
    #[test]
    fn what_is_taken_back_leaves_the_row_as_if_it_had_never_come(
        events in events(40, 30 * DAY), taken in 0..40_usize, verdict in 0..3_usize,
    ) {
        let mut events = events;
        let verdict = [Verdict::Approve, Verdict::Decline, Verdict::Review][verdict];
        let at = NOON - 7 * i64::try_from(taken).unwrap();
        events.retain(|event| event.at < NOON - HOUR);
        let before = recorded(&events);
        let mut history = before.clone();
        history.record(time(at), 100, verdict, Some("shop-new"));
        prop_assert_ne!(&history, &before);
        history.forget(time(at), 100, verdict);
        prop_assert_eq!(&history, &before);
        prop_assert_eq!(History::decode(&history.encode()), Ok(before));
        history.forget(time(NOON + HOUR), 100, verdict);
        prop_assert_eq!(history.count(length(30 * DAY), Duration::ZERO, time(NOON)), events.len() as u64);
    }
}
