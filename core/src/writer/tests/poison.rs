//! One bad request fails alone: whatever spoils a set, nobody else in it loses a decision.

use super::*;
use crate::fixture::claim;

/// A set was one transaction, so one request that could not be written took its whole set with it:
/// sixty-three callers were told "unavailable", and their own tiers answered for decisions that core
/// could have made. Now a set that fails for its data is halved, down to the one that is at fault.
pub(crate) async fn one_request_that_no_row_can_hold_fails_alone<B: Books>() {
    for place in [0, 6, 12] {
        let mut bench = BenchOver::<B>::new().await;
        let ids: Vec<_> = (0..12).map(|id| format!("txn-{id}")).collect();
        let mut set: Vec<_> = ids.iter().map(|id| decide(question(id))).collect();
        set.insert(place, decide(asked("bad", "payment", u64::MAX)));
        let mut outcomes = bench.serve(set).await;
        let bad = outcomes.remove(place);
        assert!(matches!(bad, Err(CoreError::Failed)), "{bad:?}");
        let verdicts: Vec<_> = outcomes.into_iter().map(|it| fresh(it).answer.decision).collect();
        assert_eq!(verdicts[..2], [Verdict::Approve; 2]);
        assert_eq!(verdicts[2..], [Verdict::Decline; 10], "in the order of arrival");
        assert!(bench.stored("bad").await.is_none());
        assert_eq!(
            bench.counted("customer:customer-1").await,
            (12, 0),
            "the bad one left no trace"
        );
    }
}

/// No such level gets past the socket; behind it stands the database.
pub(crate) async fn one_request_that_a_constraint_refuses_fails_alone<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let set = vec![
        decide(claim("a", "ann", "a", 2)),
        Ask::SetStock(row("sku:b"), -1),
        decide(claim("b", "bob", "a", 2)),
    ];
    let mut outcomes = bench.serve(set).await;
    let bad = outcomes.remove(1);
    assert!(matches!(bad, Err(CoreError::Failed)), "{bad:?}");
    for outcome in outcomes {
        assert_eq!(fresh(outcome).answer.decision, Verdict::Approve);
    }
    assert_eq!((bench.stock("sku:a").await, bench.stock("sku:b").await), (Some(1), None));
}

pub(crate) async fn one_request_whose_attributes_break_its_policy_gets_its_safe_answer_alone<
    B: Books,
>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let set = vec![
        decide(claim("a", "ann", "a", 2)),
        decide(claim("bad", "ann", "a", -2)),
        decide(claim("b", "bob", "a", 3)),
    ];
    let outcomes = bench.serve(set).await.into_iter().map(fresh).collect::<Vec<_>>();
    let verdicts: Vec<_> = outcomes.iter().map(|fresh| fresh.answer.decision).collect();
    assert_eq!(verdicts, [Verdict::Approve, Verdict::Review, Verdict::Approve]);
    assert!(outcomes[1].breach.is_some());
    assert_eq!(bench.stock("sku:a").await, Some(0));
}

pub(crate) async fn a_set_that_meets_a_conflict_begins_again_with_what_is_there_now<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let tries_max = bench.writer.desk.settings.conflict_tries_max as usize;
    bench.faults.expect(vec![Fault::Conflict; tries_max - 1]);
    let set = vec![decide(claim("a", "ann", "a", 4)), decide(claim("b", "ann", "a", 4))];
    let verdicts: Vec<_> =
        bench.serve(set).await.into_iter().map(|it| fresh(it).answer.decision).collect();
    assert_eq!(verdicts, [Verdict::Approve, Verdict::Decline]);
    assert_eq!((bench.stock("sku:a").await, bench.faults.left()), (Some(1), 0));
}

pub(crate) async fn a_set_that_meets_only_conflicts_is_halved_and_ends<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    let tries_max = bench.writer.desk.settings.conflict_tries_max as usize;
    // The set of four, its first half, and the first of that: all their tries.
    bench.faults.expect(vec![Fault::Conflict; 3 * tries_max]);
    let set = ["a", "b", "c", "d"].map(|id| decide(question(id)));
    let mut outcomes = bench.serve(set.into()).await;
    let first = outcomes.remove(0);
    assert!(matches!(first, Err(CoreError::Conflict)), "{first:?}");
    assert!(outcomes.into_iter().all(|outcome| matches!(outcome, Ok(Outcome::Decided(_)))));
    assert_eq!(bench.counted("customer:customer-1").await, (3, 0));
}

pub(crate) async fn an_unusable_database_fails_all_at_once_and_the_next_set_finds_it_again<
    B: Books,
>() {
    let mut bench = BenchOver::<B>::new().await;
    // Halved once, then the connection breaks: the other half does not wait for it to break again.
    bench.faults.expect([Fault::Refused, Fault::CutCommit(0)]);
    let set = || ["a", "b", "c", "d"].map(|id| decide(question(id))).into();
    let outcomes = bench.serve(set()).await;
    let unusable = |it: &Result<Outcome, CoreError>| matches!(it, Err(CoreError::Unusable));
    assert!(outcomes.iter().all(unusable), "{outcomes:?}");
    assert_eq!(bench.faults.left(), 0);
    bench.serve(set()).await;
    for id in ["a", "b", "c", "d"] {
        assert!(bench.stored(id).await.is_some());
    }
    assert_eq!(bench.counted("customer:customer-1").await, (4, 0));
}
