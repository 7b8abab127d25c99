//! Two cores on one PostgreSQL: an id that one of them decided is new to the other.

use super::*;
use crate::store::tests::PostgresBooks;

#[tokio::test]
async fn an_id_that_another_core_decided_has_its_answer_and_is_nobody_elses() {
    let mut prod = BenchOver::<PostgresBooks>::new().await;
    let beside = PostgresBooks { url: prod.books.url.clone() };
    let mut old_prod = BenchOver::over(beside, |_| {}).await;
    let first = prod.answer(question("a")).await.answer;
    // Among others of a set, which must not suffer from it.
    let asks = ["b", "a", "c"].map(|id| decide(question(id)));
    let mut outcomes = old_prod.serve(asks.into()).await;
    match outcomes.remove(1) {
        Ok(Outcome::Replayed(again)) => assert_eq!(Decision { replayed: false, ..again }, first),
        other => panic!("{other:?}"),
    }
    assert!(outcomes.iter().all(|it| matches!(it, Ok(Outcome::Decided(_)))), "{outcomes:?}");
    let reused = prod.serve(vec![decide(asked("b", "payment", 1))]).await.remove(0);
    assert!(matches!(reused, Ok(Outcome::IdReused)), "{reused:?}");
    assert_eq!(prod.counted("customer:customer-1").await, (3, 0));
}
