//! A steady load on one policy, open loop: a request is due when it is due, and its latency counts from
//! then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::system::Wire;

const ACCOUNTS: u64 = 499;
/// No two loads share an id.
static LOADS: AtomicU64 = AtomicU64::new(0);

/// Requests under way until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

/// One request and its answer.
pub struct Sample {
    pub latency: Duration,
    pub status: u16,
    pub answer: Value,
}

impl Load {
    /// Asks so many times a second for this policy, over this many connections.
    pub fn start(edge: SocketAddr, key: &str, policy: &str, rate: u32, connections: u32) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let threads = (0..connections).map(|line| {
            let (stop, sent) = (stop.clone(), sent.clone());
            let (key, policy) = (key.to_owned(), policy.to_owned());
            std::thread::spawn(move || {
                let mut wire = Wire::connect(edge);
                let begun = Instant::now();
                let mut samples = Vec::new();
                for turn in 0.. {
                    let number = turn * connections + line;
                    let due = Duration::from_secs(1) * number / rate;
                    std::thread::sleep(due.saturating_sub(begun.elapsed()));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("load-{load}-{number}");
                    let body = json!({
                        "id": id, "policy": policy, "amount": 1_000, "currency": "GBP",
                        "account": format!("customer-{}", u64::from(number) % ACCOUNTS),
                    });
                    let response = wire.decide(&key, &body);
                    let latency = begun.elapsed().saturating_sub(due);
                    let answer = serde_json::from_str(&response.text).unwrap_or_default();
                    samples.push(Sample { latency, status: response.status, answer });
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                samples
            })
        });
        let threads = threads.collect();
        Self { stop, sent, threads }
    }

    /// How many were answered so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, and gives all that was seen.
    pub fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// The latency that so large a share of the answers was within, in milliseconds.
pub fn quantile(samples: &[Sample], share: f64) -> f64 {
    let mut latencies: Vec<_> = samples.iter().map(|it| it.latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let place = (share * (latencies.len() as f64 - 1.0)).round() as usize;
    latencies.get(place).copied().unwrap_or_default()
}
