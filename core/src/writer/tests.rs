//! The writer over real books: one answer for an id, one set for what has queued, and the fence.

pub(crate) mod effects;
mod faulty;
mod hostile;
pub(crate) mod lanes;
mod late;
mod measure;
pub(crate) mod model;
pub(crate) mod poison;
mod queue;
pub(crate) mod rehearsing;
mod repeating;
pub(crate) mod settling;
mod torture;

use std::collections::HashMap;
use std::time::Duration;

use backstop_contract::{Budget, Cause, Decision, Question, Verdict};
use backstop_engine::History;
use tempfile::TempDir;
use tokio::sync::oneshot;

use self::faulty::{Fault, Faults as Script, Faulty};
use super::*;
use crate::decide::Fresh;
use crate::fixture::{NOON, asked, desk, question};
use crate::store::sqlite::{SqliteRecords, SqliteStore};
use crate::store::tests::{Books, SqliteBooks};
use crate::store::{AccountKey, Decided, DecisionKey, Records, RowKey, Wanted};

/// A writer that works only when it is told to, so that a set is what the test says.
struct BenchOver<B: Books> {
    writer: Writer<Faulty<B::Store>>,
    records: B::Records,
    /// What the next units meet.
    faults: Script,
    books: B,
}

type Bench = BenchOver<SqliteBooks>;

type Reply = oneshot::Receiver<Result<Outcome, CoreError>>;

impl<B: Books> BenchOver<B> {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Desk)) -> Self {
        Self::over(B::new().await, change).await
    }

    async fn over(books: B, change: impl FnOnce(&mut Desk)) -> Self {
        let store = books.open().await;
        let records = B::records(&store);
        let mut desk = desk();
        change(&mut desk);
        let faults = Script::default();
        let store = Faulty::new(store, faults.clone());
        let writer = Writer::new(store, Arc::new(desk), Needed::default());
        Self { writer, records, faults, books }
    }

    /// Serves these in one set.
    async fn serve(&mut self, asks: Vec<Ask>) -> Vec<Result<Outcome, CoreError>> {
        self.serve_by(asks.into_iter().map(|ask| (ask, None)).collect()).await
    }

    async fn serve_by(
        &mut self,
        asks: Vec<(Ask, Option<Deadline>)>,
    ) -> Vec<Result<Outcome, CoreError>> {
        let (lane, waiting) = Lane::new(asks.len());
        let replies: Vec<Reply> = asks
            .into_iter()
            .map(|(ask, deadline)| {
                let (reply, outcome) = oneshot::channel();
                let reply = Box::new(|it| drop(reply.send(it)));
                let jobs = if ask.is_live() { &lane.live } else { &lane.bulk };
                assert!(jobs.try_send(Job { ask, deadline, reply }).is_ok());
                outcome
            })
            .collect();
        drop(lane);
        self.writer.run(waiting).await;
        let mut outcomes = Vec::new();
        for reply in replies {
            outcomes.push(reply.await.unwrap());
        }
        outcomes
    }

    async fn answer(&mut self, question: Question) -> Fresh {
        fresh(self.serve(vec![decide(question)]).await.remove(0))
    }

    async fn label(&mut self, id: &str, fraud: bool) -> bool {
        match self.serve(vec![label(id, fraud)]).await.remove(0) {
            Ok(Outcome::Labelled { found }) => found,
            other => panic!("{other:?}"),
        }
    }

    async fn stored(&self, id: &str) -> Option<Decided> {
        self.records.find(key(id)).await.unwrap()
    }

    async fn set_stock(&mut self, key: &str, remaining: i64) {
        let outcome = self.serve(vec![Ask::SetStock(row(key), remaining)]).await.remove(0);
        assert!(matches!(outcome, Ok(Outcome::StockSet)), "{outcome:?}");
    }

    async fn stock(&self, key: &str) -> Option<i64> {
        self.records.stock(row(key)).await.unwrap()
    }

    async fn balances(&self, account: &str) -> Vec<(String, i64)> {
        let key = AccountKey { merchant: "demo".to_owned(), account: account.to_owned() };
        self.records.balances(key).await.unwrap()
    }

    /// A row of history as it is stored.
    async fn history(&mut self, key: &str) -> History {
        let key = row(key);
        let wanted = Wanted { history: vec![key.clone()], ..Wanted::default() };
        let mut unit = self.writer.store.begin().await.unwrap();
        unit.load(wanted).await.unwrap().history.remove(&key).unwrap_or_default().value
    }

    async fn counted(&mut self, row: &str) -> (u64, u64) {
        let history = self.history(row).await;
        let (hour, now) = (Duration::from_hours(1), Timestamp::from_millis(NOON));
        (history.count(hour, Duration::ZERO, now), history.frauds(hour, Duration::ZERO, now))
    }
}

fn decide(question: Question) -> Ask {
    Ask::Decide(Box::new(question))
}

fn label(id: &str, fraud: bool) -> Ask {
    Ask::Label(key(id), fraud)
}

fn key(id: &str) -> DecisionKey {
    DecisionKey { merchant: "demo".to_owned(), id: id.to_owned() }
}

fn row(key: &str) -> RowKey {
    RowKey { merchant: "demo".to_owned(), key: key.to_owned() }
}

fn fresh(outcome: Result<Outcome, CoreError>) -> Fresh {
    match outcome {
        Ok(Outcome::Decided(fresh)) => fresh,
        other => panic!("not a new decision: {other:?}"),
    }
}

#[tokio::test]
async fn a_decision_is_stored_as_it_was_told_and_counted_in_the_history_it_read() {
    let mut bench = Bench::new().await;
    let fresh = bench.answer(question("a")).await;
    assert_eq!((fresh.answer.decision, fresh.answer.stack.as_str()), (Verdict::Approve, "prod"));
    assert_eq!(bench.stored("a").await.unwrap().answer, fresh.answer);
    let keys: Vec<_> = fresh.history.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["customer:customer-1", "terminal:3156"]);
    for (key, row) in &fresh.history {
        assert_eq!(
            History::decode(row),
            Ok(bench.history(key).await),
            "the row after the decision"
        );
        assert_eq!(bench.counted(key).await, (1, 0));
    }
}

#[tokio::test]
async fn requests_of_a_set_see_the_ones_before_them_as_if_each_had_come_alone() {
    let ids = ["a", "b", "c", "d"];
    let expected = [Verdict::Approve, Verdict::Approve, Verdict::Decline, Verdict::Decline];

    let mut together = Bench::new().await;
    let outcomes = together.serve(ids.iter().map(|id| decide(question(id))).collect()).await;
    assert_eq!(
        outcomes.into_iter().map(|o| fresh(o).answer.decision).collect::<Vec<_>>(),
        expected
    );

    let mut alone = Bench::new().await;
    for (id, verdict) in ids.into_iter().zip(expected) {
        assert_eq!(alone.answer(question(id)).await.answer.decision, verdict);
    }
    let row = "customer:customer-1";
    assert_eq!(together.history(row).await, alone.history(row).await);
}

#[tokio::test]
async fn a_repeated_id_gets_the_first_answer_and_is_counted_once() {
    let mut bench = Bench::new().await;
    let mut outcomes = bench.serve(vec![decide(question("a")), decide(question("a"))]).await;
    let replayed = outcomes.pop().unwrap().unwrap();
    let first = fresh(outcomes.remove(0));
    for again in [replayed, bench.serve(vec![decide(question("a"))]).await.remove(0).unwrap()] {
        match again {
            Outcome::Replayed(answer) => {
                assert!(answer.replayed);
                assert_eq!(Decision { replayed: false, ..answer }, first.answer);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.counted("customer:customer-1").await, (1, 0));
}

#[tokio::test]
async fn an_id_with_another_body_is_refused_and_changes_nothing() {
    let mut bench = Bench::new().await;
    let other = || decide(asked("a", "payment", 5717));
    let outcomes = bench.serve(vec![decide(question("a")), other()]).await;
    assert!(matches!(outcomes[1], Ok(Outcome::IdReused)), "in the same set");
    assert!(matches!(bench.serve(vec![other()]).await[0], Ok(Outcome::IdReused)), "later");
    assert_eq!(bench.counted("customer:customer-1").await, (1, 0));
}

#[tokio::test]
async fn labels_reach_the_decision_and_its_history_once_and_follow_changes() {
    let mut bench = Bench::new().await;
    bench.serve(vec![decide(question("a")), decide(question("b"))]).await;
    for (fraud, frauds) in [(true, 1), (true, 1), (false, 0), (false, 0), (true, 1)] {
        assert!(bench.label("a", fraud).await);
        assert_eq!(bench.stored("a").await.unwrap().fraud, Some(fraud));
        for row in ["customer:customer-1", "terminal:3156"] {
            assert_eq!(bench.counted(row).await, (2, frauds), "{row} after {fraud}");
        }
    }
    assert_eq!(bench.stored("b").await.unwrap().fraud, None);
    assert!(!bench.label("unknown", true).await);
}

/// A chargeback comes weeks after its payment, when much else was counted since.
#[tokio::test]
async fn a_late_label_reaches_the_day_of_its_decision() {
    let mut bench = Bench::new().await;
    let days = |days: u64| Duration::from_hours(24 * days);
    for day in 0..20_u8 {
        let mut question = question(&format!("day {day}"));
        let millis = NOON + i64::from(day) * 86_400_000;
        question.received_at = Timestamp::from_millis(millis);
        bench.serve(vec![decide(question)]).await;
    }
    assert!(bench.label("day 5", true).await);
    let history = bench.history("customer:customer-1").await;
    let now = Timestamp::from_millis(NOON + 19 * 86_400_000);
    let frauds = |delay| history.frauds(days(1), days(delay), now);
    assert_eq!((frauds(13), frauds(14), frauds(15)), (0, 1, 0));
}

#[tokio::test]
async fn a_label_in_the_set_of_its_decision_is_kept() {
    let mut bench = Bench::new().await;
    let set = vec![label("a", true), decide(question("a")), label("a", false), label("a", true)];
    let outcomes = bench.serve(set).await;
    let found: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Ok(Outcome::Labelled { found }) => Some(*found),
            _ => None,
        })
        .collect();
    assert_eq!(found, [false, true, true], "before the decision there is nothing to label");
    assert_eq!(bench.stored("a").await.unwrap().fraud, Some(true));
    assert_eq!(bench.counted("terminal:3156").await, (1, 1));
}

#[tokio::test]
async fn a_policy_that_breaks_gets_its_safe_answer_from_core() {
    let mut bench = Bench::new().await;
    for (id, policy, place) in
        [("a", "broken", "policies/broken.lua:3"), ("b", "keyless", "policies/keyless.lua:2")]
    {
        let fresh = bench.answer(asked(id, policy, 1)).await;
        let breach = fresh.breach.unwrap().to_string();
        assert!(breach.starts_with(place), "{breach}");
        assert_eq!(fresh.answer.decision, Verdict::Decline);
        assert_eq!(fresh.answer.cause, Some(Cause::Error));
        assert_eq!(bench.stored(id).await.unwrap().answer, fresh.answer);
    }
    assert_eq!(bench.counted("it").await, (1, 0), "it is counted, whatever the decision");
}

/// A writer on its own thread, as it runs in core.
async fn started(change: impl FnOnce(&mut Desk)) -> (Queue, SqliteRecords, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backstop.db");
    let store = SqliteStore::open(&file, Duration::from_secs(2)).await.unwrap();
    let records = store.records();
    let mut desk = desk();
    change(&mut desk);
    let (queue, _stopped) = start(vec![store], desk);
    (queue, records, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_duplicates_share_one_answer() {
    let (queue, _records, _folder) = started(|_| {}).await;
    let asks: Vec<_> = (0..200)
        .map(|n| {
            let queue = queue.clone();
            let ask = decide(question(&format!("txn-{}", n % 5)));
            tokio::spawn(async move { queue.ask(ask, None).await.unwrap() })
        })
        .collect();
    let (mut decided, mut answers) = (0, HashMap::new());
    for ask in asks {
        let answer = match ask.await.unwrap() {
            Outcome::Decided(fresh) => {
                decided += 1;
                fresh.answer
            }
            Outcome::Replayed(answer) => answer,
            other => panic!("{other:?}"),
        };
        let answer = Decision { replayed: false, ..answer };
        assert_eq!(answers.entry(answer.id.clone()).or_insert(answer.clone()), &answer);
    }
    assert_eq!((decided, answers.len()), (5, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_walks_away_cancels_nothing() {
    let (queue, records, _folder) = started(|_| {}).await;
    let walked_away =
        tokio::time::timeout(Duration::ZERO, queue.ask(decide(question("a")), None)).await;
    assert!(walked_away.is_err());
    let give_up = Instant::now() + Duration::from_secs(10);
    while records.find(key("a")).await.unwrap().is_none() {
        assert!(Instant::now() < give_up, "it was never decided");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_full_queue_says_so_at_once_and_takes_more_once_it_has_room() {
    let (lane, mut waiting) = Lane::new(1);
    let queue = Queue { lanes: Arc::new([lane]), metrics: Metrics::new().unwrap() };
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.ask(label("a", true), None).await }
    });
    while queue.lanes[0].live.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = queue.ask(label("a", true), None).await;
    assert!(matches!(refused, Err(CoreError::QueueFull)), "{refused:?}");
    let job = waiting.live.recv().await.unwrap();
    (job.reply)(Ok(Outcome::Labelled { found: true }));
    assert!(first.await.unwrap().is_ok());
    drop(waiting);
    let refused = queue.ask(label("a", true), None).await;
    assert!(matches!(refused, Err(CoreError::Unusable)), "{refused:?}");
}
