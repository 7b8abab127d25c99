//! What decisions move, over every kind of books.

use backstop_contract::Value;

use super::*;
use crate::fixture::{cancel, claim, spend, wish};

/// The verdict and its reasons.
fn said(outcome: Result<Outcome, CoreError>) -> (Verdict, Vec<String>) {
    let answer = fresh(outcome).answer;
    (answer.decision, answer.reasons)
}

fn no(reason: &str) -> (Verdict, Vec<String>) {
    (Verdict::Decline, vec![reason.to_owned()])
}

fn yes() -> (Verdict, Vec<String>) {
    (Verdict::Approve, Vec::new())
}

fn coins(balance: i64) -> Vec<(String, i64)> {
    vec![("coins".to_owned(), balance)]
}

/// The way of rewards that is found in every tutorial is one statement with three parts: update the
/// stock, insert into the ledger, insert into the telemetry. The update asks for `remaining > 0`; the
/// inserts ask for nothing, and they happen when the update finds no row. So a chest that was empty
/// went on crediting, and players saw coins for an item that nobody had. Here the lines of the ledger
/// are made of what was taken: where nothing is, there is nothing to make them of.
pub(crate) async fn an_empty_chest_credits_nothing<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:chest", 1).await;
    // One after another, in one set, and where there never was a chest.
    let first = bench.serve(vec![decide(claim("a", "ann", "chest", 1))]).await.remove(0);
    let again = bench.serve(vec![decide(claim("b", "ann", "chest", 1))]).await.remove(0);
    let set = vec![
        decide(claim("c", "ann", "chest", 1)),
        decide(claim("d", "bob", "chest", 1)),
        decide(claim("e", "ann", "never", 1)),
    ];
    let rest = bench.serve(set).await;
    assert_eq!(said(first), yes());
    for outcome in std::iter::once(again).chain(rest) {
        let fresh = fresh(outcome);
        assert_eq!((fresh.answer.decision, fresh.answer.reasons), no("out_of_stock"));
        assert_eq!(fresh.answer.effects, backstop_contract::Effects::default());
    }
    assert_eq!(bench.stock("sku:chest").await, Some(0));
    assert_eq!(bench.stock("sku:never").await, None);
    assert_eq!((bench.balances("ann").await, bench.balances("bob").await), (coins(1), vec![]));
    let ledger = bench.books.ledger().await;
    let lines: Vec<_> = ledger.iter().map(|line| (line.id.as_str(), line.amount)).collect();
    assert_eq!(lines, [("a", 1)]);
}

/// Sets of one, all of them there at once: each is read for while the one before commits, and yet finds what
/// that one left, where nothing at its own commit would tell it otherwise.
pub(crate) async fn sets_that_follow_at_once_see_each_others_effects<B: Books>() {
    let mut bench = BenchOver::<B>::with(|desk| desk.settings.batch_max = 1).await;
    bench.set_stock("sku:a", 1).await;
    let asks = vec![
        decide(claim("a", "ann", "a", 1)),
        decide(cancel("cancel", "chest", "ann", "a")),
        decide(claim("b", "bob", "a", 1)),
        label("b", true),
        decide(claim("b", "bob", "a", 1)),
        decide(claim("c", "ann", "a", 1)),
    ];
    let mut outcomes = bench.serve(asks).await.into_iter();
    let mut next = || outcomes.next().unwrap();
    assert_eq!(said(next()), yes());
    assert_eq!(said(next()), yes(), "its target was decided just now");
    assert_eq!(said(next()), yes(), "what it takes came back just now");
    assert!(matches!(next(), Ok(Outcome::Labelled { found: true })));
    assert!(matches!(next(), Ok(Outcome::Replayed(_))));
    assert_eq!(said(next()), no("out_of_stock"));
    assert_eq!(bench.stock("sku:a").await, Some(0));
    assert_eq!((bench.balances("ann").await, bench.balances("bob").await), (coins(0), coins(1)));
}

pub(crate) async fn claims_of_a_set_take_in_order_and_never_more_than_there_is<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 10).await;
    let wants = [4, 4, 4, 2, 1];
    let ids = ["e", "d", "c", "b", "a"];
    let set = ids.iter().zip(wants).map(|(id, want)| decide(claim(id, "ann", "a", want)));
    let outcomes = bench.serve(set.collect()).await;
    let left = |outcome| {
        let effects = fresh(outcome).answer.effects;
        (effects.stock.get("sku:a").copied(), effects.balance.get("coins").copied())
    };
    let left: Vec<_> = outcomes.into_iter().map(left).collect();
    let moved = |stock, balance| (Some(stock), Some(balance));
    let expected = [moved(6, 4), moved(2, 8), (None, None), moved(0, 10), (None, None)];
    assert_eq!(left, expected, "what is left after each, in the order of arrival");
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(0), coins(10)));
}

pub(crate) async fn a_debit_over_the_balance_is_declined_and_a_decline_may_cost<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 10).await;
    let set = vec![
        decide(spend("poor", "ann", 1)),
        decide(claim("claim", "ann", "a", 5)),
        decide(spend("over", "ann", 6)),
        decide(spend("unlucky", "ann", 13)),
        decide(spend("rest", "ann", 4)),
        decide(spend("bankrupt", "ann", 13)),
    ];
    let mut outcomes = bench.serve(set).await.into_iter().map(said);
    assert_eq!(outcomes.next(), Some(no("insufficient_balance")));
    assert_eq!(outcomes.next(), Some(yes()));
    assert_eq!(outcomes.next(), Some(no("insufficient_balance")));
    assert_eq!(outcomes.next(), Some(no("unlucky")));
    assert_eq!(outcomes.next(), Some(yes()));
    let (verdict, reasons) = outcomes.next().unwrap();
    assert_eq!((verdict, reasons.len()), (Verdict::Decline, 2), "{reasons:?}");
    assert_eq!(bench.balances("ann").await, coins(0));
    let ledger = bench.books.ledger().await;
    let lines = ledger.iter().map(|line| (line.id.as_str(), line.debit.as_str(), line.amount));
    let expected = [("claim", "@house", 5), ("unlucky", "ann", 1), ("rest", "ann", 4)];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

pub(crate) async fn a_cancel_releases_what_was_moved_at_most_once<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 10).await;
    bench.serve(vec![decide(claim("a", "ann", "a", 6))]).await;
    let set = vec![
        decide(cancel("unknown", "chest", "ann", "nobody")),
        decide(cancel("other policy", "spend", "ann", "a")),
        decide(cancel("other account", "chest", "bob", "a")),
        decide(cancel("itself", "chest", "ann", "itself")),
        decide(cancel("first", "chest", "ann", "a")),
        decide(cancel("second", "chest", "ann", "a")),
        decide(cancel("of a cancel", "chest", "ann", "first")),
    ];
    let outcomes: Vec<_> = bench.serve(set).await.into_iter().map(said).collect();
    let nothing = || no("nothing_to_cancel");
    let expected = [nothing(), nothing(), nothing(), nothing(), yes()];
    assert_eq!(outcomes[..5], expected);
    assert_eq!(outcomes[5..], [no("already_cancelled"), nothing()]);
    let later = bench.serve(vec![decide(cancel("third", "chest", "ann", "a"))]).await.remove(0);
    assert_eq!(said(later), no("already_cancelled"));
    assert_eq!(bench.stored("a").await.unwrap().cancelled_by.as_deref(), Some("first"));
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(10), coins(0)));
    let ledger = bench.books.ledger().await;
    let lines = ledger.iter().map(|line| (line.id.as_str(), line.debit.as_str(), line.amount));
    assert_eq!(lines.collect::<Vec<_>>(), [("a", "@house", 6), ("first", "ann", 6)]);
}

pub(crate) async fn a_cancel_in_the_set_of_what_it_cancels_counts<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 3).await;
    let set = vec![
        decide(claim("z", "ann", "a", 3)),
        decide(cancel("y", "chest", "ann", "z")),
        decide(claim("x", "bob", "a", 3)),
    ];
    let outcomes: Vec<_> = bench.serve(set).await.into_iter().map(said).collect();
    assert_eq!(outcomes, [yes(), yes(), yes()]);
    assert_eq!(bench.stored("z").await.unwrap().cancelled_by.as_deref(), Some("y"));
    assert_eq!((bench.balances("ann").await, bench.balances("bob").await), (coins(0), coins(3)));
}

/// Only so may a balance be below zero: what was spent cannot be refused in hindsight.
pub(crate) async fn a_cancel_of_coins_that_are_spent_leaves_a_debt<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    bench.serve(vec![decide(claim("a", "ann", "a", 5)), decide(spend("b", "ann", 4))]).await;
    let cancelled = bench.serve(vec![decide(cancel("c", "chest", "ann", "a"))]).await.remove(0);
    let answer = fresh(cancelled).answer;
    assert_eq!(answer.effects.stock, [("sku:a".to_owned(), 5)].into());
    assert_eq!(answer.effects.balance, [("coins".to_owned(), -4)].into());
    assert_eq!(bench.balances("ann").await, coins(-4));
    let refused = bench.serve(vec![decide(spend("d", "ann", 1))]).await.remove(0);
    assert_eq!(said(refused), no("insufficient_balance"));
}

pub(crate) async fn a_policy_that_breaks_moves_nothing<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:", 5).await;
    // Without an article, its `effects` breaks; so it does for half an article.
    let half = [("qty", Value::Number(0.5)), ("sku", Value::Text(""))];
    let set =
        vec![decide(wish("a", "chest", "ann", &[])), decide(wish("b", "chest", "ann", &half))];
    for outcome in bench.serve(set).await {
        let fresh = fresh(outcome);
        assert!(fresh.breach.is_some());
        assert_eq!(
            (fresh.answer.decision, fresh.answer.cause),
            (Verdict::Review, Some(Cause::Error))
        );
        assert_eq!(fresh.answer.effects, backstop_contract::Effects::default());
    }
    assert_eq!((bench.stock("sku:").await, bench.balances("ann").await), (Some(5), vec![]));
    assert_eq!(bench.counted("customer:ann").await, (2, 0));
}

pub(crate) async fn a_repeated_claim_tells_the_effects_of_the_first_and_takes_once<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let first = fresh(bench.serve(vec![decide(claim("a", "ann", "a", 2))]).await.remove(0)).answer;
    bench.set_stock("sku:a", 50).await;
    match bench.serve(vec![decide(claim("a", "ann", "a", 2))]).await.remove(0) {
        Ok(Outcome::Replayed(answer)) => assert_eq!(answer.effects, first.effects),
        other => panic!("{other:?}"),
    }
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(50), coins(2)));
}
