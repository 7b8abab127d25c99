//! Counts what becomes of every step. It only adds up; what it means is the report's business.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::outcome::{Brief, Landed, Outcome};
use super::schedule::{About, Ticket};
use crate::report::{Counts, LabelCounts, Latency};

/// The longest latency that is told from a longer one, in microseconds: an hour.
const LATENCY_MICROS_MAX: u64 = 3_600_000_000;
/// Significant figures that a histogram keeps.
const FIGURES: u8 = 3;

/// Latencies, to the microsecond, with the exact worst.
pub struct Latencies {
    histogram: Option<Histogram<u64>>,
    max: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        // `None` only for bounds that cross, which these do not.
        let histogram = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, FIGURES).ok();
        Self { histogram, max: Duration::ZERO }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.max = std::cmp::max(self.max, latency);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// The percentiles, in milliseconds; `None` when nothing was counted.
    pub fn summary(&self) -> Option<Latency> {
        let histogram = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        let max = self.max.as_micros() as f64 / 1000.0;
        // A bucket's upper end may lie over the worst that was seen in it.
        let at = |quantile| (histogram.value_at_quantile(quantile) as f64 / 1000.0).clamp(0.0, max);
        Some(Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max })
    }
}

/// Everything that is counted of one replay.
#[derive(Default)]
pub struct Tally {
    /// What became of how many.
    pub counts: Counts,
    /// Of requests that were answered, from the moment they were due.
    pub from_due: Latencies,
    /// Of the same, from the moment they were sent.
    pub from_sent: Latencies,
}

impl Tally {
    /// Counts a step that is over.
    pub fn record(&mut self, landed: &Landed) {
        self.counts.connections.opened += landed.opened;
        self.counts.connections.lost += landed.lost;
        match &landed.step.about {
            About::Decision(ticket) => self.record_request(ticket, landed),
            About::Label { stand_in } => {
                record_label(&mut self.counts.labels, &landed.outcome);
                if *stand_in {
                    record_label(&mut self.counts.labels_of_stand_ins, &landed.outcome);
                }
            }
        }
    }

    fn record_request(&mut self, ticket: &Ticket, landed: &Landed) {
        let counts = &mut self.counts;
        counts.sent += 1;
        counts.retries += landed.retries;
        match &landed.outcome {
            Outcome::Unanswered(why) => {
                counts.unanswered += 1;
                count(&mut counts.unanswered_by_reason, why.as_str());
                return;
            }
            Outcome::Decided(brief) => record_decision(counts, ticket, brief, landed),
            Outcome::Refused { status, detail } => {
                let refusals = counts.errors_by_status.entry(*status).or_default();
                refusals.count += 1;
                if refusals.first.is_empty() {
                    refusals.first.clone_from(detail);
                }
            }
            Outcome::Unreadable | Outcome::Labelled => counts.unreadable += 1,
        }
        counts.answered += 1;
        self.from_due.record(landed.latency());
        if let Some(service) = landed.service() {
            self.from_sent.record(service);
        }
    }
}

fn record_decision(counts: &mut Counts, ticket: &Ticket, brief: &Brief, landed: &Landed) {
    count(&mut counts.by_tier, &brief.decided_by);
    count(&mut counts.by_decision, brief.verdict.as_str());
    if let Some(cause) = &brief.cause {
        count(&mut counts.by_cause, cause);
    }
    counts.replayed += u64::from(brief.replayed);
    counts.not_final += u64::from(!brief.is_final);
    let over = |took: Duration| u64::from(took.as_secs_f64() * 1000.0 > brief.budget_ms);
    counts.late.as_answered += u64::from(brief.elapsed_ms > brief.budget_ms);
    counts.late.from_sent += landed.service().map_or(0, over);
    counts.late.from_due += over(landed.latency());
    if let (Some(fraud), Some(at)) = (ticket.fraud, ticket.at) {
        counts.quality.count(at, brief.verdict, fraud);
    }
}

fn record_label(counts: &mut LabelCounts, outcome: &Outcome) {
    counts.sent += 1;
    match outcome {
        Outcome::Labelled => counts.accepted += 1,
        Outcome::Unanswered(_) => counts.unanswered += 1,
        Outcome::Refused { status, .. } => {
            *counts.others_by_status.entry(*status).or_default() += 1;
        }
        // Only a request is answered like this.
        Outcome::Decided(_) | Outcome::Unreadable => {}
    }
}

fn count(counts: &mut BTreeMap<String, u64>, word: &str) {
    if let Some(count) = counts.get_mut(word) {
        *count += 1;
    } else {
        counts.insert(word.to_owned(), 1);
    }
}

#[cfg(test)]
mod tests {
    use backstop_contract::{Timestamp, Verdict};
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::super::outcome::Unanswered;
    use super::super::schedule::Step;
    use super::*;
    use crate::client::Call;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A step due at zero, sent after `sent` ms and over after `ended` ms.
    fn landed(about: About, outcome: Outcome, sent: u64, ended: u64) -> Landed {
        let due = Instant::now();
        let step = Step { due, call: Call::decision(Bytes::new()), about };
        let (sent, ended) = (Some(due + ms(sent)), due + ms(ended));
        Landed { step, outcome, sent, ended, retries: 0, opened: 0, lost: 0 }
    }

    fn request(fraud: bool) -> About {
        let at = Some(Timestamp::default());
        About::Decision(Ticket { number: 0, id: "txn-0".into(), at, fraud: Some(fraud) })
    }

    fn decided(decided_by: &str, cause: Option<&str>, elapsed_ms: f64) -> Outcome {
        Outcome::Decided(Brief {
            verdict: Verdict::Decline,
            decided_by: decided_by.into(),
            cause: cause.map(Into::into),
            is_final: cause.is_none(),
            replayed: false,
            budget_ms: 300.0,
            elapsed_ms,
        })
    }

    #[test]
    fn lateness_is_counted_by_each_clock_apart() {
        let mut tally = Tally::default();
        // (sent, ended, elapsed as the answer says)
        for (sent, ended, elapsed) in
            [(0, 300, 300.0), (1, 301, 299.0), (0, 301, 299.0), (0, 9, 300.5)]
        {
            tally.record(&landed(request(false), decided("core", None, elapsed), sent, ended));
        }
        let late = tally.counts.late;
        assert_eq!((late.as_answered, late.from_sent, late.from_due), (1, 1, 2));
    }

    #[test]
    fn every_request_is_answered_or_not_and_no_other_thing() {
        let mut tally = Tally::default();
        let refused = |detail: &str| Outcome::Refused { status: 422, detail: detail.into() };
        let outcomes = [
            decided("core", None, 1.0),
            decided("edge", Some("deadline"), 1.0),
            refused("the first"),
            refused("the second"),
            Outcome::Unreadable,
            Outcome::Unanswered(Unanswered::GaveUp),
        ];
        for outcome in outcomes {
            tally.record(&landed(request(true), outcome, 0, 1));
        }
        let counts = tally.counts;
        assert_eq!((counts.sent, counts.answered, counts.unanswered), (6, 5, 1));
        assert_eq!((counts.unreadable, counts.not_final), (1, 1));
        let refusals = &counts.errors_by_status[&422];
        assert_eq!((refusals.count, refusals.first.as_str()), (2, "the first"));
        assert_eq!(counts.by_tier["core"] + counts.by_tier["edge"], 2);
        assert_eq!(counts.by_cause["deadline"], 1);
        assert_eq!(counts.quality.overall.answers(), 2, "what was not decided is not judged");
    }

    #[test]
    fn labels_are_counted_apart_and_those_of_stand_ins_once_more() {
        let mut tally = Tally::default();
        let label = |stand_in| About::Label { stand_in };
        let refused = Outcome::Refused { status: 404, detail: String::new() };
        tally.record(&landed(label(false), Outcome::Labelled, 0, 1));
        tally.record(&landed(label(true), refused, 0, 1));
        tally.record(&landed(label(true), Outcome::Unanswered(Unanswered::GaveUp), 0, 1));
        let (all, stand_ins) = (tally.counts.labels, tally.counts.labels_of_stand_ins);
        assert_eq!((all.sent, all.accepted, all.unanswered), (3, 1, 1));
        assert_eq!((stand_ins.sent, stand_ins.accepted), (2, 0));
        assert_eq!(stand_ins.others_by_status[&404], 1);
        assert_eq!(tally.counts.sent, 0);
    }

    #[test]
    fn percentiles_are_near_and_the_worst_is_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), None);
        for micros in 1..=10_000_u64 {
            latencies.record(Duration::from_micros(micros));
        }
        latencies.record(Duration::from_micros(1_234_567));
        let summary = latencies.summary().unwrap();
        let near = |figure: f64, expected: f64| (figure / expected - 1.0).abs() < 0.002;
        assert!(near(summary.p50, 5.0) && near(summary.p95, 9.5), "{summary:?}");
        assert!(near(summary.p99, 9.9) && near(summary.p999, 9.99), "{summary:?}");
        assert!((summary.max - 1234.567).abs() < 1e-9);
    }
}
