//! Advices, over every kind of books: what each outcome leaves, and that none is left twice.

pub(crate) mod cancels;

use backstop_contract::{Outcome as Became, Standing, Tier};
use backstop_engine::History;

use super::*;
use crate::decide::settle::Advice;
use crate::fixture::{advice, claim, spend, wish};
use Verdict::{Approve, Decline, Review};

fn settle(advice: Advice) -> Ask {
    Ask::Settle(Box::new(advice))
}

/// What became of an advice, and why it was refused.
fn became(outcome: Result<Outcome, CoreError>) -> (Became, &'static str) {
    match outcome {
        Ok(Outcome::Settled { outcome, why }) => (outcome, why),
        other => panic!("not settled: {other:?}"),
    }
}

fn coins(balance: i64) -> Vec<(String, i64)> {
    vec![("coins".to_owned(), balance)]
}

impl<B: Books> BenchOver<B> {
    async fn settle(&mut self, advice: Advice) -> Became {
        let (outcome, why) = became(self.serve(vec![settle(advice)]).await.remove(0));
        assert_eq!(why, "");
        outcome
    }

    async fn decide(&mut self, question: Question) -> Decision {
        match self.serve(vec![decide(question)]).await.remove(0) {
            Ok(Outcome::Decided(fresh)) => fresh.answer,
            Ok(Outcome::Replayed(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// The ledger as (id, coins of the account).
    async fn lines(&self) -> Vec<(String, i64)> {
        let sign = |line: &crate::store::tests::Line| if line.debit == "@house" { 1 } else { -1 };
        let lines = self.books.ledger().await.into_iter();
        lines.map(|line| (line.id.clone(), sign(&line) * line.amount)).collect()
    }

    async fn kinds(&self) -> Vec<String> {
        self.books.outbox().await.into_iter().map(|row| row.2).collect()
    }

    async fn discrepancies(&self) -> usize {
        self.books.rows("discrepancies").await
    }

    /// The lines of a statement of everything: kind, id, money between, why.
    async fn told(&self) -> Vec<(String, String, i64, String)> {
        let span = crate::store::Span {
            merchant: "demo".to_owned(),
            from: Timestamp::from_millis(0),
            to: Timestamp::from_millis(i64::MAX),
            lines_max: 100,
        };
        let lines = self.records.statement(span).await.unwrap().lines.into_iter();
        lines.map(|line| (line.kind, line.id, line.between, line.why)).collect()
    }

    /// What of the coins and the stock is where: all of it adds up, whatever happened.
    async fn assert_conserved(&self, account: &str, article: &str, stocked: i64) {
        let booked: i64 = self.lines().await.iter().map(|line| line.1).sum();
        let held = self.balances(account).await.first().map_or(0, |unit| unit.1);
        assert_eq!(booked, held, "the balance is the sum of the ledger");
        let mut taken = 0;
        for id in ["a", "b", "c", "d", "e"] {
            let Some(decided) = self.stored(id).await else { continue };
            if decided.cancelled_by.is_none() {
                let of = decided.moves.take.get(&format!("sku:{article}"));
                taken += of.copied().unwrap_or_default().cast_signed();
            }
        }
        let left = self.stock(&format!("sku:{article}")).await.unwrap_or_default();
        assert_eq!(left + taken, stocked, "stock and what was taken");
    }
}

/// The answer of an advice, as the books and every later caller have it.
fn told(advice: &Advice) -> Decision {
    Decision { is_final: true, durable: true, ..advice.answer.clone() }
}

pub(crate) async fn what_core_never_heard_of_is_applied_as_if_it_had_decided_so<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let make = || advice("n", 1, claim("a", "ann", "a", 2), Approve);
    assert_eq!(bench.settle(make()).await, Became::Applied);
    let stored = bench.stored("a").await.unwrap();
    assert_eq!(stored.answer, told(&make()));
    assert_eq!((stored.standing, stored.first), (Standing::Applied, None));
    assert_eq!(stored.released_by.as_deref(), Some("n"));
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(3), coins(2)));
    assert_eq!(bench.counted("customer:ann").await, (1, 0));
    assert_eq!(bench.kinds().await, ["decided"]);
    assert_eq!(bench.discrepancies().await, 0);
    // Core is asked late, by the request that another tier had answered.
    let again = bench.decide(claim("a", "ann", "a", 2)).await;
    assert_eq!(again, Decision { replayed: true, ..told(&make()) });
    assert_eq!(again.decided_by, Tier::Edge);
    bench.assert_conserved("ann", "a", 5).await;
}

pub(crate) async fn the_same_answer_is_confirmed_and_moves_nothing_more<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let first = bench.decide(claim("a", "ann", "a", 2)).await;
    let make = || advice("n", 1, claim("a", "ann", "a", 2), Approve);
    assert_eq!(bench.settle(make()).await, Became::Match);
    let stored = bench.stored("a").await.unwrap();
    assert_eq!((&stored.answer, stored.standing), (&told(&make()), Standing::Match));
    assert_eq!(stored.first.as_deref(), Some(&first));
    assert_eq!((bench.stock("sku:a").await, bench.lines().await.len()), (Some(3), 1));
    assert_eq!((bench.kinds().await.len(), bench.discrepancies().await), (1, 0));
    assert_eq!(bench.counted("customer:ann").await, (1, 0));
    bench.assert_conserved("ann", "a", 5).await;
}

pub(crate) async fn another_answer_is_corrected_to_what_the_client_was_told<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 3).await;
    assert_eq!(bench.decide(claim("a", "ann", "a", 2)).await.decision, Approve);
    assert_eq!(bench.decide(claim("b", "ann", "a", 2)).await.decision, Decline);
    // Core took for the first, which was declined; the client of the second was told yes.
    let (first, second) = (claim("a", "ann", "a", 2), claim("b", "ann", "a", 2));
    let set = vec![settle(advice("n", 1, first, Decline)), settle(advice("n", 2, second, Approve))];
    for outcome in bench.serve(set).await {
        assert_eq!(became(outcome), (Became::Overridden, ""));
    }
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(1), coins(2)));
    let line = |id: &str, coins| (id.to_owned(), coins);
    assert_eq!(bench.lines().await, [line("a", 2), line("a", -2), line("b", 2)]);
    let revised = ["decided", "decided", "decision.revised", "decision.revised"];
    assert_eq!(bench.kinds().await, revised);
    for (id, verdict, first) in [("a", Decline, Approve), ("b", Approve, Decline)] {
        let stored = bench.stored(id).await.unwrap();
        assert_eq!((stored.answer.decision, stored.standing), (verdict, Standing::Overridden));
        assert_eq!(stored.first.unwrap().decision, first);
        assert_eq!(bench.decide(claim(id, "ann", "a", 2)).await.decision, verdict);
    }
    assert_eq!(bench.counted("customer:ann").await, (2, 0), "history counts each of them once");
    assert_eq!(bench.discrepancies().await, 2);
    bench.assert_conserved("ann", "a", 3).await;
}

pub(crate) async fn two_nodes_that_told_two_things_are_a_conflict_and_the_first_stands<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    let pay = |id: &str| asked(id, "payment", 5716);
    assert_eq!(bench.settle(advice("n", 1, pay("a"), Approve)).await, Became::Applied);
    assert_eq!(bench.settle(advice("m", 1, pay("a"), Decline)).await, Became::Conflict);
    assert_eq!(bench.settle(advice("n", 2, pay("a"), Decline)).await, Became::Conflict);
    assert_eq!(bench.settle(advice("m", 2, pay("a"), Approve)).await, Became::Match);
    let stored = bench.stored("a").await.unwrap();
    assert_eq!((stored.answer.decision, stored.standing), (Approve, Standing::Conflict));
    assert_eq!(stored.released_by.as_deref(), Some("n"));
    assert_eq!(bench.settle(advice("n", 1, pay("a"), Approve)).await, Became::Applied, "as it was");
    let [line] = bench.told().await.try_into().unwrap();
    let why = "also told decline by node m; also told decline by node n";
    assert_eq!(line, ("conflict".to_owned(), "a".to_owned(), -5716, why.to_owned()));
    assert_eq!((bench.kinds().await.len(), bench.discrepancies().await), (1, 2));
}

pub(crate) async fn an_advice_for_another_request_or_of_an_unknown_policy_is_refused_and_on_record<
    B: Books,
>() {
    let mut bench = BenchOver::<B>::new().await;
    let before = bench.decide(question("a")).await;
    for (number, question, reason) in [
        (1, asked("a", "payment", 1), "id_reused"),
        (2, asked("b", "unheard_of", 1), "unknown_policy"),
    ] {
        for _ in 0..2 {
            let advice = advice("n", number, question.clone(), Approve);
            let outcome = bench.serve(vec![settle(advice)]).await.remove(0);
            assert_eq!(became(outcome), (Became::Refused, reason));
        }
    }
    assert_eq!(bench.stored("a").await.unwrap().answer, before);
    assert!(bench.stored("b").await.is_none());
    let line = |id: &str, why: &str| ("refused".to_owned(), id.to_owned(), 1, why.to_owned());
    assert_eq!(bench.told().await, [line("a", "id_reused"), line("b", "unknown_policy")]);
}

pub(crate) async fn every_advice_may_come_again_and_is_told_the_same<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 10).await;
    for (id, verdict) in [("b", Approve), ("c", Approve)] {
        assert_eq!(bench.decide(claim(id, "ann", "a", 2)).await.decision, verdict);
    }
    let all = || {
        [("a", Approve, "n"), ("b", Approve, "n"), ("c", Decline, "n"), ("a", Decline, "m")]
            .map(|(id, verdict, node)| advice(node, 1, claim(id, "ann", "a", 2), verdict))
    };
    let expected = [Became::Applied, Became::Match, Became::Overridden, Became::Conflict];
    let mut books = None;
    // Together, and each twice in one set; alone; and where nobody heard of the commit.
    for round in 0..4 {
        if round == 3 {
            bench.faults.expect([Fault::Unseen]);
            let outcomes = bench.serve(all().map(settle).into()).await;
            assert!(outcomes.iter().all(|it| matches!(it, Err(CoreError::Unusable))));
        }
        let twice = all().into_iter().chain(all()).map(settle).collect();
        let outcomes = bench.serve(twice).await.into_iter().map(|it| became(it).0);
        assert_eq!(outcomes.collect::<Vec<_>>(), [expected.clone(), expected.clone()].concat());
        let now = (
            bench.stock("sku:a").await,
            bench.lines().await,
            bench.kinds().await,
            bench.discrepancies().await,
            bench.history("customer:ann").await,
        );
        assert_eq!(*books.get_or_insert_with(|| now.clone()), now, "round {round}");
    }
    assert_eq!((bench.stock("sku:a").await, bench.discrepancies().await), (Some(6), 2));
    bench.assert_conserved("ann", "a", 10).await;
}

pub(crate) async fn a_review_moves_nothing_and_undoes_what_was_moved<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    bench.decide(claim("a", "ann", "a", 2)).await;
    let review = |id: &str| advice("n", 1, claim(id, "ann", "a", 2), Review);
    assert_eq!(bench.settle(review("a")).await, Became::Overridden);
    assert_eq!(bench.settle(review("b")).await, Became::Applied);
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(5), coins(0)));
    bench.assert_conserved("ann", "a", 5).await;
}

pub(crate) async fn what_is_not_there_any_more_is_a_discrepancy_and_no_crash<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 3).await;
    let approved = |number, question| advice("n", number, question, Approve);
    // Three of five are there; the coins were promised, and are credited.
    assert_eq!(bench.settle(approved(1, claim("a", "ann", "a", 5))).await, Became::Applied);
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(0), coins(5)));
    // A debit takes the balance below zero, and that is no discrepancy: it is what was told.
    assert_eq!(bench.settle(approved(2, spend("b", "ann", 7))).await, Became::Applied);
    assert_eq!(bench.balances("ann").await, coins(-2));
    let line =
        |kind: &str, id: &str, why: &str| (kind.to_owned(), id.to_owned(), 0, why.to_owned());
    let expected =
        [line("applied_late", "a", "out_of_stock sku:a 2"), line("applied_late", "b", "")];
    assert_eq!((bench.told().await, bench.discrepancies().await), (expected.to_vec(), 1));
    // What is released later is what was taken, and not what was wished for.
    let cancel = crate::fixture::cancel("c", "chest", "ann", "a");
    assert_eq!(bench.decide(cancel).await.decision, Approve);
    assert_eq!((bench.stock("sku:a").await, bench.balances("ann").await), (Some(3), coins(-7)));
    bench.assert_conserved("ann", "a", 3).await;
}

pub(crate) async fn a_policy_that_breaks_lets_the_answer_in_without_moves<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    bench.decide(claim("b", "ann", "a", 2)).await;
    // A claim of less than nothing, and of nothing that has a name.
    let nameless = wish("c", "chest", "ann", &[]);
    for (number, question) in [(1, claim("a", "ann", "a", -2)), (2, nameless)] {
        let advice = advice("n", number, question, Approve);
        assert_eq!(bench.settle(advice).await, Became::Applied);
    }
    let keyless = advice("n", 3, asked("d", "keyless", 1), Approve);
    assert_eq!(bench.settle(keyless).await, Became::Applied);
    for id in ["a", "c", "d"] {
        let stored = bench.stored(id).await.unwrap();
        assert_eq!((stored.answer.decision, stored.moves.is_empty()), (Approve, true));
    }
    let told = bench.told().await;
    let whys: Vec<_> = told.iter().map(|(_, id, _, why)| (id.as_str(), why.as_str())).collect();
    assert!(whys.iter().all(|(_, why)| why.starts_with("policies/")), "{whys:?}");
    assert_eq!((bench.discrepancies().await, bench.stock("sku:a").await), (3, Some(3)));
    assert_eq!(bench.counted("customer:ann").await, (3, 0), "history counts it all the same");
}

pub(crate) async fn an_advice_that_no_row_can_hold_is_refused_alone_and_never_comes_again<
    B: Books,
>() {
    let mut bench = BenchOver::<B>::new().await;
    let huge = || settle(advice("n", 2, asked("b", "payment", u64::MAX), Approve));
    let good = |number, id: &str| settle(advice("n", number, question(id), Approve));
    let mut outcomes = bench.serve(vec![good(1, "a"), huge(), good(3, "c")]).await;
    assert_eq!(became(outcomes.remove(1)), (Became::Refused, "unacceptable"));
    for outcome in outcomes {
        assert_eq!(became(outcome), (Became::Applied, ""));
    }
    // A row that the database refuses, for a reason that is gone when it is put on record.
    bench.faults.expect([Fault::Refused]);
    let outcome = bench.serve(vec![good(4, "d")]).await.remove(0);
    assert_eq!(became(outcome), (Became::Refused, "unacceptable"));
    assert!(bench.stored("d").await.is_none());
    assert_eq!(bench.discrepancies().await, 1);
    // One that was settled is told so, whatever fails now.
    bench.faults.expect([Fault::Refused]);
    let outcome = bench.serve(vec![good(1, "a")]).await.remove(0);
    assert_eq!(became(outcome), (Became::Applied, ""));
    // One that somebody is in the way of comes again.
    let tries_max = bench.writer.desk.settings.conflict_tries_max as usize;
    bench.faults.expect(vec![Fault::Conflict; tries_max]);
    let outcome = bench.serve(vec![good(5, "e")]).await.remove(0);
    assert!(matches!(outcome, Err(CoreError::Conflict)), "{outcome:?}");
}

/// The advice overtakes the retry of the same client, and both wait for the same commit.
pub(crate) async fn a_retry_in_the_set_of_its_advice_is_told_what_the_client_was_told<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", 5).await;
    let make = || advice("n", 1, claim("a", "ann", "a", 2), Decline);
    let set = vec![decide(claim("a", "ann", "a", 2)), settle(make())];
    let mut outcomes = bench.serve(set).await;
    assert_eq!(became(outcomes.remove(1)), (Became::Applied, ""));
    match outcomes.remove(0) {
        Ok(Outcome::Replayed(answer)) => {
            assert_eq!(answer, Decision { replayed: true, ..told(&make()) });
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.stock("sku:a").await, Some(5));
}

fn approved(history: &History) -> (u64, u64, u64) {
    let (hour, now) = (Duration::from_hours(1), Timestamp::from_millis(NOON));
    let zero = Duration::ZERO;
    let sum = history.sum(hour, zero, now);
    (history.count(hour, zero, now), sum, history.approved_sum(hour, zero, now))
}

pub(crate) async fn a_correction_reaches_the_approved_sum_of_every_history_that_counts_it<
    B: Books,
>() {
    let mut bench = BenchOver::<B>::new().await;
    for id in ["a", "b", "c"] {
        bench.decide(question(id)).await;
    }
    let rows = ["customer:customer-1", "terminal:3156"];
    for row in rows {
        assert_eq!(approved(&bench.history(row).await), (3, 3 * 5716, 2 * 5716));
    }
    let turned = [("a", Decline), ("c", Approve)];
    for ((id, verdict), approvals) in turned.into_iter().zip([1, 2]) {
        let advice = advice("n", 1, question(id), verdict);
        assert_eq!(bench.settle(advice).await, Became::Overridden);
        for row in rows {
            assert_eq!(approved(&bench.history(row).await), (3, 3 * 5716, approvals * 5716));
        }
    }
    let between: Vec<_> = bench.told().await.into_iter().map(|line| (line.1, line.2)).collect();
    assert_eq!(between, [("a".to_owned(), -5716), ("c".to_owned(), 5716)]);
}

pub(crate) async fn a_label_and_a_correction_in_one_set_are_both_kept<B: Books>() {
    let mut bench = BenchOver::<B>::new().await;
    for id in ["a", "b"] {
        bench.decide(question(id)).await;
    }
    let set = vec![
        label("a", true),
        settle(advice("n", 1, question("a"), Decline)),
        settle(advice("n", 2, question("c"), Approve)),
        label("c", true),
    ];
    assert!(bench.serve(set).await.iter().all(Result::is_ok));
    for (id, verdict) in [("a", Decline), ("c", Approve)] {
        let stored = bench.stored(id).await.unwrap();
        assert_eq!((stored.answer.decision, stored.fraud), (verdict, Some(true)));
    }
    assert_eq!(bench.counted("terminal:3156").await, (3, 2));
}
