//! What every store must do. One suite: a store joins it with one line at the foot.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use backstop_contract::{Cause, Decision, Effects, Tier, Timestamp, Verdict};
use backstop_engine::History;
use tempfile::TempDir;

use super::sqlite::{SqliteRecords, SqliteStore};
use super::{Changes, Decided, DecisionKey, HistoryKey, Records, Store, Transaction};
use crate::fixture::{NOON, asked, question};

const BUSY: Duration = Duration::from_millis(200);

/// One set of books that can be opened again and again.
trait Books {
    type Store: Store;
    type Records: Records;

    async fn new() -> Self;
    async fn open(&self) -> Self::Store;
    fn records(store: &Self::Store) -> Self::Records;
}

fn decided(id: &str) -> Decided {
    let answer = Decision {
        id: id.to_owned(),
        decision: Verdict::Decline,
        reasons: vec!["velocity".to_owned(), "it's \"odd\"".to_owned()],
        score: -3,
        decided_by: Tier::Core,
        cause: Some(Cause::Error),
        is_final: true,
        durable: true,
        stack: "prod".to_owned(),
        policy_version: "0123456789ab".to_owned(),
        effects: Effects { stock: [("sku".to_owned(), 41)].into(), balance: [].into() },
        budget_ms: 0,
        elapsed_ms: 0.0,
        decided_at: Timestamp::from_millis(NOON + 5),
        replayed: false,
        server_timing: String::new(),
        calls: Vec::new(),
    };
    let history_keys = vec!["customer:1".to_owned(), "terminal:2".to_owned()];
    let hash = question(id).hash;
    Decided { hash, answer, at: Timestamp::from_millis(NOON), history_keys, fraud: None }
}

fn key(id: &str) -> DecisionKey {
    DecisionKey { merchant: "demo".to_owned(), id: id.to_owned() }
}

fn row(key: &str) -> HistoryKey {
    HistoryKey { merchant: "demo".to_owned(), key: key.to_owned() }
}

fn history(events: i64) -> History {
    let mut history = History::default();
    for event in 0..events {
        history.record(Timestamp::from_millis(NOON + event), 100, Verdict::Approve);
    }
    history
}

/// Writes decisions under these ids, and commits them.
async fn write(store: &mut impl Store, ids: &[&str]) {
    let rows: Vec<_> = ids.iter().map(|id| (question(id), decided(id))).collect();
    let decided = rows.iter().map(|(question, decided)| (question, decided)).collect();
    let mut transaction = store.begin().await.unwrap();
    transaction.write(&Changes { decided, ..Changes::default() }).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn load(store: &mut impl Store, ids: &[&str]) -> HashMap<DecisionKey, Decided> {
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    store.begin().await.unwrap().decisions(&keys).await.unwrap()
}

async fn what_was_committed_is_there_when_opened_again<B: Books>() {
    let books = B::new().await;
    write(&mut books.open().await, &["a", "b"]).await;
    let found = load(&mut books.open().await, &["a", "b", "c"]).await;
    assert_eq!(found, HashMap::from([(key("a"), decided("a")), (key("b"), decided("b"))]));
}

async fn ids_differ_by_every_character_and_belong_to_a_merchant<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let ids = ["a", "A", "a ", "a\0", "a\0b", "ä", "a\u{308}", "'); DROP TABLE decisions; --", "%"];
    write(&mut store, &ids).await;
    let found = load(&mut store, &ids).await;
    for id in ids {
        assert_eq!(found.get(&key(id)), Some(&decided(id)), "{id:?}");
    }
    let other = DecisionKey { merchant: "other".to_owned(), id: "a".to_owned() };
    assert!(store.begin().await.unwrap().decisions(&[other]).await.unwrap().is_empty());
}

async fn history_is_replaced_and_found_by_its_key<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    for events in [1, 3] {
        let encoded = history(events).encode();
        let key = row("customer:1");
        let changes = Changes { history: vec![(&key, encoded.as_slice())], ..Changes::default() };
        let mut transaction = store.begin().await.unwrap();
        transaction.write(&changes).await.unwrap();
        transaction.commit().await.unwrap();
    }
    let keys = [row("customer:1"), row("customer:2")];
    let found = store.begin().await.unwrap().history(&keys).await.unwrap();
    assert_eq!(found, HashMap::from([(row("customer:1"), history(3))]));
}

async fn labels_change_the_decisions_they_name_and_no_other<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    write(&mut store, &["a", "b", "c"]).await;
    let keys = [key("a"), key("b")];
    for (a, b) in [(true, false), (false, true)] {
        let labels = vec![(&keys[0], a), (&keys[1], b)];
        let mut transaction = store.begin().await.unwrap();
        transaction.write(&Changes { labels, ..Changes::default() }).await.unwrap();
        transaction.commit().await.unwrap();
        let found = load(&mut store, &["a", "b", "c"]).await;
        let fraud = |id| found.get(&key(id)).unwrap().fraud;
        assert_eq!((fraud("a"), fraud("b"), fraud("c")), (Some(a), Some(b), None));
    }
}

/// What a process that dies before its commit leaves is what its connection leaves: nothing.
async fn a_transaction_that_was_not_committed_leaves_nothing<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let (asked, answered) = (question("a"), decided("a"));
    let (key, encoded) = (row("customer:1"), history(1).encode());
    {
        let mut transaction = store.begin().await.unwrap();
        let decided = vec![(&asked, &answered)];
        let history = vec![(&key, encoded.as_slice())];
        transaction.write(&Changes { decided, history, labels: Vec::new() }).await.unwrap();
    }
    for store in [&mut store, &mut books.open().await] {
        assert!(load(store, &["a"]).await.is_empty());
        let keys = std::slice::from_ref(&key);
        assert!(store.begin().await.unwrap().history(keys).await.unwrap().is_empty());
    }
}

async fn an_id_is_decided_once_whatever_the_writer_believes<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    write(&mut store, &["a"]).await;
    let (asked, answered) = (question("a"), decided("a"));
    let decided = vec![(&asked, &answered)];
    let mut transaction = store.begin().await.unwrap();
    let error = transaction.write(&Changes { decided, ..Changes::default() }).await.unwrap_err();
    assert!(!error.is_unusable(), "{error}");
}

async fn an_amount_that_no_column_holds_is_refused_and_nothing_else_is_broken<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let (asked, answered) = (asked("a", "payment", u64::MAX), decided("a"));
    let decided = vec![(&asked, &answered)];
    let mut transaction = store.begin().await.unwrap();
    let error = transaction.write(&Changes { decided, ..Changes::default() }).await.unwrap_err();
    assert!(!error.is_unusable(), "{error}");
    drop(transaction);
    write(&mut store, &["b"]).await;
    assert_eq!(load(&mut store, &["a", "b"]).await.len(), 1);
}

async fn more_rows_than_one_statement_carries_are_written_and_found<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let ids: Vec<_> = (0..150).map(|id| format!("txn-{id}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    write(&mut store, &ids).await;
    assert_eq!(load(&mut store, &ids).await.len(), 150);
}

async fn a_record_is_found_while_the_writer_is_busy_and_once_committed<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    write(&mut store, &["a"]).await;
    let records = B::records(&store);
    let (asked, answered) = (question("b"), decided("b"));
    let mut transaction = store.begin().await.unwrap();
    let decided_b = vec![(&asked, &answered)];
    transaction.write(&Changes { decided: decided_b, ..Changes::default() }).await.unwrap();
    assert_eq!(records.find(key("a")).await.unwrap(), Some(decided("a")));
    assert_eq!(records.find(key("b")).await.unwrap(), None, "not committed yet");
    transaction.commit().await.unwrap();
    assert_eq!(records.find(key("b")).await.unwrap(), Some(decided("b")));
}

async fn two_writers_take_turns_and_one_that_waits_too_long_says_so<B: Books>() {
    let books = B::new().await;
    let (mut prod, mut old_prod) = (books.open().await, books.open().await);
    let held = prod.begin().await.unwrap();
    let error = old_prod.begin().await.err().unwrap();
    assert!(error.is_unusable(), "{error}");
    old_prod.forget();
    held.commit().await.unwrap();
    write(&mut old_prod, &["a"]).await;
    assert_eq!(load(&mut prod, &["a"]).await.len(), 1);
}

/// SQLite files in a folder of their own.
struct SqliteBooks {
    folder: TempDir,
}

impl SqliteBooks {
    fn file(&self) -> PathBuf {
        self.folder.path().join("backstop.db")
    }
}

impl Books for SqliteBooks {
    type Store = SqliteStore;
    type Records = SqliteRecords;

    async fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.file(), BUSY).await.unwrap()
    }

    fn records(store: &SqliteStore) -> SqliteRecords {
        store.records()
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name_and_left_as_it_is() {
    let books = SqliteBooks::new().await;
    let garbage = "not a database, and longer than any header is ".repeat(40);
    std::fs::write(books.file(), &garbage).unwrap();
    let error = SqliteStore::open(&books.file(), BUSY).await.err().unwrap();
    assert!(error.is_of_the_database() && error.to_string().contains("backstop.db"), "{error}");
    assert_eq!(std::fs::read_to_string(books.file()).unwrap(), garbage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_stacks_may_open_a_new_file_at_once() {
    for _ in 0..10 {
        let books = SqliteBooks::new().await;
        let open = || {
            let file = books.file();
            tokio::spawn(async move { SqliteStore::open(&file, Duration::from_secs(5)).await })
        };
        for opened in [open(), open(), open(), open()] {
            opened.await.unwrap().unwrap();
        }
    }
}

macro_rules! suite {
    ($module:ident, $books:ty, [$($test:ident),+ $(,)?]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test::<$books>().await;
                }
            )+
        }
    };
}

suite!(
    sqlite,
    crate::store::tests::SqliteBooks,
    [
        what_was_committed_is_there_when_opened_again,
        ids_differ_by_every_character_and_belong_to_a_merchant,
        history_is_replaced_and_found_by_its_key,
        labels_change_the_decisions_they_name_and_no_other,
        a_transaction_that_was_not_committed_leaves_nothing,
        an_id_is_decided_once_whatever_the_writer_believes,
        an_amount_that_no_column_holds_is_refused_and_nothing_else_is_broken,
        more_rows_than_one_statement_carries_are_written_and_found,
        a_record_is_found_while_the_writer_is_busy_and_once_committed,
        two_writers_take_turns_and_one_that_waits_too_long_says_so,
    ]
);
