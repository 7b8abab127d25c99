//! The suite over SQLite, and what is true of files alone.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, FromRow};
use tempfile::TempDir;

use super::*;
use crate::store::sqlite::{SqliteRecords, SqliteStore};

const BUSY: Duration = Duration::from_secs(1);

/// SQLite files in a folder of their own.
pub(crate) struct SqliteBooks {
    folder: TempDir,
}

impl SqliteBooks {
    fn file(&self) -> PathBuf {
        self.folder.path().join("backstop.db")
    }

    async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.file()).connect().await.unwrap()
    }

    async fn all<R>(&self, select: &'static str) -> Vec<R>
    where
        R: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        sqlx::query_as(select).fetch_all(&mut self.connect().await).await.unwrap()
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

    async fn ledger(&self) -> Vec<Line> {
        self.all("SELECT * FROM ledger ORDER BY seq").await
    }

    async fn outbox(&self) -> Vec<(String, String, String)> {
        self.all("SELECT merchant, id, kind FROM outbox ORDER BY seq").await
    }

    async fn rows(&self, table: &str) -> usize {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count = sqlx::query_scalar(count).fetch_one(&mut self.connect().await).await;
        usize::try_from(count.unwrap_or(-1_i64)).unwrap()
    }
}

suite!(crate::store::tests::SqliteBooks);

/// PostgreSQL has no NUL in its texts; SQLite keeps them, and compares them.
#[tokio::test]
async fn a_nul_in_an_id_is_a_character_as_any_other() {
    let books = SqliteBooks::new().await;
    let mut store = books.open().await;
    let ids = ["a", "a\0", "a\0b"];
    decide(&mut store, &ids).await;
    assert_eq!(decisions(&mut store, &ids).await.len(), ids.len());
}

#[tokio::test]
async fn two_writers_take_turns_and_one_that_waits_too_long_says_so() {
    let books = SqliteBooks::new().await;
    let (mut prod, mut old_prod) = (books.open().await, books.open().await);
    let held = prod.begin().await.unwrap();
    let error = old_prod.begin().await.err().unwrap();
    assert!(error.is_unusable(), "{error}");
    old_prod.forget();
    held.commit(&Changes::default(), &|| true).await.unwrap();
    decide(&mut old_prod, &["a"]).await;
    assert_eq!(decisions(&mut prod, &["a"]).await.len(), 1);
}

/// A release from before there were effects writes beside this one: it names none of the new columns.
#[tokio::test]
async fn an_older_release_writes_beside_this_one() {
    let books = SqliteBooks::new().await;
    let mut store = books.open().await;
    let mut older = books.connect().await;
    let rows = [
        "INSERT INTO decisions (merchant, id, request_hash, policy, account, event_at, attributes, \
         decision, reasons, score, decided_by, stack, policy_version, effects, decided_at, \
         history_keys) VALUES ('demo', 'a', zeroblob(32), 'payment', 'ann', 1, '{}', 'approve', '[]', \
         0, 'core', 'old-prod', 'v', '{}', 1, '[]')",
        "INSERT INTO history (merchant, key, row) VALUES ('demo', 'a', x'0100') \
         ON CONFLICT (merchant, key) DO UPDATE SET row = excluded.row",
    ];
    for statement in rows {
        sqlx::query(statement).execute(&mut older).await.unwrap();
    }
    let found = decisions(&mut store, &["a"]).await.remove(&key("a")).unwrap();
    assert_eq!((found.moves, found.cancelled_by), (Moves::default(), None));
    assert_eq!(books.outbox().await.len(), 1);
    let wanted = Wanted { history: vec![row("a")], ..Wanted::default() };
    let loaded = load(&mut store, wanted).await.history.remove(&row("a")).unwrap();
    let encoded = history(1).encode();
    let history = vec![put(encoded.as_slice(), loaded.version)];
    commit(&mut store, &Changes { history, ..Changes::default() }).await.unwrap();
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
