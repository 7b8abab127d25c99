//! At least once, oldest first, and never two waits in step.

use super::*;
use proptest::prelude::*;

fn id(number: u64) -> AdviceId {
    AdviceId { epoch: 1, number }
}

fn at(segment: u32, length: u32) -> Position {
    Position { segment, offset: 64, length }
}

fn owing(count: u64, batch_max: usize, in_flight_max: usize) -> Shipping {
    let mut shipping = Shipping::new(batch_max, in_flight_max, 7);
    for number in 1..=count {
        shipping.owe(id(number), Key::of("demo", &number.to_string()), at(1, 500));
    }
    shipping
}

fn batch(shipping: &mut Shipping, now: Instant) -> Plan {
    match shipping.next(now) {
        Next::Batch(plan) => plan,
        Next::Wait(until) => panic!("waits until {until:?}"),
    }
}

fn numbers(plan: &Plan) -> Vec<u64> {
    plan.advices.iter().map(|it| it.advice.number).collect()
}

fn settled(numbers: &[u64], outcome: &Outcome) -> Vec<Settled> {
    let one = |number: &u64| Settled {
        epoch: 1,
        number: *number,
        outcome: outcome.clone(),
        why: String::new(),
    };
    numbers.iter().map(one).collect()
}

#[test]
fn the_oldest_go_first_and_no_more_are_under_way_than_may_be() {
    let now = Instant::now();
    let mut shipping = owing(10, 3, 2);
    let (one, two) = (batch(&mut shipping, now), batch(&mut shipping, now));
    assert_eq!((numbers(&one), numbers(&two)), (vec![1, 2, 3], vec![4, 5, 6]));
    assert_eq!(shipping.next(now), Next::Wait(None));
    shipping.settled(two.batch, settled(&[4, 5, 6], &Outcome::Match), now);
    assert_eq!(numbers(&batch(&mut shipping, now)), [7, 8, 9]);
    assert_eq!(shipping.len(), 7);
}

#[test]
fn what_was_not_answered_goes_again_before_what_is_younger() {
    let now = Instant::now();
    let mut shipping = owing(6, 4, 1);
    let plan = batch(&mut shipping, now);
    let cleared = shipping.settled(plan.batch, settled(&[1, 3, 3, 99], &Outcome::Applied), now);
    assert_eq!(cleared.iter().map(|it| it.owed.advice.number).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(numbers(&batch(&mut shipping, now)), [2, 4, 5, 6]);
}

#[test]
fn a_batch_is_bounded_in_bytes_and_holds_one_whatever_its_size() {
    let now = Instant::now();
    let mut shipping = owing(0, 64, 4);
    for number in 1..=4 {
        shipping.owe(id(number), Key::of("demo", "x"), at(1, 500_000));
    }
    shipping.owe(id(5), Key::of("demo", "x"), at(1, 4_000_000));
    let sent: Vec<_> = (0..3).map(|_| numbers(&batch(&mut shipping, now))).collect();
    assert_eq!(sent, [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn after_failures_the_waits_grow_to_their_maximum_and_one_message_feels_the_way() {
    let start = Instant::now();
    let mut shipping = owing(10, 2, 4);
    let (mut now, mut longest) = (start, RETRY_MIN);
    for _ in 0..8 {
        let plan = batch(&mut shipping, now);
        assert_eq!(numbers(&plan), [1, 2], "still the oldest");
        shipping.failed(plan.batch, now);
        let Next::Wait(Some(until)) = shipping.next(now) else { panic!("does not wait") };
        assert!(until - now >= longest / 2 && until - now <= longest, "{:?}", until - now);
        assert!(matches!(shipping.next(until - Duration::from_millis(1)), Next::Wait(_)));
        now = until;
        longest = std::cmp::min(longest * 2, RETRY_MAX);
    }
    let feeler = batch(&mut shipping, now);
    assert_eq!(shipping.next(now), Next::Wait(None), "one alone");
    shipping.settled(feeler.batch, settled(&[1, 2], &Outcome::Match), now);
    for _ in 0..4 {
        batch(&mut shipping, now);
    }
}

#[test]
fn waking_ends_the_wait_and_an_answer_that_settles_nothing_begins_one() {
    let now = Instant::now();
    let mut shipping = owing(2, 2, 1);
    let plan = batch(&mut shipping, now);
    assert!(shipping.settled(plan.batch, Vec::new(), now).is_empty());
    assert!(matches!(shipping.next(now), Next::Wait(Some(_))));
    shipping.wake();
    assert_eq!(numbers(&batch(&mut shipping, now)), [1, 2]);
}

#[test]
fn a_batch_that_was_put_back_is_due_at_once() {
    let now = Instant::now();
    let mut shipping = owing(2, 2, 1);
    let plan = batch(&mut shipping, now);
    shipping.put_back(plan.batch);
    assert_eq!(numbers(&batch(&mut shipping, now)), [1, 2]);
}

#[test]
fn epochs_are_shipped_by_age_in_whatever_order_they_were_found() {
    let now = Instant::now();
    let mut shipping = owing(0, 64, 1);
    for (epoch, number) in [(2, 1), (1, 7), (2, 2), (1, 3)] {
        shipping.owe(AdviceId { epoch, number }, Key::of("demo", "x"), at(1, 100));
    }
    let plan = batch(&mut shipping, now);
    let order: Vec<_> = plan.advices.iter().map(|it| (it.advice.epoch, it.advice.number)).collect();
    assert_eq!(order, [(1, 3), (1, 7), (2, 1), (2, 2)]);
}

#[test]
fn a_segment_is_searched_step_by_step() {
    let mut shipping = owing(10, 4, 1);
    shipping.moved(id(4), at(2, 500));
    let (mut found, mut after, mut steps) = (Vec::new(), None, 0);
    loop {
        let (some, next) = shipping.in_segment(1, after, 3);
        found.extend(some.iter().map(|it| it.advice.number));
        steps += 1;
        if next.is_none() {
            break;
        }
        after = next;
    }
    assert_eq!((found, steps), (vec![1, 2, 3, 5, 6, 7, 8, 9, 10], 4));
}

#[test]
fn one_that_waits_takes_what_is_said() {
    assert_eq!(size_of::<Owed>(), BYTES_PER_ADVICE);
}

#[test]
fn a_million_are_owed_and_settled_while_the_oldest_hangs() {
    // A message that hangs for long must not make each of the others search past all that came after it.
    let now = Instant::now();
    let mut shipping = owing(1_000_000, 256, 2);
    let hung = batch(&mut shipping, now);
    let mut rounds = 0;
    while let Next::Batch(plan) = shipping.next(now) {
        shipping.settled(plan.batch, settled(&numbers(&plan), &Outcome::Match), now);
        rounds += 1;
    }
    assert_eq!(rounds, (1_000_000_usize - 256).div_ceil(256));
    assert_eq!(shipping.len(), hung.advices.len());
}

proptest! {
    /// Whatever is answered, lost or put back: nothing is lost, and nothing is under way twice.
    #[test]
    fn everything_is_settled_once_in_the_end(
        count in 1_u64..40, batch_max in 1_usize..6, in_flight_max in 1_usize..4,
        fates in prop::collection::vec((0_u8..4, 0_usize..6), 0..60),
    ) {
        let mut now = Instant::now();
        let mut shipping = owing(count, batch_max, in_flight_max);
        let mut open: VecDeque<Plan> = VecDeque::new();
        let mut done = std::collections::BTreeSet::new();
        let mut fates = fates.into_iter();
        while !shipping.is_empty() {
            match shipping.next(now) {
                Next::Batch(plan) => {
                    for owed in &plan.advices {
                        prop_assert!(!open.iter().any(|it| it.advices.contains(owed)));
                    }
                    open.push_back(plan);
                    continue;
                }
                Next::Wait(Some(until)) => now = until,
                Next::Wait(None) => prop_assert!(!open.is_empty(), "waits for nothing"),
            }
            let Some(plan) = open.pop_front() else { continue };
            let all = numbers(&plan);
            let (fate, count) = fates.next().unwrap_or((0, 0));
            let answered: &[u64] = match fate {
                0 => &all,
                1 => &all[..count % (all.len() + 1)],
                2 => { shipping.failed(plan.batch, now); continue }
                _ => { shipping.put_back(plan.batch); continue }
            };
            for it in shipping.settled(plan.batch, settled(answered, &Outcome::Match), now) {
                prop_assert!(done.insert(it.owed.advice));
            }
        }
        prop_assert_eq!(done.len() as u64, count);
    }
}
