//! Advices that arrive many times, at two stacks of one database in the same instant, while clients ask
//! for the same ids. Each is settled once, and ends as it would have alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstop_contract::Outcome as Became;

use super::*;
use crate::decide::settle::Advice;
use crate::fixture::{advice, claim, spend};
use crate::store::tests::PostgresBooks;

/// Advices of the short form, each by another id.
const ADVICES: u64 = 300;
/// How often each is sent to each stack.
const SENT: u64 = 3;
const ACCOUNTS: u64 = 7;
const STOCKED: i64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advices_that_arrive_at_two_stacks_at_once_are_settled_once_on_postgresql() {
    let stacks = attack_with_advices::<PostgresBooks>().await;
    let conflicts: u64 = stacks.iter().map(|stack| stack.transactions("conflict")).sum();
    assert!(conflicts > 0, "neither stack met the other: this shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advices_that_arrive_at_two_stacks_at_once_are_settled_once_on_sqlite() {
    attack_with_advices::<SqliteBooks>().await;
}

/// What an id is asked: a third of them spend, the others claim of too little.
fn asked_under(number: u64) -> Question {
    let (id, account) = (id(number), format!("customer-{}", number % ACCOUNTS));
    if number.is_multiple_of(3) { spend(&id, &account, 2) } else { claim(&id, &account, "a", 1) }
}

fn told(number: u64) -> Advice {
    let verdicts = [Verdict::Approve, Verdict::Decline, Verdict::Approve, Verdict::Review];
    let verdict = verdicts[usize::try_from(number / 3 % 4).unwrap()];
    advice("node", number + 1, asked_under(number), verdict)
}

async fn attack_with_advices<B: Books>() -> [Stack; 2] {
    let advices = requests("BACKSTOP_ADVICES", ADVICES);
    let books = B::new().await;
    let stacks = Arc::new([
        Stack::start("prod", vec![books.open().await]),
        Stack::start("old-prod", vec![books.open().await]),
    ]);
    let ask = Ask::SetStock(row("sku:a"), STOCKED);
    assert!(stacks[0].queue.ask(ask, None).await.is_ok());
    let tasks = (0..advices).map(|number| {
        let stacks = Arc::clone(&stacks);
        tokio::spawn(settle_everywhere(stacks, number))
    });
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for task in tasks.collect::<Vec<_>>() {
        *outcomes.entry(task.await.unwrap()).or_default() += 1;
    }
    for outcome in ["applied", "match", "overridden"] {
        assert!(outcomes.contains_key(outcome), "nothing was {outcome}: {outcomes:?}");
    }
    check(&books, advices, outcomes["overridden"]).await;
    Arc::into_inner(stacks).unwrap()
}

/// Sends an advice to both stacks, and asks for its id besides. Returns what became of it.
async fn settle_everywhere(stacks: Arc<[Stack; 2]>, number: u64) -> &'static str {
    if number % 5 < 2 {
        // An answer of core's own, or what the client was told: both may be, by who is first.
        let asked = [0, 1].map(|stack| stacks[stack].queue.ask(decide(asked_under(number)), None));
        let [prod, old_prod] = asked;
        let _either = tokio::join!(prod, old_prod);
    }
    let sent =
        (0..2 * SENT).map(|turn| tokio::spawn(settle_once(Arc::clone(&stacks), turn, number)));
    let mut heard = Vec::new();
    for sent in sent.collect::<Vec<_>>() {
        heard.push(sent.await.unwrap());
    }
    let first = heard.first().unwrap().clone();
    assert!(heard.iter().all(|it| *it == first), "one advice, one outcome: {heard:?}");
    match first {
        Became::Applied => "applied",
        Became::Match => "match",
        Became::Overridden => "overridden",
        other => panic!("{number} became {other:?}"),
    }
}

/// Sends an advice until it is settled.
async fn settle_once(stacks: Arc<[Stack; 2]>, turn: u64, number: u64) -> Became {
    let stack = &stacks[usize::try_from(turn % 2).unwrap()];
    let give_up = Instant::now() + GIVE_UP_AFTER;
    loop {
        let ask = Ask::Settle(Box::new(told(number)));
        match stack.queue.ask_in_bulk(ask).await.await {
            Ok(Ok(Outcome::Settled { outcome, .. })) => return outcome,
            other => assert!(Instant::now() < give_up, "{number}: {other:?}"),
        }
    }
}

async fn check<B: Books>(books: &B, advices: u64, overridden: u64) {
    let store = books.open().await;
    let records = B::records(&store);
    let keys = (0..advices).map(|number| key(&id(number))).collect();
    let found = records.find_many(keys).await.unwrap();
    assert_eq!((found.len() as u64, books.rows("decisions").await as u64), (advices, advices));
    let (mut taken, mut held) = (0, BTreeMap::<String, i64>::new());
    for number in 0..advices {
        let decided = &found[&key(&id(number))];
        let told = told(number).answer;
        assert_eq!(decided.answer.decision, told.decision, "{number}");
        assert_eq!(decided.answer.decided_by, told.decided_by, "{number}");
        let of = |amounts: &BTreeMap<String, u64>| amounts.values().sum::<u64>().cast_signed();
        taken += of(&decided.moves.take);
        let coins = of(&decided.moves.credit) - of(&decided.moves.debit);
        *held.entry(decided.account.clone()).or_default() += coins;
    }
    assert_eq!(records.stock(row("sku:a")).await.unwrap(), Some(STOCKED - taken));
    let mut booked = BTreeMap::<String, i64>::new();
    for line in books.ledger().await {
        *booked.entry(line.credit).or_default() += line.amount;
        *booked.entry(line.debit).or_default() -= line.amount;
    }
    assert_eq!(booked.values().sum::<i64>(), 0, "the ledger sums to zero");
    for (account, coins) in held {
        assert_eq!(booked.get(&account).copied().unwrap_or_default(), coins, "{account}");
        let merchant = "demo".to_owned();
        let balances = records.balances(AccountKey { merchant, account }).await.unwrap();
        assert_eq!(balances.first().map_or(0, |unit| unit.1), coins);
    }
    let kinds = books.outbox().await.into_iter().filter(|row| row.2 == "decision.revised");
    assert_eq!(kinds.count() as u64, overridden, "others are told of each correction once");
}
