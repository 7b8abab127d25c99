//! Several writers over one set of books, as the lanes of a core are, or two cores.

use super::*;
use crate::fixture::claim;

const LANES: usize = 3;
const CLAIMS: usize = 240;
/// A third of what is claimed.
const STOCK: i64 = 80;

/// Everybody wants the same article, and many ask twice at once.
pub(crate) async fn lanes_never_give_away_more_than_there_is_and_give_each_id_one_answer<
    B: Books,
>() {
    let mut bench = BenchOver::<B>::new().await;
    bench.set_stock("sku:a", STOCK).await;
    let mut stores = Vec::new();
    for _ in 0..LANES {
        stores.push(bench.books.open().await);
    }
    let (queue, mut stopped) = start(stores, desk());
    let asks = (0..CLAIMS * 2).map(|number| {
        let (queue, number) = (queue.clone(), number % CLAIMS);
        tokio::spawn(async move { ask(&queue, number).await })
    });
    let asks: Vec<_> = asks.collect();
    let mut answers: HashMap<String, Decision> = HashMap::new();
    for answer in asks {
        let answer = Decision { replayed: false, ..answer.await.unwrap() };
        let known = answers.entry(answer.id.clone()).or_insert(answer.clone());
        assert_eq!(*known, answer, "one id, one answer");
    }
    let granted = |answer: &&Decision| answer.decision == Verdict::Approve;
    assert_eq!(answers.values().filter(granted).count(), 80);
    assert_eq!(bench.stock("sku:a").await, Some(0));
    let mut coins = 0;
    for number in 0..CLAIMS {
        coins +=
            bench.balances(&account(number)).await.iter().map(|(_, balance)| balance).sum::<i64>();
    }
    let ledger: i64 = bench.books.ledger().await.iter().map(|line| line.amount).sum();
    assert_eq!((coins, ledger), (STOCK, STOCK));
    drop(queue);
    assert!(stopped.recv().await.is_none(), "each writer ends when nobody can ask it any more");
}

fn account(number: usize) -> String {
    format!("customer-{number}")
}

/// Asks until there is an answer, as a caller does.
async fn ask(queue: &Queue, number: usize) -> Decision {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let claim = claim(&format!("txn-{number}"), &account(number), "a", 1);
        match queue.ask(decide(claim), None).await {
            Ok(Outcome::Decided(fresh)) => return fresh.answer,
            Ok(Outcome::Replayed(answer)) => return answer,
            other => assert!(Instant::now() < give_up, "{other:?}"),
        }
    }
}
