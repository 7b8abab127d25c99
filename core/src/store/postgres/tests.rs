//! What is true of PostgreSQL alone: two cores at once, connections that die, locks that others hold.

mod ahead;
mod ids;
mod measure;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use tokio::time::Instant;

use super::session::IMPATIENCE;
use super::*;
use crate::store::settled::{PutDecision, SequenceKey, Was};
use crate::store::tests::postgres::{LIMITS, PostgresBooks};
use crate::store::tests::{Books as _, account, decide, decisions, put, put_coins, row};
use crate::store::{Decided, Put, PutBalance, Records as _};

const SHORT: TimeLimits =
    TimeLimits { statement: Duration::from_secs(5), lock: Duration::from_millis(50) };

fn stock_of(keys: &[&str]) -> Wanted {
    Wanted { stock: keys.iter().map(|key| row(key)).collect(), ..Wanted::default() }
}

/// What is left and the version it has; 0 where there is none.
async fn loaded(unit: &mut PostgresUnit<'_>, key: &str) -> (i64, i64) {
    let stock = unit.load(stock_of(&[key])).await.unwrap().stock;
    stock.get(&row(key)).map_or((0, 0), |row| (row.value, row.version))
}

async fn left(store: &mut PostgresStore, key: &str) -> i64 {
    loaded(&mut store.begin().await.unwrap(), key).await.0
}

async fn put_stock(store: &mut PostgresStore, key: &str, value: i64) -> Result<(), CoreError> {
    let mut unit = store.begin().await?;
    let (_, was) = loaded(&mut unit, key).await;
    let stock = vec![Put { key, ..put(&value, was) }];
    unit.commit(&Changes { stock, ..Changes::default() }, &|| true).await
}

/// Two read, both write: one of them is told to begin again, whoever is first and whatever the row.
#[tokio::test]
async fn of_two_who_change_what_both_have_read_one_must_begin_again() {
    let books = PostgresBooks::new().await;
    let (mut prod, mut old_prod) = (books.open().await, books.open().await);
    for there_is_a_row in [false, true] {
        let before = left(&mut prod, "a").await;
        assert_eq!(before != 0, there_is_a_row);
        let (mut first, mut second) =
            (prod.begin().await.unwrap(), old_prod.begin().await.unwrap());
        let (left_first, was_first) = loaded(&mut first, "a").await;
        let (left_second, was_second) = loaded(&mut second, "a").await;
        let (first_value, second_value) = (left_first + 1, left_second + 10);
        let changes = |value, was| Changes { stock: vec![put(value, was)], ..Changes::default() };
        second.commit(&changes(&second_value, was_second), &|| true).await.unwrap();
        let error = first.commit(&changes(&first_value, was_first), &|| true).await.unwrap_err();
        assert!(matches!(error, CoreError::Conflict), "{error}");
        assert_eq!(left(&mut prod, "a").await, before + 10);
    }
}

/// Both take one of each stock, in opposite orders, again and again. Neither may lose an update, wait
/// for the other for ever, or fail in any way but by a conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contended_rows_in_any_order_neither_lose_an_update_nor_lock_each_other_out() {
    const ROUNDS: i64 = 60;
    const KEYS: [&str; 3] = ["a", "b", "c"];
    let books = PostgresBooks::new().await;
    let mut stores = Vec::new();
    for backwards in [false, true, false] {
        stores.push((books.open().await, backwards));
    }
    let work = |(mut store, backwards): (PostgresStore, bool)| async move {
        let mut conflicts = 0;
        for _ in 0..ROUNDS {
            while let Err(error) = add_one(&mut store, &KEYS, backwards).await {
                assert!(matches!(error, CoreError::Conflict), "{error}");
                conflicts += 1;
            }
        }
        conflicts
    };
    let mut conflicts = 0;
    for worker in stores.into_iter().map(|store| tokio::spawn(work(store))).collect::<Vec<_>>() {
        conflicts += worker.await.unwrap();
    }
    assert!(conflicts > 0, "nobody met anybody: this shows nothing");
    let mut store = books.open().await;
    for key in KEYS {
        assert_eq!(left(&mut store, key).await, 3 * ROUNDS, "{key}");
    }
}

async fn add_one(
    store: &mut PostgresStore,
    keys: &[&str],
    backwards: bool,
) -> Result<(), CoreError> {
    let mut unit = store.begin().await?;
    let found = unit.load(stock_of(keys)).await?.stock;
    let of = |key: &str| found.get(&row(key)).cloned().unwrap_or_default();
    let values: Vec<_> =
        keys.iter().map(|key| (*key, of(key).value + 1, of(key).version)).collect();
    let mut stock: Vec<_> =
        values.iter().map(|(key, value, was)| Put { key, ..put(value, *was) }).collect();
    if backwards {
        stock.reverse();
    }
    unit.commit(&Changes { stock, ..Changes::default() }, &|| true).await
}

/// A label and a cancel of one decision meet in one row.
#[tokio::test]
async fn a_decision_is_labelled_and_released_in_one_unit() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a"]).await;
    let key = crate::store::tests::key("a");
    let (fraud, cancelled_by) = (Some(true), Some("b".to_owned()));
    let now = Decided { cancelled_by, fraud, ..crate::store::tests::decided("a") };
    let marked = vec![PutDecision { key: &key, decided: &now, was: Was::default() }];
    let changes = Changes { marked, ..Changes::default() };
    store.begin().await.unwrap().commit(&changes, &|| true).await.unwrap();
    let found = decisions(&mut store, &["a"]).await;
    let decided = found.get(&key).unwrap();
    assert_eq!((decided.fraud, decided.cancelled_by.as_deref()), (Some(true), Some("b")));
    let error = store.begin().await.unwrap().commit(&changes, &|| true).await.unwrap_err();
    assert!(matches!(error, CoreError::Conflict), "{error}");
}

/// PostgreSQL has no NUL in its texts, and a policy may build a key of anything a client sent.
#[tokio::test]
async fn a_key_with_a_nul_is_a_key_as_any_other() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    for (value, key) in (1..).zip(["a", "a\0", "a\u{1}0", "a\0b"]) {
        put_stock(&mut store, key, value).await.unwrap();
        let balance = PutBalance { account: key, unit: key, ..put_coins(value, 0) };
        let changes = Changes { balances: vec![balance], ..Changes::default() };
        store.begin().await.unwrap().commit(&changes, &|| true).await.unwrap();
    }
    for (value, key) in (1..).zip(["a", "a\0", "a\u{1}0", "a\0b"]) {
        assert_eq!(left(&mut store, key).await, value, "{key:?}");
        let balances = store.records().balances(account(key)).await.unwrap();
        assert_eq!(balances, [(key.to_owned(), value)]);
    }
}

/// Ends the connection of a store, as an administrator would.
async fn end_connections(books: &PostgresBooks) {
    let end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'backstop-core'";
    let ended: i64 = sqlx::query_scalar(end).fetch_one(&mut books.somebody().await).await.unwrap();
    assert!(ended > 0);
}

#[tokio::test]
async fn a_connection_that_ended_in_the_middle_leaves_nothing_and_the_next_unit_has_another() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    end_connections(&books).await;
    assert_eq!(left(&mut store, "a").await, 1, "to load again is no harm");
    let mut unit = store.begin().await.unwrap();
    let (_, was) = loaded(&mut unit, "a").await;
    end_connections(&books).await;
    let changes = Changes { stock: vec![put(&2, was)], ..Changes::default() };
    let error = unit.commit(&changes, &|| true).await.unwrap_err();
    assert!(error.is_unusable(), "nobody knows what became of a commit: {error}");
    put_stock(&mut store, "a", 3).await.unwrap();
    assert_eq!(left(&mut store, "a").await, 3);
    assert_eq!(store.records().stock(row("a")).await.unwrap(), Some(3));
}

/// Locks one row in a transaction that stays open.
async fn hold(books: &PostgresBooks, key: &str) -> PgConnection {
    let mut somebody = books.somebody().await;
    somebody.execute("BEGIN").await.unwrap();
    let row = sqlx::query("UPDATE stock SET remaining = 0 WHERE key = $1").bind(key);
    assert_eq!(row.execute(&mut somebody).await.unwrap().rows_affected(), 1);
    somebody
}

#[tokio::test]
async fn a_row_that_somebody_holds_fails_its_own_requests_and_no_others() {
    let books = PostgresBooks::new().await;
    let mut store = PostgresStore::open(&books.url, SHORT).await.unwrap();
    for key in ["held", "free"] {
        put_stock(&mut store, key, 1).await.unwrap();
    }
    let held = hold(&books, "held").await;
    let error = put_stock(&mut store, "held", 2).await.unwrap_err();
    assert!(matches!(error, CoreError::Held(_)) && !error.is_unusable(), "{error}");
    let lock = |store: &PostgresStore| store.session.connection.as_ref().unwrap().lock;
    assert_eq!(lock(&store), SHORT.lock);
    let error = put_stock(&mut store, "held", 2).await.unwrap_err();
    assert!(matches!(error, CoreError::Held(_)), "{error}");
    assert_eq!(lock(&store), SHORT.lock / IMPATIENCE, "the next wait is shorter");
    put_stock(&mut store, "free", 2).await.unwrap();
    drop(held);
    assert_eq!((left(&mut store, "held").await, left(&mut store, "free").await), (1, 2));
}

/// A unit holds nothing between its two statements: one that is dropped, or never goes on, is in
/// nobody's way, and no connection ever has a transaction open.
#[tokio::test]
async fn a_unit_that_never_ends_holds_no_lock_and_no_transaction() {
    let books = PostgresBooks::new().await;
    let (mut frozen, mut store) = (books.open().await, books.open().await);
    put_stock(&mut store, "a", 1).await.unwrap();
    let mut unit = frozen.begin().await.unwrap();
    let _loaded = loaded(&mut unit, "a").await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'backstop-core' AND state <> 'idle'";
    let open: i64 = sqlx::query_scalar(open).fetch_one(&mut books.somebody().await).await.unwrap();
    assert_eq!(open, 0);
    put_stock(&mut store, "a", 2).await.unwrap();
    assert_eq!(left(&mut store, "a").await, 2);
}

/// The story of FACTS: a future dropped in the middle of a statement gave its connection, and an INSERT
/// under way on it, to the next borrower. Here the connection goes with it.
#[tokio::test]
async fn a_statement_that_is_given_up_takes_its_connection_along() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    let held = hold(&books, "a").await;
    let begun = timeout(Duration::from_millis(20), put_stock(&mut store, "a", 2)).await;
    assert!(begun.is_err(), "it waits for the row");
    assert!(store.session.connection.is_none());
    drop(held);
    // The one that was given up may have been made all the same; never is it half made.
    put_stock(&mut store, "b", 3).await.unwrap();
    assert!([1, 2].contains(&left(&mut store, "a").await));
}

#[tokio::test]
async fn a_statement_without_end_is_ended_by_the_server() {
    let books = PostgresBooks::new().await;
    let limits = TimeLimits { statement: Duration::from_millis(50), lock: Duration::from_secs(5) };
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    let _held = hold(&books, "a").await;
    let mut store = PostgresStore::open(&books.url, limits).await.unwrap();
    let error = put_stock(&mut store, "a", 2).await.unwrap_err();
    assert!(error.is_unusable(), "{error}");
    assert!(store.session.connection.is_none(), "the next statement has a new connection");
    assert_eq!(left(&mut books.open().await, "a").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_cores_may_open_a_new_database_at_once() {
    for _ in 0..3 {
        let url = PostgresBooks::new().await.url;
        let open = || {
            let url = url.clone();
            tokio::spawn(async move { PostgresStore::open(&url, LIMITS).await.map(drop) })
        };
        for opened in [open(), open(), open(), open()] {
            opened.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_its_password() {
    let limits = LIMITS;
    for url in
        ["postgres://user:secret@127.0.0.1:1/books", "postgres://u:secret@h/db?host=/nowhere"]
    {
        let error = PostgresStore::open(url, limits).await.err().unwrap();
        let said = error.to_string();
        assert!(error.is_of_the_database() && said.starts_with("postgres://"), "{said}");
        assert!(!said.contains("secret") && !said.contains("user"), "{said}");
    }
    let error =
        PostgresStore::open("postgres://user:secret@host:port/", limits).await.err().unwrap();
    assert!(!error.is_of_the_database() && !error.to_string().contains("secret"), "{error}");
}

/// A plan is made once, while tables are small. Were it to scan them, it would go on to.
#[tokio::test]
async fn every_statement_finds_its_rows_by_their_keys() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a"]).await;
    let key = crate::store::tests::key("a");
    let encoded = crate::store::tests::history(1).encode();
    let (other, settled) = (crate::store::tests::key("b"), crate::store::tests::decided("b"));
    let put_again = |key| vec![PutDecision { key, decided: &settled, was: Was::default() }];
    let changes = Changes {
        marked: put_again(&key),
        restated: put_again(&other),
        history: vec![put(encoded.as_slice(), 0)],
        stock: vec![put(&1, 0)],
        balances: vec![put_coins(1, 0)],
        ..Changes::default()
    };
    let wanted = Wanted {
        asked: Vec::new(),
        decisions: vec![key.clone()],
        history: vec![row("a")],
        stock: vec![row("a")],
        accounts: vec![account("ann")],
        arrivals: vec![SequenceKey { node: "n".to_owned(), epoch: u64::MAX }],
    };
    for statement in [load::statement(&wanted), commit::statement(&changes)] {
        let (sql, arguments) = statement.unwrap().unwrap().finish();
        let connection = &mut store.session.connection.as_mut().unwrap().inner;
        let explain = AssertSqlSafe(format!("EXPLAIN {sql}"));
        let plan = sqlx::query_scalar_with(explain, arguments).fetch_all(connection).await;
        let steps: Vec<String> = plan.unwrap();
        for step in &steps {
            let scans = ["Seq Scan", "Bitmap", "Hash Join", "Merge Join", "Sort", "Materialize"];
            assert!(!scans.iter().any(|scan| step.contains(scan)), "{}", steps.join("\n"));
        }
    }
}

/// A release from before there was settlement writes beside this one: it names none of the new columns.
#[tokio::test]
async fn an_older_release_writes_beside_this_one() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    let older = "INSERT INTO decisions (merchant, id, request_hash, policy, account, event_at, \
        attributes, decision, reasons, score, decided_by, stack, policy_version, effects, \
        decided_at, history_keys) VALUES ('demo', 'a', decode(repeat('00', 32), 'hex'), 'payment', \
        'ann', 1, '{}', 'approve', '[]', 0, 'core', 'old-prod', 'v', '{}', 1, '[]')";
    sqlx::query(older).execute(&mut books.somebody().await).await.unwrap();
    let a = crate::store::tests::key("a");
    let found = decisions(&mut store, &["a"]).await.remove(&a).unwrap();
    assert_eq!((found.standing, &found.first), (backstop_contract::Standing::Decided, &None));
    let restated = vec![PutDecision { key: &a, decided: &found, was: Was::default() }];
    let changes = Changes { restated, ..Changes::default() };
    store.begin().await.unwrap().commit(&changes, &|| true).await.unwrap();
}
