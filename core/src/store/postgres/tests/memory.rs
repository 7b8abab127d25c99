//! What a store remembers, and what it does not believe.

use super::*;
use crate::store::tests::{history, put_coins};

/// Changes what is left without a trace, so that whoever reads it can be told from who remembers.
async fn forge_stock(books: &PostgresBooks, remaining: i64) {
    let forge = sqlx::query("UPDATE stock SET remaining = $1").bind(remaining);
    assert_eq!(forge.execute(&mut books.somebody().await).await.unwrap().rows_affected(), 1);
}

#[tokio::test]
async fn what_was_committed_is_not_read_again_and_what_was_not_is() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    forge_stock(&books, 7).await;
    assert_eq!(left(&mut store, "a").await, 1, "it was not asked for");
    assert_eq!(left(&mut store.another(), "a").await, 7, "another writer did not put it");
    store.forget();
    assert_eq!(left(&mut store, "a").await, 7, "a new connection begins with nothing");
}

#[tokio::test]
async fn a_connection_that_was_idle_reads_before_it_writes() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    put_stock(&mut store, "a", 1).await.unwrap();
    forge_stock(&books, 7).await;
    store.connection.as_mut().unwrap().used -= IDLE_MAX;
    assert_eq!(left(&mut store, "a").await, 7);
}

/// One is told to begin again, once, and then sees what the other did.
#[tokio::test]
async fn what_another_core_changed_since_is_found_at_the_commit_and_read_then() {
    let books = PostgresBooks::new().await;
    let (mut prod, mut old_prod) = (books.open().await, books.open().await);
    put_stock(&mut prod, "a", 1).await.unwrap();
    put_stock(&mut old_prod, "a", 2).await.unwrap();
    let refused = put_stock(&mut prod, "a", 3).await;
    assert!(matches!(refused, Err(CoreError::Conflict)), "{refused:?}");
    assert_eq!(left(&mut prod, "a").await, 2);
    put_stock(&mut prod, "a", 3).await.unwrap();
    forge_stock(&books, 7).await;
    assert_eq!(left(&mut prod, "a").await, 7, "whoever was wrong once reads for a while");
}

#[tokio::test]
async fn history_and_balances_come_back_as_they_were_put() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    let wanted = || Wanted {
        history: vec![row("a"), row("b")],
        accounts: vec![account("ann"), account("bob")],
        ..Wanted::default()
    };
    for round in 0..3 {
        let mut unit = store.begin().await.unwrap();
        let loaded = unit.load(wanted()).await.unwrap();
        let seen = loaded.history.get(&row("a")).cloned().unwrap_or_default();
        assert_eq!((seen.version, seen.value), (round, history(round)));
        let coins = loaded.balances.get(&account("ann")).and_then(|units| units.get("coins"));
        let coins = coins.map_or((0, 0), |coins| (coins.version, coins.value));
        assert_eq!(coins, (round, round * 10));
        let encoded = history(round + 1).encode();
        let changes = Changes {
            history: vec![put(encoded.as_slice(), round)],
            balances: vec![put_coins(round * 10 + 10, round)],
            ..Changes::default()
        };
        unit.commit(&changes, &|| true).await.unwrap();
    }
}

/// Else an account of which one unit was put would seem to have no other.
#[tokio::test]
async fn an_account_is_remembered_with_all_its_units_or_not_at_all() {
    let books = PostgresBooks::new().await;
    let mut store = books.open().await;
    let gems = PutBalance { unit: "gems", ..put_coins(5, 0) };
    let changes = Changes { balances: vec![put_coins(1, 0), gems], ..Changes::default() };
    store.begin().await.unwrap().commit(&changes, &|| true).await.unwrap();
    for round in 1..3 {
        let mut unit = store.begin().await.unwrap();
        let wanted = Wanted { accounts: vec![account("ann")], ..Wanted::default() };
        let balances = unit.load(wanted).await.unwrap().balances.remove(&account("ann")).unwrap();
        let held: std::collections::BTreeMap<_, _> =
            balances.iter().map(|(unit, row)| (unit.as_str(), row.value)).collect();
        assert_eq!(held, [("coins", round), ("gems", 5)].into());
        let changes = Changes { balances: vec![put_coins(round + 1, round)], ..Changes::default() };
        unit.commit(&changes, &|| true).await.unwrap();
    }
}
