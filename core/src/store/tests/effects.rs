//! Stock, balances, the ledger, the outbox; and that a unit is all or nothing.

use backstop_settings::merchants::PROBE_MERCHANT;

use super::*;
use crate::store::settled::{PutDecision, Was};

pub(crate) async fn what_is_held_is_put_and_found_and_belongs_to_a_merchant<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    assert_eq!(held(&mut store).await, (None, None));
    for (left, coins) in [(5, 10), (0, -3), (i64::MAX, i64::MIN)] {
        let (stock, accounts) = (vec![row("a"), row("b")], vec![account("ann"), account("bob")]);
        let loaded = load(&mut store, Wanted { stock, accounts, ..Wanted::default() }).await;
        let stock = loaded.stock.get(&row("a")).map_or(0, |row| row.version);
        let units = loaded.balances.get(&account("ann"));
        let coins_were = units.and_then(|units| units.get("coins")).map_or(0, |row| row.version);
        let points_were = units.and_then(|units| units.get("points")).map_or(0, |row| row.version);
        let points = PutBalance { unit: "points", ..put_coins(7, points_were) };
        let changes = Changes {
            stock: vec![put(&left, stock)],
            balances: vec![put_coins(coins, coins_were), points],
            ..Changes::default()
        };
        commit(&mut store, &changes).await.unwrap();
        assert_eq!(held(&mut store).await, (Some(left), Some(coins)));
    }
    let records = B::records(&store);
    assert_eq!(records.stock(row("a")).await.unwrap(), Some(i64::MAX));
    assert_eq!(records.stock(row("b")).await.unwrap(), None);
    let ann = records.balances(account("ann")).await.unwrap();
    assert_eq!(ann, [("coins".to_owned(), i64::MIN), ("points".to_owned(), 7)]);
    assert_eq!(records.balances(account("bob")).await.unwrap(), []);
    let other = AccountKey { merchant: "other".to_owned(), account: "ann".to_owned() };
    assert_eq!(records.balances(other).await.unwrap(), []);
}

pub(crate) async fn what_a_decision_moved_and_who_released_it_is_kept<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let of = |key: &str, quantity| [(key.to_owned(), quantity)].into();
    let moves = Moves { take: of("sku:ä", 3), credit: of("coins", 1 << 53), debit: of("x", 1) };
    let a = Decided { moves, ..decided("a") };
    let b = Decided { cancelled_by: Some("c".to_owned()), fraud: Some(true), ..decided("b") };
    let (asked_a, asked_b) = (question("a"), question("b"));
    let decided = vec![(&asked_a, &a), (&asked_b, &b)];
    commit(&mut store, &Changes { decided, ..Changes::default() }).await.unwrap();
    let found = decisions(&mut store, &["a", "b"]).await;
    assert_eq!(found, HashMap::from([(key("a"), a), (key("b"), b)]));
}

pub(crate) async fn a_decision_is_released_once<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a", "b", "c"]).await;
    let (a, b, unknown) = (key("a"), key("b"), key("unknown"));
    let released = |by: &str| Decided { cancelled_by: Some(by.to_owned()), ..decided("a") };
    let (x, y) = (released("x"), released("y"));
    let put = |key, decided| PutDecision { key, decided, was: Was::default() };
    let cancel = |marked| Changes { marked, ..Changes::default() };
    commit(&mut store, &cancel(vec![put(&a, &x)])).await.unwrap();
    // One that was released, or is not there, spoils the others.
    for cancelled in [vec![put(&a, &y), put(&b, &y)], vec![put(&b, &y), put(&unknown, &y)]] {
        let error = commit(&mut store, &cancel(cancelled)).await.unwrap_err();
        assert!(matches!(error, CoreError::Conflict), "{error}");
        let found = decisions(&mut store, &["a", "b", "c"]).await;
        let by = |id| found.get(&key(id)).unwrap().cancelled_by.as_deref();
        assert_eq!((by("a"), by("b"), by("c")), (Some("x"), None, None));
    }
}

pub(crate) async fn every_decision_has_its_row_in_the_outbox_and_every_move_its_line_in_the_ledger<
    B: Books,
>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["b"]).await;
    let rows = asked(&["a", "c"]);
    let ledger = vec![entry("c", 5), Entry { debit: "ann", credit: "@house", ..entry("a", 2) }];
    let changes = Changes { decided: pairs(&rows), ledger, ..Changes::default() };
    commit(&mut store, &changes).await.unwrap();
    let row = |id: &str| ("demo".to_owned(), id.to_owned(), "decided".to_owned());
    assert_eq!(books.outbox().await, [row("b"), row("a"), row("c")]);
    let line = |id: &str, debit: &str, credit: &str, amount| Line {
        merchant: "demo".to_owned(),
        id: id.to_owned(),
        debit: debit.to_owned(),
        credit: credit.to_owned(),
        unit: "coins".to_owned(),
        amount,
        at: NOON,
    };
    let expected = [line("c", "@house", "ann", 5), line("a", "ann", "@house", 2)];
    assert_eq!(books.ledger().await, expected);
}

/// Edges probe core for ever, and the rows that told of it were never read by anybody.
pub(crate) async fn nobody_is_told_of_a_probe<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let probe = |id| Question { merchant: PROBE_MERCHANT.to_owned(), ..question(id) };
    let answers = ["a", "b", "c", "d"].map(decided);
    let [a, b, c, d] = &answers;
    let (asked_a, asked_b) = (probe("a"), question("b"));
    // Beside a client's, and alone.
    let both = vec![(&asked_a, a), (&asked_b, b)];
    commit(&mut store, &Changes { decided: both, ..Changes::default() }).await.unwrap();
    let (asked_c, asked_d) = (probe("c"), probe("d"));
    let probes = vec![(&asked_c, c), (&asked_d, d)];
    commit(&mut store, &Changes { decided: probes, ..Changes::default() }).await.unwrap();
    let row = ("demo".to_owned(), "b".to_owned(), "decided".to_owned());
    assert_eq!((books.outbox().await, books.rows("decisions").await), (vec![row], 4));
}

/// What all of the changes below would leave, had they been written.
async fn assert_nothing_was_written<B: Books>(books: &B, store: &mut B::Store) {
    assert_eq!(held(store).await, (Some(5), Some(5)), "as it was");
    assert!(decisions(store, &["new"]).await.is_empty());
    assert_eq!((books.ledger().await.len(), books.outbox().await.len()), (0, 0));
}

/// Somebody else wrote between our load and our commit. A store that holds a lock from the one to the
/// other can never see that; it is refused all the same.
pub(crate) async fn a_row_that_was_changed_since_is_a_conflict_and_nothing_is_written<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let encoded = history(1).encode();
    for (was, is) in [(0, 4), (1, 5)] {
        let changes = Changes {
            history: vec![put(encoded.as_slice(), was)],
            stock: vec![put(&is, was)],
            balances: vec![put_coins(is, was)],
            ..Changes::default()
        };
        commit(&mut store, &changes).await.unwrap();
    }
    let rows = asked(&["new"]);
    // The versions that history, stock and balances were loaded with; 2 is the one they have.
    for (history, stock, balance) in
        [(1, 2, 2), (0, 2, 2), (2, 1, 2), (2, 0, 2), (2, 2, 1), (2, 2, 0)]
    {
        let changes = Changes {
            decided: pairs(&rows),
            history: vec![put(encoded.as_slice(), history)],
            stock: vec![put(&6, stock)],
            balances: vec![put_coins(6, balance)],
            ledger: vec![entry("new", 1)],
            ..Changes::default()
        };
        let error = commit(&mut store, &changes).await.unwrap_err();
        assert!(matches!(error, CoreError::Conflict), "{error}");
        assert_nothing_was_written(&books, &mut store).await;
    }
}

/// The arithmetic never asks for these. Behind it stands the database.
pub(crate) async fn what_no_row_may_hold_is_refused_and_nothing_is_written<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let before =
        Changes { stock: vec![put(&5, 0)], balances: vec![put_coins(5, 0)], ..Changes::default() };
    commit(&mut store, &before).await.unwrap();
    let rows = asked(&["new"]);
    for (left, amount) in [(-1, 1), (6, 0), (6, -1)] {
        let changes = Changes {
            decided: pairs(&rows),
            stock: vec![put(&left, 1)],
            balances: vec![put_coins(6, 1)],
            ledger: vec![entry("new", amount)],
            ..Changes::default()
        };
        let error = commit(&mut store, &changes).await.unwrap_err();
        let of_the_data = !error.is_unusable() && !matches!(error, CoreError::Conflict);
        assert!(of_the_data, "{error}");
        assert_nothing_was_written(&books, &mut store).await;
    }
}

/// What a process that dies before its commit leaves is what its unit leaves: nothing, and no lock.
pub(crate) async fn a_unit_that_was_not_committed_leaves_nothing<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a"]).await;
    {
        let mut unit = store.begin().await.unwrap();
        unit.load(Wanted { decisions: vec![key("a")], ..Wanted::default() }).await.unwrap();
    }
    decide(&mut store, &["b"]).await;
    decide(&mut books.open().await, &["c"]).await;
    assert_eq!(books.outbox().await.len(), 3, "nobody waits for a lock that nobody holds");
}
