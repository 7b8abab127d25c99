//! What a decision costs over SQLite, policy and all: how many are durable in a second, and the CPU time
//! of each. `cargo test --release -p backstop-core in_sqlite -- --ignored --nocapture`; `make bench` reads its lines.

mod settling;

use super::*;
use crate::fixture::claim;

const ACCOUNTS: usize = 10_000;
const SETS: [usize; 4] = [1, 16, 64, 256];
const EACH_FOR: Duration = Duration::from_secs(3);

#[tokio::test]
#[ignore = "measures for half a minute; what it prints is for people"]
async fn measure_what_a_decision_costs_in_sqlite() {
    for set in SETS {
        measure("payments", set, |id, number| {
            let mut question = question(&id);
            question.request.account = format!("customer-{}", number % ACCOUNTS);
            question
        })
        .await;
        measure("claims", set, |id, number| {
            claim(&id, &format!("customer-{}", number % ACCOUNTS), "a", 1)
        })
        .await;
    }
}

async fn measure(kind: &str, set: usize, make: impl Fn(String, usize) -> Question) {
    let mut bench = Bench::with(|desk| {
        desk.settings.batch_max = set;
        desk.settings.commit_interval = Duration::ZERO;
    })
    .await;
    bench.set_stock("sku:a", 1_000_000_000).await;
    let (began, cpu, mut done) = (Instant::now(), cpu_ticks(), 0);
    while began.elapsed() < EACH_FOR {
        let asks = (0..set).map(|_| {
            done += 1;
            // Spread, so that neighbours in a set are no neighbours in the tables.
            decide(make(format!("txn-{done}"), done * 7_919))
        });
        let outcomes = bench.serve(asks.collect()).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Decided(_)))));
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    // The kernel counts hundredths of a second.
    let micros = (cpu_ticks() - cpu) * 10_000.0 / done as f64;
    println!("{kind} batch={set} per_s={rate:.0} cpu_us={micros:.1}");
}

/// User and system time of this process.
fn cpu_ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let fields = after_name.split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum()
}
