//! What the api counts, and how it shows it.

use std::time::Duration;

use backstop_contract::learned::Bounds;
use backstop_contract::{Cause, Decision, NextTier as _, Outcome};
use backstop_lua::Standing;
use backstop_process::metrics::{Counter, Gauge, Histogram, MetricsError};

use crate::core_client::CoreClient;

/// Upper bounds in seconds: fine where budgets are, coarse beyond.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0];

/// The metrics of one api.
pub struct Metrics {
    all: backstop_process::Metrics,
    decisions: Counter,
    seconds: Histogram,
    calls: Gauge,
    timeout: Gauge,
    breaches: Counter,
    advices: Counter,
    rules: Gauge,
    rehearsals: Counter,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Result<Self, MetricsError> {
        let all = backstop_process::Metrics::new();
        let timeout = all.gauge(
            "backstop_timeout_seconds",
            "The least and the most that a call is waited for.",
            &["operation", "bound"],
        )?;
        let decisions = all.counter(
            "backstop_decisions_total",
            "Decisions, by who decided what, why that tier, and the stack.",
            &["decided_by", "decision", "cause", "stack"],
        )?;
        let seconds = all.histogram(
            "backstop_decision_seconds",
            "From the receipt of a request to its answer.",
            &["tier"],
            &SECONDS,
        )?;
        let calls = all.gauge(
            "backstop_calls_in_flight",
            "Calls to core under way, those that nobody waits for any more included.",
            &["operation"],
        )?;
        let breaches = all.counter(
            "backstop_rule_breaches_total",
            "Calls of a policy that did what no rule may, and were answered by its safe answer.",
            &["policy", "breach"],
        )?;
        let advices = all.counter(
            "backstop_advices_total",
            "Stand-ins that the edge told of, by what became of them.",
            &["outcome"],
        )?;
        let rules = all.gauge(
            "backstop_rules_in_force",
            "1 for the version that decides, and for one that is tried, by how far it has come.",
            &["version", "stage"],
        )?;
        let rehearsals = all.counter(
            "backstop_rehearsals_total",
            "Requests of which the edge wanted to know what would be decided, by who said it and why.",
            &["decided_by", "cause"],
        )?;
        Ok(Self { all, decisions, seconds, calls, timeout, breaches, advices, rules, rehearsals })
    }

    /// Where further metrics of this process are registered.
    pub const fn registry(&self) -> &backstop_process::Metrics {
        &self.all
    }

    /// Counts what a policy may not do, by policy and kind.
    pub fn breaches(&self) -> Counter {
        self.breaches.clone()
    }

    /// Counts an advice by what became of it.
    pub fn settled(&self, outcome: &Outcome) {
        self.advices.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts a rehearsal, which is no decision.
    pub fn rehearsed(&self, decision: &Decision) {
        let cause = decision.cause.as_ref().map_or("none", Cause::label);
        self.rehearsals.with_label_values(&[decision.decided_by.label(), cause]).inc();
    }

    /// Counts an answer, and the time from the receipt of its request.
    pub fn decided(&self, decision: &Decision, elapsed: Duration) {
        let cause = decision.cause.as_ref().map_or("none", Cause::label);
        let (tier, verdict) = (decision.decided_by.label(), decision.decision.as_str());
        let labels = [tier, verdict, cause, decision.stack.as_str()];
        self.decisions.with_label_values(&labels).inc();
        self.seconds.with_label_values(&["api"]).observe(elapsed.as_secs_f64());
    }

    /// Shows the rules as they stand now.
    pub fn show_rules(&self, standing: &Standing) {
        self.rules.reset();
        for (version, stage) in standing.versions() {
            self.rules.with_label_values(&[version, stage.as_str()]).set(1.0);
        }
    }

    /// Everything in the text format of Prometheus, with `calls_in_flight` and `bounds` as of now.
    pub fn render(&self, calls_in_flight: usize, bounds: Bounds) -> String {
        for (bound, length) in [("min", bounds.min), ("max", bounds.max)] {
            let labels = [CoreClient::OPERATION, bound];
            self.timeout.with_label_values(&labels).set(length.as_secs_f64());
        }
        self.calls.with_label_values(&["core"]).set(calls_in_flight as f64);
        self.all.render()
    }
}
