//! What would be decided, over every kind of books: the same as what is, and nothing comes of it.

pub(crate) mod recalling;

use backstop_contract::Budget;
use tokio::sync::Semaphore;

use super::*;
use crate::fixture::{advice, asked, cancel, claim, spend};
use crate::rehearsals::Rehearsals;

const TABLES: [&str; 6] = ["decisions", "history", "stock", "balances", "ledger", "outbox"];

impl<B: Books> BenchOver<B> {
    async fn rehearse(&self, question: Question) -> Result<Outcome, CoreError> {
        self.rehearsals(1).rehearse(question, None).await
    }

    fn rehearsals(&self, places: usize) -> Rehearsals<B::Records> {
        let desk = &self.writer.desk;
        Rehearsals {
            records: self.records.clone(),
            rules: Arc::clone(&desk.rules),
            stack: "old-prod".to_owned(),
            policy_time_max: Duration::from_secs(1),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    async fn rows(&self) -> Vec<usize> {
        let mut rows = Vec::new();
        for table in TABLES {
            rows.push(self.books.rows(table).await);
        }
        rows
    }
}

/// A decision without what tells who made it and when.
fn gist(outcome: Result<Outcome, CoreError>) -> Decision {
    let answer = fresh(outcome).answer;
    Decision { stack: String::new(), decided_at: Timestamp::default(), ..answer }
}

/// A stack rehearses what the other has just decided on the same books. If it found the payment counted
/// and the last of the stock gone, a healthy release would look like one that declines more.
pub(crate) async fn what_was_decided_is_rehearsed_as_if_it_had_not_been<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:chest", 3).await;
    for question in [
        question("a"),
        question("b"),
        question("c"),
        asked("broken", "broken", 1),
        asked("keyless", "keyless", 1),
        claim("taken", "ann", "chest", 1),
        claim("last", "ann", "chest", 2),
        claim("none", "ann", "chest", 1),
        spend("two", "ann", 2),
        spend("all", "ann", 1),
        spend("more", "ann", 1),
        cancel("back", "spend", "ann", "two"),
        cancel("again", "spend", "ann", "two"),
    ] {
        let id = question.request.id.clone();
        let before = gist(bench.rehearse(question.clone()).await);
        let rows = bench.rows().await;
        let decided = gist(bench.serve(vec![decide(question.clone())]).await.remove(0));
        assert_eq!(before, decided, "{id}");
        assert_ne!(bench.rows().await, rows, "{id}");
        let rows = bench.rows().await;
        for _ in 0..2 {
            assert_eq!(gist(bench.rehearse(question.clone()).await), decided, "{id}");
        }
        assert_eq!(bench.rows().await, rows, "{id}");
    }
    assert_eq!(bench.stock("sku:chest").await, Some(0));
    assert_eq!(bench.balances("ann").await, vec![("coins".to_owned(), 2)]);
    assert_eq!(bench.counted("customer:customer-1").await, (3, 0));
}

pub(crate) async fn an_id_of_another_request_is_so_in_a_rehearsal_too<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.answer(question("a")).await;
    let outcome = bench.rehearse(asked("a", "payment", 1)).await;
    assert!(matches!(outcome, Ok(Outcome::IdReused)), "{outcome:?}");
}

/// All of a second's rehearsals may come in the same moment. Those beyond the sixteenth were refused at once,
/// and the stack looked ill.
pub(crate) async fn a_rehearsal_waits_for_a_place_but_not_until_nobody_listens<B: Books>() {
    let bench = BenchOver::<B>::new().await;
    let (rehearsals, start) = (bench.rehearsals(0), Instant::now());
    let ask = |budget| {
        let deadline = Some(Deadline::after(start, Budget::new(budget)));
        rehearsals.rehearse(question("a"), deadline)
    };
    for budget in [Duration::ZERO, Duration::from_millis(20)] {
        let outcome = ask(budget).await;
        assert!(matches!(outcome, Err(CoreError::QueueFull)), "{outcome:?}");
    }
    let leaves = async { rehearsals.places.add_permits(1) };
    let (outcome, ()) = tokio::join!(ask(Duration::from_mins(1)), leaves);
    assert!(matches!(outcome, Ok(Outcome::Decided(_))), "{outcome:?}");
}

/// The edge may have answered for core, or core otherwise than the client was told, before the other stack is
/// asked.
pub(crate) async fn what_was_settled_is_rehearsed_as_if_it_had_not_been<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:chest", 2).await;
    for (number, question, is_decided, told) in [
        (1, question("applied"), false, Verdict::Approve),
        (2, question("match"), true, Verdict::Approve),
        (3, question("corrected"), true, Verdict::Decline),
        (4, claim("taken", "ann", "chest", 1), false, Verdict::Approve),
        (5, claim("given-back", "ann", "chest", 1), true, Verdict::Decline),
        (6, claim("last", "ann", "chest", 1), true, Verdict::Approve),
        (7, claim("none", "ann", "chest", 1), true, Verdict::Approve),
        (8, spend("spent", "ann", 1), true, Verdict::Decline),
    ] {
        let id = question.request.id.clone();
        let before = gist(bench.rehearse(question.clone()).await);
        if is_decided {
            bench.answer(question.clone()).await;
        }
        let advice = Ask::Settle(Box::new(advice("n", number, question.clone(), told)));
        let settled = bench.serve(vec![advice]).await.remove(0);
        assert!(matches!(settled, Ok(Outcome::Settled { .. })), "{id}: {settled:?}");
        let rows = bench.rows().await;
        assert_eq!(gist(bench.rehearse(question).await), before, "{id}");
        assert_eq!(bench.rows().await, rows, "{id}");
    }
}
