//! The writer over a real file: one answer for an id, one set for what has queued, and the fence.

use std::time::Duration;

use backstop_contract::{Budget, Cause, Decision, Verdict};
use backstop_engine::History;
use tempfile::TempDir;

use super::*;
use crate::decide::Fresh;
use crate::fixture::{NOON, asked, desk, question};
use crate::store::Records as _;
use crate::store::sqlite::{SqliteRecords, SqliteStore};

/// A writer that works only when it is told to, so that a set is what the test says.
struct Bench {
    writer: Writer<SqliteStore>,
    records: SqliteRecords,
    _folder: TempDir,
}

type Reply = oneshot::Receiver<Result<Outcome, CoreError>>;

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backstop.db");
        let store = SqliteStore::open(&file, Duration::from_secs(2)).await.unwrap();
        let records = store.records();
        let desk = desk();
        let learner = Learner::new(desk.learning, Instant::now());
        Self { writer: Writer { store, desk, learner }, records, _folder: folder }
    }

    /// Serves these in one set.
    async fn serve(&mut self, asks: Vec<Ask>) -> Vec<Result<Outcome, CoreError>> {
        self.serve_by(asks.into_iter().map(|ask| (ask, None)).collect()).await
    }

    async fn serve_by(
        &mut self,
        asks: Vec<(Ask, Option<Deadline>)>,
    ) -> Vec<Result<Outcome, CoreError>> {
        let (jobs, waiting) = mpsc::channel(asks.len());
        let replies: Vec<Reply> = asks
            .into_iter()
            .map(|(ask, deadline)| {
                let (reply, outcome) = oneshot::channel();
                jobs.try_send(Job { ask, deadline, reply }).unwrap();
                outcome
            })
            .collect();
        drop(jobs);
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

    /// A row of history as it is stored.
    async fn history(&mut self, row: &str) -> History {
        let row = HistoryKey { merchant: "demo".to_owned(), key: row.to_owned() };
        let mut transaction = self.writer.store.begin().await.unwrap();
        transaction
            .history(std::slice::from_ref(&row))
            .await
            .unwrap()
            .remove(&row)
            .unwrap_or_default()
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
async fn one_bad_request_fails_alone_and_never_its_set() {
    let mut bench = Bench::new().await;
    let bad = decide(asked("bad", "payment", u64::MAX));
    let outcomes = bench.serve(vec![decide(question("a")), bad, decide(question("b"))]).await;
    assert!(matches!(outcomes[1], Err(CoreError::Failed)), "{:?}", outcomes[1]);
    for id in ["a", "b"] {
        assert!(bench.stored(id).await.is_some());
    }
    assert!(bench.stored("bad").await.is_none());
    assert_eq!(bench.counted("customer:customer-1").await, (2, 0), "the bad one left no trace");
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

/// A writer on its own thread, as it runs in core.
async fn started(change: impl FnOnce(&mut Desk)) -> (Queue, SqliteRecords, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backstop.db");
    let store = SqliteStore::open(&file, Duration::from_secs(2)).await.unwrap();
    let records = store.records();
    let mut desk = desk();
    change(&mut desk);
    let (queue, _stopped) = start(store, desk).unwrap();
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
    let (jobs, mut waiting) = mpsc::channel(1);
    let queue = Queue { jobs };
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.ask(label("a", true), None).await }
    });
    while queue.jobs.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = queue.ask(label("a", true), None).await;
    assert!(matches!(refused, Err(CoreError::QueueFull)), "{refused:?}");
    let job = waiting.recv().await.unwrap();
    job.reply.send(Ok(Outcome::Labelled { found: true })).unwrap();
    assert!(first.await.unwrap().is_ok());
    drop(waiting);
    let refused = queue.ask(label("a", true), None).await;
    assert!(matches!(refused, Err(CoreError::Unusable)), "{refused:?}");
}
