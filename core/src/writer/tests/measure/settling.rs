//! What settling a pile of advices takes, and what it does to those who wait beside it.
//! `cargo test --release -p backstop-core measure_settling -- --ignored --nocapture`

use std::sync::Arc;

use super::*;
use crate::fixture::advice;
use crate::store::settled::SequenceKey;
use crate::store::tests::PostgresBooks;
use crate::writer::tests::hostile::Stack;

/// Advices in a message, and messages under way.
const MESSAGE: usize = 64;
const UNDER_WAY: u64 = 2;
/// How many are decided before, to be confirmed.
const DECIDED: u64 = 20_000;
/// Live requests in a second.
const LIVE_RATES: [u64; 2] = [200, 1_000];
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

#[tokio::test]
#[ignore = "measures for a minute; what it prints is for people"]
async fn measure_settling() {
    println!(
        "{:>10} {:>9} {:>10} {:>11} {:>9} {:>9} {:>9}",
        "books", "live/s", "advices", "advices/s", "p50 ms", "p99 ms", "p100 ms"
    );
    measure::<SqliteBooks>("SQLite", 1).await;
    measure::<PostgresBooks>("PostgreSQL", desk().settings.lanes).await;
}

async fn measure<B: Books>(name: &str, lanes: usize) {
    let books = B::new().await;
    let mut stores = Vec::new();
    for _ in 0..lanes {
        stores.push(books.open().await);
    }
    let stack = Arc::new(Stack::start("prod", stores));
    decide_all(&stack).await;
    for (kind, numbers) in
        [("applied", DECIDED..2 * DECIDED), ("match", 0..DECIDED), ("again", 0..DECIDED)]
    {
        let advices = settle(&stack, numbers, GIVE_UP_AFTER).await;
        println!("{name:>10} {:>9} {kind:>10} {advices:>11.0}", 0);
    }
    // Everything after that is new.
    let mut fresh = (1..).map(|part| part * 10_000_000);
    for rate in LIVE_RATES {
        for is_settling in [false, true] {
            let settling = is_settling.then(|| {
                let (stack, first) = (Arc::clone(&stack), fresh.next().unwrap());
                tokio::spawn(async move { settle(&stack, first..u64::MAX, EACH_FOR).await })
            });
            let mut latencies = live(&stack, rate, fresh.next().unwrap()).await;
            let advices = match settling {
                Some(settling) => settling.await.unwrap(),
                None => 0.0,
            };
            latencies.sort();
            let at = |percent: usize| {
                let place = std::cmp::min(latencies.len() * percent / 100, latencies.len() - 1);
                latencies[place].as_secs_f64() * 1000.0
            };
            let kind = if is_settling { "applied" } else { "none" };
            println!(
                "{name:>10} {rate:>9} {kind:>10} {advices:>11.0} {:>9.1} {:>9.1} {:>9.1}",
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

fn payment(number: u64) -> Question {
    let mut question = question(&format!("txn-{number}"));
    question.request.account = format!("customer-{}", number * 7_919 % ACCOUNTS as u64);
    question
}

/// Puts decisions in the books, to be confirmed.
async fn decide_all(stack: &Arc<Stack>) {
    for first in (0..DECIDED).step_by(1_000) {
        let asks = (first..first + 1_000).map(|number| {
            let stack = Arc::clone(stack);
            tokio::spawn(async move { stack.queue.ask(decide(payment(number)), None).await })
        });
        for ask in asks.collect::<Vec<_>>() {
            assert!(matches!(ask.await.unwrap(), Ok(Outcome::Decided(_))));
        }
    }
}

/// Sends messages of advices with these numbers, until there are no more or time is up. Returns how many
/// were settled in a second.
async fn settle(stack: &Arc<Stack>, numbers: std::ops::Range<u64>, time: Duration) -> f64 {
    let (began, next) = (Instant::now(), Arc::new(std::sync::Mutex::new(numbers)));
    let senders = (0..UNDER_WAY).map(|_| {
        let (stack, next) = (Arc::clone(stack), Arc::clone(&next));
        tokio::spawn(async move {
            let mut settled = 0;
            while began.elapsed() < time {
                let numbers: Vec<_> = next.lock().unwrap().by_ref().take(MESSAGE).collect();
                let mut asked = Vec::with_capacity(numbers.len());
                for number in &numbers {
                    let advice = advice("node", number + 1, payment(*number), Verdict::Approve);
                    asked.push(stack.queue.ask_in_bulk(Ask::Settle(Box::new(advice))).await);
                }
                if asked.is_empty() {
                    break;
                }
                for outcome in asked {
                    assert!(matches!(outcome.await, Ok(Ok(Outcome::Settled { .. }))));
                    settled += 1;
                }
                let key = SequenceKey { node: "node".to_owned(), epoch: 1 };
                let numbers = numbers.iter().map(|number| number + 1).collect();
                let arrived = stack.queue.ask_in_bulk(Ask::Arrived(key, numbers)).await;
                assert!(matches!(arrived.await, Ok(Ok(Outcome::Arrived))));
            }
            settled
        })
    });
    let mut settled = 0;
    for sender in senders.collect::<Vec<_>>() {
        settled += sender.await.unwrap();
    }
    f64::from(settled) / began.elapsed().as_secs_f64()
}

/// Asks at this rate whatever happens, and says how long each waited from when it was due.
async fn live(stack: &Arc<Stack>, rate: u64, first: u64) -> Vec<Duration> {
    let began = Instant::now();
    let mut asked = Vec::new();
    for number in 0..rate * EACH_FOR.as_secs() {
        let due = began + Duration::from_secs(1).mul_f64(number as f64 / rate as f64);
        tokio::time::sleep_until(due).await;
        let stack = Arc::clone(stack);
        asked.push(tokio::spawn(async move {
            let outcome = stack.queue.ask(decide(payment(first + number)), None).await;
            assert!(matches!(outcome, Ok(Outcome::Decided(_))), "{outcome:?}");
            due.elapsed()
        }));
    }
    let mut latencies = Vec::with_capacity(asked.len());
    for ask in asked {
        latencies.push(ask.await.unwrap());
    }
    latencies
}
