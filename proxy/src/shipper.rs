//! Tells core of every answer that was given in its place: advices go to whichever stack takes them, in
//! the order and at the pace that the book says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{Mutex, mpsc};

use backstop_book::{Batch, Book};
use backstop_contract::Decision;
use backstop_contract::advice::Settlement;
use backstop_process::Faults;

use crate::api_client::Passing;
use crate::exchange::{ANSWER_BYTES_MAX, LateAnswer};
use crate::metrics::Metrics;
use crate::stacks::Stacks;

/// The longest wait for a message to be settled. Core takes live requests first.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// Ships what the book owes core.
pub struct Shipper {
    /// What is owed.
    pub book: Book,
    /// Who takes it.
    pub stacks: Arc<Stacks>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Messages under way at a time.
    pub in_flight_max: usize,
    /// Answers that came when nobody waited for them any more.
    pub late: Mutex<mpsc::Receiver<LateAnswer>>,
    /// What the log repeats at most once a second.
    pub faults: Arc<Faults>,
}

#[async_trait]
impl BackgroundService for Shipper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        for _ in 0..self.in_flight_max {
            let ship = Ship {
                book: self.book.clone(),
                stacks: self.stacks.clone(),
                metrics: self.metrics.clone(),
                faults: self.faults.clone(),
            };
            tokio::spawn(async move { ship.on().await });
        }
        let mut late = self.late.lock().await;
        loop {
            tokio::select! {
                _ = shutdown.changed() => break,
                Some(answer) = late.recv() => self.compare(answer).await,
            }
        }
    }
}

impl Shipper {
    /// An answer that came too late shows how near the stand-in was, and that core answers again.
    async fn compare(&self, late: LateAnswer) {
        let Ok(decision) = serde_json::from_slice::<Decision>(&late.body) else {
            return self.metrics.late("unreadable");
        };
        if decision.is_stand_in() {
            return;
        }
        self.book.wake();
        let found = self.book.find(&late.merchant, &decision.id).await;
        self.metrics.late(match found {
            Some(found) if found.said.answer.decision == decision.decision => "same",
            Some(_) => "other",
            None => "unknown",
        });
    }
}

/// One message after the other.
struct Ship {
    book: Book,
    stacks: Arc<Stacks>,
    metrics: Arc<Metrics>,
    faults: Arc<Faults>,
}

impl Ship {
    async fn on(&self) {
        loop {
            let batch = self.book.next_batch().await;
            match self.send(&batch).await {
                Some(settlement) => {
                    for settled in &settlement.settled {
                        self.metrics.settled(settled.outcome.label());
                        if !settled.why.is_empty() {
                            let what = format_args!("core refused an advice: {}", settled.why);
                            self.faults.say("advice", what);
                        }
                    }
                    self.book.settled(batch, &settlement);
                }
                None => self.book.failed(batch),
            }
        }
    }

    /// To the active stack, and where that does not take it, to the other: they have the same books.
    async fn send(&self, batch: &Batch) -> Option<Settlement> {
        fail::fail_point!("advice.before_send", |_| std::process::abort());
        let passing = Passing {
            method: "POST",
            path: "/v1/advices",
            merchant: "",
            body: batch.to_json(),
            wait: SETTLE_TIME_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let active = self.stacks.active();
        let other = self.stacks.all().iter().filter(|api| api.stack() != active.stack());
        for api in std::iter::once(active).chain(other) {
            let Ok(answered) = api.pass_on(&passing).await else { continue };
            if answered.status != 200 {
                continue;
            }
            match serde_json::from_slice(&answered.body) {
                Ok(settlement) => return Some(settlement),
                Err(error) => self.faults.say(
                    "settlement",
                    format_args!(
                        "the api of {} does not say what was settled: {error}",
                        api.stack()
                    ),
                ),
            }
        }
        None
    }
}
