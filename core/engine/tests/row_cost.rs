//! What a row of history costs a decision: its bytes, and the time to read it, count an event and write
//! it again. A measurement, not a check of time: that would depend on the machine.

use std::hint::black_box;
use std::time::Duration;

use backstop_contract::{Timestamp, Verdict};
use backstop_engine::History;
use backstop_engine::history::ENCODED_BYTES_MAX;
use tokio::time::Instant;

const DAY: i64 = 24 * 60 * 60 * 1000;
const NOON: i64 = 1_533_124_800_000;

/// As many events, scattered over 44 days up to noon, one in 97 of them a fraud.
fn busy(events: i64, counterparties: i64) -> History {
    let mut history = History::default();
    for event in 0..events {
        let scatter = event.wrapping_mul(7_919).rem_euclid(1_000);
        let at = Timestamp::from_millis(NOON - 44 * DAY * (events - event) / events + scatter);
        let with = event.wrapping_mul(31).checked_rem(counterparties).map(|with| with.to_string());
        let amount = event.wrapping_mul(2_654_435_761).rem_euclid(20_000).unsigned_abs();
        history.record(at, amount, Verdict::Approve, with.as_deref());
        history.label(at, event % 97 == 0, None);
    }
    history
}

/// The time of one call: the best of many short turns, so that what else the machine does counts little.
fn timed<T>(mut call: impl FnMut() -> T) -> Duration {
    const CALLS: u32 = 50;
    let mut turn = |_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        began.elapsed() / CALLS
    };
    (0..400).map(&mut turn).min().unwrap_or_default()
}

#[test]
#[ignore = "a measurement: cargo test --release -p backstop-engine --test row_cost -- --ignored --nocapture"]
fn what_a_row_costs() {
    println!(
        "{:>8}{:>16}{:>8}{:>10}{:>10}{:>10}{:>12}",
        "events", "counterparties", "bytes", "decode", "record", "encode", "all three"
    );
    for counterparties in [0, 50] {
        for events in [10, 100, 1_000, 100_000] {
            let history = busy(events, counterparties);
            let row = history.encode();
            assert!(row.len() <= ENCODED_BYTES_MAX);
            assert_eq!(History::decode(&row), Ok(history.clone()));

            let with = (counterparties > 0).then_some("1");
            let mut now = NOON;
            let mut record = |history: &mut History| {
                now += 60_000;
                history.record(Timestamp::from_millis(now), 5_716, Verdict::Approve, with);
            };
            let decode = timed(|| History::decode(&row));
            let encode = timed(|| history.encode());
            let mut copy = history.clone();
            let recording = timed(|| record(&mut copy));
            // The row grows, is joined and forgets, as it would.
            let mut written = row.clone();
            let all = timed(|| {
                let mut history = History::decode(&written).unwrap();
                record(&mut history);
                written = history.encode();
            });
            println!(
                "{events:>8}{counterparties:>16}{:>8}{decode:>10.2?}{recording:>10.2?}{encode:>10.2?}{all:>12.2?}",
                row.len()
            );
        }
    }
}
