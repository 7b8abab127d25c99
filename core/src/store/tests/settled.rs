//! What settlement leaves in the books, and the statement of it.

use backstop_contract::request::Money;
use backstop_contract::wire::{StatementLine, StatementReply, StatementTotal};
use backstop_contract::{Outcome, Standing};
use backstop_engine::Arrivals;
use backstop_engine::arrivals::Run;

use super::*;
use crate::store::settled::{
    AdviceKey, Answers, Discrepancy, PutArrivals, PutDecision, SequenceKey, Was,
};
use crate::store::{Span, Versioned};

/// The decision of this id, after a client had been told otherwise.
fn overridden(id: &str) -> Decided {
    let first = decided(id);
    let answer = Decision {
        cause: Some(Cause::Deadline),
        decided_at: Timestamp::from_millis(NOON + 4),
        ..Decision::by(Tier::Edge, id.to_owned(), Verdict::Approve)
    };
    let answer = Decision { is_final: true, durable: true, ..answer };
    Decided {
        answer,
        standing: Standing::Overridden,
        released_by: Some("node".to_owned()),
        first: Some(Box::new(first.answer.clone())),
        moves: Moves { debit: [("coins".to_owned(), 2)].into(), ..Moves::default() },
        ..first
    }
}

fn restated<'a>(key: &'a DecisionKey, decided: &'a Decided, was: Was<'a>) -> Changes<'a> {
    let restated = vec![PutDecision { key, decided, was }];
    let revised = vec![(key, Timestamp::from_millis(NOON))];
    Changes { restated, revised, ..Changes::default() }
}

fn marked<'a>(key: &'a DecisionKey, decided: &'a Decided, was: Was<'a>) -> Changes<'a> {
    Changes { marked: vec![PutDecision { key, decided, was }], ..Changes::default() }
}

fn discrepancy(id: &str, number: u64, kind: Outcome) -> Discrepancy {
    let told = overridden(id).answer;
    Discrepancy {
        key: key(id),
        advice: AdviceKey { node: "node".to_owned(), epoch: u64::MAX, number },
        kind,
        answers: Answers { told, booked: None },
        money: Some(Money { amount: 5716, currency: "GBP".to_owned() }),
        between: -5716,
        why: "out\0of it".to_owned(),
        at: Timestamp::from_millis(NOON + 4),
    }
}

pub(crate) async fn a_decision_that_stands_otherwise_is_found_so_with_what_it_was_before<
    B: Books,
>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a", "b"]).await;
    let (a, after) = (key("a"), overridden("a"));
    commit(&mut store, &restated(&a, &after, Was::default())).await.unwrap();
    let found = decisions(&mut store, &["a", "b"]).await;
    assert_eq!(found, HashMap::from([(key("a"), after.clone()), (key("b"), decided("b"))]));
    assert_eq!(B::records(&store).find(a.clone()).await.unwrap(), Some(after.clone()));
    let kinds: Vec<_> = books.outbox().await.into_iter().map(|(_, id, kind)| (id, kind)).collect();
    let row = |id: &str, kind: &str| (id.to_owned(), kind.to_owned());
    assert_eq!(kinds, [row("a", "decided"), row("b", "decided"), row("a", "decision.revised")]);
}

pub(crate) async fn a_decision_that_stands_no_longer_as_it_was_loaded_is_a_conflict<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    decide(&mut store, &["a", "b"]).await;
    let (a, b, unknown) = (key("a"), key("b"), key("unknown"));
    let released = Decided { cancelled_by: Some("x".to_owned()), ..decided("b") };
    let free = Was::default();
    commit(&mut store, &marked(&b, &released, free)).await.unwrap();
    let settled = Was { standing: Standing::Applied, ..free };
    let labelled = Was { fraud: Some(true), ..free };
    let cancelled = |cancelled_by| Was { cancelled_by: Some(cancelled_by), ..free };
    for (key, was) in [
        (&a, settled),
        (&a, labelled),
        (&a, cancelled("x")),
        (&b, free),
        (&b, cancelled("y")),
        (&unknown, free),
    ] {
        let after = overridden(&key.id);
        for changes in [restated(key, &after, was), marked(key, &after, was)] {
            let error = commit(&mut store, &changes).await.unwrap_err();
            assert!(matches!(error, CoreError::Conflict), "{key:?} {was:?}: {error}");
        }
    }
    assert_eq!(books.outbox().await.len(), 2, "nobody is told of what did not happen");
    let after = Decided { cancelled_by: None, ..overridden("b") };
    commit(&mut store, &restated(&b, &after, cancelled("x"))).await.unwrap();
    assert_eq!(decisions(&mut store, &["b"]).await.remove(&b), Some(after));
}

pub(crate) async fn a_discrepancy_is_on_record_once_for_each_advice<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    for (numbers, rows) in [(vec![1], 1), (vec![1], 1), (vec![1, 2, 3], 3), (vec![], 3)] {
        let record = |number| discrepancy("a", number, Outcome::Refused);
        let made: Vec<_> = numbers.into_iter().map(record).collect();
        let discrepancies = made.iter().collect();
        commit(&mut store, &Changes { discrepancies, ..Changes::default() }).await.unwrap();
        assert_eq!(books.rows("discrepancies").await, rows);
    }
}

pub(crate) async fn arrivals_are_kept_by_node_and_epoch_and_put_where_nobody_else_did<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let key = |node: &str, epoch| SequenceKey { node: node.to_owned(), epoch };
    let keys = [key("a", 1), key("a", u64::MAX), key("b", 1)];
    let wanted = || Wanted { arrivals: keys.to_vec(), ..Wanted::default() };
    assert!(load(&mut store, wanted()).await.arrivals.is_empty());
    let first = Arrivals::new(3, vec![Run(5, 5)]).unwrap();
    let second = Arrivals::new(7, vec![Run(u64::MAX - 1, u64::MAX)]).unwrap();
    let put = |key, arrivals, was| Changes {
        arrivals: vec![PutArrivals { key, arrivals, was }],
        ..Changes::default()
    };
    for (key, arrivals, was) in
        [(&keys[0], &first, 0), (&keys[1], &first, 0), (&keys[1], &second, 1)]
    {
        commit(&mut store, &put(key, arrivals, was)).await.unwrap();
    }
    let found = load(&mut store, wanted()).await.arrivals;
    let versioned = |value: &Arrivals, version| Versioned { value: value.clone(), version };
    let expected =
        [(keys[0].clone(), versioned(&first, 1)), (keys[1].clone(), versioned(&second, 2))];
    assert_eq!(found, HashMap::from(expected));
    for was in [0, 1, 3] {
        let error = commit(&mut store, &put(&keys[1], &first, was)).await.unwrap_err();
        assert!(matches!(error, CoreError::Conflict), "{was}: {error}");
    }
}

pub(crate) async fn many_decisions_are_found_at_once_and_those_of_others_are_not<B: Books>() {
    let books = B::new().await;
    let mut store = books.open().await;
    let ids: Vec<_> = (0..200).map(|id| format!("txn-{id:04}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    decide(&mut store, &ids).await;
    let keys = ids.iter().map(|id| key(id)).chain([key("unknown")]).collect();
    let found = B::records(&store).find_many(keys).await.unwrap();
    assert_eq!(found.len(), ids.len());
    assert_eq!(found.get(&key("txn-0199")), Some(&decided("txn-0199")));
    let other = DecisionKey { merchant: "other".to_owned(), id: "txn-0000".to_owned() };
    assert!(B::records(&store).find_many(vec![other]).await.unwrap().is_empty());
}

/// Decisions of every standing, told at `NOON` plus their number, the fourth without money; one refused.
async fn books_of_all_kinds<B: Books>() -> (B, B::Store) {
    let books = B::new().await;
    let mut store = books.open().await;
    let kinds = [
        Standing::Decided,
        Standing::Match,
        Standing::Applied,
        Standing::Overridden,
        Standing::Conflict,
    ];
    let row = |(number, standing): (i64, Standing)| {
        let id = format!("txn-{number}");
        let mut asked = question(&id);
        let mut row = Decided { standing, ..overridden(&id) };
        row.answer.decided_at = Timestamp::from_millis(NOON + number);
        if standing == Standing::Decided || standing == Standing::Applied {
            row.first = None;
        }
        if standing == Standing::Overridden {
            asked.request.money = None;
        }
        (asked, row)
    };
    let rows: Vec<_> = (0..).zip(kinds).map(row).collect();
    let mut made = [
        discrepancy("txn-3", 1, Outcome::Overridden),
        discrepancy("txn-4", 1, Outcome::Overridden),
        discrepancy("txn-4", 2, Outcome::Conflict),
        discrepancy("txn-4", 3, Outcome::Refused),
        discrepancy("txn-2", 1, Outcome::Applied),
    ];
    made[1].between = 1;
    made[4].between = 0;
    let discrepancies = made.iter().collect();
    let changes = Changes { decided: pairs(&rows), discrepancies, ..Changes::default() };
    commit(&mut store, &changes).await.unwrap();
    let gap = Arrivals::new(2, vec![Run(5, 6), Run(9, 9)]).unwrap();
    let whole = Arrivals::new(8, Vec::new()).unwrap();
    let keys = [1, 2].map(|epoch| SequenceKey { node: "node".to_owned(), epoch });
    let put = |key, arrivals| PutArrivals { key, arrivals, was: 0 };
    let arrivals = vec![put(&keys[0], &gap), put(&keys[1], &whole)];
    commit(&mut store, &Changes { arrivals, ..Changes::default() }).await.unwrap();
    (books, store)
}

async fn statement<B: Books>(
    store: &B::Store,
    from: i64,
    to: i64,
    lines_max: usize,
) -> StatementReply {
    let span = Span {
        merchant: "demo".to_owned(),
        from: Timestamp::from_millis(NOON + from),
        to: Timestamp::from_millis(NOON + to),
        lines_max,
    };
    B::records(store).statement(span).await.unwrap()
}

fn total(kind: &str, currency: &str, count: u64, amount: u64) -> StatementTotal {
    StatementTotal { kind: kind.to_owned(), currency: currency.to_owned(), count, amount }
}

pub(crate) async fn a_statement_counts_every_decision_once_and_tells_what_was_not_agreed<
    B: Books,
>() {
    let (_books, store) = books_of_all_kinds::<B>().await;
    let StatementReply { totals, lines, truncated, gaps } = statement::<B>(&store, 0, 5, 10).await;
    let expected = [
        total("agreed", "GBP", 1, 5716),
        total("applied_late", "GBP", 1, 5716),
        total("confirmed", "GBP", 1, 5716),
        total("conflict", "GBP", 1, 5716),
        total("corrected", "", 1, 0),
        total("refused", "GBP", 1, 5716),
    ];
    assert_eq!((totals, truncated), (expected.to_vec(), false));
    let told = |line: &StatementLine| {
        let StatementLine { kind, id, decided_first, between, why, .. } = line.clone();
        (kind, id, decided_first, between, why.replace('\0', "_"))
    };
    let line = |kind: &str, id: &str, first: &str, between: i64, why: &str| {
        (kind.to_owned(), id.to_owned(), first.to_owned(), between, why.to_owned())
    };
    let expected = [
        line("confirmed", "txn-1", "decline", 0, ""),
        line("applied_late", "txn-2", "", 0, "out_of it"),
        line("corrected", "txn-3", "decline", -5716, "out_of it"),
        line("conflict", "txn-4", "decline", -5716, "out_of it; out_of it"),
        line("refused", "txn-4", "", -5716, "out_of it"),
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    let whole = lines.first().unwrap();
    let words = (whole.told.as_str(), whole.decided_by.as_str(), whole.cause.as_str());
    assert_eq!(words, ("approve", "edge", "deadline"));
    assert_eq!((whole.decided_at, whole.money.as_ref().unwrap().amount), (NOON + 1, 5716));
    assert_eq!(lines[2].money, None);
    let gaps: Vec<_> = gaps.iter().map(|gap| (gap.epoch, gap.first, gap.last)).collect();
    assert_eq!(gaps, [(1, 3, 4), (1, 7, 8)]);

    // Both ends of the span.
    let totals = statement::<B>(&store, 1, 2, 10).await.totals;
    assert_eq!(totals, [total("confirmed", "GBP", 1, 5716)]);
    assert!(statement::<B>(&store, 5, 5, 10).await.totals.is_empty());
}

pub(crate) async fn a_statement_tells_so_many_lines_and_says_that_there_are_more<B: Books>() {
    let (_books, store) = books_of_all_kinds::<B>().await;
    for (lines_max, ids, truncated) in [
        (0, vec![], true),
        (1, vec!["txn-1"], true),
        (4, vec!["txn-1", "txn-2", "txn-3", "txn-4"], true),
        (5, vec!["txn-1", "txn-2", "txn-3", "txn-4", "txn-4"], false),
        (usize::MAX, vec!["txn-1", "txn-2", "txn-3", "txn-4", "txn-4"], false),
    ] {
        let statement = statement::<B>(&store, 0, 5, lines_max).await;
        let told: Vec<_> = statement.lines.iter().map(|line| line.id.as_str()).collect();
        assert_eq!((told, statement.truncated), (ids, truncated), "{lines_max}");
        assert_eq!(statement.totals.len(), 6, "totals are whole whatever the lines");
    }
}
