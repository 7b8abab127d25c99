//! Nothing begins that cannot finish, and nothing is committed that nobody waits for.

use super::*;
use crate::fixture::claim;
use crate::store::tests::PostgresBooks;

#[tokio::test]
async fn with_less_than_the_least_time_left_nothing_begins() {
    let mut bench = Bench::new().await;
    // The clock runs here, so both are far from the boundary; that one is in the next test.
    let by = |left| Some(Deadline::after(Instant::now(), Budget::new(left)));
    let (late, in_time) = (by(Duration::ZERO), by(Duration::from_hours(24)));
    let set = vec![
        (decide(question("late")), late),
        (decide(question("in time")), in_time),
        (label("in time", true), late),
        (decide(question("no deadline")), None),
    ];
    let outcomes = bench.serve_by(set).await;
    let too_late =
        |outcome: &Result<Outcome, CoreError>| matches!(outcome, Err(CoreError::TooLate));
    assert_eq!(outcomes.iter().map(too_late).collect::<Vec<_>>(), [true, false, true, false]);
    assert!(bench.stored("late").await.is_none(), "nothing was written");
    assert_eq!(bench.stored("in time").await.unwrap().fraud, None);
    assert_eq!(bench.counted("customer:customer-1").await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_policy_has_what_is_left_and_never_more_than_its_slice() {
    let desk = desk();
    let (least, slice) = (desk.settings.begin_min, desk.settings.policy_time_max);
    let time_for = |left| {
        let deadline = Deadline::after(Instant::now(), Budget::new(left));
        desk.time_for(Some(deadline), desk.settings.begin_min)
    };
    let ns = Duration::from_nanos(1);
    assert!(least < slice);
    // what is left -> how long the policy may run
    let cases = [
        (least.saturating_sub(ns), None),
        (least, Some(least)),
        (slice.saturating_sub(ns), Some(slice.saturating_sub(ns))),
        (slice + ns, Some(slice)),
    ];
    for (left, time_max) in cases {
        assert_eq!(time_for(left), time_max, "{left:?} left");
    }
    assert_eq!(desk.time_for(None, slice), Some(slice));
}

/// Room for a slow machine between a policy's slice and a deadline.
const SLICE: Duration = Duration::from_millis(300);

fn by(left: Duration) -> Deadline {
    Deadline::after(Instant::now(), Budget::new(left))
}

fn is_late(outcome: &Result<Outcome, CoreError>) -> bool {
    matches!(outcome, Err(CoreError::TooLate))
}

/// On PostgreSQL the rows of the second are read while the first is decided; by then it is late, and somebody
/// else changes them.
#[tokio::test]
async fn what_was_read_for_a_set_that_is_late_serves_no_other() {
    let mut bench = BenchOver::<PostgresBooks>::with(|desk| {
        desk.settings.batch_max = 1;
        desk.settings.policy_time_max = SLICE;
    })
    .await;
    bench.set_stock("sku:a", 0).await;
    let set = vec![
        (decide(asked("slow", "endless", 1)), None),
        (decide(claim("late", "ann", "a", 1)), Some(by(SLICE / 2))),
    ];
    let outcomes = bench.serve_by(set).await;
    assert_eq!(outcomes.iter().map(is_late).collect::<Vec<_>>(), [false, true]);
    let (other, _running) = start(vec![bench.books.open().await], desk());
    other.ask(Ask::SetStock(row("sku:a"), 1), None).await.unwrap();
    let claimed = bench.answer(claim("in time", "ann", "a", 1)).await;
    assert_eq!(claimed.answer.decision, Verdict::Approve);
}

/// A policy that has its full slice and does not end is broken, and its safe answer is core's answer. One
/// whose caller left it less has said nothing: that caller is answered by another tier, and a retry of
/// the same id must not find a safe answer in the books that only its own haste had put there.
#[tokio::test]
async fn a_policy_cut_short_by_its_caller_has_decided_nothing() {
    let mut bench = Bench::with(|desk| desk.settings.policy_time_max = SLICE).await;
    let endless = || decide(asked("a", "endless", 1));
    let hasty = bench.serve_by(vec![(endless(), Some(by(SLICE / 10)))]).await.remove(0);
    assert!(is_late(&hasty), "{hasty:?}");
    assert!(bench.stored("a").await.is_none());
    let patient = fresh(bench.serve(vec![endless()]).await.remove(0));
    assert_eq!(
        (patient.answer.decision, patient.answer.cause),
        (Verdict::Decline, Some(Cause::Error))
    );
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_taken_out_before_the_commit() {
    let mut bench = Bench::with(|desk| desk.settings.policy_time_max = SLICE).await;
    // The first is decided at once; those after it take the time that it had left.
    let set = vec![
        (decide(question("impatient")), Some(by(SLICE / 2))),
        (decide(asked("slow", "endless", 1)), None),
        (decide(question("patient")), None),
    ];
    let outcomes = bench.serve_by(set).await;
    assert_eq!(outcomes.iter().map(is_late).collect::<Vec<_>>(), [true, false, false]);
    assert!(bench.stored("impatient").await.is_none());
    let score = fresh(outcomes.into_iter().next_back().unwrap()).answer.score;
    assert_eq!(score, 0, "it was decided again, as if the impatient one had never come");
    assert_eq!(bench.counted("customer:customer-1").await, (1, 0));
}
