//! Fidelity, measured: of the requests that core decided, a share is put to this tier's own fallback as
//! well, on a thread of its own, so that no live answer waits for it.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use backstop_contract::fidelity::{Agreement, Report, Scores, Terms};
use backstop_contract::{Question, Tier, Verdict};

use crate::metrics::{Counter, Gauge, Metrics, MetricsError};

/// Puts requests to a fallback that goes by what it `Knows` of each beside the request itself.
#[derive(Debug)]
pub struct Fidelity<Knows> {
    queue: SyncSender<Asked<Knows>>,
    tally: Arc<Tally>,
}

/// A request that core decided.
#[derive(Debug)]
struct Asked<Knows> {
    question: Question,
    core: Verdict,
    knows: Knows,
}

#[derive(Debug)]
struct Tally {
    tier: Tier,
    terms: Terms,
    scores: Mutex<Scores>,
    /// The policies whose ratio is shown.
    shown: Mutex<BTreeSet<String>>,
    ratio: Gauge,
    compared: Counter,
    dropped: Counter,
}

impl<Knows: Send + 'static> Fidelity<Knows> {
    /// Starts the thread on which the `fallback` of `tier` is asked.
    pub fn start(
        tier: Tier,
        terms: Terms,
        metrics: &Metrics,
        fallback: impl FnMut(&Question, &Knows) -> Verdict + Send + 'static,
    ) -> Result<Self, MetricsError> {
        let ratio = metrics.gauge(
            "backstop_fidelity_ratio",
            "How often a fallback said what core said, of late.",
            &["tier", "policy"],
        )?;
        let compared = metrics.counter(
            "backstop_fidelity_compared_total",
            "Requests that core decided and that were put to a fallback as well, by how that came out.",
            &["tier", "policy", "outcome"],
        )?;
        let dropped = metrics.counter(
            "backstop_fidelity_dropped_total",
            "Requests that were to be put to a fallback as well, and were not: too many waited.",
            &["tier"],
        )?;
        // It is there from the first scrape on, so that its first rise is seen.
        dropped.with_label_values(&[tier.label()]).inc_by(0);
        let scores = Mutex::new(Scores::new(terms.window, terms.cells_max));
        let shown = Mutex::default();
        let tally = Arc::new(Tally { tier, terms, scores, shown, ratio, compared, dropped });
        let (queue, waiting) = sync_channel(terms.queue_max);
        let thread = std::thread::Builder::new().name("fidelity".to_owned());
        let its_tally = Arc::clone(&tally);
        let started = thread.spawn(move || its_tally.compare(&waiting, fallback));
        if let Err(error) = started {
            // Then all is dropped, and counted so.
            tracing::warn!(%error, "fidelity cannot be measured: there is no thread for it");
        }
        Ok(Self { queue, tally })
    }

    /// Whether this request is one of those that are put to the fallback.
    pub fn samples(&self, question: &Question) -> bool {
        self.tally.terms.sample(&question.hash)
    }

    /// Has a request put to the fallback that `core` decided so; at once done with it, since it only
    /// joins the queue, or is dropped where that is full.
    pub fn compare(&self, question: &Question, core: Verdict, knows: Knows) {
        // No rule sees the body, and what waits should be small.
        let question = Question { body: Bytes::new(), ..question.clone() };
        let asked = Asked { question, core, knows };
        if self.queue.try_send(asked).is_err() {
            self.tally.dropped.with_label_values(&[self.tally.tier.label()]).inc();
        }
    }

    /// What was measured, as of now.
    pub fn report(&self) -> Report {
        let Tally { tier, terms, dropped, .. } = &*self.tally;
        Report {
            tier: tier.clone(),
            window_s: terms.window.as_secs(),
            share_ppm: terms.share_ppm,
            dropped: dropped.with_label_values(&[tier.label()]).get(),
            lines: lock(&self.tally.scores).lines(Instant::now()),
        }
    }

    /// Brings the gauges up to now. A policy that was not asked for of late has none.
    pub fn show(&self) {
        self.show_as_of(Instant::now());
    }

    fn show_as_of(&self, now: Instant) {
        let Tally { tier, ratio, .. } = &*self.tally;
        let ratios = lock(&self.tally.scores).ratios(now);
        let mut shown = lock(&self.tally.shown);
        for policy in shown.iter().filter(|policy| !ratios.contains_key(*policy)) {
            // It is there, or it would not be among those shown.
            let _removed = ratio.remove_label_values(&[tier.label(), policy]);
        }
        for (policy, agreed) in &ratios {
            ratio.with_label_values(&[tier.label(), policy]).set(*agreed);
        }
        *shown = ratios.into_keys().collect();
    }
}

impl Tally {
    fn compare<Knows>(
        &self,
        waiting: &Receiver<Asked<Knows>>,
        mut fallback: impl FnMut(&Question, &Knows) -> Verdict,
    ) {
        for Asked { question, core, knows } in waiting {
            let agreement = Agreement::of(fallback(&question, &knows), core);
            let labels = [self.tier.label(), &question.request.policy, agreement.as_str()];
            self.compared.with_label_values(&labels).inc();
            lock(&self.scores).count(&question, agreement, Instant::now());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole, even after a panic in another.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backstop_contract::validity::{Terms as Valid, check};
    use backstop_contract::{HashKey, Timestamp};

    use super::*;

    const TERMS: Terms = Terms {
        share_ppm: 1_000_000,
        window: Duration::from_hours(1),
        queue_max: 4,
        cells_max: 10,
    };

    fn question() -> Question {
        let body = br#"{ "id": "txn-1", "policy": "payment", "account": "a", "amount": 5716,
            "currency": "GBP" }"#;
        let now = Timestamp::default();
        let valid = Valid { now, test: true, numeric_ids: true, policies: &|_| true };
        let request = check(body, &valid).unwrap();
        Question {
            merchant: "demo".to_owned(),
            test: true,
            numeric_ids: true,
            hash: HashKey::new(&[7; 32]).hash(&request),
            request,
            received_at: now,
            traceparent: String::new(),
            body: Bytes::new(),
        }
    }

    /// Looks until that many were compared; there is always an end to it.
    fn report_of<Knows: Send + 'static>(fidelity: &Fidelity<Knows>, compared: u64) -> Report {
        for _ in 0..10_000 {
            let report = fidelity.report();
            let done: u64 = report.lines.iter().map(|it| it.counts.compared().count).sum();
            if done >= compared {
                return report;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{compared} were not compared in ten seconds");
    }

    #[test]
    fn what_the_fallback_says_is_counted_next_to_what_core_said() {
        let metrics = Metrics::new();
        let says = |_: &Question, says: &Verdict| *says;
        let fidelity = Fidelity::start(Tier::Edge, TERMS, &metrics, says).unwrap();
        assert!(fidelity.samples(&question()));
        fidelity.compare(&question(), Verdict::Approve, Verdict::Approve);
        fidelity.compare(&question(), Verdict::Decline, Verdict::Approve);
        let report = report_of(&fidelity, 2);
        assert_eq!((report.tier, report.dropped, report.lines.len()), (Tier::Edge, 0, 1));
        assert_eq!(report.lines[0].counts.false_approve.amount, 5_716);
        fidelity.show();
        let text = metrics.render();
        for line in [
            "backstop_fidelity_ratio{policy=\"payment\",tier=\"edge\"} 0.5",
            "backstop_fidelity_compared_total{outcome=\"false_approve\",policy=\"payment\",tier=\"edge\"} 1",
            "backstop_fidelity_dropped_total{tier=\"edge\"} 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_fallback_that_stalls_holds_nobody_up_and_what_it_missed_is_counted() {
        let (go, wait) = sync_channel::<()>(0);
        let stalls = move |_: &Question, (): &()| {
            // Goes on once the test lets go of its end.
            let _let_go = wait.recv();
            Verdict::Approve
        };
        let fidelity = Fidelity::start(Tier::Api, TERMS, &Metrics::new(), stalls).unwrap();
        for _ in 0..20 {
            fidelity.compare(&question(), Verdict::Approve, ());
        }
        let dropped = fidelity.report().dropped;
        // Four wait, and one may have been taken out of the queue.
        assert!((15..=16).contains(&dropped), "{dropped}");
        drop(go);
        assert_eq!(report_of(&fidelity, 20 - dropped).dropped, dropped);
    }

    #[test]
    fn a_policy_that_nobody_asks_for_any_more_has_no_ratio() {
        let metrics = Metrics::new();
        let says = |_: &Question, (): &()| Verdict::Approve;
        let fidelity = Fidelity::start(Tier::Api, TERMS, &metrics, says).unwrap();
        fidelity.compare(&question(), Verdict::Approve, ());
        report_of(&fidelity, 1);
        let is_shown_after = |time| {
            fidelity.show_as_of(Instant::now() + time);
            metrics.render().contains("backstop_fidelity_ratio{")
        };
        assert!(is_shown_after(Duration::ZERO));
        assert!(!is_shown_after(TERMS.window));
    }
}
