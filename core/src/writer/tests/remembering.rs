//! Two cores on one PostgreSQL. Each remembers what it wrote, and is never wrong by it.

use super::*;
use crate::fixture::{claim, spend, wish};
use crate::store::tests::PostgresBooks;

type Core = BenchOver<PostgresBooks>;

async fn two() -> (Core, Core) {
    let prod = Core::new().await;
    let beside = PostgresBooks { url: prod.books.url.clone() };
    (prod, Core::over(beside, |_| {}).await)
}

async fn verdict(core: &mut Core, question: Question) -> Verdict {
    core.answer(question).await.answer.decision
}

#[tokio::test]
async fn an_id_that_another_core_decided_has_its_answer_and_is_nobody_elses() {
    let (mut prod, mut old_prod) = two().await;
    let first = prod.answer(question("a")).await.answer;
    // Among others of a set, which must not suffer from it.
    let asks = ["b", "a", "c"].map(|id| decide(question(id)));
    let mut outcomes = old_prod.serve(asks.into()).await;
    let (_, again) = (outcomes.pop(), outcomes.remove(1));
    let answer = match again {
        Ok(Outcome::Replayed(answer)) => answer,
        other => panic!("{other:?}"),
    };
    assert_eq!(Decision { replayed: false, ..answer }, first);
    let reused = prod.serve(vec![decide(asked("b", "payment", 1))]).await.remove(0);
    assert!(matches!(reused, Ok(Outcome::IdReused)), "{reused:?}");
    assert_eq!(prod.counted("customer:customer-1").await, (3, 0));
}

#[tokio::test]
async fn history_that_another_core_counted_in_since_counts() {
    let (mut prod, mut old_prod) = two().await;
    assert_eq!(verdict(&mut prod, question("a")).await, Verdict::Approve);
    assert_eq!(verdict(&mut old_prod, question("b")).await, Verdict::Approve);
    assert_eq!(verdict(&mut prod, question("c")).await, Verdict::Decline, "the third in an hour");
}

/// A refusal puts no balance, by which a stale one would be found.
#[tokio::test]
async fn nothing_is_refused_for_a_balance_that_was_remembered() {
    let (mut prod, mut old_prod) = two().await;
    prod.set_stock("sku:a", 100).await;
    assert_eq!(verdict(&mut prod, claim("a", "ann", "a", 1)).await, Verdict::Approve);
    assert_eq!(verdict(&mut prod, spend("b", "ann", 1)).await, Verdict::Approve);
    assert_eq!(verdict(&mut old_prod, claim("c", "ann", "a", 2)).await, Verdict::Approve);
    // No row but the balance tells that somebody was here.
    let coin = |id| wish(id, "purse", "ann", &[]);
    assert_eq!(verdict(&mut prod, coin("d")).await, Verdict::Approve);
    assert_eq!(verdict(&mut old_prod, coin("e")).await, Verdict::Approve);
    assert_eq!(verdict(&mut prod, coin("f")).await, Verdict::Decline);
    assert_eq!(prod.balances("ann").await, [("coins".to_owned(), 0)]);
}

#[tokio::test]
async fn nothing_is_refused_for_a_stock_that_was_remembered() {
    let (mut prod, mut old_prod) = two().await;
    prod.set_stock("sku:a", 1).await;
    let looks = |id| wish(id, "window", "ann", &[]);
    assert_eq!(verdict(&mut prod, claim("a", "ann", "a", 1)).await, Verdict::Approve);
    old_prod.set_stock("sku:a", 3).await;
    // Once core says no, once the policy itself.
    assert_eq!(verdict(&mut prod, claim("b", "ann", "a", 3)).await, Verdict::Approve);
    old_prod.set_stock("sku:a", 3).await;
    assert_eq!(verdict(&mut prod, looks("c")).await, Verdict::Approve);
    assert_eq!(verdict(&mut prod, claim("d", "ann", "a", 4)).await, Verdict::Decline);
    assert_eq!(prod.stock("sku:a").await, Some(3));
}
