//! Rows that are read before their set begins.

use backstop_contract::Timestamp;
use backstop_engine::Arrivals;

use super::*;
use crate::fixture::question;
use crate::store::settled::PutArrivals;
use crate::store::tests::{decided, history, key};

fn sequence() -> SequenceKey {
    SequenceKey { node: "edge".to_owned(), epoch: 1 }
}

/// One row of each kind, and some decisions.
fn everything() -> Wanted {
    Wanted {
        asked: ["a", "new"].map(key).into(),
        decisions: ["b", "c", "d"].map(key).into(),
        history: vec![row("a")],
        stock: vec![row("a")],
        accounts: vec![account("ann")],
        arrivals: vec![sequence()],
    }
}

/// Its connections, idle or not.
async fn connections(books: &PostgresBooks) -> i64 {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'backstop-core'";
    sqlx::query_scalar(count).fetch_one(&mut books.somebody().await).await.unwrap()
}

/// Two stocks, of which somebody else sets one as soon as it was read ahead.
#[tokio::test]
async fn what_was_read_ahead_is_not_read_again_and_what_others_changed_is_refused() {
    let books = PostgresBooks::new().await;
    let (mut store, mut other) = (books.open().await, books.open().await);
    for name in ["a", "b"] {
        put_stock(&mut store, name, 1).await.unwrap();
    }
    let before = connections(&books).await;
    let mut unit = store.begin().await.unwrap();
    let (_, was) = loaded(&mut unit, "a").await;
    unit.read_ahead(stock_of(&["a", "b"])).await;
    until_it_is_read(&mut unit).await;
    put_stock(&mut other, "b", 10).await.unwrap();
    let changes = Changes { stock: vec![put(&2, was)], ..Changes::default() };
    unit.commit(&changes, &|| true).await.unwrap();
    assert_eq!(connections(&books).await, before + 1, "it has a connection of its own");

    let mut unit = store.begin().await.unwrap();
    let found = unit.load(stock_of(&["a", "b"])).await.unwrap().stock;
    let of = |name: &str| found.get(&row(name)).map(|row| (row.value, row.version)).unwrap();
    assert_eq!((of("a"), of("b")), ((2, 2), (1, 1)), "its own change, and not the other's");
    let stock = vec![put(&3, 2), Put { key: "b", ..put(&2, 1) }];
    let refused = unit.commit(&Changes { stock, ..Changes::default() }, &|| true).await;
    assert!(matches!(refused, Err(CoreError::Conflict)), "{refused:?}");
    assert_eq!((left(&mut store, "a").await, left(&mut store, "b").await), (2, 10));
}

/// Each kind of change, each to a row that was read ahead.
#[tokio::test]
async fn whatever_a_unit_changes_the_next_one_sees() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["b", "c", "d"]).await;
    let mut unit = store.begin().await.unwrap();
    let found = unit.load(everything()).await.unwrap();
    unit.read_ahead(everything()).await;
    until_it_is_read(&mut unit).await;

    let (asked, answered) = (question("a"), decided("a"));
    let ([b, c, d], row, arrived) = (["b", "c", "d"].map(key), history(1).encode(), sequence());
    let (mut overruled, arrivals) = (decided("d"), Arrivals::new(1, Vec::new()).unwrap());
    overruled.answer.score = 99;
    let labelled = Decided { fraud: Some(true), ..decided("b") };
    let released = Decided { cancelled_by: Some("a".to_owned()), ..decided("c") };
    let again = |key, decided| PutDecision { key, decided, was: Was::default() };
    let changes = Changes {
        decided: vec![(&asked, &answered)],
        marked: vec![again(&b, &labelled), again(&c, &released)],
        restated: vec![again(&d, &overruled)],
        revised: vec![(&d, Timestamp::from_millis(1))],
        history: vec![put(row.as_slice(), 0)],
        stock: vec![put(&7, 0)],
        balances: vec![put_coins(8, 0)],
        arrivals: vec![PutArrivals { key: &arrived, arrivals: &arrivals, was: 0 }],
        ..Changes::default()
    };
    unit.commit(&changes, &|| true).await.unwrap();

    let now = store.begin().await.unwrap().load(everything()).await.unwrap();
    let all = everything().with_asked_looked_for();
    let anew = books.open().await.begin().await.unwrap().load(all).await.unwrap();
    assert_eq!(sorted(&now), sorted(&anew));
    assert_eq!((found.decisions.len(), now.decisions.len()), (3, 4));
    assert_eq!(now.decisions.get(&b).unwrap().fraud, Some(true));
    assert_eq!(now.decisions.get(&c).unwrap().cancelled_by.as_deref(), Some("a"));
    assert_eq!(now.decisions.get(&d).unwrap().answer.score, 99);
    assert_eq!((now.history.len(), now.stock.len(), now.balances.len()), (1, 1, 1));
    assert_eq!(now.arrivals.len(), 1);
}

/// Whether a commit that was given up has happened, nobody knows.
#[tokio::test]
async fn what_a_commit_was_to_change_is_read_again_however_it_ended() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    let held = hold(&books, "a").await;
    let mut unit = store.begin().await.unwrap();
    unit.read_ahead(stock_of(&["a"])).await;
    until_it_is_read(&mut unit).await;
    let changes = Changes { stock: vec![put(&2, 1)], ..Changes::default() };
    let given_up = timeout(Duration::from_millis(20), unit.commit(&changes, &|| true)).await;
    assert!(given_up.is_err(), "it waits for the row");
    drop(held);
    let mut other = books.open().await;
    until_it_is(&mut other, 2).await;
    assert_eq!(left(&mut store, "a").await, 2);
}

#[tokio::test]
async fn a_reader_that_lost_its_connection_costs_nothing_but_a_reading() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    for _ in 0..2 {
        read_ahead(&mut store).await;
        end_connections(&books).await;
        assert_eq!(left(&mut store, "a").await, 1);
    }
    put_stock(&mut store, "a", 2).await.unwrap();
    assert_eq!(left(&mut store, "a").await, 2);
}

/// Its server process is stopped: the connection is there, and says nothing.
#[tokio::test]
async fn a_reader_that_hangs_is_not_waited_for_and_left_alone_for_a_while() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    read_ahead(&mut store).await;
    assert_eq!(left(&mut store, "a").await, 1);
    let newest = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                  AND application_name = 'backstop-core' ORDER BY backend_start DESC LIMIT 1";
    let reader: i32 =
        sqlx::query_scalar(newest).fetch_one(&mut books.somebody().await).await.unwrap();
    signal(reader, "-STOP");
    store.begin().await.unwrap().read_ahead(stock_of(&["a"])).await;
    // Without its row, and without a connection for it.
    assert_eq!(left(&mut store, "a").await, 1);
    assert_eq!(connections(&books).await, 2);
    store.begin().await.unwrap().read_ahead(stock_of(&["a"])).await;
    assert!(store.ahead.is_done(), "nothing was begun");
    signal(reader, "-CONT");
    put_stock(&mut store, "a", 2).await.unwrap();
    assert_eq!(left(&mut store, "a").await, 2);
}

/// A set that came to nothing, since all of it was late.
#[tokio::test]
async fn what_nobody_took_is_read_again_by_the_next_unit() {
    let books = PostgresBooks::new().await;
    let (mut store, mut other) = (books.open().await, books.open().await);
    put_stock(&mut other, "a", 1).await.unwrap();
    for ending in [PostgresStore::skip, PostgresStore::forget] {
        read_ahead(&mut store).await;
        let now = left(&mut other, "a").await + 1;
        put_stock(&mut other, "a", now).await.unwrap();
        ending(&mut store);
        assert_eq!(left(&mut store, "a").await, now);
    }
}

/// A unit that is dropped, and one that wants other rows than were read ahead.
#[tokio::test]
async fn what_was_read_for_others_is_not_in_the_way() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    for name in ["a", "b", "c"] {
        put_stock(&mut store, name, 1).await.unwrap();
    }
    let mut unit = store.begin().await.unwrap();
    unit.read_ahead(stock_of(&["a", "b"])).await;
    let mut unit = store.begin().await.unwrap();
    let found = unit.load(stock_of(&["b", "c"])).await.unwrap().stock;
    assert!(found.contains_key(&row("b")) && found.contains_key(&row("c")), "{found:?}");
    assert_eq!(left(&mut store, "a").await, 1);
}

/// Reads stock `a` ahead, to the end.
async fn read_ahead(store: &mut PostgresStore) {
    let mut unit = store.begin().await.unwrap();
    unit.read_ahead(stock_of(&["a"])).await;
    until_it_is_read(&mut unit).await;
}

fn signal(process: i32, signal: &str) {
    let sent = std::process::Command::new("kill").arg(signal).arg(process.to_string()).status();
    assert!(sent.unwrap().success());
}

async fn until_it_is_read(unit: &mut PostgresUnit<'_>) {
    while !unit.store.ahead.is_done() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn until_it_is(store: &mut PostgresStore, remaining: i64) {
    while left(store, "a").await != remaining {
        sleep(Duration::from_millis(1)).await;
    }
}

/// All that was loaded, in an order of its own.
fn sorted(loaded: &Loaded) -> Vec<String> {
    let Loaded { decisions, history, stock, balances, arrivals } = loaded;
    let mut all: Vec<String> = decisions.iter().map(|row| format!("{row:?}")).collect();
    all.extend(history.iter().map(|row| format!("{row:?}")));
    all.extend(stock.iter().map(|row| format!("{row:?}")));
    all.extend(balances.iter().map(|row| format!("{row:?}")));
    all.extend(arrivals.iter().map(|row| format!("{row:?}")));
    all.sort();
    all
}
