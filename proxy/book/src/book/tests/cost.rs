//! What the book adds to an answer. Measures, so it runs when asked for:
//! `cargo test --release -p backstop-book cost -- --ignored --nocapture`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Book, Fsync, Settings};
use backstop_contract::{Outcome, Tier, Verdict};
use tokio::time::Instant;

use super::support::{entry, settle_next, soon, turn};

/// The CPU that each of the threads has spent, by name.
fn cpu() -> BTreeMap<String, Duration> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|it| it.unwrap().path());
    let mut spent = BTreeMap::new();
    for thread in threads {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap();
        let spent_by = std::fs::read_to_string(thread.join("schedstat")).unwrap();
        let nanos = spent_by.split(' ').next().unwrap().parse().unwrap();
        let name = if name.starts_with("book-") { name.trim() } else { "callers" };
        *spent.entry(name.to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    spent
}

/// What each thread spent since, in microseconds for each of `count`.
fn spent_since(before: &BTreeMap<String, Duration>, count: u32) -> String {
    let each = cpu().into_iter().map(|(name, spent)| {
        let spent = spent.saturating_sub(before.get(&name).copied().unwrap_or_default());
        (name, spent.as_secs_f64() * 1e6 / f64::from(count))
    });
    let each: Vec<_> = each.collect();
    let all: f64 = each.iter().map(|it| it.1).sum();
    let parts = each.iter().map(|(name, each)| format!("{name} {each:.1}"));
    format!("cpu {all:.1} us each: {}", parts.collect::<Vec<_>>().join(", "))
}

/// Says `count` answers, each when it is due, or `at_a_time` without a pause; prints what it took.
async fn measure(name: &str, fsync: Fsync, tier: Tier, count: u32, pace: Pace) {
    let folder = tempfile::tempdir().unwrap();
    let (book, _) = Book::open(folder.path(), Settings { fsync, ..Settings::default() }).unwrap();
    let (started, before) = (Instant::now(), cpu());
    let mut tasks = tokio::task::JoinSet::new();
    let mut took = Vec::new();
    for number in 0..count {
        match pace {
            Pace::Every(gap) => tokio::time::sleep_until(started + gap * number).await,
            Pace::AtATime(most) => {
                if tasks.len() >= most {
                    took.extend(tasks.join_next().await.unwrap());
                }
            }
        }
        let (book, tier) = (book.clone(), tier.clone());
        tasks.spawn(async move {
            let id = format!("txn-{number}");
            let entry = entry(&id, tier, Verdict::Approve);
            let begun = Instant::now();
            let said = turn(&book, &id).say(entry, soon()).await;
            assert!(said.answer.durable && said.is_first);
            begun.elapsed()
        });
    }
    while let Some(one) = tasks.join_next().await {
        took.push(one.unwrap());
    }
    let (elapsed, spent) = (started.elapsed(), spent_since(&before, count));
    took.sort_unstable();
    let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1_000];
    println!(
        "{name:<28} {:>7.0}/s  p50 {:>9.1?}  p99 {:>9.1?}  p99.9 {:>9.1?}  max {:>9.1?}  {spent}",
        f64::from(count) / elapsed.as_secs_f64(),
        at(500),
        at(990),
        at(999),
        at(1_000),
    );
    book.close().await;
}

#[derive(Clone, Copy)]
enum Pace {
    Every(Duration),
    AtATime(usize),
}

/// What the load alone costs: the same tasks, which only make their entry.
async fn idle(count: u32, gap: Duration) {
    let (started, before) = (Instant::now(), cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        tokio::time::sleep_until(started + gap * number).await;
        tasks.spawn(async move {
            std::hint::black_box(entry(&format!("txn-{number}"), Tier::Core, Verdict::Approve));
        });
    }
    while tasks.join_next().await.is_some() {}
    let spent = spent_since(&before, count);
    println!("{:<28} {spent}, to be taken off the paced ones", "the load alone");
}

#[tokio::test]
#[ignore = "measures"]
async fn what_the_book_adds_to_an_answer() {
    let gap = Duration::from_micros(500);
    idle(10_000, gap).await;
    for (policy, fsync) in [("process", Fsync::Process), ("disk", Fsync::Disk)] {
        for tier in [Tier::Core, Tier::Edge] {
            let name = |pace| format!("{policy}, by {}, {pace}", tier.as_str());
            let paced = Pace::Every(gap);
            measure(&name("2000/s"), fsync, tier.clone(), 10_000, paced).await;
            let flat_out = Pace::AtATime(64);
            measure(&name("64 at a time"), fsync, tier.clone(), 100_000, flat_out).await;
        }
    }
}

#[tokio::test]
#[ignore = "measures"]
async fn how_long_a_large_book_takes_to_open() {
    const COUNT: u32 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let (book, _) = Book::open(folder.path(), Settings::default()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..COUNT {
        if tasks.len() >= 256 {
            tasks.join_next().await.unwrap().unwrap();
        }
        let book = book.clone();
        tasks.spawn(async move {
            let id = format!("txn-{number}");
            turn(&book, &id).say(entry(&id, Tier::Edge, Verdict::Approve), soon()).await
        });
    }
    while tasks.join_next().await.is_some() {}
    let bytes = book.health().bytes;
    book.close().await;
    drop(book);
    let (started, before) = (Instant::now(), cpu());
    let (book, opened) = Book::open(folder.path(), Settings::default()).unwrap();
    let (took, spent) = (started.elapsed(), spent_since(&before, COUNT));
    println!("{} stand-ins, {} MiB, opened in {took:.1?}, {spent}", opened.unsettled, bytes >> 20);
    let (started, mut shipped) = (Instant::now(), 0);
    while shipped < 100_000 {
        shipped += settle_next(&book, &Outcome::Match).await.len();
    }
    let each = started.elapsed() / 100_000;
    println!("100000 of them shipped and settled, {each:.1?} each with the reading of both sides");
}
