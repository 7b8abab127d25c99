//! What core counts, and how it shows it.

use std::time::Duration;

use backstop_contract::{Decision, Outcome};
use backstop_lua::{Breach, Standing};
use backstop_process::metrics::{Counter, Gauge, Histogram, MetricsError};

use crate::error::CoreError;

/// Upper bounds in seconds: fine where budgets are, coarse beyond.
const SECONDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0];
/// Upper bounds of the number of requests in one transaction.
const SET_SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The metrics of one core. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    all: backstop_process::Metrics,
    decisions: Counter,
    seconds: Histogram,
    waiting: Gauge,
    set_sizes: Histogram,
    transactions: Counter,
    breaches: Counter,
    fenced: Counter,
    settled: Counter,
    rehearsed: Counter,
    rules: Gauge,
    shadow: Counter,
}

/// Where a request is found to be too late: nothing begins that cannot finish, and nothing is committed
/// that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As it came in.
    Admission,
    /// After it waited for its turn.
    Queue,
    /// Last, before its transaction was to commit.
    Commit,
}

impl Place {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Queue => "queue",
            Self::Commit => "commit",
        }
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Result<Self, MetricsError> {
        let all = backstop_process::Metrics::new();
        let decisions = all.counter(
            "backstop_decisions_total",
            "Decisions, by who decided what, why that tier, and the stack. Replays are not counted.",
            &["decided_by", "decision", "cause", "stack"],
        )?;
        let seconds = all.histogram(
            "backstop_decision_seconds",
            "From the receipt of a request to its answer, replays included.",
            &["tier"],
            &SECONDS,
        )?;
        let waiting = all.gauge("backstop_core_queue", "Requests that wait.", &[])?;
        let set_sizes = all.histogram(
            "backstop_core_batch_requests",
            "Requests in one transaction.",
            &[],
            &SET_SIZES,
        )?;
        let transactions = all.counter(
            "backstop_core_transactions_total",
            "Transactions, by how they ended: committed, conflict, late or failed.",
            &["end"],
        )?;
        let breaches = all.counter(
            "backstop_rule_breaches_total",
            "Calls of a policy that did what no rule may, and were answered by its safe answer.",
            &["policy", "breach"],
        )?;
        let fenced = all.counter(
            "backstop_core_fenced_total",
            "Requests that came too late to be decided, by where that was found: admission, queue or \
             commit. Nothing was written.",
            &["place"],
        )?;
        let settled = all.counter(
            "backstop_core_settled_total",
            "Advices settled, by what became of them. One that comes again is counted again.",
            &["outcome"],
        )?;
        let rehearsed = all.counter(
            "backstop_core_rehearsals_total",
            "Requests of which the edge wanted to know what would be decided, by how that ended: decided \
             or failed. Nothing was written.",
            &["end"],
        )?;
        let rules = all.gauge(
            "backstop_rules_in_force",
            "1 for the version that decides, and for one that is tried, by how far it has come.",
            &["version", "stage"],
        )?;
        let shadow = all.counter(
            "backstop_shadow_total",
            "Requests that the bundle in the shadow was asked about, by what it said where the live one \
             said this: agree, flip, breach; unseen: it wanted to see what was not loaded; dropped: too \
             many waited.",
            &["version", "outcome", "live", "shadow"],
        )?;
        // A gauge is shown once it was set.
        waiting.with_label_values::<&str>(&[]).set(0.0);
        let metrics = Self {
            all,
            decisions,
            seconds,
            waiting,
            set_sizes,
            transactions,
            breaches,
            fenced,
            settled,
            rehearsed,
            rules,
            shadow,
        };
        Ok(metrics)
    }

    /// Counts a new decision.
    pub fn decided(&self, answer: &Decision) {
        let cause = answer.cause.as_ref().map_or("none", |cause| cause.as_str());
        let (tier, verdict) = (answer.decided_by.as_str(), answer.decision.as_str());
        self.decisions.with_label_values(&[tier, verdict, cause, answer.stack.as_str()]).inc();
    }

    /// Counts what a policy may not do.
    pub fn breach(&self, policy: &str, breach: &Breach) {
        self.breaches.with_label_values(&[policy, breach.as_str()]).inc();
    }

    /// Counts an answer by the time since its request was received.
    pub fn answered(&self, elapsed: Duration) {
        self.seconds.with_label_values(&["core"]).observe(elapsed.as_secs_f64());
    }

    /// One more request waits.
    pub fn queued(&self) {
        self.waiting.with_label_values::<&str>(&[]).inc();
    }

    /// So many fewer wait.
    pub fn taken_up(&self, requests: usize) {
        self.waiting.with_label_values::<&str>(&[]).sub(requests as f64);
    }

    /// Counts a transaction of `requests`, and what it failed of.
    pub fn transaction(&self, requests: usize, error: Option<&CoreError>) {
        let end = match error {
            None => "committed",
            Some(CoreError::Conflict) => "conflict",
            Some(CoreError::TooLate) => "late",
            Some(_) => "failed",
        };
        self.transactions.with_label_values(&[end]).inc();
        self.set_sizes.with_label_values::<&str>(&[]).observe(requests as f64);
    }

    /// Counts a request that came too late.
    pub fn fenced(&self, place: Place) {
        self.fenced.with_label_values(&[place.as_str()]).inc();
    }

    /// Counts a rehearsal.
    pub fn rehearsed(&self, is_decided: bool) {
        let end = if is_decided { "decided" } else { "failed" };
        self.rehearsed.with_label_values(&[end]).inc();
    }

    /// Counts an advice.
    pub fn settled(&self, outcome: &Outcome) {
        self.settled.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts what the bundle in the shadow said; `live` and `shadow` are the two verdicts.
    pub fn shadowed(&self, version: &str, outcome: &str, [live, shadow]: [&str; 2]) {
        self.shadow.with_label_values(&[version, outcome, live, shadow]).inc();
    }

    /// Forgets what bundles in the shadow have said: another one is there now.
    pub fn forget_shadows(&self) {
        self.shadow.reset();
    }

    /// Shows the rules as they stand now.
    pub fn show_rules(&self, standing: &Standing) {
        self.rules.reset();
        for (version, stage) in standing.versions() {
            self.rules.with_label_values(&[version, stage.as_str()]).set(1.0);
        }
    }

    /// All of them, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.all.render()
    }
}
